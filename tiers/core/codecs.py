"""Compression of bodies, and reading them back whole whatever they are made of.

Frames of zstd (RFC 8878 section 3.1) and members of gzip (RFC 1952 section 2.2) may be
concatenated; what is read back is all of them. `size` bounds what is allocated: a body that
opens to more, or to less, is a BatchError, never an exhausted memory.
"""

import zlib
from collections.abc import Callable
from typing import Final

import zstandard
from isal import igzip_lib, isal_zlib

from tiers.core.batch import Buffer
from tiers.errors import BatchError

EXTENSIONS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
# isal's stub types its error as an instance of Exception, not as a class.
_ERRORS: Final[tuple[type[Exception], ...]] = (
    zstandard.ZstdError,
    igzip_lib.IsalError,  # type: ignore[assignment]
    zlib.error,
    EOFError,
)
_GZIP: Final = 16 + 15  # zlib's wbits for the gzip format
# Read at a time: room is made for what is there, not for what is claimed.
_PIECE_BYTES: Final = 4 << 20
_MEMBERS_MAX: Final = 64  # of gzip in one body: each costs a copy of what follows it


def compressor(codec: str, level: int) -> Callable[[Buffer], bytes]:
    """A function that makes one frame or member of what it is given. Not shared by threads.
    `level` is the codec's own: 1 to 19 for zstd, 1 to 9 for gzip; `none` has none."""
    if codec == "zstd":
        return zstandard.ZstdCompressor(level=level, write_checksum=False).compress
    if codec == "gzip":
        # isal's levels 0 to 3 cover zlib's 1 to about 3; above them zlib compresses smaller.
        if level <= 3:
            return lambda raw: igzip_lib.compress(raw, level, igzip_lib.COMP_GZIP)
        return lambda raw: zlib.compress(raw, level, _GZIP)
    return bytes


def decompress(codec: str, body: Buffer, size: int) -> bytes:
    """The raw bytes of a body, exactly `size` of them. Raises BatchError."""
    try:
        raw = _OPENERS[codec](body, size)
    except _ERRORS as error:
        raise BatchError(f"body does not open as {codec}: {error}") from error
    if len(raw) != size:
        raise BatchError(f"body opens to {len(raw)} bytes or more, its envelope says {size}")
    return raw


def _open_zstd(body: Buffer, size: int) -> bytes:
    pieces: list[bytes] = []
    room = size + 1
    with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
        while piece := reader.read(min(room, _PIECE_BYTES)):
            pieces.append(piece)
            room -= len(piece)
    return b"".join(pieces)


def _open_gzip(body: Buffer, size: int) -> bytes:
    pieces: list[bytes] = []
    left, room = bytes(body), size + 1
    while left and room:
        if len(pieces) == _MEMBERS_MAX:
            raise EOFError(f"more than {_MEMBERS_MAX} gzip members")
        member = isal_zlib.decompressobj(_GZIP)
        piece = member.decompress(left, room)
        if not member.eof and len(piece) < room:
            raise EOFError("a gzip member ends early")
        pieces.append(piece)
        left, room = member.unused_data, room - len(piece)
    return b"".join(pieces)


_OPENERS: Final[dict[str, Callable[[Buffer, int], bytes]]] = {
    "none": lambda body, size: bytes(body[: size + 1]),
    "gzip": _open_gzip,
    "zstd": _open_zstd,
}
