"""Keeps the connections of a receiver's two ports within their bounds (core/hop/visitors.py).

libzmq accepts whoever connects, keeps what it has sent of a frame, and bounds neither. But it tells
of each connection that it accepts, by its descriptor (zmq_socket_monitor(3)), and the kernel tells
how much came over it (tcp(7), TCP_INFO): so a thread beside the loop counts, and shuts down the
connections that are too many. The thread is no part of the loop, so that a burst of connections
does not hold up what flows, nor the flow the bounds.
"""

import ctypes
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import zmq

from tiers.core.hop.visitors import Awaited, BytesMoved, Gone, Room, VisitorLimits, Visitors
from tiers.core.repeats import Repeats
from tiers.host.heap import own_bytes
from tiers.transport.stir import Stir

EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
LOOK_MS: Final = 20  # how often strangers' bytes are counted: at 1 GB/s some 20 MB come meanwhile
GUESTS_LOOK_MS: Final = 50  # where there are no strangers
IDLE_LOOK_MS: Final = 1000  # where there is nobody, or nothing came
_EVENT: Final = struct.Struct("=Hi")  # event, descriptor
_MOVED_AT: Final = 120  # of tcpi_bytes_acked, tcpi_bytes_received in struct tcp_info, linux/tcp.h
_MOVED: Final = struct.Struct("=QQ")
_INFO_BYTES: Final = _MOVED_AT + _MOVED.size
_NO_WAIT_CLOSE: Final = struct.pack("ii", 1, 0)  # what is under way is thrown away
_EVENTS_AT_ONCE: Final = 1000
_THROWN_AWAY_BYTES: Final = 256 << 10
_TIDY_EVERY_S: Final = 0.1
_V4_IN_V6: Final = "::ffff:"


