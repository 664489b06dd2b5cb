"""Where one syslog message ends and the next begins: RFC 6587 over TCP, one each over UDP.

A TCP stream is read in one of two ways, told apart by its first bytes (section 3.4.1: a frame
that starts with a digit 1-9 is octet-counted) and kept for as long as the connection lives:

    octet counting      MSG-LEN SP MSG MSG-LEN SP MSG ...    "83 <34>1 2003-10-11T22:14:15.003Z"
    newline framing     MSG LF MSG LF ...                    "<34>Oct 11 22:14:15 mymachine su:"

Messages are kept as they came. Only an LF within one (UDP, octet counting) becomes `#012`, as
rsyslog writes it, so that a message stays a line; LF and NUL at a message's end are framing.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from tiers.sources.blocks import cut

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024  # no message is longer; a length above it is nonsense
_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_LENGTH_BEGUN: Final = re.compile(rb"[1-9][0-9]{0,9}\Z")


def as_events(messages: Iterable[bytes]) -> list[bytes]:
    """Each message as one line, without its newline; empty ones are left out."""
    return [
        message.replace(b"\n", b"#012") if b"\n" in message else message
        for raw in messages
        if (message := raw.rstrip(b"\n\0"))
    ]


def as_block(events: list[bytes], event_size_max: int) -> tuple[bytes, int]:
    """Events joined to a block, each with its newline; and how many had to be split."""
    if not events:
        return b"", 0
    block = b"\n".join(events) + b"\n"
    piece = cut(block, event_size_max)
    return (bytes(piece.block), piece.split) if piece.split else (block, 0)


class _Mode(Enum):
    UNKNOWN = auto()
    NEWLINES = auto()
    OCTETS = auto()


class Framing:
    """The framing of one connection. No input or output of its own.

    Holds back at most one unfinished message of `event_size_max` bytes; a longer one leaves in
    pieces as it arrives, and is counted in `split`. Once `malformed` says why the connection
    cannot be understood any more, nothing else comes of it."""

    def __init__(self, event_size_max: int) -> None:
        self._event_size_max = event_size_max
        self._mode = _Mode.UNKNOWN
        self._rest = b""
        self._continuing = False
        self._frame_left = 0  # bytes of an octet-counted message that is leaving in pieces
        self.split = 0
        self.malformed = ""

    @property
    def held_bytes(self) -> int:
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        """Whole events in what has arrived."""
        if self.malformed:
            return b""
        data = self._rest + data if self._rest else data
        self._rest = b""
        if self._mode is _Mode.UNKNOWN:
            data = data.lstrip(b"\0\n")  # the end of no message
            self._mode = _mode(data)
        if self._mode is _Mode.UNKNOWN:
            self._rest = data
            return b""
        return self._lines(data) if self._mode is _Mode.NEWLINES else self._frames(data)

    def finish(self) -> bytes:
        """The unfinished message when the connection has ended, as an event."""
        rest, self._rest = self._rest, b""
        if self._mode is _Mode.OCTETS and not self._frame_left:
            header = _LENGTH.match(rest)
            rest = rest[header.end() :] if header and not self.malformed else b""
        return self._block(as_events([rest]))

    def _lines(self, data: bytes) -> bytes:
        if b"\0" in data:
            # Some end messages with NUL (section 3.4.2), alone or beside the LF.
            data = data.replace(b"\0\n", b"\n").replace(b"\n\0", b"\n").replace(b"\0", b"\n")
        piece = cut(data, self._event_size_max, self._continuing)
        self._continuing, self._rest = piece.continuing, data[piece.used :]
        self.split += piece.split
        return bytes(piece.block)

    def _frames(self, data: bytes) -> bytes:
        events: list[bytes] = []
        begin, whole = 0, self._event_size_max - 1
        while begin < len(data):
            if self._frame_left:
                end = begin + min(self._frame_left, whole)
                if end > len(data):
                    break
                self._frame_left -= end - begin
                piece = data[begin:end]
                # Only the last piece ends where the message does.
                events += as_events([piece]) if not self._frame_left else [_inner(piece)]
                begin = end
                continue
            frames, begin, header = _whole_frames(data, begin, whole)
            events += as_events(frames)
            if header is not None:
                length = int(header[1])
                if length > FRAME_BYTES_MAX:
                    return self._end(f"a message of {length} bytes", events)
                if length <= whole:
                    break  # the rest of it is still to come
                self.split += 1
                self._frame_left, begin = length, header.end()
            elif begin < len(data) and data[begin] in b"\n\0":
                begin += 1  # some add one after a counted message
            elif _LENGTH_BEGUN.match(data, begin):
                break
            elif begin < len(data):
                return self._end(f"no message length but {data[begin : begin + 20]!r}", events)
        self._rest = data[begin:]
        return self._block(events)

    def _end(self, why: str, events: list[bytes]) -> bytes:
        self.malformed = why
        return self._block(events)

    def _block(self, events: list[bytes]) -> bytes:
        block, split = as_block(events, self._event_size_max)
        self.split += split
        return block


def _whole_frames(
    data: bytes, begin: int, size_max: int
) -> tuple[list[bytes], int, re.Match[bytes] | None]:
    """Counted messages that are there whole, of at most `size_max`; where the next frame begins,
    and its length if that is there. The one loop that runs for each message: keep it short."""
    frames = []
    available, match = len(data), _LENGTH.match
    while header := match(data, begin):
        start = header.end()
        length = int(header[1])
        end = start + length
        if length > size_max or end > available:
            break
        frames.append(data[start:end])
        begin = end
    return frames, begin, header


def _inner(piece: bytes) -> bytes:
    return piece.replace(b"\n", b"#012")


def _mode(begin: bytes) -> _Mode:
    if not begin:
        return _Mode.UNKNOWN
    if _LENGTH.match(begin):
        return _Mode.OCTETS
    return _Mode.UNKNOWN if _LENGTH_BEGUN.match(begin) else _Mode.NEWLINES
