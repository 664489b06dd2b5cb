"""Syslog over UDP (RFC 5426): a datagram is a message.

A datagram that finds the channel full waits in the kernel's buffer for a moment. Then it is
dropped, by us or by the kernel, and counted: by us with its sender and size; the kernel tells only
how many, and only with the next one that arrives.
"""

import asyncio
import socket
import struct
from collections import Counter
from typing import Final

from tiers.contracts import Intake
from tiers.sources.blocks import as_block, as_events
from tiers.sources.counts import without_count
from tiers.sources.foreign import Foreign, foreign
from tiers.sources.listening import Draining, Headers, Readable, bound, host_of, names_of, put
from tiers.sources.notes import Notes

_SO_RXQ_OVFL: Final = 40  # linux/socket.h: datagrams lost so far, with each that arrives
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_DROPPED: Final = struct.Struct("=I")
_DATAGRAM_BYTES_MAX: Final = 65_535
_DATAGRAMS_AT_ONCE: Final = 1000
_HEAD_BYTES: Final = 256  # tell whether one is syslog
_FULL_STEP_S: Final = 0.02  # between looks whether the channel has room again

_Datagram = tuple[bytes, str]  # and its sender


class UdpSyslog:
    def __init__(
        self,
        listen: str,
        headers: Headers,
        receive_buffer_bytes: int,
        full_wait_s: float,
        draining: Draining,
        notes: Notes,
    ) -> None:
        self.listening = ""
        self._listen = listen
        self._headers = headers
        self._receive_buffer = receive_buffer_bytes
        self._full_wait_s = full_wait_s
        self._draining = draining
        self._notes = notes
        self._kernel_dropped: dict[socket.socket, int] = {}
        self._given_buffer = 0

    def status(self) -> dict[str, object]:
        return {"receive_buffer_bytes": self._given_buffer}

    async def run(self, intake: Intake) -> None:
        endpoints = await bound(self._listen, socket.SOCK_DGRAM, intake, self._draining)
        try:
            async with asyncio.TaskGroup() as group:
                for endpoint in endpoints:
                    self._given_buffer = _ask_receive_buffer(endpoint, self._receive_buffer)
                    endpoint.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
                    group.create_task(self._take(endpoint, intake))
                self.listening = names_of(endpoints)
        finally:
            for endpoint in endpoints:
                endpoint.close()
            self.listening = ""

    async def _take(self, endpoint: socket.socket, intake: Intake) -> None:
        readable = Readable(endpoint, self._draining)
        while await readable.wait():
            room = await self._room(intake)
            datagrams = self._receive(endpoint, intake)
            if room:
                await self._put(datagrams, intake)
            else:
                self._drop(datagrams)

    async def _room(self, intake: Intake) -> bool:
        """Give a full channel a moment: meanwhile the kernel's buffer takes what comes."""
        left_s = self._full_wait_s
        while not intake.has_room() and left_s > 0:
            await asyncio.sleep(_FULL_STEP_S)
            left_s -= _FULL_STEP_S
        return intake.has_room()

    def _receive(self, endpoint: socket.socket, intake: Intake) -> list[_Datagram]:
        """What is there now, up to a limit. Never waits."""
        datagrams: list[_Datagram] = []
        size, ancillary_size = 0, socket.CMSG_SPACE(_DROPPED.size)
        dropped = before = self._kernel_dropped.get(endpoint, 0)
        while len(datagrams) < _DATAGRAMS_AT_ONCE and size < intake.block_size_max:
            try:
                data, ancillary, _, sender = endpoint.recvmsg(_DATAGRAM_BYTES_MAX, ancillary_size)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of a datagram sent earlier; not ours
            datagrams.append((data, host_of(sender)))
            size += len(data)
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    (dropped,) = _DROPPED.unpack(value)
        if dropped != before:
            self._notes.note("dropped_kernel", "", (dropped - before) % 2**32)
            self._kernel_dropped[endpoint] = dropped
        return datagrams

    def _drop(self, datagrams: list[_Datagram]) -> None:
        messages: Counter[str] = Counter(sender for _, sender in datagrams)
        size: Counter[str] = Counter()
        for data, sender in datagrams:
            size[sender] += len(data)
        for sender, times in messages.items():
            self._notes.note("dropped_channel_full", sender, times, size[sender])

    async def _put(self, datagrams: list[_Datagram], intake: Intake) -> None:
        by_headers: dict[str, list[bytes]] = {}
        for data, sender in datagrams:
            if self._is_ours(data, sender):
                kind = sender if self._headers.client else ""
                by_headers.setdefault(kind, []).append(without_count(data))
        for sender, messages in by_headers.items():
            block, split = as_block(as_events(messages), intake.event_size_max)
            if split:
                intake.count("lines_split", split)
            await put(block, intake, self._headers.of(sender))

    def _is_ours(self, data: bytes, sender: str) -> bool:
        if not isinstance(foreign(data[:_HEAD_BYTES], final=True), Foreign):
            return True
        self._notes.note("datagrams_foreign", sender, 1, len(data))
        return False


def _ask_receive_buffer(endpoint: socket.socket, size: int) -> int:
    """Ask for a receive buffer; what the kernel gave, in bytes of its own accounting."""
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):  # the first is for root, above rmem_max
        try:
            endpoint.setsockopt(socket.SOL_SOCKET, option, size)
            break
        except OSError:
            continue
    return endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
