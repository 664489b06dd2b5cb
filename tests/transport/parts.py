"""A hop on loopback: real channels, real sockets, and a receiver that swallows what it is sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import zmq

from tests.core.batches import a_record
from tests.faults.cluster import free_port_pair
from tests.waiting import eventually
from tiers.agent.world import Machine
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId, Hop, verify
from tiers.core.change import Change, ChannelLimits, Put
from tiers.core.entry.routes import everywhere
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import (
    Bundle,
    Guarantee,
    Hello,
    Identity,
    Message,
    Welcome,
    decode,
    decode_bundle,
    encode,
)
from tiers.core.hop.peers import PeerLimits
from tiers.core.hop.visitors import VisitorLimits
from tiers.sinks.outlet import ChannelOutlet
from tiers.topology import Address
from tiers.transport.receiving import ReceiverEnd
from tiers.transport.sending import SenderGroup

PEER_LIMITS = PeerLimits(
    heartbeat_s=0.1, failover_after_s=0.3, silence_s=3.0, retry_max_s=0.3, ack_timeout_s=5.0
)
BEGUN_MS = 1_795_424_000_000  # when what is put was stored by its first agent
CHANNEL_LIMITS = ChannelLimits(free_floor_bytes=0)
Context = zmq.Context[zmq.Socket[bytes]]


def a_free_address() -> Address:
    """Two neighbouring ports that nobody listens on now."""
    return Address("127.0.0.1", free_port_pair())


async def is_open(address: Address) -> bool:
    """Whether somebody listens there."""
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True


def is_free(address: Address) -> bool:
    """ZeroMQ closes in a thread of its own: a port is not free at once."""
    for port in (address.port, address.port + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, port))
            except OSError:
                return False
    return True


@asynccontextmanager
async def a_context() -> AsyncIterator[Context]:
    context: Context = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


class ReceiverSide:
    """An agent's receiver and channel; `stop` and another one is a restart."""

    def __init__(
        self, channel: Channel, end: ReceiverEnd, troubles: list[str], renewals: list[str]
    ) -> None:
        self.channel = channel
        self.end = end
        self.troubles = troubles
        self.renewals = renewals
        end.bind()
        self._task = asyncio.create_task(end.run())

    @classmethod
    async def start(
        cls,
        context: Context,
        directory: Path,
        address: Address,
        *,
        name: str = "agg-1",
        limits: ReceiverLimits | None = None,
        channel_limits: ChannelLimits = CHANNEL_LIMITS,
        stores: dict[str, str] | None = None,
        topology: str = "web-logs",
        guarantee: Guarantee = "hop",
        visitors: VisitorLimits | None = None,
    ) -> "ReceiverSide":
        await eventually(lambda: is_free(address), "whoever listened there before has closed")
        channel = await Channel.open(directory, channel_limits, ("out",))
        troubles: list[str] = []
        renewals: list[str] = []
        end = ReceiverEnd(
            Machine(context),
            Identity(topology, name, channel.life),
            address,
            channel,
            limits or ReceiverLimits(),
            everywhere(["out"]),
            lambda: stores or {},
            guarantee=guarantee,
            visitors=visitors,
            trouble=troubles.append,
            renew=renewals.append,
        )
        return cls(channel, end, troubles, renewals)

    def stored(self) -> list[tuple[int, bool]]:
        """(seq, flagged) of each batch, as they lie there."""
        entries = self.channel.entries("out", limit=10_000)
        return [(verify(self.channel.record(e.position)).seq, e.flagged) for e in entries]

    def seqs(self) -> list[int]:
        return sorted(seq for seq, _ in self.stored())

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.end.close()
        await self.channel.close()


