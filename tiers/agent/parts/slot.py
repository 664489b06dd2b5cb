"""One part at work. An error of its own ends this life of it, and no other part notices."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from tiers.contracts import Part
from tiers.core.backoff import Backoff
from tiers.core.steps import Key
from tiers.observe.meters import Meters

log = logging.getLogger("tiers")
_FAILURE_CHARS_MAX: Final = 300

Make = Callable[[Key, Any], Awaitable[Part]]


class Slot:
    """At work from when it is made until it is retired or ended. What is under way from a life of
    it that failed is waited for by `settled`, before the next is made."""

    def __init__(
        self,
        key: Key,
        part: Part,
        make: Make,
        settled: Callable[[], Awaitable[object]],
        meters: Meters,
        random: Random,
    ) -> None:
        self.key = key
        self.part = part
        self.failure = ""  # why it is not at work now
        self.failures = 0
        self._make = make
        self._settled = settled
        self._meters = meters
        self._random = random
        self._backoff = Backoff()
        self._task = asyncio.create_task(self._work(), name=str(key))
        meters.register(part)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun_s = loop.time()
            try:
                if self.failure:
                    await self._begin_anew()
                await self.part.run()
                return
            except asyncio.CancelledError:
                if self._is_cancelled():
                    raise
                self._failed(RuntimeError("it was cancelled, and nobody asked for that"))
            except Exception as error:
                self._failed(error)
            await asyncio.sleep(self._backoff.wait_s(loop.time() - begun_s, self._random.random()))

    def _is_cancelled(self) -> bool:
        return bool(self._task.cancelling())

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self.failure = f"{type(error).__name__}: {error}"[:_FAILURE_CHARS_MAX]
        log.error("%s has failed; it is started again", self.key, exc_info=error)

    async def _begin_anew(self) -> None:
        await self._settled()
        before, self.part = self.part, await self._make(self.key, self.part.spec)
        self.part.go_on(before)
        self._meters.forget(before)
        self._meters.register(self.part)
        self.failure = ""

    async def change(self, spec: Any) -> bool:
        """See `Part`."""
        return not self.failure and await self.part.change(spec)

    async def retire(self, until_s: float) -> None:
        """It has ended when this returns; settled, unless there was no time for it."""
        if not self._task.done() and not self.failure:
            try:
                async with asyncio.timeout_at(until_s):
                    await self.part.retire()
            except TimeoutError:
                log.warning("%s is not settled in time; what is open stays on disk", self.key)
            except Exception as error:
                log.error("%s cannot be settled; what is open stays on disk: %s", self.key, error)
        await self.end()

    async def end(self) -> None:
        """At once: as a crash would, as far as what is open is concerned."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._meters.forget(self.part)
