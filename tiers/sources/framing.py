"""The framing of one syslog connection over TCP (RFC 6587): which, and what every one promises.

Messages are kept as they came. Only an LF within one becomes `#012`, as rsyslog writes it, so that
a message stays a line; LF and NUL at a message's end are framing.
"""

import re
from typing import Literal, Protocol

from tiers.sources import counts
from tiers.sources.blocks import cut
from tiers.sources.mixed import Mixed

Kind = Literal["auto", "octet", "newline", "nul"]


class FramingReader(Protocol):
    """The framing of one connection. No input or output of its own.

    Holds back at most one unfinished message of about `event_size_max` bytes; a longer one leaves
    in pieces as it arrives, and is counted in `split`."""

    split: int
    odd: int  # messages whose count was wrong or not fulfilled; nothing of them is dropped
    odd_bytes: int

    @property
    def held_bytes(self) -> int: ...

    @property
    def waits(self) -> bool:
        """What it holds may be whole: `quiet` would tell."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Whole events in what has arrived."""
        ...

    def quiet(self) -> bytes:
        """Nothing more has come for a while: what may be whole is."""
        ...

    def finish(self) -> bytes:
        """The rest when the connection has ended, as events."""
        ...


def reader(kind: Kind, event_size_max: int) -> FramingReader:
    if kind in ("newline", "nul"):
        return Delimited(event_size_max, b"\n" if kind == "newline" else b"\0")
    return Mixed(event_size_max, counts.BARE_HEADER if kind == "octet" else counts.HEADER)


class Delimited:
    """Every message ends with the same byte, and nothing else is framing: a `FramingReader`."""

    def __init__(self, event_size_max: int, end: bytes) -> None:
        self._event_size_max = event_size_max
        self._is_nul = end == b"\0"
        self._rest = b""
        self._continuing = False
        self.split = self.odd = self.odd_bytes = 0
        self.waits = False

    @property
    def held_bytes(self) -> int:
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        if not self._rest:
            data = data.lstrip(b"\r\n\0" if self._is_nul else b"\n")
        if self._is_nul:
            data = re.sub(rb"\0[\r\n\0]+", b"\0", data)
            data = data.replace(b"\n", b"#012").replace(b"\0", b"\n")
        data = self._rest + data
        if b"\n\n" in data:
            data = re.sub(rb"\n\n+", b"\n", data)
        piece = cut(data, self._event_size_max, self._continuing)
        self._continuing, self._rest = piece.continuing, data[piece.used :]
        self.split += piece.split
        return bytes(piece.block)

    def quiet(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest + b"\n" if rest else b""
