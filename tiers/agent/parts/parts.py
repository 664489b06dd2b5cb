"""The parts of an agent: made to be what is wanted, whatever they were before.

Start-up, reload, drain and stop differ in what is wanted alone. Steps: core/steps.py.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from random import Random
from typing import Any

from tiers.agent.parts.receiver import ReceiverPart
from tiers.agent.parts.sender import SenderPart
from tiers.agent.parts.sink import SinkPart
from tiers.agent.parts.slot import Make, Slot
from tiers.agent.parts.source import SourcePart
from tiers.contracts import Part, Sink
from tiers.core.steps import Key, plan
from tiers.observe.meters import Meters
from tiers.transport.receiving import ReceiverEnd
from tiers.transport.sending import SenderGroup

log = logging.getLogger("tiers")
Specs = Mapping[Key, Any]


class Parts:
    """`make` makes a part by its spec; `settled` waits until what parts have submitted is on
    disk: the next of the same key goes by what is there."""

    def __init__(
        self,
        make: Make,
        settled: Callable[[], Awaitable[object]],
        meters: Meters,
        random: Random,
    ) -> None:
        self._make = make
        self._settled = settled
        self._meters = meters
        self._random = random
        self._slots: dict[Key, Slot] = {}
        self._lock = asyncio.Lock()

    async def apply(self, wanted: Callable[[], Specs], within_s: float) -> None:
        """They are what is wanted when this returns. Raises what keeps them from that; they are
        what they were then, as far as that is possible. What is retired has that long to settle."""
        async with self._lock:
            before = self.specs()
            ended: dict[Key, Part] = {}
            try:
                await self._become(wanted(), within_s, ended)
            except Exception:
                await self._back_to(before, within_s, ended)
                raise

    async def _become(self, wanted: Specs, within_s: float, ended: dict[Key, Part]) -> None:
        anew = {
            key
            for key in plan(self.specs(), wanted).change
            if not await self._slots[key].change(wanted[key])
        }
        steps = plan(self.specs(), wanted, anew)
        until_s = asyncio.get_running_loop().time() + within_s
        for stage in steps.retire:
            going = {key: self._slots[key] for key in stage}
            await asyncio.gather(*(slot.retire(until_s) for slot in going.values()))
            for key, slot in going.items():
                ended[key] = slot.part
                del self._slots[key]
        if ended and steps.start:
            await self._settled()
        for key in steps.start:
            await self._begin(key, wanted[key], ended.get(key))

    async def _begin(self, key: Key, spec: Any, before: Part | None) -> None:
        part = await self._make(key, spec)
        if before is not None:
            part.go_on(before)
        self._slots[key] = Slot(key, part, self._make, self._settled, self._meters, self._random)
        await asyncio.sleep(0)  # it has begun to run, and what has begun lets go of what it holds

    async def _back_to(self, before: Specs, within_s: float, ended: dict[Key, Part]) -> None:
        try:
            await self._become(before, within_s, ended)
        except Exception as error:
            log.error("what was at work before cannot be begun again: %s", error)

    async def end(self) -> None:
        """All of them, at once."""
        await asyncio.gather(*(slot.end() for slot in self._slots.values()))
        self._slots.clear()

    # -- what others ask ---------------------------------------------------------------------

    def specs(self) -> dict[Key, Any]:
        """Of what is at work."""
        return {key: slot.part.spec for key, slot in self._slots.items()}

    @property
    def sources(self) -> list[SourcePart]:
        return [part for part in self._all() if isinstance(part, SourcePart)]

    @property
    def receiver(self) -> ReceiverEnd | None:
        return next((one.end for one in self._all() if isinstance(one, ReceiverPart)), None)

    @property
    def groups(self) -> dict[str, SenderGroup]:
        """By output."""
        slots = self._slots.items()
        return {k.name: s.part.group for k, s in slots if isinstance(s.part, SenderPart)}

    @property
    def sinks(self) -> dict[str, Sink]:
        """By output."""
        slots = self._slots.items()
        return {k.name: s.part.sink for k, s in slots if isinstance(s.part, SinkPart)}

    def _all(self) -> Iterator[Part]:
        return (slot.part for slot in self._slots.values())

    def failing(self) -> Iterator[tuple[Key, str]]:
        """What has failed and is not at work now, and why."""
        return ((key, slot.failure) for key, slot in self._slots.items() if slot.failure)
