"""Each kind of source, for its contract: how it is made, and how it is fed. A new one gets the
suites by a line in `rigs`."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import eventually
from tiers.contracts import Source
from tiers.registry import load
from tiers.sources import BUILTIN, GROUP
from tiers.sources.listening import parse_address

LINES = 300


@dataclass(frozen=True)
class Rig:
    """A source under test. `feed` gives it LINES events or so once it runs."""

    type: str
    options: dict[str, Any]
    feed: Callable[[Source], Awaitable[None]]
    exact: bool = True  # a later run goes on where the stored positions are

    def make(self, **keys: Any) -> Source:
        return self.of(self.validate(**keys))

    def of(self, options: Any) -> Source:
        source: Source = self._kind(options)
        return source

    def validate(self, **keys: Any) -> Any:
        return self._kind.Options.model_validate({"type": self.type, **self.options, **keys})

    @property
    def _kind(self) -> Any:
        return load(BUILTIN, GROUP, self.type)


async def nothing(_: Source) -> None:
    """It feeds itself."""


async def write(path: Path) -> None:
    if not path.exists():
        path.write_bytes(b"".join(b"line %04d\n" % i for i in range(LINES)))


def _port(source: Source, transport: str) -> tuple[str, int] | None:
    listening = source.status()["listening"]
    assert isinstance(listening, dict)
    return parse_address(listening[transport]) if transport in listening else None


async def send_tcp(source: Source) -> None:
    await eventually(lambda: _port(source, "tcp"))
    _, writer = await asyncio.open_connection(*_port(source, "tcp") or ("", 0))
    writer.writelines([b"<13>line %04d\n" % i for i in range(LINES)])
    await writer.drain()
    writer.close()


async def send_udp(source: Source) -> None:
    await eventually(lambda: _port(source, "udp"))
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.connect(_port(source, "udp") or ("", 0))
        for i in range(LINES):
            sender.send(b"<13>line %04d" % i)


def rigs(directory: Path) -> dict[str, Rig]:
    path = directory / "app.log"
    listen = "127.0.0.1:0"
    return {
        "generate": Rig("generate", {"count": LINES, "size": 20, "format": "numbers"}, nothing),
        "tail": Rig("tail", {"paths": [str(path)]}, lambda _: write(path)),
        "syslog tcp": Rig("syslog", {"listen": listen, "transports": ["tcp"]}, send_tcp, False),
        "syslog udp": Rig(
            "syslog", {"listen": listen, "transports": ["udp"], "full_wait": "1h"}, send_udp, False
        ),
    }
