"""The audit: accounts of what was published, held, dead, missing and doubled."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tiers.audit.audit import OriginAccount, accounts, counting
from tiers.audit.holdings import AgentHolding, Own, Queue, holding_of
from tiers.audit.published import Shelf
from tiers.core.batch import BatchId
from tiers.core.commit.manifest import Item, Manifest
from tiers.core.runs import Runs
from tiers.topology import parse

DAY = "2026-11-23"
BEGUN_MS = 1_793_534_400_000  # 2026-11-01, at noon
NEXT_DAY_MS = BEGUN_MS + 86_400_000
EDGE, OTHER = b"\x01" * 16, b"\x02" * 16


def a_manifest(
    seqs: Sequence[int], file_id: int, flagged: bool = False, origin: bytes = EDGE
) -> Manifest:
    items = [Item(BatchId(origin, seq), 10, flagged) for seq in seqs]
    return Manifest("s.o.1", file_id, DAY, f"file-{file_id}.log", "none", 100, items)


def shelf_of(*manifests: Manifest, forgotten: Sequence[str] = ()) -> Shelf:
    shelf = Shelf("a store", forgotten=set(forgotten))
    for one in manifests:
        shelf.put(one)
    known = {one.name: one for one in manifests}
    shelf.find_doubles(lambda one: known[one.name])
    return shelf


def edge(last: int = 5, **outputs: Queue) -> AgentHolding:
    own = {EDGE.hex(): Own(last, BEGUN_MS)}
    return AgentHolding("edge-1", "edge", own, EDGE.hex(), outputs)


def sink(held: Runs | None = None, dead: Runs | None = None, output: str = "s") -> AgentHolding:
    return AgentHolding("sink-1", "sink", {}, "", {output: queue(held, dead)})


def queue(held: Runs | None = None, dead: Runs | None = None, origin: bytes = EDGE) -> Queue:
    return Queue({origin.hex(): held} if held else {}, {origin.hex(): dead} if dead else {})


def only(found: list[OriginAccount]) -> OriginAccount:
    (one,) = found
    return one


# --- accounts ----------------------------------------------------------------------------------


def test_all_published() -> None:
    one = only(
        accounts(shelf_of(a_manifest([1, 2, 3], 1), a_manifest([4, 5], 2)), [edge(), sink()])
    )
    assert (one.agent, one.accepted, one.published) == ("edge-1", 5, [[1, 5]])
    assert one.events == 50
    assert not (one.gaps or one.doubles or one.held or one.dead)


@pytest.mark.parametrize(("all_asked", "unread"), [(False, False), (True, True), (False, True)])
def test_where_not_all_was_asked_what_is_missing_is_unknown(all_asked: bool, unread: bool) -> None:
    shelf = shelf_of(a_manifest([1], 1))
    shelf.unread = unread
    one = only(accounts(shelf, [edge()], all_asked=all_asked))
    assert (one.gaps, one.unknown) == ([], [[2, 5]])


def test_what_is_held_or_dead_is_no_gap_and_the_rest_is() -> None:
    one = only(accounts(shelf_of(a_manifest([1], 1)), [edge(), sink(held=[[2, 2]], dead=[[4, 4]])]))
    assert one.held == {"sink-1": [[2, 2]]}
    assert one.dead == {"sink-1": [[4, 4]]}
    assert one.gaps == [[3, 3], [5, 5]]


def test_nothing_published_of_what_was_accepted_is_a_gap() -> None:
    assert only(accounts(shelf_of(), [edge(), sink()])).gaps == [[1, 5]]


def test_of_an_agent_that_was_not_asked_gaps_are_known_up_to_what_was_seen() -> None:
    one = only(accounts(shelf_of(a_manifest([1, 4], 1)), [sink(held=[[7, 7]])]))
    assert (one.agent, one.accepted) == ("", None)
    assert one.gaps == [[2, 3], [5, 6]]


@pytest.mark.parametrize(
    ("day", "forgotten", "gaps"),
    [
        (DAY, [[1, 2], [4, 6]], [[8, 8], [10, 10]]),
        (f"{DAY}.1", [[1, 2], [4, 6]], [[8, 8], [10, 10]]),
        ("2026-11-24", [[4, 6]], [[1, 2], [8, 8], [10, 10]]),
        ("2026-11-26", [[10, 10]], [[1, 2], [4, 6], [8, 8]]),
    ],
)
def test_a_gap_is_excused_where_it_may_be_of_a_forgotten_day(
    day: str, forgotten: Runs, gaps: Runs
) -> None:
    """Also beside a late file, in its day's next generation, whose manifests are still there."""
    late = replace(a_manifest([3], 1), day=f"{DAY}.2")
    later = replace(a_manifest([7, 9], 2), day="2026-11-25")
    one = only(accounts(shelf_of(late, later, forgotten=[day]), [edge(10)]))
    assert (one.forgotten, one.gaps) == (forgotten, gaps)


