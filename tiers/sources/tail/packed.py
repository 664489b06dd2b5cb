"""Compressed files, as their first bytes tell: gzip, zstd, xz, bzip2, one stream after another.

A reader gives what there is so far, and goes on when more is there. Between streams and behind the
last there may be zeros (RFC 1952 says nothing of them, gzip(1) and xz(1) take them); anything else
that begins no stream is damage. `fault` tells a stream that is still being written, or never will
be whole, from an end. Memory is bounded, whatever a file claims to hold.

    gzip  RFC 1952        zstd  RFC 8878        xz  the .xz file format, 1.1.0        bzip2  "BZh"
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from tiers.sources.tail import streams
from tiers.sources.tail.streams import CutOff, Damaged, NotRead, Raw, Stream

MAGIC_BYTES: Final = 10
_NO_TEXT_BYTES: Final = 3  # that begin a stream, and then nothing
_MEMORY_BYTES_MAX: Final = streams.MEMORY_BYTES_MAX  # of all that is open in one source

_Kind = Callable[[Raw, int], Stream]


class PackedReader(Protocol):
    fault: Damaged | None
    """Once all there is was read: why it ends there; None for an end as it should be."""

    def read(self, size: int, /) -> bytes:
        """No bytes where the text ends, or ends as yet. Raises OSError."""


def reader(magic: bytes) -> Callable[[Raw], PackedReader] | None:
    """How to read a file that begins so; None for one that is not compressed in a known way."""
    return Streams if _kind(magic) else None


def may_become(begin: bytes) -> bool:
    """Whether a file that holds only so much as yet may be compressed, and is no text: one or two
    letters are."""
    text = len(begin) < _NO_TEXT_BYTES and begin.isascii() and begin.decode().isprintable()
    return not text and _may_begin(begin)


class Streams:
    """Stream after stream. Of a damaged one, all is given that comes out before the damage."""

    def __init__(self, raw: Raw) -> None:
        self.fault: Damaged | None = None
        self._raw = raw
        self._at = 0  # where the present stream begins, or the next one will
        self._make: _Kind | None = None
        self._stream: Stream | None = None
        self._given = 0  # bytes of the present stream's text

    def read(self, size: int) -> bytes:
        while self.fault is None or isinstance(self.fault, CutOff):
            try:
                stream = self._stream or self._next()
                part = stream.read(size) if stream else b""
            except Damaged as damage:
                self.fault = damage
                return self._before_damage(size)
            if stream is None:
                return b""
            self._given += len(part)
            if part:
                return part
            if not stream.eof:
                self.fault = CutOff()
                return b""
            self._at, self._stream = stream.end, None
        return b""

    def _next(self) -> Stream | None:
        """The next stream; None: there is none."""
        self.fault = None
        at = self._raw.after_zeros(self._at)
        if at is None:
            return None
        magic = self._raw.there(at, MAGIC_BYTES)
        self._make = _kind(magic)
        if self._make is None:
            if not _may_begin(magic):
                raise Damaged("what follows its compressed text is none")
            self.fault = CutOff()
            return None
        self._at, self._given = at, 0
        self._stream = self._make(self._raw, at)
        return self._stream

    def _before_damage(self, size: int) -> bytes:
        """A step that fails gives nothing of what it came by: the stream is opened once more, and
        the last step is made of single bytes."""
        begun, self._stream = self._stream, None
        again = self._make(self._raw, self._at) if begun and self._make else None
        if not isinstance(again, streams.Pushed):  # zstd's blocks come one by one
            return b""
        good: list[bytes] = []
        try:
            while self._given and (part := again.read(min(self._given, size))):
                self._given -= len(part)
            again.chunk_bytes = 1
            while len(good) < size and (part := again.read(1)):
                good.append(part)
        except Damaged:
            pass
        return b"".join(good)


class OpeningMemory:
    """The memory in which compressed files of one source are opened. Where it is too little for
    all, whoever used it longest ago begins anew later. `go_on` raises where the source is told to
    stop."""

    def __init__(self, go_on: Callable[[], None], bytes_max: int = _MEMORY_BYTES_MAX) -> None:
        self.go_on = go_on
        self._bytes_max = bytes_max
        self._taken: OrderedDict[int, tuple[int, Callable[[], None]]] = OrderedDict()

    def claim(self, who: object, size: int, leave: Callable[[], None]) -> None:
        """`leave` is called for one who has to give way."""
        self.leave(who)
        while self._taken and self.bytes_taken + size > self._bytes_max:
            self._taken.popitem(last=False)[1][1]()
        self._taken[id(who)] = size, leave

    def leave(self, who: object) -> None:
        self._taken.pop(id(who), None)

    @property
    def bytes_taken(self) -> int:
        return sum(size for size, _ in self._taken.values())


def _kind(magic: bytes) -> _Kind | None:
    return next((made for begin, made in _KINDS.items() if magic.startswith(begin)), None)


def _may_begin(part: bytes) -> bool:
    return bool(part) and any(begin.startswith(part) for begin in _KINDS)


def _not_read(name: str, _raw: Raw, _at: int) -> Stream:
    raise NotRead(f"it is compressed by {name}, which is not read")


_KINDS: Final[dict[bytes, _Kind]] = {
    b"\x1f\x8b\x08": streams.gzip,
    b"\x28\xb5\x2f\xfd": streams.zstd,
    **{bytes((0x50 + low,)) + b"\x2a\x4d\x18": streams.zstd for low in range(16)},  # skippable
    b"\xfd7zXZ\0": streams.xz,
    # Three letters alone may begin a line: the level, and a block or the end.
    **{b"BZh%d1AY&SY" % level: streams.bzip2 for level in range(1, 10)},
    **{b"BZh%d\x17rE8P\x90" % level: streams.bzip2 for level in range(1, 10)},
    **{
        begin: partial(_not_read, name)
        for begin, name in {
            b"\x04\x22\x4d\x18": "lz4",
            b"\x02\x21\x4c\x18": "lz4",
            b"\x1f\x9d": "compress",
            b"\x1f\xa0": "compress",
            b"LZIP\x01": "lzip",
            b"\x89LZO\0\r\n\x1a\n": "lzop",
            b"7z\xbc\xaf\x27\x1c": "7-Zip",
            b"PK\x03\x04": "zip",
            b"\xff\x06\0\0sNaP": "snappy",
            b"]\0\0": "lzma",
        }.items()
    },
}
