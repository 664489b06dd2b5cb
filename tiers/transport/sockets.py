"""Plain ZeroMQ sockets on an asyncio loop, and the only door to pyzmq.

`zmq.asyncio` costs a future for each message; here one wake-up drains all that is there. The file
descriptor of a ZeroMQ socket is edge-triggered (zmq_getsockopt(3), ZMQ_FD): after every wake-up
and after every send all events must be read until none is left, or a wake-up is lost.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

import zmq
from zmq.utils.monitor import parse_monitor_message

from tiers.errors import TiersError

# How connections to hosts that are gone end, seconds and probes. ZMTP's own heartbeats must not be
# used: with libzmq 4.3.5 a PING that is found when a paused socket reads on, after its connection
# broke, aborts the process (an assertion in stream_engine_base.cpp, out_event).
KEEPALIVE: dict[int, int | bytes] = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 10,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 5,
}
DRAIN_MAX = 256  # messages taken in one turn, so that no socket starves the loop


class Link(Enum):
    """What a monitor tells of a connection."""

    UP = "up"
    LOST = "lost"


class TransportError(TiersError):
    """An address cannot be bound or connected to: the person who runs the node must act."""


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except zmq.ZMQError as error:
        raise TransportError(f"{what}: {error}") from error


class Socket:
    """One ZeroMQ socket whose messages are handed to `receive`, all parts of each."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        kind: int,
        options: dict[int, int | bytes],
        receive: Callable[[list[zmq.Frame]], None] | None = None,
        link: Callable[[Link], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = context.socket(kind)
        self._receive = receive
        self._closed = False
        self._paused = False
        self._again = False
        self._socket.setsockopt(zmq.LINGER, 0)
        for option, value in options.items():
            self._socket.setsockopt(option, value)
        self._monitor: zmq.Socket[bytes] | None = None
        if link is not None:
            events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
            self._monitor = self._socket.get_monitor_socket(events)
            self._link = link
            self._loop.add_reader(self._monitor.FD, self._linked)
            self._loop.call_soon(self._linked)  # until it has been read once, it wakes nobody
        if receive is not None:
            self._loop.add_reader(self._socket.FD, self._readable)

    def reconnect(self, address: str) -> None:
        """Drop the connection to `address` with what is under way on it, and connect anew."""
        if not self._closed:
            self._socket.disconnect(address)
            self._socket.connect(address)
            self._wake()

    def bind(self, address: str) -> None:
        """Raises TransportError."""
        with _translated(f"cannot listen on {address}"):
            self._socket.bind(address)
        self._wake()

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
            self._loop.add_reader(self._socket.FD, self._readable)
            self._wake()

    def _is_reading(self) -> bool:
        return not (self._closed or self._paused)

    def _wake(self) -> None:
        if self._receive is not None and not self._again and not self._closed:
            self._again = True
            self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        self._again = False
        if not self._is_reading() or self._receive is None:
            return
        for _ in range(DRAIN_MAX):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._receive(parts)
            except BaseException:
                self._wake()  # our own mistake, told by the loop; what else is there still comes
                raise
            if not self._is_reading():
                return
        self._wake()

    def _linked(self) -> None:
        while self._monitor is not None:
            try:
                message = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._link(Link.UP if message["event"] != zmq.EVENT_DISCONNECTED else Link.LOST)

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
        if self._receive is not None and not self._paused:
            self._loop.remove_reader(self._socket.FD)
        self._socket.close(0)
