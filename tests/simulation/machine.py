"""What each agent of a world is given in place of its machine: time, chance, sockets, a disk, a
store, and no threads."""

import contextlib
import logging
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.simulation.disk import SimChannel, SimDisk
from tests.simulation.network import SimSocket
from tests.simulation.nodes import booted
from tests.simulation.published import Violation
from tests.simulation.store import SimStore, SimWorkers
from tests.simulation.topology import ROOT
from tiers import interceptors, sources
from tiers.agent.parts.slot import Slot
from tiers.contracts import Channel, Link, Store
from tiers.core.change import ChannelLimits

if TYPE_CHECKING:
    from tests.simulation.nodes import Boot

TICK_S = 0.2


class SimMachine:
    """Of one boot. See `World` of tiers/contracts."""

    tick_s = TICK_S

    def __init__(self, boot: "Boot") -> None:
        self.boot = boot
        self._world = boot.node.world
        self.now_s = self._world.loop.time

    @property
    def random(self) -> random.Random:
        """In a call of the store, another: the call is run anew for each answer."""
        return self._world.chance_of_calls or self._world.random

    def now_ms(self) -> int:
        return self._world.now_ms() + self.boot.node.skew_ms

    def token(self, size_bytes: int) -> bytes:
        return self.random.randbytes(size_bytes)

    def number(self) -> int:
        return self.random.getrandbits(64)

    def socket(
        self,
        kind: int,
        options: dict[int, int | bytes],
        receive: Callable[[list[Any]], None] | None = None,
        link: Callable[[Link], None] | None = None,
        *,
        parts_max: int = 1,
    ) -> SimSocket:
        return SimSocket(self.boot, kind, options, receive, link)

    async def channel(
        self, directory: Path, limits: ChannelLimits, outputs: Sequence[str]
    ) -> Channel:
        return await SimChannel.open(directory, limits, outputs, self, SimDisk(self.boot))

    def store(self, open_store: Callable[[Any], Store], options: Any) -> SimStore:
        return self.boot.store(str(options.root.relative_to(ROOT)))

    def workers(self, name: str, count: int) -> SimWorkers:
        return SimWorkers(self.boot)

    def status_server(self, *what: Any) -> "Unasked":
        return Unasked()

    def close(self) -> None:
        pass


class Unasked:
    """In place of the status server."""

    async def start(self) -> None:
        pass

    async def move(self, address: str | None) -> None:
        pass

    async def stop(self) -> None:
        pass


@contextlib.contextmanager
def staged() -> Iterator[None]:
    """Agents say nothing, and know the source of numbers and its interceptor."""
    logging.disable(logging.CRITICAL)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # of dead agents
    sources.BUILTIN["numbers"] = "tests.simulation.source:Numbers"
    interceptors.BUILTIN["split"] = "tests.simulation.interceptor:Split"
    failed = Slot._failed

    def told(slot: Slot, error: Exception) -> None:
        """An agent goes on without a part that fails; here that is the end."""
        failed(slot, error)
        boot = booted()
        if boot.alive and not boot.channel_ended:
            wrong = Violation(f"an agent's error: {slot.key}: {error!r}")
            boot.node.world.fail(error if isinstance(error, Violation) else wrong)

    try:
        with mock.patch.object(Slot, "_failed", told):
            yield
    finally:
        del sources.BUILTIN["numbers"], interceptors.BUILTIN["split"]
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
