"""A network made of a seed, behind the interface of `tiers.transport.sockets.Socket`.

Worse than the world: within a connection messages are lost, doubled, late and out of order;
connections break, or go silent without a word; paths are cut in one direction or both.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zmq

from tiers.contracts import Link
from tiers.core.hop.messages import Answer, decode

if TYPE_CHECKING:
    from tests.simulation.nodes import Boot

RETRY_S = 0.3
SILENCE_S = 8.0  # until a connection to a host that is gone is given up by the kernel
INBOX_MAX = 64


class Frame:
    """A part of a message, as `zmq.Frame` shows it; of no connection that has a descriptor."""

    __slots__ = ("bytes",)

    def __init__(self, data: bytes) -> None:
        self.bytes = data

    def __len__(self) -> int:
        return len(self.bytes)

    @property
    def buffer(self) -> memoryview:
        return memoryview(self.bytes)

    def get(self, _option: int) -> int:
        return -1


class Connection:
    """From a connecting socket to a bound one."""

    def __init__(self, client: "SimSocket", server: "SimSocket") -> None:
        self.client = client
        self.server = server
        self.open = True
        self.under_way = 0

    def close(self, *, told_after_s: float) -> None:
        """What is under way is lost; the client is told after a while, and tries again."""
        if self.open:
            self.open = False
            self.server.routes.pop(self.client.route, None)
            self.client.world.later(told_after_s, self.client.disconnected, self)


class Network:
    """What is bound, what is cut, and how bad the weather is."""

    def __init__(self) -> None:
        self.bound: dict[str, list[SimSocket]] = {}  # several where a machine is there twice
        self.connections: list[Connection] = []
        self.cuts: dict[tuple[str, str], int] = {}
        self.loss = 0.0
        self.doubling = 0.0
        self.slow = 0.0
        self.stale: set[str] = set()  # nodes to which bundles come late; answers twice, late too

    def passes(self, source: str, target: str) -> bool:
        return not self.cuts.get((source, target))

    def of(self, node: str) -> list[Connection]:
        self.connections = [one for one in self.connections if one.open]
        return [c for c in self.connections if node in (c.client.node, c.server.node)]


class SimSocket:
    """See the module."""

    connection = -1  # no descriptor

    def __init__(
        self,
        boot: "Boot",
        kind: int,
        options: dict[int, int | bytes],
        receive: Callable[[list[Any]], None] | None = None,
        link: Callable[[Link], None] | None = None,
    ) -> None:
        self.boot = boot
        self.world = boot.node.world
        self.node = boot.machine
        self.kind = kind
        self.route = bytes(options.get(zmq.ROUTING_ID, b""))
        self.routes: dict[bytes, Connection] = {}
        self._receive = receive
        self._link = link
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._closed = False
        self._inbox: deque[list[Any]] = deque()
        self._connection: Connection | None = None
        self._address = ""
        self._attempt = 0

    # -- the interface -----------------------------------------------------------------------

    def bind(self, address: str, port: str = "", gate: object = None) -> None:
        self._address = address
        self.world.net.bound.setdefault(address, []).append(self)

    def connect(self, address: str) -> None:
        self._address = address
        self._attempt += 1
        self.world.later(self.world.delay(), self._try, self._attempt)

    def reconnect(self, address: str) -> None:
        if not self._closed:
            self._drop()
            self.connect(address)

    def send(self, *parts: bytes) -> bool:
        if self._closed:
            return False
        if self.kind == zmq.ROUTER:
            connection = self.routes.get(parts[0])
            if connection is None or not connection.open:
                return False
            self._carry(connection, self, connection.client, [parts[1]])
            return True
        connection = self._connection
        if connection is None or not connection.open or connection.under_way > INBOX_MAX:
            return False
        if self.kind == zmq.PUSH:
            self.world.sent(self.boot.node)
        data = [self.route, parts[0]] if self.kind == zmq.DEALER else [parts[0]]
        self._carry(connection, self, connection.server, data)
        return True

    def pause(self, paused: bool) -> None:
        if paused != self._paused and not self._closed:
            self._paused = paused
            if not paused:
                self._wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._drop()
        bound = self.world.net.bound.get(self._address, [])
        if self in bound:
            bound.remove(self)
            for connection in list(self.routes.values()):
                connection.close(told_after_s=0.01)

    # -- connections -------------------------------------------------------------------------

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.open = False
            connection.server.routes.pop(self.route, None)

    def _try(self, attempt: int) -> None:
        if self._closed or not self.boot.alive or attempt != self._attempt or self._connection:
            return
        world, bound = self.world, self.world.net.bound.get(self._address, [])
        server = world.random.choice(bound) if len(bound) > 1 else next(iter(bound), None)
        up = server is not None and server.boot.alive and not server.boot.paused
        if server is None or not up or self.boot.paused or not self._both_ways(server.node):
            world.later(RETRY_S + world.delay(), self._try, attempt)
            return
        connection = Connection(self, server)
        self._connection = connection
        world.net.connections.append(connection)
        server.routes[self.route] = connection
        if self._link is not None:
            self._loop.call_soon(self._link, Link.UP, context=self._context.copy())

    def _both_ways(self, other: str) -> bool:
        net = self.world.net
        return net.passes(self.node, other) and net.passes(other, self.node)

    def disconnected(self, connection: Connection) -> None:
        if self._connection is not connection or self._closed or not self.boot.alive:
            return
        self._connection = None
        if self._link is not None:
            self._loop.call_soon(self._link, Link.LOST, context=self._context.copy())
        self._attempt += 1
        self.world.later(RETRY_S, self._try, self._attempt)

    # -- messages ----------------------------------------------------------------------------

    def _carry(
        self, connection: Connection, source: "SimSocket", target: "SimSocket", data: list[bytes]
    ) -> None:
        world, net = self.world, self.world.net
        world.journal.note(source.node, "sends", target.node, data)
        if net.loss and world.chance(net.loss):
            world.count("message lost")
            return
        times = 1
        if net.doubling and world.chance(net.doubling):
            world.count("message doubled")
            times = 2
        answer = source.kind == zmq.ROUTER and source.node in net.stale
        answer = answer and isinstance(decode(data[-1]), Answer)
        bundle = target.kind == zmq.PULL and target.node in net.stale
        late = (answer or bundle) and world.chance(0.5)
        times += answer
        for turn in range(times):
            slow = late or turn > 0 or (net.slow and world.chance(net.slow))
            if slow:
                world.count("message late")
            wait_s = world.random.uniform(0.0, 4.0) if slow else world.delay()
            connection.under_way += 1
            world.later(wait_s, self._arrive, connection, source, target, data)

    def _arrive(
        self, connection: Connection, source: "SimSocket", target: "SimSocket", data: list[bytes]
    ) -> None:
        connection.under_way -= 1
        if not connection.open or target._closed or not target.boot.alive:
            return
        if not self.world.net.passes(source.node, target.node):
            return
        self.world.journal.note(target.node, "gets from", source.node, data)
        target._inbox.append([Frame(part) for part in data])
        if target.boot.paused:
            target._wake()
        else:
            target._context.copy().run(target._drain)

    def _wake(self) -> None:
        self._loop.call_soon(self._drain, context=self._context.copy())

    def _drain(self) -> None:
        while self._inbox and not self._paused and not self._closed and self._receive is not None:
            self._receive(self._inbox.popleft())
