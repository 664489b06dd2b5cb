"""Who publishes the flagged batches of a file: performs claims, parks what is not ours."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from tiers.contracts import Clock, Outlet, Store, Workers
from tiers.core.commit.claims import CLAIMS_MAX, Outcome, Settlement
from tiers.core.commit.filing import Bucket, Ref
from tiers.core.commit.manifest_index import Manifests
from tiers.core.commit.planned import Plan
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.asking import back_off
from tiers.sinks.files.parking import ParkedGroup, Parking
from tiers.sinks.files.performing import perform_timed

_AGAIN_S_MAX: Final = 30.0  # parked batches are looked at again at least so often
_JITTER: Final = 0.25  # of takeover_after: sinks should not take over from each other at once
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class FileCounts:
    """What a file sink has done since it was started, besides what any has."""

    files: int = 0
    flagged: int = 0  # events of flagged batches, published
    claimed: int = 0  # batches
    parked_ever: int = 0  # batches, however often they were looked at since
    dropped: int = 0  # batches that another sink had published
    fenced: int = 0  # files of other sinks
    taken_over: int = 0  # batches
    voided: int = 0  # files of our own
    last_file: str = ""

    def published(self, plan: Plan) -> None:
        """A file."""
        self.files += 1
        self.flagged += plan.events_flagged
        self.last_file = plan.path


class Settling:
    """Of one sink. `wait_for_person` is awaited after a refusal, with how many there were."""

    def __init__(
        self,
        sink: str,
        writer: str,
        outlet: Outlet,
        store: Store,
        workers: Workers,
        clock: Clock,
        takeover_after_s: float,
        counts: FileCounts,
        wait_for_person: Callable[[int, Collection[str]], Awaitable[None]],
    ) -> None:
        self.parking = Parking(min(_AGAIN_S_MAX, takeover_after_s / 4), CLAIMS_MAX)
        self.manifests = Manifests(writer)
        self._sink = sink
        self._outlet = outlet
        self._store = store
        self._workers = workers
        self._clock = clock
        self._takeover_after_s = takeover_after_s
        self._counts = counts
        self._troubles = outlet.troubles
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
            await self._outlet.release([ref.position for ref in gone])

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
            self.parking.add(ParkedGroup(bucket, False), refs, asyncio.get_running_loop().time())

    def halt(self, bucket: Bucket, refs: Collection[tuple[Ref, str]]) -> None:
        """These cannot be settled until somebody has looked at the store."""
        if refs:
            _log.error("%d batches have to wait: %s", len(refs), next(why for _, why in refs))
            self.parking.add(ParkedGroup(bucket, True), refs, asyncio.get_running_loop().time())
