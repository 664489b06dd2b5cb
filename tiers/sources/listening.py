"""What both ways of syslog need: an address, a bound socket, an end, and putting what has come."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tiers.contracts import Intake
from tiers.core.block import Block
from tiers.core.newlines import count_lines
from tiers.host.binding import why_not
from tiers.host.host_port import PORT_MAX, split_host_port
from tiers.sources.blocks import in_blocks

_QUIET_S: Final = 0.05  # draining: what a sender sent before is here by then
_DRAIN_MAX_S: Final = 2.0  # draining: a sender that never pauses is cut off then
_BIND_AGAIN_S: Final = 1.0
_MAPPED: Final = "::ffff:"  # an IPv4 address in a socket for both


class Draining:
    """Whether the end has begun. Then each waits no longer than until it is quiet."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.waiting: set[Readable] = set()
        self._until_s = 0.0  # by the loop's clock

    def begin(self) -> None:
        if not self.began.is_set():
            self._until_s = asyncio.get_running_loop().time() + _DRAIN_MAX_S
            self.began.set()
            for one in self.waiting:
                one.wake()

    def is_over(self) -> bool:
        """Even for a sender that never pauses."""
        return self.began.is_set() and asyncio.get_running_loop().time() >= self._until_s

    def quiet_at(self) -> float | None:
        """When one of whom nothing more comes has ended, by the loop's clock; None: never."""
        if not self.began.is_set():
            return None
        return min(asyncio.get_running_loop().time() + _QUIET_S, self._until_s)


class Readable:
    """Waits for something to read. Only while somebody waits is the loop told of it."""

    def __init__(self, endpoint: socket.socket, draining: Draining) -> None:
        self._descriptor = endpoint.fileno()  # of a socket itself selectors ask each time its name
        self._draining = draining
        self._woken: asyncio.Future[None] | None = None

    @property
    def waits(self) -> bool:
        return self._woken is not None and not self._woken.done()

    def wake(self) -> None:
        """As if something had come."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def wait(self, quiet_s: float | None = None) -> bool:
        """False when it was quiet for so long, or draining and quiet."""
        loop = asyncio.get_running_loop()
        until_s = self._draining.quiet_at()
        if until_s is None and quiet_s is not None:
            until_s = loop.time() + quiet_s
        self._woken = loop.create_future()
        loop.add_reader(self._descriptor, self.wake)
        self._draining.waiting.add(self)
        try:
            async with asyncio.timeout_at(until_s):
                await self._woken
        except TimeoutError:
            return False
        finally:
            self._draining.waiting.discard(self)
            loop.remove_reader(self._descriptor)
            self._woken = None
        return True


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `"127.0.0.1:5514"` or `"[::1]:5514"`. Raises ValueError."""
    parts = split_host_port(text)
    if parts is not None and parts.host in ("", "*"):
        port = text.rpartition(":")[2]
        raise ValueError(f'an address; every one of the machine is "0.0.0.0:{port}", or "[::]"')
    if parts is None or any(char.isspace() or not char.isprintable() for char in parts.host):
        raise ValueError('an address such as "127.0.0.1:5514" or "[::1]:5514"')
    if parts.port < 0:
        raise ValueError(f"a port from 0 to {PORT_MAX} after the last colon")
    return parts.host, parts.port


def host_of(address: tuple[Any, ...]) -> str:
    """The host of a peer's socket address."""
    return str(address[0]).removeprefix(_MAPPED)


def name_of(address: tuple[Any, ...]) -> str:
    host = host_of(address)
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


async def bound(
    listen: str, kind: socket.SocketKind, intake: Intake, draining: Draining
) -> list[socket.socket]:
    """A bound socket for each address of the host: a name may have one of either family. Tried
    again until all of them are, since an address may be taken for a moment only; none when
    drained before."""
    host, port = parse_address(listen)
    loop = asyncio.get_running_loop()
    said = False
    while not draining.began.is_set():
        try:
            places = await loop.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
            endpoints = _bind_all(kind, list(dict.fromkeys((one[0], one[4]) for one in places)))
        except OSError as error:
            why = why_not(error.errno, error.strerror or str(error))
            intake.trouble(f"cannot listen on {listen}: {why}")
            said = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BIND_AGAIN_S):
                    await draining.began.wait()
            continue
        if said:
            intake.trouble("")
        return endpoints
    return []


def _bind_all(
    kind: socket.SocketKind, places: list[tuple[int, tuple[Any, ...]]]
) -> list[socket.socket]:
    """All of them, or none; but for addresses that this machine does not have (localhost is ::1
    too, also where there is no IPv6), as long as there is another."""
    endpoints: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in places:
        try:
            endpoints.append(_bind(family, kind, address))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                absent = error
                continue
            for endpoint in endpoints:
                endpoint.close()
            raise
    if not endpoints:
        raise absent or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return endpoints


def names_of(endpoints: list[socket.socket]) -> str:
    """Where they listen, for a person."""
    return ", ".join(name_of(endpoint.getsockname()) for endpoint in endpoints)


class Headers(NamedTuple):
    """What the events of a listening source have."""

    all: Mapping[str, str]
    client: str  # name of a header for the sender's address; empty: none

    def of(self, sender: str) -> Mapping[str, str]:
        return {**self.all, self.client: sender} if self.client else self.all


async def put(block: bytes, intake: Intake, headers: Mapping[str, str]) -> None:
    for part in in_blocks(block, intake.block_size_max):
        whole = block if len(part) == len(block) else bytes(part)
        await intake.put(Block(part, count_lines(whole), headers))


def _bind(family: int, kind: socket.SocketKind, address: tuple[Any, ...]) -> socket.socket:
    endpoint = socket.socket(family, kind)
    try:
        endpoint.setblocking(False)
        if kind == socket.SOCK_STREAM:
            # After a crash the old connections must not keep us from listening. Not for UDP,
            # where it would let two agents share a port and lose half of the messages each.
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            every = address[0] == "::"  # then IPv4 too, whatever the system's default is
            endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not every)
        endpoint.bind(address)
    except OSError:
        endpoint.close()
        raise
    return endpoint