class Gate:
    """`room` and `awaited` are asked from the gate's thread; methods are for the loop's."""

    def __init__(
        self, limits: VisitorLimits, room: Room, awaited: Awaited, pending: Awaited = lambda: 0
    ) -> None:
        self.turned_away = 0  # connections
        self.repeats = Repeats()
        self._visitors = Visitors(limits, room, awaited, pending)
        self._inodes: dict[int, int] = {}  # of sockets, by descriptor: a descriptor is used again
        # Descriptor, port and session, or why to go.
        self._words: deque[tuple[int, str, bytes, str]] = deque()
        self._expelled: set[int] = set()  # descriptors whose connections are to be closed
        # By port: descriptors of connections that are over, and of which messages may be left. A
        # new connection that is given one must not answer for them.
        self._left: dict[str, set[int]] = {}
        self._monitors: list[tuple[str, zmq.Socket[bytes]]] = []
        self._wake = -1
        self._looks_left = 0  # until all guests were looked at since something came
        self._tidy_s = 0.0  # when what was freed may be given back next
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)

    def watch(self, port: str, monitor: "zmq.Socket[bytes]") -> None:
        """Before `start`: a monitor of EVENTS, of a socket to be bound."""
        if not self._monitors:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._monitors.append((port, monitor))
        self._left[port] = set()

    def start(self) -> None:
        """Begin; does nothing where there is nothing to watch."""
        if self._monitors:
            self._thread.start()

    def has(self, port: str, session: bytes) -> bool:
        """Whether a session's connection to that port is known. From any thread."""
        return self._visitors.has(port, session)

    def took(self, descriptor: int, length: int) -> None:
        """A message that came over this connection was taken from libzmq."""
        visitor = self._visitors.get(descriptor)
        if visitor is not None and not self._is_left(descriptor):
            visitor.taken += length + (2 if length < 256 else 9)  # and its header (ZMTP 3.1)

    def told(self, session: bytes, length: int) -> None:
        """A message of so many bytes was said to a session."""
        if session:
            self._visitors.tell(session, length)

    def proved(self, descriptor: int, port: str, session: bytes) -> None:
        """It was one of this session. The thread may not have heard of the connection yet, or that
        it is over."""
        visitor = self._visitors.get(descriptor)
        if descriptor >= 0 and (visitor is None or visitor.session != session):
            self._tell(descriptor, port, session, "")

    def expel(self, descriptor: int, why: str) -> bool:
        """Close this connection; False where that was said already, or where the message may be
        one that an earlier connection of that descriptor has left."""
        if descriptor in self._expelled or self._is_left(descriptor):
            return False
        self._expelled.add(descriptor)
        self._tell(descriptor, "", b"", why)
        return True

    def drained(self, port: str) -> None:
        """All messages that came over connections to that port were taken: also those of
        connections that are over."""
        if left := self._left.get(port):
            left.clear()

    def _is_left(self, descriptor: int) -> bool:
        return any(descriptor in left for left in self._left.values())

    def over(self) -> Iterator[bytes]:
        """Sessions whose control connection is over, each told once."""
        while self._visitors.over:
            port, session = self._visitors.over.popleft()
            if port == "control":
                yield session

    def be_patient(self, patient: bool) -> None:
        """While messages are not taken."""
        self._visitors.patient = patient

    def _tell(self, descriptor: int, port: str, session: bytes, why: str) -> None:
        if self._monitors:
            self._words.append((descriptor, port, session, why))
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """After the sockets were closed. Idempotent."""
        if self._closing or not self._monitors:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join()
        for _, monitor in self._monitors:
            monitor.close(0)
        os.close(self._wake)

    def status(self) -> dict[str, int]:
        return {
            "connections": len(self._visitors),
            "strangers": self._visitors.strangers,
            "strangers_max": self._visitors.limits.strangers_max,
            "turned_away": self.turned_away,
        }

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        memory = OwnMemory()
        try:
            self._watch(memory)
        finally:
            memory.close()

    def _watch(self, memory: "OwnMemory") -> None:
        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        for _, monitor in self._monitors:
            poller.register(monitor, zmq.POLLIN)
        look_s = 0.0
        stir = Stir()
        while not self._closing:
            if poller.poll(self._look_ms()):
                self._listen()
            if (now := time.monotonic()) - look_s < LOOK_MS / 1000:
                continue
            if stir.is_new():
                self._looks_left = self._visitors.looks
            rests = self._visitors.is_calm() and not self._looks_left
            if not rests or now - look_s >= IDLE_LOOK_MS / 1000:
                look_s = now
                self._looks_left = max(0, self._looks_left - 1)
                self._look(now, memory)

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        said = len(self._words)  # of connections that are heard of by now
        heard = [self._hear(port, monitor) for port, monitor in self._monitors]
        if all(heard):
            for _ in range(said):
                self._heed(*self._words.popleft())

    def _look_ms(self) -> int:
        if not self._visitors.is_calm():
            return LOOK_MS
        return GUESTS_LOOK_MS if len(self._visitors) else IDLE_LOOK_MS

    def _hear(self, port: str, monitor: "zmq.Socket[bytes]") -> bool:
        """Whether that was all."""
        now = time.monotonic()
        for _ in range(_EVENTS_AT_ONCE):
            try:
                event, descriptor = _EVENT.unpack(monitor.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.ZMQError:
                return True
            if event == zmq.EVENT_ACCEPTED:
                self._accepted(descriptor, port, now)
            elif event == zmq.EVENT_DISCONNECTED:
                self._disconnected(descriptor, port)
        return False

    def _accepted(self, descriptor: int, port: str, now: float) -> None:
        with suppress(OSError), _borrowed(descriptor) as connection:  # it may be over already
            address = network(connection.getpeername()[0])
            self._inodes[descriptor] = os.fstat(descriptor).st_ino
            self._expelled.discard(descriptor)
            for gone in self._visitors.came(descriptor, port, address, now):
                self._shut(gone)

    def _disconnected(self, descriptor: int, port: str) -> None:
        self._left[port].add(descriptor)
        visitor = self._visitors.get(descriptor)
        # The other port's monitor may have told already who was given the descriptor since.
        if visitor is None or visitor.port == port:
            self._visitors.left(descriptor)
            self._inodes.pop(descriptor, None)
            self._expelled.discard(descriptor)

    def _heed(self, descriptor: int, port: str, session: bytes, why: str) -> None:
        visitor = self._visitors.get(descriptor)
        if why:
            self._visitors.left(descriptor)
            self._shut(Gone(descriptor, why))
        elif visitor is not None and visitor.port == port:
            self._visitors.proved(descriptor, session)
        else:
            self._visitors.over.append((port, session))  # it left as soon as it had said so

    def _look(self, now: float, own: "OwnMemory") -> None:
        memory, came = own.read(), {}
        self._visitors.notice(memory)
        if self._visitors.is_swollen(memory):
            self._looks_left = self._visitors.looks
            # Only what is still so when all that was freed is given back is laid to anybody.
            memory = 0
            if now >= self._tidy_s:
                self._tidy_s = now + _TIDY_EVERY_S
                own.tidy()
                memory = own.read()
        for descriptor in self._visitors.to_look_at(memory):
            came[descriptor] = moved(descriptor)
        for gone in self._visitors.look(came, now, memory):
            self._shut(gone)

    def _shut(self, gone: Gone) -> None:
        """libzmq sees the end of the connection, and closes the descriptor itself."""
        inode = self._inodes.pop(gone.key, None)
        with suppress(OSError), socket.socket(fileno=os.dup(gone.key)) as connection:
            # The descriptor may be another's by now: what is shut is what was accepted.
            if os.fstat(connection.fileno()).st_ino != inode:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_WAIT_CLOSE)
            connection.shutdown(socket.SHUT_RDWR)
            # What waits in the kernel, some MB, is not for libzmq any more.
            while connection.recv(_THROWN_AWAY_BYTES, socket.MSG_DONTWAIT | socket.MSG_TRUNC):
                pass
        self.turned_away += 1
        self.repeats.note(f"closed a connection: {gone.why}")


class OwnMemory:
    """Bytes of this process that are no file's: those of a channel's map come and go. The file
    stays open, as each call that lets go of the interpreter may cost a turn of the loop."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        return own_bytes(os.pread(self._statm, 200, 0))

    def tidy(self) -> None:
        """Give what was freed back: else it could be filled again without being seen to grow."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)

    def close(self) -> None:
        os.close(self._statm)


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket of libzmq's, not closed at the end. Raises OSError where there is none."""
    connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def moved(descriptor: int) -> BytesMoved:
    """What moved over a connection; nothing where it is over."""
    try:
        # As `_borrowed`, without what Python adds to a socket: it is asked of thousands.
        connection = socket.SocketType(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)
    except OSError:
        return BytesMoved(0)
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return BytesMoved(0)
    finally:
        connection.detach()
    acked, received = _MOVED.unpack_from(info, _MOVED_AT)
    return BytesMoved(received, acked)


def received(descriptor: int) -> int:
    """How many bytes came over a connection in all; 0 where it is over."""
    return moved(descriptor).came


def network(address: str) -> str:
    """What one stranger may have all of: an address of IPv4, a /64 of IPv6."""
    if address.startswith(_V4_IN_V6):
        return address.removeprefix(_V4_IN_V6)
    with suppress(OSError):
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex(":", 2) + "::"
    return address
