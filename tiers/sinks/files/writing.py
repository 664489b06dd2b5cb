"""Writes the content of files, and finds out which batches no file can have: those that do not
open, and those by which this sink fails each time, alone.

A batch that was being opened when the process died is opened once more at the next start, alone and
before all else, which is counted first; one that did not come back of that twice is a dead letter.
A batch at which this code fails by an error of its own is opened alone at once, twice. What a store
says, or does not say, is never held against a batch.
"""

import logging
import threading
from typing import Final

from tiers.contracts import Channel, Store, Workers
from tiers.core.change import Bad
from tiers.core.commit.filing import Ref
from tiers.core.commit.planned import Plan
from tiers.core.commit.publication import Publication, Write
from tiers.errors import StoreUnavailable, TiersError
from tiers.sinks.files.body import Body
from tiers.sinks.files.openings import Noted, Openings
from tiers.sinks.overdue import Overdue

TRIES_MAX: Final = 2
_log = logging.getLogger(__name__)


class Writing:
    """Of one output. `level` is that of the files' codec."""

    def __init__(
        self,
        channel: Channel,
        output: str,
        store: Store,
        workers: Workers,
        level: int,
        overdue: Overdue,
        stop: threading.Event,
    ) -> None:
        self._channel = channel
        self._output = output
        self._store = store
        self._workers = workers
        self._level = level
        self._overdue = overdue
        self._stop = stop
        self._openings = Openings(channel.directory / f"opening-{output}")

    def close(self) -> None:
        self._openings.close()

    async def write(self, publication: Publication, call: Write) -> None:
        """Tells the publication what came of it. Raises StoreUnavailable and StoreRefused."""
        body = Body(self._channel, call.plan, self._level, self._stop, self._openings.of)
        try:
            chunks = self._overdue.counted(body, call.plan.positions[0])
            size_bytes = await self._workers.run(lambda: self._store.write(call.path, chunks))
        except Exception as error:
            if body.failed is not None:
                body.bad.append(await self._judged(body.failed, error))
            if not body.bad:
                raise
        if body.bad:
            publication.met(body.bad)
        else:
            publication.written(size_bytes)

    async def _judged(self, ref: Ref, error: Exception) -> Bad:
        """A batch by which this fails alone. Any other is tried again: StoreUnavailable."""
        _log.error("failed at batch %s", ref.id, exc_info=error)
        alone: Exception | None = None
        for _ in range(TRIES_MAX):
            alone = await self._workers.run(lambda: self._failure_of(ref))
            # For want of memory this fails by any.
            if alone is None or isinstance(alone, MemoryError):
                raise StoreUnavailable(f"failed at batch {ref.id}: {error!r:.200}") from error
        return Bad(ref.position, f"this sink fails by it alone: {alone!r:.200}", whole=True)

    def left_behind(self) -> list[Bad]:
        """Of what was being opened when an earlier run died, what no run survives; it stays noted
        until `forget`. The rest has been tried, and is as any other. Blocks. Raises
        ChannelUnavailable as the channel does."""
        bad = []
        for one in self._openings.found():
            if one.tries >= TRIES_MAX:
                reason = f"the process died {one.tries} times as it was opened alone"
                bad.append(Bad(one.position, reason, whole=True))
            else:
                self._try_alone(one)
        return bad

    def _try_alone(self, one: Noted) -> None:
        entry = self._channel.entry(self._output, one.position)
        if entry is None:
            self._openings.forget(one)
            return
        _log.warning("batch at %d was being opened when the process died", one.position)
        ref = Ref(one.position, entry.id, entry.count, entry.flagged, entry.size, 0.0)
        with self._openings.alone(one):
            self._failure_of(ref)

    def forget(self) -> None:
        """What was left behind is buried."""
        for one in self._openings.found():
            self._openings.forget(one)

    def _failure_of(self, ref: Ref) -> Exception | None:
        """How this fails at a batch, where it does: what it says of a bad one is no failure."""
        plan = Plan("", 0, "", "", "none", [ref], [ref.position], ref.events)
        try:
            for _ in Body(self._channel, plan, self._level, self._stop):
                pass
        except TiersError:
            return None
        except Exception as error:
            return error
        return None
