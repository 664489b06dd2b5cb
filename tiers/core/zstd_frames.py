"""Where frames of zstd end. zstd's own reader is content with what came of one, and does not tell.

frame (RFC 8878, section 3.1.1)   header | blocks: u24 = last, type (2 bits), size; data | checksum
skippable frame (section 3.1.2)   magic number: u32 | size: u32 | data
"""

import enum
import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import zstandard

from tiers.core.batch import Buffer

There = Callable[[int, int], Buffer]
"""What there is of so many bytes at a place."""

_HEADER_BYTES_MAX: Final = 18  # the magic number included
_HEADER_BYTES_MIN: Final = 5  # to tell how long it is
_SKIPPABLE: Final = 0x184D2A5  # and four bits more
_SKIPPABLE_HEADER_BYTES: Final = 8
_BLOCK_HEADER_BYTES: Final = 3
_RLE_BLOCK: Final = 1  # one byte, so many times
_RESERVED_BLOCK: Final = 3
_BLOCK_BYTES_MAX: Final = 128 << 10
_CHECKSUM_BYTES: Final = 4


class FrameKind(enum.Enum):
    HEADER = enum.auto()
    BLOCK = enum.auto()  # opens to 128 KiB at most
    CHECKSUM = enum.auto()
    SKIPPABLE = enum.auto()  # a whole frame
    CUT = enum.auto()  # too little is there to say what it is


class Piece(NamedTuple):
    kind: FrameKind
    at: int
    size: int


def frame(there: There, at: int) -> Iterator[Piece]:
    """The pieces of the frame at a place, each as its header says: whether all of it is there is
    not asked. CUT comes again until there is more. Raises zstandard.ZstdError for what is no
    frame."""
    while len(header := bytes(there(at, _HEADER_BYTES_MAX))) < (wanted := _wanted(header)):
        yield Piece(FrameKind.CUT, at, wanted)
    if int.from_bytes(header[:4], "little") >> 4 == _SKIPPABLE:
        size = int.from_bytes(header[4:8], "little")
        yield Piece(FrameKind.SKIPPABLE, at, _SKIPPABLE_HEADER_BYTES + size)
        return
    has_checksum = zstandard.get_frame_parameters(header).has_checksum
    yield Piece(FrameKind.HEADER, at, wanted)
    at += wanted
    last = False
    while not last:
        while len(head := there(at, _BLOCK_HEADER_BYTES)) < _BLOCK_HEADER_BYTES:
            yield Piece(FrameKind.CUT, at, _BLOCK_HEADER_BYTES)
        block = int.from_bytes(head, "little")
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == _RESERVED_BLOCK or size > _BLOCK_BYTES_MAX:
            raise zstandard.ZstdError("no block of zstd")
        size = _BLOCK_HEADER_BYTES + (1 if kind == _RLE_BLOCK else size)
        yield Piece(FrameKind.BLOCK, at, size)
        at += size
    if has_checksum:
        yield Piece(FrameKind.CHECKSUM, at, _CHECKSUM_BYTES)


def is_cut_off(there: There, steps_max: float = math.inf) -> bool:
    """Whether frames end within one. Raises zstandard.ZstdError for what is no frame, EOFError
    where there are more frames and blocks than `steps_max`."""
    at, steps = 0, 0
    while there(at, 1):
        for piece in frame(there, at):
            if piece.kind is FrameKind.CUT:
                return True
            at = piece.at + piece.size
            steps += piece.kind is not FrameKind.CHECKSUM
            if steps > steps_max:
                raise EOFError(f"more than {steps_max} zstd blocks")
    return at > 0 and not there(at - 1, 1)


def _wanted(header: bytes) -> int:
    """How long the header is that begins so, as far as that can be told."""
    if len(header) < _HEADER_BYTES_MIN:
        return _HEADER_BYTES_MIN
    if int.from_bytes(header[:4], "little") >> 4 == _SKIPPABLE:
        return _SKIPPABLE_HEADER_BYTES
    if header[:4] != zstandard.FRAME_HEADER:
        raise zstandard.ZstdError("no frame of zstd")
    return zstandard.frame_header_size(header)
