"""The window of batches seen: which (origin, seq) were stored here once, in blocks.

A block covers 4096 neighbouring sequence numbers of one origin. When they arrived in order, the
usual case with one receiver, a block is a single run; when an origin spreads its batches over
several receivers it is a bitmap, 512 bytes at most. Beside what was seen a block remembers what
was *passed on*: every output has let go of it. Each block counts how many of its batches are
still in the channel, and knows when the last of them left: only then the retention begins to run.

    window: | held u16 | left_ms u64 | seen, a set | passed on, a set |
    set:    | 00 |                          empty
            | 01 | first u16 | last u16 |   a run
            | 02 | length u16 | bits |      little-endian, without trailing zero bytes

Beside the windows lie *pieces*: the checksums of the last batches of an origin, of the block that
is being filled and the one before, so that another content under a known id is told apart.

    piece:  | place u8 | crc u32 | ...      of 64 neighbouring numbers, in the order of arrival

All integers but the bits are big-endian.
"""

import struct
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from tiers.core.batch import BatchId

BLOCK_SEQS: Final = 4096
PIECE_SEQS: Final = 64
PIECES: Final = BLOCK_SEQS // PIECE_SEQS  # of a block
_SUM: Final = struct.Struct(">BI")
_HEAD: Final = struct.Struct(">HQ")
_RUN: Final = struct.Struct(">BHH")
_BITMAP: Final = struct.Struct(">BH")
_IS_EMPTY, _IS_RUN, _IS_BITMAP = range(3)


class Content(NamedTuple):
    """A batch under its id, and what is in it. Of one id there may be two where a machine was
    resumed, memory and all."""

    id: BatchId
    crc: int


class Known(NamedTuple):
    """What is known of a batch that was stored here once."""

    passed_on: bool = False  # every output has let go of it since
    sums: tuple[int, ...] = ()  # checksums of what came under that id; empty: not known any more


def block_of(seq: int) -> int:
    """The number of the block that covers `seq`."""
    return seq // BLOCK_SEQS


def piece_of(seq: int) -> int:
    """The number of the piece that covers `seq`."""
    return seq // PIECE_SEQS


def with_sum(piece: bytes, seq: int, crc: int) -> bytes:
    """The piece with one more checksum."""
    return piece if crc in sums_of(piece, seq) else piece + _SUM.pack(seq % PIECE_SEQS, crc)


def sums_of(piece: bytes, seq: int) -> tuple[int, ...]:
    """Checksums of all that came under that number."""
    place = seq % PIECE_SEQS
    return tuple([crc for at, crc in _SUM.iter_unpack(piece) if at == place])


def check_piece(piece: bytes) -> None:
    """ValueError for bytes that are none."""
    if len(piece) % _SUM.size:
        raise ValueError(f"piece of {len(piece)} bytes")


def _bit(seq: int) -> int:
    return 1 << (seq % BLOCK_SEQS)


@dataclass(frozen=True, slots=True)
class Window:
    """One block. Bit n of `bits` is set when the block's n-th sequence number was stored, and of
    `passed` when every output has let go of it since."""

    bits: int = 0
    passed: int = 0
    held: int = 0  # how many of them are in the channel, dead letters counted
    left_ms: int = 0  # when the last one left, ms since the epoch; 0 while none has

    def __contains__(self, seq: int) -> bool:
        return bool(self.bits & _bit(seq))

    def __len__(self) -> int:
        return self.bits.bit_count()

    def was_passed_on(self, seq: int) -> bool:
        """Whether no output waits for it any more: published or dead with `guarantee = "end"`."""
        return bool(self.passed & _bit(seq))

    def stored(self, seq: int) -> "Window":
        """`seq` is in the channel now."""
        assert seq not in self, "stored twice"
        return replace(self, bits=self.bits | _bit(seq), held=self.held + 1)

    def passed_on(self, seq: int) -> "Window":
        """Every output has let go of `seq`."""
        assert seq in self, "passed on and never stored"
        return replace(self, passed=self.passed | _bit(seq))

    def left(self, now_ms: int) -> "Window":
        """One of the held has left the channel."""
        assert self.held > 0, "more left than were held"
        return replace(self, held=self.held - 1, left_ms=max(self.left_ms, now_ms))

    def forgotten(self, seq: int, *, held: bool = True) -> "Window":
        """As if `seq` had never come: what is stored of it, if it is `held`, cannot be read."""
        assert seq in self and self.held >= held, "forgotten and never stored"
        bit = _bit(seq)
        held_now = self.held - held
        return replace(self, bits=self.bits & ~bit, passed=self.passed & ~bit, held=held_now)

    def forgettable(self, now_ms: int, retention_ms: int) -> bool:
        """Nothing of it is held, and all left longer ago than the retention."""
        return self.held == 0 and self.left_ms + retention_ms < now_ms


def encode(window: Window) -> bytes:
    """The bytes drawn above."""
    head = _HEAD.pack(window.held, window.left_ms)
    return head + encode_set(window.bits) + encode_set(window.passed)


def encode_set(bits: int) -> bytes:
    """The bytes of a set drawn above, of a block."""
    if not bits:
        return bytes((_IS_EMPTY,))
    first = (bits & -bits).bit_length() - 1
    run = bits >> first
    if run & (run + 1) == 0:
        return _RUN.pack(_IS_RUN, first, first + run.bit_length() - 1)
    data = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    return _BITMAP.pack(_IS_BITMAP, len(data)) + data


def decode(data: bytes) -> Window:
    """The window of these bytes. ValueError when they are none."""
    try:
        held, left_ms = _HEAD.unpack_from(data)
        bits, rest = decode_set(data[_HEAD.size :])
        passed, rest = decode_set(rest)
    except (struct.error, IndexError) as error:
        raise ValueError(f"window of {len(data)} bytes is too short") from error
    if rest:
        raise ValueError(f"window is followed by {len(rest)} bytes")
    if held > bits.bit_count() or passed & ~bits:
        raise ValueError(f"window holds {held}, and passed on what it had not seen")
    return Window(bits, passed, held, left_ms)


def decode_set(data: bytes) -> tuple[int, bytes]:
    """A set and what comes behind it. ValueError, IndexError or struct.error when these bytes are
    none."""
    kind = data[0]
    if kind == _IS_EMPTY:
        return 0, data[1:]
    if kind == _IS_RUN:
        _, first, last = _RUN.unpack_from(data)
        if not first <= last < BLOCK_SEQS:
            raise ValueError(f"window's run is {first} to {last}")
        return ((1 << (last - first + 1)) - 1) << first, data[_RUN.size :]
    _, length = _BITMAP.unpack_from(data)
    found, rest = data[_BITMAP.size :][:length], data[_BITMAP.size + length :]
    if kind != _IS_BITMAP or len(found) != length or length > BLOCK_SEQS // 8:
        raise ValueError(f"window's set of kind {kind} and {length} bytes")
    return int.from_bytes(found, "little"), rest
