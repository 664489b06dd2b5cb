"""Syslog over TCP: many connections, one reads at a time.

    accept -> [ wait until readable -> turn: read, frame, put ]* -> turn: rest, close

A connection waits for its turn, first come first served, and keeps it until what it has read is
put. So a full channel holds all of them back with one read in memory: what the others deliver
stays in the kernel, where it outlives even a reset. Nothing that was delivered is dropped when a
connection is closed by us either: it is read first.

Everything is bounded, and who takes too much gives way, not who comes next: where all places are
taken, the connection that has been idle for longest; where memory is, the one that holds most.
"""

import asyncio
import contextlib
import math
import socket
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from tiers.contracts import Intake
from tiers.sources.foreign import COMPRESSED, Foreign, compressed_from, foreign
from tiers.sources.framing import FramingReader, Kind, reader
from tiers.sources.listening import Draining, Headers, Readable, bound, host_of, names_of, put
from tiers.sources.notes import Notes

_READ_BYTES: Final = 64 * 1024
_AT_ONCE_BYTES: Final = 8 * 1024  # framed in one step of the loop: 15 ms where all are tiny
_LAST_BYTES_MAX: Final = 8 * 1024 * 1024  # read of a connection that we close
_BACKLOG: Final = 1024  # connections that the kernel holds for us; net.core.somaxconn bounds it
_QUIET_S: Final = 0.5  # nothing came for so long: what may be a whole message is one
_LOOK_S: Final = 0.05  # between looks for a connection that is idle
_SWEEP_S_MAX: Final = 60.0  # between looks for those idle for too long
_ACCEPT_AGAIN_S: Final = 1.0
_REMARK_S: Final = 60.0  # how long one that was refused is told of
# A peer that lost its power is noticed after some two minutes.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


@dataclass(frozen=True, slots=True)
class TcpLimits:
    connections_max: int
    connections_per_address_max: int
    idle_after_s: float
    unfinished_bytes_max: int


class _Connection:
    def __init__(
        self,
        one: socket.socket,
        address: tuple[object, ...],
        readable: Readable,
        framing: FramingReader,
    ) -> None:
        self.socket = one
        self.host = host_of(address)
        self.readable = readable
        self.framing = framing
        self.held_bytes = 0
        self.heard_s = 0.0  # by the loop's clock
        self.head: bytes | None = b""  # not told yet whether it is syslog
        self.refused = False  # it is none
        self.leaving = False  # told to: reads what is there, and ends
        self.gone = asyncio.Event()

    def leave(self) -> None:
        self.leaving = True
        self.readable.wake()

    @property
    def is_idle(self) -> bool:
        """Nothing of it waits to be read."""
        return self.readable.waits and not self.leaving