def test_agents_that_accepted_nothing_have_no_account() -> None:
    assert accounts(shelf_of(), [edge(0), sink()]) == []
    assert accounts(shelf_of(), [edge(0, sink=queue(dead=[[1, 1]], origin=OTHER))])


@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, True, True)])
def test_doubles_are_doubles_flagged_or_not(flags: Sequence[bool]) -> None:
    files = [a_manifest([1], number, flag) for number, flag in enumerate(flags, 1)]
    (double,) = only(accounts(shelf_of(*files), [edge(1)])).doubles
    assert double.seq == 1
    assert double.events == 10 * (len(flags) - 1)
    assert double.files == tuple(file.path for file in files)


STRANGE: list[Any] = [
    *([], {"y": 3}, {"y": [3]}, {"y": "ab"}, {"y": [["a", "b"]]}, {"y": [[2, 1]]}, {"y": [[0, 1]]})
]


@pytest.mark.parametrize(
    "answer",
    [
        "not running",
        {},
        {"channel": {"id": "x"}},
        {"channel": {"id": "x"}, "audit": []},
        {"audit": {"origins": {"x": {}}, "present": "", "outputs": {}}},
        {"audit": {"origins": {"aa": {"last": "z"}}, "present": "", "outputs": {}}},
        {"audit": {"origins": {"aa": {"last": -1, "begun_ms": 1}}, "present": "", "outputs": {}}},
        {"audit": {"origins": {"aa": {"last": 1}}, "present": "", "outputs": {}}},
        {"audit": {"origins": {}, "present": 7, "outputs": {}}},
        {"audit": {"origins": {}, "present": "", "outputs": []}},
        {"audit": {"origins": {}, "present": "", "outputs": {}, "withheld_since_ms": "x"}},
        {"audit": {"origins": {}, "present": "", "outputs": {"o": {"held": {}}}}},
        *(
            {"audit": {"origins": {}, "present": "", "outputs": {"o": {"held": held, "dead": {}}}}}
            for held in STRANGE
        ),
    ],
)
def test_a_strange_answer_is_no_answer(answer: Any) -> None:
    told = holding_of("edge-1", "edge", answer)
    assert isinstance(told, str)
    assert "malformed" in told or told == answer


# --- several outputs -----------------------------------------------------------------------------

FAN_OUT = """
name = "t"
[tiers.edge]
agents = ["edge-1"]
next = ["relay", "archive"]
[[tiers.edge.sources]]
type = "generate"
[tiers.relay]
agents = { relay-1 = "127.0.0.1:7300" }
next = "sink"
[[tiers.relay.sinks]]
type = "directory"
name = "copy"
root = "/copy"
[[tiers.relay.sinks]]
type = "directory"
name = "sink-too"
root = "/too"
[tiers.sink]
agents = { sink-1 = "127.0.0.1:7310" }
[[tiers.sink.sinks]]
type = "directory"
root = "/out"
[tiers.archive]
agents = { archive-1 = "127.0.0.1:7320" }
[[tiers.archive.sinks]]
type = "directory"
root = "/archive"
"""


@pytest.mark.parametrize(
    ("tier", "output", "wanted"),
    [
        ("sink", "directory", {"edge-1": {"relay"}, "relay-1": {"sink"}, "sink-1": {"directory"}}),
        ("relay", "copy", {"edge-1": {"relay"}, "relay-1": {"copy"}}),
        ("archive", "directory", {"edge-1": {"archive"}, "archive-1": {"directory"}}),
    ],
)
def test_only_the_queues_that_lead_to_an_output_count(
    tier: str, output: str, wanted: dict[str, set[str]]
) -> None:
    topology = parse(FAN_OUT, "t.toml", {})
    holdings = [
        AgentHolding(
            agent,
            name,
            {},
            "",
            {o: queue([[1, 1]]) for o in (*topology.tiers[name].outputs, "gone")},
        )
        for name in topology.order()
        for agent in topology.tiers[name].agents
    ]
    counted = counting(topology, tier, output, holdings)
    assert {holding.agent: {*holding.outputs} for holding in counted} == wanted


def test_a_batch_that_waits_for_one_output_is_missing_at_the_other() -> None:
    holding = edge(2, relay=queue([[1, 1]]), archive=queue(dead=[[2, 2]]))
    relay, archive = (
        only(accounts(shelf_of(), [holding.towards([output])])) for output in ("relay", "archive")
    )
    assert (relay.held, relay.dead, relay.gaps) == ({"edge-1": [[1, 1]]}, {}, [[2, 2]])
    assert (archive.held, archive.dead, archive.gaps) == ({}, {"edge-1": [[2, 2]]}, [[1, 1]])
