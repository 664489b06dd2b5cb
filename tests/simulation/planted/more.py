"""Further bugs on purpose: of closed days, of lost and damaged disks with `guarantee = "end"`, of
what fails above a channel, and of sources' way into it."""

import asyncio
from collections import deque
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from tests.simulation.nodes import booted
from tests.simulation.planted.bugs import Bug, table, wrapped
from tiers.agent.parts.source import SourcePart
from tiers.channel.applying import Applying
from tiers.channel.channel import Channel
from tiers.core.change import Change
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.publication import State
from tiers.core.entry.cutting import CutSet
from tiers.core.hop.assigning import Assigning
from tiers.core.hop.outbox import Outbox
from tiers.core.hop.peers import Peer
from tiers.entry.intake import SourceIntake
from tiers.sinks.files.loading import Loading


def _closed_ignored() -> list[Any]:
    return table({(State.CHECK_CLOSED, CallAnswer.THERE): State.PUBLISH})


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
        def unfair(self: Assigning, barred: Any) -> Peer | None:
            self._turn = 0
            peer: Peer | None = next_peer(self, barred)
            return peer

        return unfair

    return [wrapped(Assigning, "_next_peer", make)]


def _failed_acked() -> list[Any]:
    """What the shipped code does where a commit succeeds is done where it fails, too."""

    def make(submit: Any) -> Any:
        def hopeful(self: Channel, change: Change) -> Any:
            future = submit(self, change)
            if not any(put.arrived for put in change.puts):
                return future
            told: asyncio.Future[tuple[int, ...]] = future.get_loop().create_future()
            future.add_done_callback(lambda _: told.set_result(()))
            return told

        return hopeful

    return [wrapped(Channel, "submit", make)]


def _pressed_first() -> list[Any]:
    def make(submit_ready: Any) -> Any:
        def hasty(self: SourceIntake, _: object = None) -> None:
            # Stable: those that are pressed, then the others.
            self._jobs = deque(sorted(self._jobs, key=lambda job: not job.is_pressed()))
            submit_ready(self)

        return hasty

    return [wrapped(SourceIntake, "_submit_ready", make)]


def _receipt_of_the_one_before() -> list[Any]:
    def make(start: Any) -> Any:
        def early(self: SourceIntake, cuts: CutSet) -> None:
            before = self._jobs[-1] if self._jobs else None
            receipts = list(self._receipts)
            start(self, cuts)
            if before is not None:
                before.receipts += receipts

        return early

    return [wrapped(SourceIntake, "_start", make)]


def _set_apart() -> list[Any]:
    def make(change: Any) -> Any:
        def apart(self: SourceIntake, job: Any) -> Change:
            whole: Change = change(self, job)
            for put in whole.puts[:-1]:
                self._channel.submit(Change(puts=[put]))
            return replace(whole, puts=whole.puts[-1:])

        return apart

    # One change to a commit, so that they are several commits.
    return [
        wrapped(SourceIntake, "_change", make),
        mock.patch("tiers.channel.writer.GROUP_CHANGES_MAX", 1),
    ]


def _position_ahead_of_its_set() -> list[Any]:
    def make(start: Any) -> Any:
        def hasty(self: SourceIntake, cuts: CutSet) -> None:
            records = {self._prefix + key: value for key, value in cuts.positions.items()}
            self._channel.submit(Change(records=records))
            start(self, cuts)

        return hasty

    return [wrapped(SourceIntake, "_start", make)]


def _position_ahead_of_its_interceptors() -> list[Any]:
    def make(intercept: Any) -> Any:
        def hasty(self: SourceIntake) -> None:
            for each in self._asked:
                records = {self._prefix + key: value for key, value in each.positions.items()}
                self._channel.submit(Change(records=records))
            intercept(self)

        return hasty

    return [wrapped(SourceIntake, "_intercept", make)]


def _envelope_is_dead() -> list[Any]:
    return [mock.patch.object(Loading, "_is_whole", lambda self, position: True)]


def _envelope_is_left() -> list[Any]:
    def make(look_up: Any) -> Any:
        return lambda self, after: look_up(self, after)._replace(bad=[])

    return [wrapped(Loading, "look_up", make)]


def _retired_takes() -> list[Any]:
    """But where its agent ends."""
    settled = SourcePart.retire

    def goes_on() -> bool:
        agent = booted().agent
        return agent is not None and agent.state in ("running", "draining")

    async def run(self: SourcePart) -> None:
        reading = self._reading = asyncio.create_task(self.source.run(self.intake))
        try:
            await asyncio.wait([reading])
            await self.intake.flush()
            self.state = "done"
        finally:
            if not goes_on():
                reading.cancel()

    async def retire(self: SourcePart) -> None:
        await (self.intake.flush() if goes_on() else settled(self))

    return [
        mock.patch.object(SourcePart, "run", run),
        mock.patch.object(SourcePart, "retire", retire),
    ]


MORE: Final = (
    Bug("closed day ignored", "a file goes into a day that was closed meanwhile", _closed_ignored),
    Bug(
        "handed on unflagged", "what a lost peer had stored is offered as if new", _handed_unflagged
    ),
    Bug("lost peer waited for", "what a peer had stored waits for it for ever", _lost_waited_for),
    Bug("damaged one stays seen", "a sink says held of a copy it cannot read", _damaged_stays_seen),
    Bug("peers not taken in turn", "the first peer with room gets all", _always_the_first),
    Bug("acks of a commit that failed", "a future that fails counts as stored", _failed_acked),
    Bug("submitted as compressed", "what is pressed first is stored first", _pressed_first),
    Bug(
        "receipt with the batch before",
        "a receipt comes when the batch before is on disk",
        _receipt_of_the_one_before,
    ),
    Bug("batches of a set apart", "each batch of a cut set is a change of its own", _set_apart),
    Bug(
        "position ahead of its set",
        "the positions of a cut set are stored when it is cut",
        _position_ahead_of_its_set,
    ),
    Bug(
        "position ahead of interceptors",
        "positions are stored before their blocks have come through the interceptors",
        _position_ahead_of_its_interceptors,
    ),
    Bug("damaged envelope dead", "what rotted here counts as dead for good", _envelope_is_dead),
    Bug("damaged envelope left", "what rotted here stays in the queue for ever", _envelope_is_left),
    Bug(
        "retired part takes",
        "a source that was retired puts on beside the next one",
        _retired_takes,
        reloads=True,
    ),
)
