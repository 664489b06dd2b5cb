"""The hop searched as far as CI has time for, and proof that the search sees what is left out."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.search.below import Below
from tests.search.edge import Edge
from tests.search.explorer import search
from tests.search.hop import Hop
from tests.simulation.planted import BUGS
from tiers.core.batch import BatchId
from tiers.core.dedupe import Known
from tiers.core.hop.assigning import SenderEffects

LIMIT = 60_000  # states; a rule that is left out is seen long before


@pytest.mark.parametrize(
    "model",
    [
        Hop(batches=2, troubles=0),
        Hop(batches=2, troubles=1),
        Hop(batches=1, troubles=1, disks=True),
        Hop(batches=1, troubles=1, guarantee="end", disks=True),
        Hop(batches=1, troubles=1, prune=False),
    ],
    ids=["2 batches, no trouble", "2 batches", "lost disks", "end, lost disks", "nothing pruned"],
)
def test_any_trouble_at_any_moment(model: Hop) -> None:
    found = search(model)
    print(found)
    assert (found.wrong, found.stuck, found.whole) == ("", 0, True)


@pytest.mark.parametrize("guarantee", ["hop", "end"])
def test_receivers_are_alike_to_the_sender(guarantee: Any) -> None:
    """So that a search of `alike` receivers is one of all."""
    model = Hop(batches=2, troubles=1, guarantee=guarantee, disks=True, alike=False)
    found = search(model, 20_000, live=False)
    assert found.states > 20_000
    assert not model.unlike()


@pytest.mark.parametrize(
    ("bug", "model"),
    [
        ("peers rotated without a flag", Hop(batches=1, troubles=1)),
        ("flag dropped on the way", Hop(batches=1, troubles=1)),
        ("answers too soon", Hop(batches=1, troubles=1)),
        ("session not compared", Hop(batches=1, troubles=1, prune=False)),
        ("mark behind what was sent", Hop(batches=1, troubles=1)),
        ("channel id not compared", Hop(batches=1, troubles=1, disks=True)),
        ("released at stored", Hop(batches=1, troubles=0, guarantee="end")),
        ("handed on unflagged", Hop(batches=1, troubles=1, guarantee="end")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_left_out_is_seen(bug: str, model: Hop) -> None:
    (planted,) = [one for one in BUGS if one.name == bug]
    with planted.planted():
        found = search(model, LIMIT, live=False)
    print(found)
    assert found.wrong


Patch = pytest.MonkeyPatch


def ack_before_commit(patch: Patch) -> None:
    did = Below._did

    def early(self: Below, effects: Any) -> None:
        did(self, effects)
        if effects.append:
            did(self, self.receiver.stored([one.content for one in effects.append], self.look))

    patch.setattr(Below, "_did", early)


def dedupe_in_memory_only(patch: Patch) -> None:
    patch.setattr(Below, "look", lambda self, ids: {})
    patch.setattr(Below, "_has", lambda self, key: False)


def delete_before_ack(patch: Patch) -> None:
    did = Edge._did

    def early(self: Edge, effects: SenderEffects, **named: bool) -> None:
        did(self, effects, **named)
        sent = [one.position for sending in effects.send for one in sending.batches]
        self.commits += [("release", position) for position in sent]

    patch.setattr(Edge, "_did", early)


def flag_lost_on_restart(patch: Patch) -> None:
    patch.setattr(Edge, "_is_flagged", lambda self, at: at in self.flagged)


def stored_told_as_published(patch: Patch) -> None:
    def look(self: Below, ids: Iterable[BatchId]) -> dict[BatchId, Known]:
        return {key: Known(passed_on=True) for key in ids if key in self.seen}

    patch.setattr(Below, "look", look)


@pytest.mark.parametrize(
    ("mutant", "model"),
    [
        (ack_before_commit, Hop(batches=1, troubles=0)),
        (dedupe_in_memory_only, Hop(batches=1, troubles=1)),
        (delete_before_ack, Hop(batches=1, troubles=0)),
        (flag_lost_on_restart, Hop(batches=1, troubles=1)),
        (stored_told_as_published, Hop(batches=1, troubles=1, guarantee="end")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_agent_leaves_out_is_seen(
    mutant: Callable[[Patch], None], model: Hop, monkeypatch: Patch
) -> None:
    """Of what core leaves to the agent, which the model does in its place."""
    mutant(monkeypatch)
    found = search(model, LIMIT, live=False)
    print(found)
    assert found.wrong