class SenderSide:
    """An agent's sender group and channel, with batches put into it by the test."""

    def __init__(
        self,
        channel: Channel,
        outlet: ChannelOutlet,
        group: SenderGroup,
        troubles: list[str],
        renewals: list[str],
    ) -> None:
        self.channel = channel
        self.outlet = outlet
        self.group = group
        self.now_ms = Machine().now_ms
        self.begun_ms = BEGUN_MS  # of what is put from now on
        self.troubles = troubles
        self.renewals = renewals
        self._task = asyncio.create_task(group.run())

    @classmethod
    async def start(
        cls,
        context: Context,
        directory: Path,
        peers: dict[str, Address],
        *,
        name: str = "edge-1",
        limits: PeerLimits = PEER_LIMITS,
        channel_limits: ChannelLimits = CHANNEL_LIMITS,
        topology: str = "web-logs",
        guarantee: Guarantee = "hop",
    ) -> "SenderSide":
        channel = await Channel.open(directory, channel_limits, ("aggregator",))
        troubles: list[str] = []
        renewals: list[str] = []
        world = Machine(context)
        outlet = ChannelOutlet(
            "aggregator", channel, world, trouble=troubles.append, event=troubles.append
        )
        group = SenderGroup(
            world,
            Identity(topology, name, channel.life),
            outlet,
            channel,
            limits,
            bundle_bytes=100_000,
            guarantee=guarantee,
            event=troubles.append,
            renew=renewals.append,
        )
        group.set_peers(peers)
        return cls(channel, outlet, group, troubles, renewals)

    def put(self, seqs: Iterable[int], *, size: int = 100) -> "asyncio.Future[tuple[int, ...]]":
        origin = self.channel.origin
        return self.put_records({n: a_record(n, b"x" * size, origin=origin) for n in seqs})

    def put_records(self, records: Mapping[int, bytes]) -> "asyncio.Future[tuple[int, ...]]":
        """Records by their seq, as an intake would have given it; some are damaged on purpose."""
        origin = self.channel.origin
        hops = (Hop(self.group.sender.me.agent, self.begun_ms),)
        puts = [
            Put(BatchId(origin, n), record, 3, ("aggregator",), hops=hops)
            for n, record in records.items()
        ]
        return self.channel.submit(Change(puts=puts))

    def left(self) -> int:
        return self.channel.stats().queues["aggregator"].batches

    def error(self, peer: str = "agg-1") -> str:
        return self.group.sender.peers[peer].error

    def state(self, peer: str = "agg-1") -> str:
        return self.group.sender.peers[peer].state.value

    async def empty(self) -> None:
        await eventually(lambda: self.left() == 0, "the sender's queue is empty")

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.group.close()
        await self.channel.close()


class Swallower:
    """Says WELCOME for a channel, takes bundles, and never acks: a peer about to die."""

    def __init__(self, context: Context, address: Address, channel: bytes) -> None:
        self._pull = context.socket(zmq.PULL)
        self._router = context.socket(zmq.ROUTER)
        for each in (self._pull, self._router):
            each.setsockopt(zmq.LINGER, 0)
        self._pull.bind(address.data)
        self._router.bind(address.control)
        self._channel = channel
        self.bundles: list[Bundle] = []

    def turn(self) -> int:
        """Answer what is there; how many bundles there were so far."""
        with suppress(zmq.Again):
            while True:
                route, data = self._router.recv_multipart(zmq.NOBLOCK)
                message = decode(data)
                if isinstance(message, Hello):
                    welcome = Welcome(message.session, b"T" * 8, 1, "web-logs", "agg-1",
                                      self._channel, {}, 1 << 25, 1 << 24, "hop")  # fmt: skip
                    self._router.send_multipart((route, encode(welcome)))
        with suppress(zmq.Again):
            while True:
                self.bundles.append(decode_bundle(self._pull.recv(zmq.NOBLOCK)))
        return len(self.bundles)

    def batches(self) -> int:
        self.turn()
        return sum(len(bundle.carried) for bundle in self.bundles)

    def close(self) -> None:
        self._pull.close(0)
        self._router.close(0)


class Stranger:
    """Raw sockets to a receiver, for saying what no agent says."""

    def __init__(self, context: Context, address: Address) -> None:
        self.push = context.socket(zmq.PUSH)
        self.dealer = context.socket(zmq.DEALER)
        for each, end_point in ((self.push, address.data), (self.dealer, address.control)):
            each.setsockopt(zmq.LINGER, 0)
            each.connect(end_point)

    def heard(self) -> Message | None:
        try:
            return decode(self.dealer.recv(zmq.NOBLOCK))
        except zmq.Again:
            return None

    def close(self) -> None:
        self.push.close(0)
        self.dealer.close(0)
