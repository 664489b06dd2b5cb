"""The `syslog` source: RFC 3164 and 5424 messages over UDP (RFC 5426) and TCP (RFC 6587).

Messages are kept as they came; nothing is parsed. A full channel holds TCP back by not reading.
UDP cannot be held back: the kernel's buffer fills first, then datagrams are dropped, by us or by
the kernel, and every one is counted.
"""

import asyncio
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from tiers.contracts import Intake
from tiers.core.progress import Work
from tiers.sources.framing import Kind
from tiers.sources.listening import Draining, Headers, parse_address
from tiers.sources.notes import Notes
from tiers.sources.source import OwnHeader, SourceOptions
from tiers.sources.syslog_tcp import TcpLimits, TcpSyslog
from tiers.sources.syslog_udp import UdpSyslog
from tiers.units import Duration, Size


class SyslogOptions(SourceOptions):
    """Keys of a `syslog` source in the topology file."""

    listen: str = "127.0.0.1:5514"  # HOST:PORT, or [HOST]:PORT for IPv6; [::] takes IPv4 too
    transports: tuple[Literal["udp", "tcp"], ...] = Field(default=("udp", "tcp"), min_length=1)
    framing: Kind = "auto"  # over TCP
    # Asked of the kernel for UDP.
    receive_buffer: Size = Field(default=8 * 1024 * 1024, le=2**30)
    full_wait: Duration = 1.0  # UDP waits so long in the kernel's buffer for a full channel
    connections_max: int = Field(default=1000, ge=1, le=1_000_000)
    connections_per_address_max: int = Field(default=500, ge=1, le=1_000_000)
    # Then a connection that says nothing is closed.
    idle_after: Duration = Field(default=7 * 86400.0, ge=0.1)
    # Unfinished messages of all connections together.
    unfinished_size_max: Size = Field(default=32 * 1024 * 1024, ge=64 * 1024)

    client_header: OwnHeader = None  # name of a header for the sender's address

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        parse_address(listen)
        return listen

    def header_names(self) -> frozenset[str]:
        own = {self.client_header} if self.client_header is not None else set()
        return frozenset(self.headers) | own

    def listen_addresses(self) -> tuple[str, ...]:
        """What this source binds: for the check of `insecure`."""
        return (self.listen,)

    def listen_transports(self) -> tuple[str, ...]:
        return self.transports


class Syslog:
    """Listens until cancelled or drained. After `drain` it stops accepting at once, takes what
    was sent before, and ends."""

    Options: ClassVar[type[SourceOptions]] = SyslogOptions

    def __init__(self, options: SyslogOptions) -> None:
        self._draining = Draining()
        self._notes = Notes(options.name or options.type)
        self._udp = self._tcp = None
        headers = Headers(options.headers, options.client_header or "")
        if "udp" in options.transports:
            self._udp = UdpSyslog(
                options.listen,
                headers,
                options.receive_buffer,
                options.full_wait,
                self._draining,
                self._notes,
            )
        if "tcp" in options.transports:
            limits = TcpLimits(
                options.connections_max,
                options.connections_per_address_max,
                options.idle_after,
                options.unfinished_size_max,
            )
            self._tcp = TcpSyslog(
                options.listen,
                headers,
                options.framing,
                limits,
                self._draining,
                self._notes,
            )

    def drain(self) -> None:
        self._draining.begin()

    def status(self) -> dict[str, object]:
        parts = {"udp": self._udp, "tcp": self._tcp}
        listening = {name: part.listening for name, part in parts.items() if part}
        return {
            "listening": {name: place for name, place in listening.items() if place},
            **(self._tcp.status() if self._tcp else {}),
            **(self._udp.status() if self._udp else {}),
            "noted": self._notes.rows(),
        }

    def unread_bytes(self) -> None:
        return None

    def work(self) -> Mapping[str, Work]:
        return {}  # what senders still hold cannot be seen from here

    async def run(self, intake: Intake) -> None:
        self._notes.begin(intake)
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._udp, self._tcp):
                    if part is not None:
                        group.create_task(part.run(intake))
        finally:
            self._notes.end()
