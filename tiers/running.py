"""A source at work: an error of its own ends this life of it, and no other part notices."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from random import Random
from typing import Final

from tiers.backoff import Backoff
from tiers.contracts import Channel, Source
from tiers.core.change import Change
from tiers.intake import SourceIntake

log = logging.getLogger("tiers")
_FAILURE_CHARS_MAX: Final = 300

Made = tuple[Source, SourceIntake]


class Running:
    """`run` runs until the source has come to its end, or is cancelled."""

    def __init__(
        self, name: str, kind: str, channel: Channel, random: Random, make: Callable[[], Made]
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
        self._random = random
        self._draining = False

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
            await asyncio.sleep(self._backoff.wait_s(loop.time() - begun_s, self._random))
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

    def drain(self) -> None:
        """The source ends by itself."""
        self._draining = True
        self.source.drain()
