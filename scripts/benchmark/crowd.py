"""Many senders in one process: each a sender group of the agent's own, with a channel in memory.

What they say, and when, is said by the code that agents run; only what waits for a peer's ack is
in no file. Each has a batch from time to time, so that a bundle is one small batch unless the
receiver is behind.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Final, cast

from tiers.agent.world import Machine
from tiers.contracts import Channel
from tiers.core.batch import BatchId, Envelope, Hop, seal
from tiers.core.change import Change, Entry
from tiers.core.hop.messages import Identity
from tiers.core.hop.peers import PEERS_MAX, PeerLimits
from tiers.core.life import START_BYTES, Life, Start
from tiers.sinks.outlet import ChannelOutlet
from tiers.sinks.workers import Workers
from tiers.topology import Address
from tiers.transport.sending import SenderGroup
from tiers.trial.numbered_lines import AccessLog

PEER: Final = "aggregator"
LINES: Final = 5  # in a batch
_STEP_S: Final = 0.02  # how often those have batches whose time has come


class MemoryChannel:
    """What a sender group asks of a channel, and no disk: a change is done at once."""

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.origin = os.urandom(16)
        self.life = Life(os.urandom(16), (Start(os.urandom(START_BYTES), 0),))
        self.acked = 0
        self._records: dict[int, bytes] = {}  # by position, which is the batch's number as well
        self._last = 0
        self._wake: Callable[[], None] = lambda: None

    def put(self, body: bytes) -> None:
        """A batch of LINES lines."""
        self._last += 1
        now_ms = time.time_ns() // 1_000_000
        head = (self.origin, self._last, LINES, len(body), {"host": self.agent}, now_ms, now_ms)
        self._records[self._last] = seal(Envelope(*head, "lines", "none"), body)
        self.life.number += 1
        self._wake()

    def left(self) -> int:
        """Batches that wait, or are under way."""
        return len(self._records)

    # -- as in contracts.Channel -----------------------------------------------------------

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._wake = callback
        return lambda: None

    def last_position(self) -> int:
        return self._last

    def records(self, _prefix: bytes) -> dict[bytes, bytes]:
        return {}

    def entries(self, _output: str, after: int, limit: int) -> list[Entry]:
        found: list[Entry] = []
        now_ms = time.time_ns() // 1_000_000
        for position in range(after + 1, self._last + 1):
            record = self._records.get(position)
            if record is not None:
                key, hops = BatchId(self.origin, position), (Hop(self.agent, now_ms),)
                found.append(Entry(position, key, False, hops, now_ms, LINES, len(record)))
                if len(found) == limit:
                    break
        return found

    def record(self, position: int) -> bytes:
        return self._records[position]

    def submit(self, change: Change) -> "asyncio.Future[tuple[int, ...]]":
        for _, position in change.releases:
            self.acked += self._records.pop(position, None) is not None
        self.life.number += 1
        done: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        done.set_result(())
        return done

    def stats(self) -> Any:
        return SimpleNamespace(queues={PEER: SimpleNamespace(batches=self.left())})


class _World(Machine):
    """With the same threads for all: each sender would have its own, and an agent has only one."""

    def __init__(self) -> None:
        super().__init__()
        self._shared = super().workers("senders", 1)

    def workers(self, name: str, count: int) -> Workers:
        return self._shared


class Crowd:
    """So many senders, made on the loop; `troubles` by what was said, how often."""

    def __init__(self, topology: str, count: int, address: Address) -> None:
        self.troubles: dict[str, int] = {}
        self.channels = [MemoryChannel(f"edge-{number}") for number in range(1, count + 1)]
        self._worlds = [_World() for _ in range(-(-count // PEERS_MAX))]
        self._groups = [
            self._group(topology, channel, self._worlds[place // PEERS_MAX])
            for place, channel in enumerate(self.channels)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._address = address
        self._body = AccessLog(seed=1).block(LINES)

    def _group(self, topology: str, channel: MemoryChannel, world: Machine) -> SenderGroup:
        queue = cast("Channel", channel)
        return SenderGroup(
            world,
            Identity(topology, channel.agent, channel.life),
            ChannelOutlet(PEER, queue, world, trouble=self._trouble, event=self._trouble),
            queue,
            PeerLimits(),
            bundle_bytes=1 << 20,
            event=self._trouble,
            renew=self._trouble,
        )

    def _trouble(self, text: str) -> None:
        self.troubles[text] = self.troubles.get(text, 0) + 1

    def connect(self) -> None:
        """All at once."""
        for group in self._groups:
            group.set_peers({PEER: self._address})
        self._tasks = [asyncio.create_task(group.run()) for group in self._groups]

    def in_session(self) -> int:
        """Those that are."""
        return sum(group.sender.peers[PEER].in_session for group in self._groups)

    def acked(self) -> int:
        """Batches, of all since they began."""
        return sum(channel.acked for channel in self.channels)

    def left(self) -> int:
        """Batches that are not acked."""
        return sum(channel.left() for channel in self.channels)

    async def offer(self, batches_per_second: int, at_once: int, seconds: float) -> int:
        """Each has so many batches in its turn; how many that were in all."""
        began, turns = time.monotonic(), 0
        while (passed_s := time.monotonic() - began) < seconds:
            due = int(passed_s * batches_per_second / at_once)
            for place in range(turns, due):
                channel = self.channels[place % len(self.channels)]
                for _ in range(at_once):
                    channel.put(self._body)
            turns = max(turns, due)
            await asyncio.sleep(_STEP_S)
        return turns * at_once

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        for group in self._groups:
            group.close()
        for world in self._worlds:
            world.close()
