"""A source at work, with its intake. What it had put is stored when it ends, whichever way."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tiers.contracts import Clock, Source
from tiers.core.entry.cutting import CuttingRules
from tiers.core.entry.routes import Route
from tiers.core.lag import Lag
from tiers.core.meters import Sample
from tiers.entry.intake import SourceIntake
from tiers.interceptors.chain import Chain
from tiers.interceptors.interceptor import InterceptorOptions
from tiers.sources import meters


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What a source is made by."""

    options: Any  # of the source, its descriptors within its share
    interceptors: tuple[InterceptorOptions, ...]
    rules: CuttingRules
    event_bytes_max: int
    route: Route
    written: tuple[str, ...]  # see Intake
    retention_s: float
    draining: bool = False


class SourcePart:
    """See `Part`. `chain` makes what the blocks come through."""

    def __init__(
        self,
        spec: SourceSpec,
        source: Source,
        intake: SourceIntake,
        chain: Callable[[SourceSpec], Chain],
        clock: Clock,
    ) -> None:
        self.spec = spec
        self.name: str = spec.options.name
        self.kind: str = spec.options.type
        self.state = "running"
        self.failures = 0  # of all its lives
        self.source = source
        self.intake = intake
        self._chain = chain
        self._clock = clock
        self._lag = Lag()
        self._retired = False
        self._reading: asyncio.Task[None] | None = None
        if spec.draining:
            source.drain()

    async def run(self) -> None:
        """Until the source has come to its end. What it had put was submitted with its positions,
        or never will be."""
        try:
            await self._live()
        except Exception:
            self.failures += 1
            with contextlib.suppress(Exception):
                await self.intake.flush()
            raise
        finally:
            self.intake.end()

    async def _live(self) -> None:
        reading = self._reading = asyncio.create_task(self.source.run(self.intake), name=self.name)
        try:
            await asyncio.wait([reading])
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if self._retired:
            await asyncio.Event().wait()
        reading.result()
        await self.intake.flush()
        self.state = "done"

    async def change(self, spec: SourceSpec) -> bool:
        """Interceptors, route and draining in place."""
        now = self.spec
        same = replace(
            now, interceptors=spec.interceptors, route=spec.route, draining=spec.draining
        )
        if same != spec or (now.draining and not spec.draining):
            return False
        if spec.interceptors != now.interceptors:
            self.intake.intercept_by(self._chain(spec))
        self.intake.route = spec.route
        if spec.draining and not now.draining:
            self.source.drain()
        self.spec = spec
        return True

    async def retire(self) -> None:
        self._retired = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self.intake.flush()

    def go_on(self, before: "SourcePart") -> None:
        self.failures = before.failures
        self.intake.go_on(before.intake)

    def meters(self) -> Iterator[Sample]:
        name, intake = self.name, self.intake
        yield meters.EVENTS.of(intake.events, name)
        yield meters.BYTES.of(intake.bytes, name)
        yield meters.RESTARTS.of(self.failures, name)
        yield from meters.counted(name, intake.counters)
        if (unread := self.look()) is not None:
            yield meters.UNREAD.of(unread, name)
            yield meters.BEHIND.of(self._lag.behind_s(self._clock.now_s()), name)

    def look(self) -> int | None:
        """Every second or so, that it is known since when what waits is there. The bytes of it;
        None where the source cannot see them."""
        if (unread := self.source.unread_bytes()) is not None:
            waiting = unread + self.intake.under_way
            self._lag.look(self.intake.bytes, waiting, self._clock.now_s())
        return unread
