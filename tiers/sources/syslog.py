"""The `syslog` source: RFC 3164 and 5424 messages over UDP (RFC 5426) and TCP (RFC 6587).

Messages are kept as they came; nothing is parsed. A full channel holds TCP back by not reading.
UDP cannot be held back: the kernel's buffer fills first, then datagrams are dropped, by us or by
the kernel, and every one is counted.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, field_validator

from tiers.sources.blocks import count_lines, in_blocks
from tiers.sources.framing import Framing, as_block, as_events
from tiers.sources.source import Intake, SourceOptions
from tiers.units import Duration, Size

_SO_RXQ_OVFL: Final = 40  # linux/socket.h: datagrams lost so far, with each that arrives
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_DROPPED: Final = struct.Struct("=I")
_READ_BYTES: Final = 256 * 1024
_DATAGRAM_BYTES_MAX: Final = 65_535
_DATAGRAMS_AT_ONCE: Final = 1000
_FULL_STEP_S: Final = 0.02  # between looks whether the channel has room again
_DRAIN_QUIET_S: Final = 0.05  # draining: what a sender sent before is here by then
_DRAIN_MAX_S: Final = 2.0  # draining: a sender that never pauses is cut off then
_BIND_AGAIN_S: Final = 1.0


class SyslogOptions(SourceOptions):
    """Keys of a `syslog` source in the topology file."""

    listen: str = "127.0.0.1:5514"  # HOST:PORT, or [HOST]:PORT for IPv6
    transports: tuple[Literal["udp", "tcp"], ...] = Field(default=("udp", "tcp"), min_length=1)
    receive_buffer: Size = 8 * 1024 * 1024  # asked of the kernel for UDP
    full_wait: Duration = 1.0  # UDP waits so long in the kernel's buffer for a full channel
    connections_max: int = Field(default=1000, ge=1)
    # Unfinished messages of all connections together.
    unfinished_size_max: Size = 64 * 1024 * 1024

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        parse_address(listen)
        return listen

    def listen_addresses(self) -> tuple[str, ...]:
        """What this source binds: for the check of `insecure`."""
        return (self.listen,)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `"127.0.0.1:5514"` or `"[::1]:5514"`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError('an address such as "127.0.0.1:5514" or "[::1]:5514"')
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("a port from 0 to 65535 after the last colon")
    return host, int(port)


class Syslog:
    """Listens until cancelled or drained. After `drain` it stops accepting at once, takes what
    was sent before, and ends."""

    Options: ClassVar[type[SourceOptions]] = SyslogOptions

    def __init__(self, options: SyslogOptions) -> None:
        self._options = options
        self._draining = asyncio.Event()
        self._listening: dict[str, str] = {}
        self._receive_buffer = 0
        self._connections: set[asyncio.StreamWriter] = set()
        self._unfinished_bytes = 0
        self._kernel_dropped = 0
        self._arrived = asyncio.Event()
        self._reads: set[asyncio.Timeout] = set()  # of connections that wait for data
        self._drain_until = 0.0  # by the loop's clock

    def drain(self) -> None:
        if self._draining.is_set():
            return
        loop = asyncio.get_running_loop()
        self._drain_until = loop.time() + _DRAIN_MAX_S
        self._draining.set()
        self._arrived.set()
        for read in self._reads:
            read.reschedule(self._quiet_at(loop))

    def status(self) -> dict[str, object]:
        return {
            "listening": dict(self._listening),
            "connections": len(self._connections),
            "unfinished_bytes": self._unfinished_bytes,
            "receive_buffer_bytes": self._receive_buffer,
        }

    async def run(self, intake: Intake) -> None:
        async with asyncio.TaskGroup() as group:
            if "udp" in self._options.transports:
                group.create_task(self._udp(intake))
            if "tcp" in self._options.transports:
                group.create_task(self._tcp(intake))

    # -- UDP ------------------------------------------------------------------------------

    async def _udp(self, intake: Intake) -> None:
        endpoint = await self._bound(socket.SOCK_DGRAM, intake)
        if endpoint is None:
            return
        with endpoint:
            self._receive_buffer = _ask_receive_buffer(endpoint, self._options.receive_buffer)
            endpoint.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
            self._listening["udp"] = _name(endpoint)
            self._kernel_dropped = 0
            while await self._readable(endpoint):
                room = await self._room(intake)
                datagrams = self._receive(endpoint, intake)
                if room:
                    await self._put_datagrams(datagrams, intake)
                elif datagrams:
                    intake.count("dropped_channel_full", len(datagrams))
        del self._listening["udp"]

    async def _readable(self, endpoint: socket.socket) -> bool:
        """Wait for datagrams; False when draining and all is read."""
        loop = asyncio.get_running_loop()
        self._arrived.clear()
        draining = self._draining.is_set()
        loop.add_reader(endpoint, self._arrived.set)
        try:
            async with asyncio.timeout_at(self._quiet_at(loop) if draining else None):
                await self._arrived.wait()
        except TimeoutError:
            return False
        finally:
            # While a put waits, the loop must not turn because of datagrams that wait too.
            loop.remove_reader(endpoint)
        return True

    async def _room(self, intake: Intake) -> bool:
        """Give a full channel a moment: meanwhile the kernel's buffer takes what comes."""
        left_s = self._options.full_wait
        while not intake.has_room() and left_s > 0:
            await asyncio.sleep(_FULL_STEP_S)
            left_s -= _FULL_STEP_S
        return intake.has_room()

    def _receive(self, endpoint: socket.socket, intake: Intake) -> list[bytes]:
        """What is there now, up to a limit. Never waits."""
        datagrams: list[bytes] = []
        size, ancillary_size = 0, socket.CMSG_SPACE(_DROPPED.size)
        dropped = self._kernel_dropped
        while len(datagrams) < _DATAGRAMS_AT_ONCE and size < intake.block_size_max:
            try:
                data, ancillary, _, _ = endpoint.recvmsg(_DATAGRAM_BYTES_MAX, ancillary_size)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of a datagram sent earlier; not ours
            datagrams.append(data)
            size += len(data)
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    (dropped,) = _DROPPED.unpack(value)
        if dropped != self._kernel_dropped:
            intake.count("dropped_kernel", (dropped - self._kernel_dropped) % 2**32)
            self._kernel_dropped = dropped
        return datagrams

    async def _put_datagrams(self, datagrams: list[bytes], intake: Intake) -> None:
        block, split = as_block(as_events(datagrams), intake.event_size_max)
        if split:
            intake.count("lines_split", split)
        await self._put(block, intake)

    # -- TCP ------------------------------------------------------------------------------

    async def _tcp(self, intake: Intake) -> None:
        listener = await self._bound(socket.SOCK_STREAM, intake)
        if listener is None:
            return
        async with asyncio.TaskGroup() as group:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if self._draining.is_set():
                    writer.transport.abort()
                    return
                if len(self._connections) >= self._options.connections_max:
                    intake.count("connections_refused")
                    writer.transport.abort()
                    return
                self._connections.add(writer)
                group.create_task(self._connection(reader, writer, intake))

            server = await asyncio.start_server(connected, sock=listener, limit=_READ_BYTES)
            self._listening["tcp"] = _name(listener)
            try:
                await self._draining.wait()
            finally:
                server.close()
                del self._listening["tcp"]

    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, intake: Intake
    ) -> None:
        framing = Framing(intake.event_size_max)
        held = split = 0
        try:
            while data := await self._read(reader):
                await self._put(framing.feed(data), intake)
                self._unfinished_bytes += framing.held_bytes - held
                held = framing.held_bytes
                if framing.split > split:
                    intake.count("lines_split", framing.split - split)
                    split = framing.split
                if framing.malformed:
                    intake.count("connections_malformed")
                    break
                if self._unfinished_bytes > self._options.unfinished_size_max:
                    intake.count("connections_over_memory")
                    break
            await self._put(framing.finish(), intake)
        finally:
            self._unfinished_bytes -= held
            self._connections.discard(writer)
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """What has arrived; nothing when the connection has ended, or draining and it is quiet."""
        loop = asyncio.get_running_loop()
        if self._draining.is_set() and loop.time() >= self._drain_until:
            return b""
        deadline = asyncio.timeout_at(self._quiet_at(loop) if self._draining.is_set() else None)
        try:
            async with deadline:
                self._reads.add(deadline)
                return await reader.read(_READ_BYTES)
        except TimeoutError:
            pass
        except OSError:
            return b""  # reset: what came before is kept
        finally:
            self._reads.discard(deadline)
        try:  # something may have arrived in the very step of the loop that timed out
            async with asyncio.timeout(0):
                return await reader.read(_READ_BYTES)
        except OSError:
            return b""

    # -- both -----------------------------------------------------------------------------

    def _quiet_at(self, loop: asyncio.AbstractEventLoop) -> float:
        return min(loop.time() + _DRAIN_QUIET_S, self._drain_until)

    async def _put(self, block: bytes, intake: Intake) -> None:
        headers: Mapping[str, str] = self._options.headers
        for part in in_blocks(block, intake.block_size_max):
            whole = block if len(part) == len(block) else bytes(part)
            await intake.put(part, count_lines(whole), headers)

    async def _bound(self, kind: socket.SocketKind, intake: Intake) -> socket.socket | None:
        """A bound socket. Tried again until it works, since an address may be taken for a moment
        only; None when drained before."""
        host, port = parse_address(self._options.listen)
        loop = asyncio.get_running_loop()
        said = False
        while not self._draining.is_set():
            try:
                places = await loop.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
                family, _, _, _, address = places[0]
                bound = _bind(family, kind, address)
            except OSError as error:
                intake.trouble(f"cannot listen on {self._options.listen}: {error}")
                said = True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BIND_AGAIN_S):
                        await self._draining.wait()
                continue
            if said:
                intake.trouble("")
            return bound
        return None


def _bind(family: int, kind: socket.SocketKind, address: tuple[Any, ...]) -> socket.socket:
    endpoint = socket.socket(family, kind)
    try:
        endpoint.setblocking(False)
        if kind == socket.SOCK_STREAM:
            # After a crash the old connections must not keep us from listening. Not for UDP,
            # where it would let two agents share a port and lose half of the messages each.
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        endpoint.bind(address)
    except OSError:
        endpoint.close()
        raise
    return endpoint


def _ask_receive_buffer(endpoint: socket.socket, size: int) -> int:
    """Ask for a receive buffer; what the kernel gave, in bytes of its own accounting."""
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):  # the first is for root, above rmem_max
        try:
            endpoint.setsockopt(socket.SOL_SOCKET, option, size)
            break
        except OSError:
            continue
    return endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _name(endpoint: socket.socket) -> str:
    host, port, *_ = endpoint.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
