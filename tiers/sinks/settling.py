"""Who publishes the flagged batches of a file: performs core/claims, parks what is not ours."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from tiers.contracts import Channel, Clock, Store, Workers
from tiers.core.change import Change
from tiers.core.claims import CLAIMS_MAX, Outcome, Settlement
from tiers.core.filing import Bucket, Ref
from tiers.core.looks import Manifests
from tiers.core.meters import Histogram
from tiers.core.plan import Plan
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.meters import LATENCY
from tiers.sinks.parking import Parking, Place
from tiers.sinks.performing import perform_timed
from tiers.sinks.troubles import Troubles, back_off

_AGAIN_S_MAX: Final = 30.0  # parked batches are looked at again at least so often
_JITTER: Final = 0.25  # of takeover_after: sinks should not take over from each other at once
_DEAD_TOLD_MAX: Final = 16  # lines of the log for what is found in one go
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What a file sink has done since it was started."""

    files: int = 0
    batches: int = 0
    events_out: int = 0
    bytes_out: int = 0
    flagged: int = 0  # events of flagged batches, published
    claimed: int = 0  # batches
    parked_ever: int = 0  # batches, however often they were looked at since
    dropped: int = 0  # batches that another sink had published
    fenced: int = 0  # files of other sinks
    taken_over: int = 0  # batches
    voided: int = 0  # files of our own
    dead: int = 0  # batches
    newest_ms: int = 0  # when the newest batch published was stored by its first agent
    last_file: str = ""
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY))

    def published(self, plan: Plan, size_bytes: int, now_ms: int) -> None:
        """A file. How old the events are in one that an earlier run had planned is not known."""
        self.files += 1
        self.batches += len(plan.positions)
        self.events_out += plan.events
        self.flagged += plan.events_flagged
        self.bytes_out += size_bytes
        self.last_file = plan.path
        for ref in plan.refs:
            self.newest_ms = max(self.newest_ms, ref.begun_ms)
            self.latency.note(max(0.0, (now_ms - ref.begun_ms) / 1000), ref.events)

    def buried(self, letters: Sequence[tuple[int, str]]) -> None:
        """These go to the dead letters: positions and reasons."""
        self.dead += len(letters)
        for position, reason in letters[:_DEAD_TOLD_MAX]:
            _log.warning("batch at %d to the dead letters: %s", position, reason)
        if more := letters[_DEAD_TOLD_MAX:]:
            _log.warning("%d more batches to the dead letters", len(more))


class Settling:
    """Of one sink. `wait_for_person` is awaited after a refusal, with how many there were."""

    def __init__(
        self,
        sink: str,
        writer: str,
        output: str,
        channel: Channel,
        store: Store,
        workers: Workers,
        clock: Clock,
        takeover_after_s: float,
        counts: Counts,
        troubles: Troubles,
        wait_for_person: Callable[[int, Collection[str]], Awaitable[None]],
    ) -> None:
        self.parking = Parking(min(_AGAIN_S_MAX, takeover_after_s / 4), CLAIMS_MAX)
        self.manifests = Manifests(writer)
        self._sink = sink
        self._output = output
        self._channel = channel
        self._store = store
        self._workers = workers
        self._clock = clock
        self._takeover_after_s = takeover_after_s
        self._counts = counts
        self._troubles = troubles
        self._wait_for_person = wait_for_person
        self._failures = 0  # in a row

    async def settle(
        self, bucket: Bucket, day: str, flagged: list[Ref], waited: bool
    ) -> Settlement:
        """Settle who publishes these, in this generation of the bucket's day. What is not ours
        is parked or let go of when this returns."""
        takeover_ms = int(
            self._takeover_after_s * 1000 * (1 + self._clock.random.random() * _JITTER)
        )
        settlement = Settlement(
            self._sink, day, [ref.id for ref in flagged], self.manifests, takeover_ms, waited
        )
        refusals = 0
        while not settlement.ended:
            what = settlement.step.name.lower()
            try:
                call = settlement.call(self._clock.number())
                await perform_timed(settlement, call, self._store, self._workers)
                self._failures = 0
            except StoreUnavailable as error:
                self._failures += 1
                self._troubles.say(flagged[0], f"{what}: {error}")
                settlement.lost()
                await back_off(self._failures, self._clock.random)
            except StoreRefused as error:
                if settlement.refused(str(error)):
                    refusals += 1
                    self._troubles.say(flagged[0], f"{what}: {error}")
                    await self._wait_for_person(refusals, {ref.agent for ref in flagged})
        self._troubles.end(flagged[0])
        self._tell(settlement)
        await self._part(bucket, flagged, settlement)
        return settlement

    async def _part(self, bucket: Bucket, flagged: list[Ref], settled: Settlement) -> None:
        """Of flagged batches, those that are not to be published from here (now)."""
        by_outcome: dict[Outcome, list[Ref]] = {outcome: [] for outcome in Outcome}
        for ref in flagged:
            by_outcome[settled.outcomes[ref.id]].append(ref)
        why = settled.why
        parked = [(ref, why[ref.id]) for ref in by_outcome[Outcome.PARKED]]
        self.park(bucket, parked, again=settled.waited)
        self.halt(bucket, [(ref, why[ref.id]) for ref in by_outcome[Outcome.STOPPED]])
        gone = by_outcome[Outcome.PUBLISHED]
        if gone:
            self._counts.dropped += len(gone)
            _log.info("let go of %d flagged batches: they are in %s", len(gone), why[gone[0].id])
            releases = [(self._output, ref.position) for ref in gone]
            await asyncio.shield(self._channel.submit(Change(releases=releases)))

    def _tell(self, settled: Settlement) -> None:
        counts = self._counts
        counts.claimed += len(settled.numbers)
        counts.fenced += len(settled.fenced)
        counts.taken_over += len(settled.taken_over)
        if settled.numbers:
            _log.info("claimed %d flagged batches of %s", len(settled.numbers), settled.day)
        for file in settled.fenced:
            _log.warning("fenced file %s of %s: it has batches that are ours", file.name, file.day)
        for batch in settled.taken_over:
            _log.warning("took over batch %s-%d: its claim was old", batch.origin.hex(), batch.seq)

    def park(
        self, bucket: Bucket, refs: Collection[tuple[Ref, str]], *, again: bool = False
    ) -> None:
        """Another sink has claimed these. `again`: they have been parked before."""
        if refs:
            if not again:
                self._counts.parked_ever += len(refs)
                _log.info("parked %d batches: %s", len(refs), next(why for _, why in refs))
            self.parking.add(Place(bucket, False), refs, asyncio.get_running_loop().time())

    def halt(self, bucket: Bucket, refs: Collection[tuple[Ref, str]]) -> None:
        """These cannot be settled until somebody has looked at the store."""
        if refs:
            _log.error("%d batches have to wait: %s", len(refs), next(why for _, why in refs))
            self.parking.add(Place(bucket, True), refs, asyncio.get_running_loop().time())
