"""Routes, against conditions spelled out one by one."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.entry.routes import (
    Absent,
    Branch,
    Condition,
    Glob,
    Not,
    OneOf,
    Route,
    When,
    everywhere,
)

WEB, DB = {"service": "web"}, {"service": "db"}
NAMES = ("service", "env", "dc")
values = st.sampled_from(("web", "web-1", "db", "", "WEB"))
plain: st.SearchStrategy[Condition] = st.one_of(
    st.frozensets(values, min_size=1).map(OneOf),
    st.sampled_from(("web*", "*", "?b", "[a-d]?", "web")).map(Glob),
    st.just(Absent()),
)
conditions = plain | plain.map(Not)
whens = st.dictionaries(st.sampled_from(NAMES), conditions, max_size=3)
headers = st.dictionaries(st.sampled_from((*NAMES, "other")), values)
branches = st.lists(whens, min_size=1, max_size=4).map(
    lambda found: [Branch(f"out-{number}", when) for number, when in enumerate(found)]
)


def holds(condition: Condition, value: str | None) -> bool:
    """The words of the README, as plainly as can be."""
    match condition:
        case OneOf(values):
            return value is not None and value in values
        case Glob(pattern):
            form = pattern.replace("*", ".*").replace("?", ".")
            return value is not None and re.fullmatch(form, value) is not None
        case Absent():
            return value is None
        case Not(inner):
            return not holds(inner, value)


def wants(when: When, found: Mapping[str, str]) -> bool:
    return all(holds(one, found.get(name)) for name, one in when.items())


@given(branches, headers)
def test_all_gives_to_each_that_wants_it(some: list[Branch], found: dict[str, str]) -> None:
    routed = Route(some).of(found)
    assert list(routed.outputs) == [one.output for one in some if wants(one.when, found)]


@given(branches, headers)
def test_first_gives_to_the_first_that_wants_it(some: list[Branch], found: dict[str, str]) -> None:
    wanting = [one.output for one in some if wants(one.when, found)]
    assert list(Route(some, first=True).of(found).outputs) == wanting[:1]


@given(branches, headers, st.booleans(), st.sampled_from(("dead", "drop")))
def test_each_output_has_it_or_is_skipped_and_what_none_has_is_dead_or_dropped(
    some: list[Branch], found: dict[str, str], first: bool, unrouted: str
) -> None:
    route = Route(some, first=first, unrouted="dead" if unrouted == "dead" else "drop")
    routed = route.of(found)
    assert sorted((*routed.outputs, *routed.skipped)) == sorted(one.output for one in some)
    assert bool(routed.dead) == (not routed.outputs and unrouted == "dead")


@given(branches, headers)
def test_what_is_said_to_be_out_of_reach_never_gets_anything(
    some: list[Branch], found: dict[str, str]
) -> None:
    route = Route(some, first=True)
    order = [one.output for one in some]
    for output, earlier in route.unreachable().items():
        assert order.index(earlier) < order.index(output)
        assert output not in route.of(found).outputs


@pytest.mark.parametrize(
    ("earlier", "later", "covers"),
    [
        ({}, {"service": OneOf(frozenset(["web"]))}, True),
        ({}, {}, True),
        ({"service": OneOf(frozenset(["web"]))}, {}, False),
        ({"service": OneOf(frozenset(["web", "db"]))}, {"service": OneOf(frozenset(["db"]))}, True),
        ({"service": OneOf(frozenset(["db"]))}, {"service": OneOf(frozenset(["db", "x"]))}, False),
        ({"service": Glob("w*")}, {"service": OneOf(frozenset(["web"])), "env": Absent()}, True),
        ({"service": Not(OneOf(frozenset(["db"])))}, {"service": Absent()}, True),
        ({"service": Glob("w*")}, {"service": Glob("w*")}, True),
        ({"service": Glob("w*")}, {"service": Glob("we*")}, False),  # not worked out
        ({"env": Absent()}, {"service": Absent()}, False),
    ],
)
def test_an_output_behind_one_that_takes_all_of_its_batches_is_out_of_reach(
    earlier: When, later: When, covers: bool
) -> None:
    some = [Branch("one", earlier), Branch("two", later)]
    assert Route(some, first=True).unreachable() == ({"two": "one"} if covers else {})
    assert Route(some).unreachable() == {}


def test_without_conditions_each_output_gets_every_batch() -> None:
    route = everywhere(["one", "two"])
    assert route.of(WEB) == (("one", "two"), (), "")


def test_the_reason_of_a_batch_that_nobody_wants_tells_its_headers_and_is_short() -> None:
    route = Route([Branch("one", {"service": OneOf(frozenset(["web"]))})])
    assert route.of(WEB | {"env": "dev"}) == (("one",), (), "")
    assert route.of(DB | {"env": "dev"}).dead == "unrouted: no output wants env=dev, service=db"
    assert route.of({}).dead == "unrouted: no output wants a batch without headers"
    long = route.of(DB | {"note": "x" * 5000}).dead
    assert long.endswith("...")
    assert len(long) < 450
