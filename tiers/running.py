"""A source at work: an error of its own ends this life of it, and no other part notices."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Final

from tiers.backoff import Backoff
from tiers.contracts import Channel, Clock, Source
from tiers.core.change import Change
from tiers.core.lag import Lag
from tiers.core.meters import Sample
from tiers.intake import SourceIntake
from tiers.sources import meters

log = logging.getLogger("tiers")
_FAILURE_CHARS_MAX: Final = 300

Made = tuple[Source, SourceIntake]


class Running:
    """`run` runs until the source has come to its end, or is cancelled."""

    def __init__(
        self, name: str, kind: str, channel: Channel, clock: Clock, make: Callable[[], Made]
    ) -> None:
        self.name = name
        self.kind = kind
        self.state = "running"
        self.failure = ""  # why it is not at work now
        self.failures = 0
        self.source, self.intake = make()
        self._channel = channel
        self._make = make
        self._backoff = Backoff()
        self._clock = clock
        self._draining = False
        self._lag = Lag()

    async def run(self) -> None:
        """Either way what it had put is stored, or will be. Raises what ended the channel."""
        loop = asyncio.get_running_loop()
        while True:
            begun_s = loop.time()
            try:
                await self._live()
                return
            except Exception as error:
                self._failed(error)
            await self._settle()
            await asyncio.sleep(self._backoff.wait_s(loop.time() - begun_s, self._clock.random))
            self._begin_anew()

    async def _live(self) -> None:
        try:
            await self.source.run(self.intake)
            await self.intake.flush()
            self.state = "done"
        finally:
            self.intake.close()

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self.failure = f"{type(error).__name__}: {error}"[:_FAILURE_CHARS_MAX]
        log.error("%s: the source has failed; it is started again", self.name, exc_info=error)

    async def _settle(self) -> None:
        """What it had put is on disk, with its positions, or never will be."""
        with contextlib.suppress(Exception):
            await self.intake.flush()
        await self._channel.submit(Change())

    def _begin_anew(self) -> None:
        before = self.intake
        self.source, self.intake = self._make()
        self.intake.go_on(before)
        self.failure = ""
        if self._draining:
            self.source.drain()

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

    def drain(self) -> None:
        """The source ends by itself."""
        self._draining = True
        self.source.drain()
