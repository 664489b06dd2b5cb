"""The window of batches seen: which (origin, seq) were stored here once, in blocks.

A block covers 4096 neighbouring sequence numbers of one origin. When they arrived in order, the
usual case with one receiver, a block is a single run; when an origin spreads its batches over
several receivers it is a bitmap, 512 bytes at most. Each block counts how many of its batches
are still held in the channel, and knows when the last of them left: only then the retention
begins to run.

    run:     | 00 | held u16 | left_ms u64 | first u16 | last u16 |
    bitmap:  | 01 | held u16 | left_ms u64 | bits, little-endian, without trailing zero bytes |

All integers but the bits are big-endian.
"""

import struct
from dataclasses import dataclass
from typing import Final

BLOCK_SEQS: Final = 4096
_HEAD: Final = struct.Struct(">BHQ")
_RUN: Final = struct.Struct(">HH")
_IS_RUN: Final = 0
_IS_BITMAP: Final = 1


def block_of(seq: int) -> int:
    """The number of the block that covers `seq`."""
    return seq // BLOCK_SEQS


@dataclass(frozen=True, slots=True)
class Window:
    """One block. Bit n of `bits` is set when the block's n-th sequence number was stored."""

    bits: int = 0
    held: int = 0  # how many of them the channel still holds
    left_ms: int = 0  # when the last one left, ms since the epoch; 0 while none has

    def __contains__(self, seq: int) -> bool:
        return bool(self.bits >> (seq % BLOCK_SEQS) & 1)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def stored(self, seq: int) -> "Window":
        """`seq` is in the channel now."""
        assert seq not in self, "stored twice"
        return Window(self.bits | 1 << (seq % BLOCK_SEQS), self.held + 1, self.left_ms)

    def left(self, now_ms: int) -> "Window":
        """One of the held has left the channel."""
        assert self.held > 0, "more left than were held"
        return Window(self.bits, self.held - 1, max(self.left_ms, now_ms))

    def forgettable(self, now_ms: int, retention_ms: int) -> bool:
        """Nothing of it is held, and all left longer ago than the retention."""
        return self.held == 0 and self.left_ms + retention_ms < now_ms


def encode(window: Window) -> bytes:
    """The bytes drawn above."""
    bits = window.bits
    first = (bits & -bits).bit_length() - 1 if bits else 0
    run = bits >> first
    if bits and run & (run + 1) == 0:
        last = first + run.bit_length() - 1
        return _HEAD.pack(_IS_RUN, window.held, window.left_ms) + _RUN.pack(first, last)
    data = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    return _HEAD.pack(_IS_BITMAP, window.held, window.left_ms) + data


def decode(data: bytes) -> Window:
    """The window of these bytes. ValueError when they are none."""
    if len(data) < _HEAD.size:
        raise ValueError(f"window of {len(data)} bytes is too short")
    kind, held, left_ms = _HEAD.unpack_from(data)
    if kind == _IS_RUN and len(data) == _HEAD.size + _RUN.size:
        first, last = _RUN.unpack_from(data, _HEAD.size)
        if not first <= last < BLOCK_SEQS:
            raise ValueError(f"window's run is {first} to {last}")
        bits = ((1 << (last - first + 1)) - 1) << first
    elif kind == _IS_BITMAP and len(data) <= _HEAD.size + BLOCK_SEQS // 8:
        bits = int.from_bytes(data[_HEAD.size :], "little")
    else:
        raise ValueError(f"window of kind {kind} with {len(data)} bytes")
    if held > bits.bit_count():
        raise ValueError(f"window holds {held} of {bits.bit_count()} seen")
    return Window(bits, held, left_ms)
