"""Plain ZeroMQ sockets on an asyncio loop, and the only door to pyzmq.

`zmq.asyncio` costs a future for each message; here one wake-up drains all that is there. The file
descriptor of a ZeroMQ socket is edge-triggered (zmq_getsockopt(3), ZMQ_FD): after every wake-up
and after every send all events must be read until none is left, or a wake-up is lost.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq
from zmq.utils.monitor import parse_monitor_message

from tiers.contracts import Link
from tiers.core.hop.peers import PEERS_MAX
from tiers.errors import TiersError
from tiers.host.binding import why_not
from tiers.transport.gate import EVENTS, Gate

# How connections to hosts that are gone end, seconds and probes. ZMTP's own heartbeats must not be
# used: with libzmq 4.3.5 a PING that is found when a paused socket reads on, after its connection
# broke, aborts the process (an assertion in stream_engine_base.cpp, out_event).
KEEPALIVE: dict[int, int | bytes] = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 10,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 5,
}
SOCKETS_MAX = 6 * PEERS_MAX + 64  # two for each peer, with both ends of a monitor each
TURN_S = 0.005  # how long one socket's messages are taken before others have their turn


class TransportError(TiersError):
    """An address cannot be bound or connected to: the person who runs the node must act."""


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except zmq.ZMQError as error:
        raise TransportError(f"{what}: {why_not(error.errno, str(error))}") from error


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """For all sockets of one agent."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    return context


class Socket:
    """One ZeroMQ socket whose messages are handed to `receive`, the parts of each: of one with more
    than `parts_max` (the rest is thrown away) one more than that."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        kind: int,
        options: dict[int, int | bytes],
        receive: Callable[[list[zmq.Frame]], None] | None = None,
        link: Callable[[Link], None] | None = None,
        *,
        parts_max: int = 1,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._gate: Gate | None = None
        self._port = ""
        self._socket = context.socket(kind)
        self._receive = receive
        self._parts_max = parts_max
        self._parts: list[zmq.Frame] = []  # of a message that was not taken whole yet
        self._closed = False
        self._paused = False
        self._again = False
        self._socket.setsockopt(zmq.LINGER, 0)
        for option, value in options.items():
            self._socket.setsockopt(option, value)
        self.connection = -1  # its descriptor, where it has one to one address and a `link`
        self._monitor: zmq.Socket[bytes] | None = None
        if link is not None:
            events = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
            self._monitor = self._socket.get_monitor_socket(events)
            self._link = link
            self._loop.add_reader(self._monitor.FD, self._linked)
            self._loop.call_soon(self._linked)  # until it has been read once, it wakes nobody
        if receive is not None:
            self._loop.add_reader(self._socket.FD, self._woken)

    def reconnect(self, address: str) -> None:
        """Drop the connection to `address` with what is under way on it, and connect anew."""
        if not self._closed:
            self.connection = -1
            self._socket.disconnect(address)
            self._socket.connect(address)
            self._wake()

    def bind(self, address: str, port: str = "", gate: Gate | None = None) -> None:
        """Connections are kept within bounds by the gate, as those of `port`. Raises
        TransportError."""
        if gate is not None:
            gate.watch(port, self._gate_monitor())
            self._gate, self._port = gate, port
        with _translated(f"cannot listen on {address}"):
            self._socket.bind(address)
        self._wake()

    def _gate_monitor(self) -> "zmq.Socket[bytes]":
        place = f"inproc://gate-{self._socket.FD}"
        self._socket.monitor(place, EVENTS)
        monitor = self._context.socket(zmq.PAIR)
        # Where it is full, libzmq's thread would wait in the middle of its work.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(place)
        return monitor

    def connect(self, address: str) -> None:
        """Raises TransportError for an address that cannot be one."""
        with _translated(f"cannot connect to {address}"):
            self._socket.connect(address)
        self._wake()

    def send(self, *parts: bytes) -> bool:
        """False where there is no connection, no route, or no room: nothing was queued."""
        if self._closed:
            return False
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise TransportError(f"cannot send: {error}") from error
        finally:
            self._wake()
        return True

    def pause(self, paused: bool) -> None:
        """While paused nothing is received: it waits in ZeroMQ, then in TCP, then at the peer."""
        if paused == self._paused or self._closed or self._receive is None:
            return
        self._paused = paused
        if paused:
            # Its descriptor stays readable while nobody reads: the loop would spin.
            self._loop.remove_reader(self._socket.FD)
        else:
            self._loop.add_reader(self._socket.FD, self._woken)
            self._wake()

    def _is_reading(self) -> bool:
        return not (self._closed or self._paused)

    def _wake(self) -> None:
        if self._receive is not None and not self._again and not self._closed:
            self._again = True
            self._loop.call_soon(self._readable)

    def _woken(self) -> None:
        if not self._again:  # else it has its turn already: two in one would be one too many
            self._readable()

    def _readable(self) -> None:
        self._again = False
        if not self._is_reading() or self._receive is None:
            return
        until_s = time.perf_counter() + TURN_S
        while True:
            # Part by part: a million of them, of no byte each, are one message.
            try:
                part = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                if self._gate is not None:
                    self._gate.drained(self._port)
                return
            if len(self._parts) <= self._parts_max:
                self._parts.append(part)
            if not part.more:
                parts, self._parts = self._parts, []
                try:
                    self._receive(parts)
                except BaseException:
                    self._wake()  # our own mistake, told by the loop; what else is there comes
                    raise
                if not self._is_reading():
                    return
            if time.perf_counter() >= until_s:
                self._wake()
                return

    def _linked(self) -> None:
        while self._monitor is not None:
            try:
                message = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            if message["event"] == zmq.EVENT_CONNECTED:
                self.connection = int(message["value"])
            elif message["event"] == zmq.EVENT_DISCONNECTED:
                self.connection = -1
                self._link(Link.LOST)
            else:
                self._link(Link.UP)

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor.FD)
            monitor, self._monitor = self._monitor, None
            self._socket.disable_monitor()
            monitor.close(0)
        if self._gate is not None:
            self._socket.disable_monitor()
        if self._receive is not None and not self._paused:
            self._loop.remove_reader(self._socket.FD)
        self._socket.close(0)


def source_of(frame: zmq.Frame) -> int:
    """The descriptor of the connection that the message came over; -1 where it is not known."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1
