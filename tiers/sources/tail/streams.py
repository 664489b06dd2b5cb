"""One compressed stream each: a member of gzip, a frame of zstd, a stream of xz or bzip2.

A stream gives what there is so far and goes on when more is there. `end` is where it ends in the
file, once `eof`. Errors of the libraries become `Damaged` here.
"""

import errno
import importlib
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import zstandard

from tiers.core import zstd_frames
from tiers.core.zstd_frames import FrameKind, Piece
from tiers.sources.tail.door import Door


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:  # a Python that was built without it
        return None


_bz2, _lzma = _module("bz2"), _module("lzma")
_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(zlib.error, zstandard.ZstdError, ValueError, EOFError),
    OSError,  # of bz2
    *((_lzma.LZMAError,) if _lzma else ()),
)
# How libraries say that they would, if they had more memory, or the dictionary.
_WOULD: Final = ("Memory usage limit", "requires too much memory", "Dictionary mismatch")
MEMORY_BYTES_MAX: Final = 128 << 20  # of one stream; xz at its highest level asks for 65 MiB
_GZIP_BYTES: Final = 64 << 10
_BZIP2_BYTES: Final = 4 << 20
_CHUNK_BYTES: Final = 64 << 10  # compressed


class Damaged(OSError):
    """By what is in it, a file cannot be read from here on: not before it has changed."""

    def __init__(self, why: object) -> None:
        super().__init__(errno.EBADMSG, f"damaged: {why}")


class CutOff(Damaged):
    """It ends within a stream."""

    def __init__(self) -> None:
        super().__init__("it ends within its compressed text; still being written, or cut off")


class NotRead(Damaged):
    """It may be whole, but we cannot open it."""

    def __init__(self, why: str) -> None:
        OSError.__init__(self, errno.ENOTSUP, why)


class Raw:
    """The compressed bytes, as streams want them. Raises OSError. `claim` is asked for the memory
    that a stream will take."""

    def __init__(
        self,
        door: Door,
        descriptor: int,
        go_on: Callable[[], None] = lambda: None,
        claim: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._door = door
        self._descriptor = descriptor
        self._go_on = go_on
        self.claim = claim

    def there(self, at: int, size: int) -> bytes:
        self._go_on()
        return self._door.pread(self._descriptor, size, at)

    def after_zeros(self, at: int) -> int | None:
        """The first byte from `at` on that is not zero; None where all are."""
        begin: int | None = at
        while begin is not None:
            part = self.there(begin, _CHUNK_BYTES)
            if left := len(part.lstrip(b"\0")):
                return begin + len(part) - left
            at = begin + len(part)
            begin = self._door.data_after(self._descriptor, at) if part else None
        return None


class Stream(Protocol):
    eof: bool
    end: int

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes (a frame of zstd: up to 128 KiB); none at the end, and where no
        more is there. Raises OSError, `Damaged`."""


class _Decoder(Protocol):
    """It keeps what it was given, and wants no more before that is out."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Pushed:
    """A decoder that has to be given what it reads, at most `chunk_bytes` at once: a call that
    fails gives nothing."""

    def __init__(self, raw: Raw, at: int, decoder: _Decoder) -> None:
        self.chunk_bytes = _CHUNK_BYTES
        self._raw = raw
        self._decoder = decoder
        self._fed = at
        self.eof = False
        self.end = at

    def read(self, size: int) -> bytes:
        while not self.eof:
            wanted = self._decoder.needs_input
            data = self._raw.there(self._fed, self.chunk_bytes) if wanted else b""
            try:
                part = self._decoder.decompress(data, size)
            except _ERRORS as error:
                raise _named(error) from error
            self._fed += len(data)
            if self._decoder.eof:
                self.eof = True
                self.end = self._fed - len(self._decoder.unused_data)
            if part or (wanted and not data):
                return part
        return b""


class _Inflate:
    """A member of gzip, with the face of the others: what it has not taken in yet, it keeps."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._full

    def decompress(self, data: bytes, size: int) -> bytes:
        part = self._member.decompress(self._member.unconsumed_tail + data, size)
        self._full = len(part) == size or bool(self._member.unconsumed_tail)
        return part


class _Frame:
    """A frame of zstd, opened block by block: what there is of one is bounded, whatever it says."""

    def __init__(self, raw: Raw, at: int) -> None:
        self._raw = raw
        self._pieces = zstd_frames.frame(raw.there, at)
        self._piece: Piece | None = None
        opener = zstandard.ZstdDecompressor(max_window_size=MEMORY_BYTES_MAX)
        self._decoder = opener.decompressobj()
        self.eof = False
        self.end = at

    def read(self, size: int) -> bytes:
        try:
            return self._read()
        except zstandard.ZstdError as error:
            raise _named(error) from error

    def _read(self) -> bytes:
        while not self.eof:
            piece = self._piece = self._piece or next(self._pieces, None)
            if piece is None:
                self.eof = True
                break
            if piece.kind is FrameKind.CUT:
                self._piece = None
                return b""
            begin = piece.at
            if piece.kind is FrameKind.SKIPPABLE:
                begin += piece.size - 1
            data = self._raw.there(begin, piece.at + piece.size - begin)
            if begin + len(data) < piece.at + piece.size:
                return b""
            if piece.kind is FrameKind.HEADER:
                self._raw.claim(zstandard.get_frame_parameters(data).window_size)
            self._piece, self.end = None, piece.at + piece.size
            if piece.kind is not FrameKind.SKIPPABLE and (part := self._decoder.decompress(data)):
                return part
        return b""


def _named(error: Exception) -> Damaged:
    if any(word in str(error) for word in _WOULD):
        return NotRead(f"it cannot be decompressed: {error}")
    return Damaged(error)


def gzip(raw: Raw, at: int) -> Stream:
    raw.claim(_GZIP_BYTES)
    return Pushed(raw, at, _Inflate())


def bzip2(raw: Raw, at: int) -> Stream:
    if _bz2 is None:
        raise NotRead("compressed with bzip2, and this Python has no bz2 to read it")
    raw.claim(_BZIP2_BYTES)
    return Pushed(raw, at, _bz2.BZ2Decompressor())


def xz(raw: Raw, at: int) -> Stream:
    if _lzma is None:
        raise NotRead("compressed with xz, and this Python has no lzma to read it")
    raw.claim(MEMORY_BYTES_MAX)
    return Pushed(raw, at, _lzma.LZMADecompressor(_lzma.FORMAT_XZ, memlimit=MEMORY_BYTES_MAX))


def zstd(raw: Raw, at: int) -> Stream:
    return _Frame(raw, at)
