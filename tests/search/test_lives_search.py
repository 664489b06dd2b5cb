"""Disks that go back in time, or exist twice, searched as far as CI has time for, and proof that
the search sees what is left out. `scripts/search --lives` searches further."""

from collections.abc import Callable

import pytest

from tests.search.aged_edge import AgedEdge
from tests.search.aging import Lifeline
from tests.search.explorer import search
from tests.search.lives import Lives, Trouble
from tests.simulation.planted import BUGS
from tiers.core.hop.handshake import Handshake, ReceiverEffects
from tiers.core.hop.messages import Hello
from tiers.core.life import Life

CRASH: Trouble = "crash"
LOST: Trouble = "connection lost"
UNHEARD: Trouble = "WELCOME lost"
LIMIT = 60_000  # states; a rule that is left out is seen long before


@pytest.mark.parametrize(
    "model",
    [
        Lives("none", batches=1, troubles=0),
        Lives("sender back", batches=1, troubles=0),
        Lives("receiver back", batches=1, kinds=[LOST, UNHEARD]),
        Lives("receiver back", batches=1, troubles=0, guarantee="end"),
        Lives("receiver cloned", batches=1, troubles=0),
    ],
    ids=["no fault", "sender back", "receiver back", "receiver back, end", "receiver cloned"],
)
def test_disks_that_went_back(model: Lives) -> None:
    found = search(model)
    print(found)
    assert (found.wrong, found.stuck, found.whole) == ("", 0, True)


Patch = pytest.MonkeyPatch


@pytest.mark.parametrize(
    ("bug", "model"),
    [
        ("bundles say no point", Lives("sender back", batches=1, troubles=0)),
        ("opening number ignored", Lives("receiver back", batches=1, troubles=0, receivers=1)),
        ("old ones do not wait", Lives("sender back", batches=1, troubles=0)),
        ("unlisted start is right", Lives("receiver back", batches=1, kinds=[CRASH], receivers=1)),
        ("unknown believed", Lives("receiver back", batches=1, kinds=[LOST], receivers=1)),
        ("sums not compared", Lives("sender resumed", batches=2, troubles=0, receivers=1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_left_out_is_seen(bug: str, model: Lives) -> None:
    (planted,) = [one for one in BUGS if one.name == bug]
    with planted.planted():
        found = search(model, LIMIT, live=False)
    print(found)
    assert found.wrong


def a_place_is_forgotten_with_the_welcome(patch: Patch) -> None:
    greet = Handshake._greet

    def early(
        self: Handshake, route: bytes, hello: Hello, now: float, effects: ReceiverEffects
    ) -> None:
        greet(self, route, hello, now, effects)
        self._me.life.meet(hello.channel, hello.agent, hello.point)

    patch.setattr(Handshake, "_greet", early)


def places_in_memory_only(patch: Patch) -> None:
    commit = Lifeline.commit

    def forgetful(self: Lifeline, life: Life) -> None:
        met = self.met
        commit(self, life)
        self.met = met

    patch.setattr(Lifeline, "commit", forgetful)


def not_flagged_at_renewal(patch: Patch) -> None:
    patch.setattr(AgedEdge, "flag_all", lambda self: None)


@pytest.mark.parametrize(
    ("mutant", "model"),
    [
        (
            a_place_is_forgotten_with_the_welcome,
            Lives("sender back", batches=1, kinds=[UNHEARD]),
        ),
        (places_in_memory_only, Lives("receiver back", batches=1, kinds=[CRASH], receivers=1)),
        (not_flagged_at_renewal, Lives("sender back", batches=1, troubles=0)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_left_out_otherwise_is_seen(
    mutant: Callable[[Patch], None], model: Lives, monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    found = search(model, LIMIT, live=False)
    print(found)
    assert found.wrong


BEGUN = ("edge accepts line 0", "IMAGE", "SENDER CLONED, r0 first")
SENDS = (
    *("edge's clone reads", "edge's clone commits ('mark', 513)"),
    "edge's clone says hello to r0",
)
GREETED = (*BEGUN, *SENDS, "edge's clone says hello to r1", "edge reads")


@pytest.mark.parametrize(
    "way",
    [
        ("edge says hello to r1, the twin is slow",),
        ("r1 crashes and starts", "edge says hello to r1"),
    ],
    ids=["an answer that is late", "a peer that forgot"],
)
def test_what_readme_names_as_outside_is_so(way: tuple[str, ...]) -> None:
    """Both lives of a cloned sender run: should this be mended, README says less."""
    model = Lives("sender cloned", batches=1, troubles=1)
    world = next(iter(model.starts()))
    for wanted in (*GREETED, "edge commits ('mark', 513)", *way):
        world = dict(model.steps(world))[wanted]
    assert not model.wrong(world)
    for _ in range(2):
        after = {label: one for label, one in model.steps(world) if " takes a bundle " in label}
        world = next(iter(after.values()))
    assert model.wrong(world) == "two unflagged copies: (0, 0)"
