"""Compression of bodies, and reading them back whole whatever they are made of.

Frames of zstd (RFC 8878 section 3.1) and members of gzip (RFC 1952 section 2.2) may be
concatenated; what is read back is all of them. `size` bounds what is allocated: a body that
opens to more, or to less, is a BatchError, never an exhausted memory. A frame's window is bounded
too, since a decoder makes room for it whatever there is to decode.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import zstandard
from isal import igzip_lib, isal_zlib

from tiers.core import zstd_frames
from tiers.core.batch import BODY_SIZE_MAX, Buffer, Envelope
from tiers.core.newlines import count_lines
from tiers.errors import BatchError

EXTENSIONS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
# isal's stub types its error as an instance of Exception, not as a class.
_ERRORS: Final[tuple[type[Exception], ...]] = (
    zstandard.ZstdError,
    igzip_lib.IsalError,  # type: ignore[assignment]
    zlib.error,
    EOFError,
)
_NO_MEMORY: Final = "not enough memory"  # in ZstdError: ours, and no fault of the body
_GZIP: Final = 16 + 15  # zlib's wbits for the gzip format
# Opened at a time: room is made for what is there, not for what is claimed.
_PIECE_BYTES: Final = 1 << 20
PART_BYTES: Final = 512 << 10  # compressed in one go: packs as well as any more would
# Of zstd's level 1, which looks 512 KiB back by itself, in a table of half the size: what it looks
# at stays in a core's cache, which makes it 6 % faster (of 10 % in parts of 512 KiB), and packs 1 %
# smaller.
_QUICKEST: Final = {"window_log": 18, "hash_log": 15}
_MEMBERS_MAX: Final = 64  # of gzip in one body: each costs a copy of what follows it
# Of zstd in one body, each a step of ours: a compressor makes some 200 of 128 KiB at the most.
_BLOCKS_MAX: Final = 65_536
_WINDOW_BYTES_MAX: Final = BODY_SIZE_MAX  # of a zstd frame: no body reaches farther back


def compressor(codec: str, level: int) -> Callable[[Buffer], bytes]:
    """A function that makes one frame or member of what it is given. Not shared by threads.
    `level` is the codec's own: 1 to 19 for zstd, 1 to 9 for gzip; `none` has none."""
    if codec == "zstd":
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, **(_QUICKEST if level == 1 else {}), write_content_size=True
        )
        return zstandard.ZstdCompressor(compression_params=parameters).compress
    if codec == "gzip":
        # isal's levels 0 to 3 cover zlib's 1 to about 3; above them zlib compresses smaller.
        if level <= 3:
            return lambda raw: igzip_lib.compress(raw, level, igzip_lib.COMP_GZIP)
        return lambda raw: zlib.compress(raw, level, _GZIP)
    return bytes


def joined(blocks: Iterable[Buffer], bytes_min: int) -> Iterator[Buffer]:
    """Blocks of `bytes_min` and more as they are, smaller ones joined to as much."""
    pending: list[Buffer] = []
    size = 0
    for block in blocks:
        pending.append(block)
        size += len(block)
        if size >= bytes_min:
            yield pending[0] if len(pending) == 1 else b"".join(pending)
            pending, size = [], 0
    if pending:
        yield pending[0] if len(pending) == 1 else b"".join(pending)


def decompress(codec: str, body: Buffer, size: int) -> bytes:
    """The raw bytes of a body, exactly `size` of them. Raises BatchError."""
    return b"".join(opened(codec, body, size))


def opened(codec: str, body: Buffer, size: int, *, strictly: bool = False) -> Iterator[bytes]:
    """The raw bytes of a body piece by piece, `size` of them; BatchError in the end where they are
    not. With `strictly` by the decoder that its readers have, which for gzip is not the fastest:
    see `_open_gzip`."""
    found = 0
    try:
        for piece in _open(codec, body, size, strictly):
            found += len(piece)
            yield piece
    except _ERRORS as error:
        if _NO_MEMORY in str(error):
            raise MemoryError(f"no memory to open a body: {error}") from error
        raise BatchError(f"body does not open as {codec}: {error}") from error
    if found != size:
        raise BatchError(f"body opens to {found} bytes or more, its envelope says {size}")


def opened_lines(envelope: Envelope, body: Buffer, *, strictly: bool = False) -> Iterator[bytes]:
    """The raw bytes of a body of `lines` piece by piece; BatchError in the end where they are not
    what its envelope says: newline-terminated events, so many of them."""
    count, last = 0, b""
    for piece in opened(envelope.codec, body, envelope.size, strictly=strictly):
        count += count_lines(piece)
        last = piece or last
        yield piece
    if not last.endswith(b"\n"):
        raise BatchError("body does not end with a newline: it is no lines")
    if count != envelope.count:
        raise BatchError(f"body has {count} lines, its envelope says {envelope.count}")


def _open(codec: str, body: Buffer, size: int, strictly: bool) -> Iterator[bytes]:
    match codec:
        case "zstd":
            return _open_zstd(body, size)
        case "gzip":
            return _open_gzip(body, size, strictly)
        case _:
            return iter((bytes(body[: size + 1]),))


def _open_zstd(body: Buffer, size: int) -> Iterator[bytes]:
    room = size + 1
    opener = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
    with opener.stream_reader(body, read_across_frames=True) as reader:
        while piece := reader.read(min(room, _PIECE_BYTES)):
            room -= len(piece)
            yield piece
    # What follows a body in a file would be taken for the rest of its last frame.
    if room and zstd_frames.is_cut_off(lambda at, size: body[at : at + size], _BLOCKS_MAX):
        raise EOFError("a zstd frame ends early")


def _open_gzip(body: Buffer, size: int, strictly: bool) -> Iterator[bytes]:
    """ISA-L takes members that zlib and `gzip` do not: with flags that are reserved, for one."""
    left, room, members = bytes(body), size + 1, 0
    while left and room:
        if members == _MEMBERS_MAX:
            raise EOFError(f"more than {_MEMBERS_MAX} gzip members")
        member = zlib.decompressobj(_GZIP) if strictly else isal_zlib.decompressobj(_GZIP)
        piece = member.decompress(left, room)
        if not member.eof and len(piece) < room:
            raise EOFError("a gzip member ends early")
        left, room, members = member.unused_data, room - len(piece), members + 1
        yield piece
