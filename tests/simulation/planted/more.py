"""Further bugs on purpose: of closed days, of lost and damaged disks with `guarantee = "end"`."""

from typing import Any, Final
from unittest import mock

from tests.simulation.planted.bugs import Bug, table, wrapped
from tiers.channel.applying import Applying
from tiers.core.assigning import Assigning
from tiers.core.calls import Answer
from tiers.core.commit import State
from tiers.core.outbox import Outbox
from tiers.core.peers import Peer


def _closed_ignored() -> list[Any]:
    return table({(State.CHECK_CLOSED, Answer.THERE): State.PUBLISH})


def _handed_unflagged() -> list[Any]:
    def make(requeue: Any) -> Any:
        def lax(self: Outbox, batches: Any, *, flagged: bool) -> None:
            for one in sorted(batches, key=lambda item: item.position, reverse=True):
                requeue(self, [one], flagged=flagged and one.handed_to is None)

        return lax

    return [wrapped(Outbox, "requeue", make)]


def _lost_waited_for() -> list[Any]:
    return [mock.patch.object(Peer, "is_lost", lambda self, now: False)]


def _damaged_stays_seen() -> list[Any]:
    return [mock.patch.object(Applying, "_forget", lambda self, output, position: None)]


def _always_the_first() -> list[Any]:
    def make(next_peer: Any) -> Any:
        def unfair(self: Assigning) -> Peer | None:
            self._turn = 0
            peer: Peer | None = next_peer(self)
            return peer

        return unfair

    return [wrapped(Assigning, "_next_peer", make)]


MORE: Final = (
    Bug("closed day ignored", "a file goes into a day that was closed meanwhile", _closed_ignored),
    Bug(
        "handed on unflagged", "what a lost peer had stored is offered as if new", _handed_unflagged
    ),
    Bug("lost peer waited for", "what a peer had stored waits for it for ever", _lost_waited_for),
    Bug("damaged one stays seen", "a sink says held of a copy it cannot read", _damaged_stays_seen),
    Bug("peers not taken in turn", "the first peer with room gets all", _always_the_first),
)