class TcpSyslog:
    def __init__(
        self,
        listen: str,
        headers: Headers,
        framing: Kind,
        limits: TcpLimits,
        draining: Draining,
        notes: Notes,
    ) -> None:
        self.listening = ""
        self._listen = listen
        self._headers = headers
        self._framing = framing
        self._limits = limits
        self._draining = draining
        self._notes = notes
        self._connections: OrderedDict[_Connection, None] = OrderedDict()  # idle for longest first
        self._by_host: Counter[str] = Counter()
        self._unfinished_bytes = 0
        self._turn = asyncio.Lock()
        self._foreign_s = -math.inf  # when one was refused

    def status(self) -> dict[str, object]:
        return {
            "connections": len(self._connections),
            "connections_max": self._limits.connections_max,
            "unfinished_bytes": self._unfinished_bytes,
        }

    async def run(self, intake: Intake) -> None:
        listeners = await bound(self._listen, socket.SOCK_STREAM, intake, self._draining)
        if not listeners:
            return
        async with asyncio.TaskGroup() as group:
            try:
                for listener in listeners:
                    listener.listen(_BACKLOG)
                self.listening = names_of(listeners)
                helpers = [
                    *(group.create_task(self._accept(one, group, intake)) for one in listeners),
                    group.create_task(self._sweep(intake)),
                ]
                await self._draining.began.wait()
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
            finally:
                for listener in listeners:
                    listener.close()
                self.listening = ""

    # -- connections -----------------------------------------------------------------------

    async def _accept(
        self, listener: socket.socket, group: asyncio.TaskGroup, intake: Intake
    ) -> None:
        door = Readable(listener, self._draining)
        while await door.wait():
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                continue
            except OSError as error:  # no descriptor, no memory
                intake.trouble(f"cannot accept connections: {error}")
                await self._evict(None)
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                intake.trouble("")
                continue
            with contextlib.ExitStack() as failing:
                failing.callback(accepted.close)
                _keep_alive(accepted)
                connection = _Connection(
                    accepted,
                    address,
                    Readable(accepted, self._draining),
                    reader(self._framing, intake.event_size_max),
                )
                await self._make_room(connection.host)
                self._enter(connection)
                failing.pop_all()
            group.create_task(self._serve(connection, intake))

    def _enter(self, connection: _Connection) -> None:
        connection.heard_s = asyncio.get_running_loop().time()
        self._connections[connection] = None
        self._by_host[connection.host] += 1

    def _leave(self, connection: _Connection) -> None:
        self._unfinished_bytes -= connection.held_bytes
        del self._connections[connection]
        self._by_host[connection.host] -= 1
        if not self._by_host[connection.host]:
            del self._by_host[connection.host]
        connection.socket.close()
        connection.gone.set()

    async def _make_room(self, host: str) -> None:
        """A place for one more of that host. While all that have one are held back, the next waits
        before the door."""
        while self._by_host[host] >= self._limits.connections_per_address_max:
            await self._evict(host)
        while len(self._connections) >= self._limits.connections_max:
            await self._evict(None)

    async def _evict(self, host: str | None) -> None:
        """Close the one that has been idle for longest, of that host if one is named."""
        for connection in self._connections:
            if connection.is_idle and host in (None, connection.host):
                self._notes.note("connections_evicted", connection.host)
                connection.leave()
                await connection.gone.wait()
                return
        await asyncio.sleep(_LOOK_S)

    async def _sweep(self, intake: Intake) -> None:
        idle_after_s = self._limits.idle_after_s
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_S_MAX, max(_LOOK_S, idle_after_s / 4)))
            if loop.time() - self._foreign_s >= _REMARK_S:
                intake.remark("")
            for connection in self._connections:
                if loop.time() - connection.heard_s < idle_after_s:
                    break
                if connection.is_idle:
                    self._notes.note("connections_idle", connection.host)
                    connection.leave()

    # -- one connection --------------------------------------------------------------------

    async def _serve(self, connection: _Connection, intake: Intake) -> None:
        try:
            while not connection.leaving and not self._draining.is_over():
                waits = connection.head or connection.framing.waits
                came = await connection.readable.wait(_QUIET_S if waits else None)
                if not came and self._draining.began.is_set():
                    break
                async with self._turn:
                    if not await self._take(connection, came, intake):
                        break
            async with self._turn:
                await self._finish(connection, intake)
        finally:
            self._leave(connection)

    async def _take(self, connection: _Connection, came: bool, intake: Intake) -> bool:
        """Reads once, or sees that nothing came; False when the connection has ended."""
        if not came:
            block = self._past_head(connection, b"", intake, final=True)
            if block is None:
                return False
            block = connection.framing.feed(block) if block else b""
            await self._put(connection, block + connection.framing.quiet(), intake)
            return True
        try:
            data = connection.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False  # reset, or dead: what came before has been read
        if not data:
            return False
        connection.heard_s = asyncio.get_running_loop().time()
        self._connections.move_to_end(connection)
        told = self._past_head(connection, data, intake)
        if told is None:
            return False
        data, blocks = told, []
        for begin in range(0, len(data), _AT_ONCE_BYTES):
            blocks.append(connection.framing.feed(data[begin : begin + _AT_ONCE_BYTES]))
            await asyncio.sleep(0)
        block = b"".join(blocks)
        if (end := compressed_from(block)) >= 0:
            await self._put(connection, block[:end], intake)
            size = len(block) - end + connection.framing.held_bytes
            connection.refused = True
            self._refused(connection.host, COMPRESSED, size, intake)
            return False
        await self._put(connection, block, intake)
        await self._limit_memory(intake)
        return True

    def _past_head(
        self, connection: _Connection, data: bytes, intake: Intake, *, final: bool = False
    ) -> bytes | None:
        """What may be framed, once it is told that it is syslog; None where it is not."""
        if connection.head is None:
            return data
        data = connection.head + data
        told = foreign(data, final)
        if told is None:
            connection.head = data
            return b""
        if isinstance(told, Foreign):
            connection.refused = True
            self._refused(connection.host, told, len(data), intake)
            return None
        connection.head = None
        return data

    def _refused(self, host: str, told: Foreign, size: int, intake: Intake) -> None:
        self._notes.note("connections_foreign", host, 1, size)
        self._foreign_s = asyncio.get_running_loop().time()
        text = f"{host} sends {told.what}: refused, and none of it kept; {told.todo}"
        intake.remark(text, at_risk=True)

    async def _finish(self, connection: _Connection, intake: Intake) -> None:
        """What is still there, and then the rest."""
        if connection.refused:
            return
        for _ in range(_LAST_BYTES_MAX // _READ_BYTES):
            before_s = connection.heard_s
            if not await self._take(connection, True, intake) or connection.heard_s == before_s:
                break
        block = self._past_head(connection, b"", intake, final=True)
        if block is not None:
            block = connection.framing.feed(block) if block else b""
            await self._put(connection, block + connection.framing.finish(), intake)

    async def _put(self, connection: _Connection, block: bytes, intake: Intake) -> None:
        """Holds the turn, and everybody, while the channel is full."""
        framing = connection.framing
        self._unfinished_bytes += framing.held_bytes - connection.held_bytes
        connection.held_bytes = framing.held_bytes
        if framing.split:
            intake.count("lines_split", framing.split)
        if framing.odd:
            self._notes.note("messages_odd", connection.host, framing.odd, framing.odd_bytes)
        framing.split = framing.odd = framing.odd_bytes = 0
        if block:
            await put(block, intake, self._headers.of(connection.host))

    async def _limit_memory(self, intake: Intake) -> None:
        while self._unfinished_bytes > self._limits.unfinished_bytes_max:
            most = max(self._connections, key=lambda one: one.held_bytes)
            if not most.leaving:  # what it had delivered may be too much once more
                self._notes.note("connections_over_memory", most.host, 1, most.held_bytes)
                most.leave()
            await self._put(most, most.framing.finish(), intake)


def _keep_alive(connection: socket.socket) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
