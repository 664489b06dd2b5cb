"""What an output was not to have, though it was accepted: its route did not give it there, or a
person dropped it for good. Kept in blocks of sequence numbers of one origin, as in dedupe.py, so
that an audit takes it for no loss.

    withheld: | at_ms u64 | skipped, a set | dropped, a set |    sets as in dedupe.py
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tiers.core.dedupe import BLOCK_SEQS, decode_set, encode_set
from tiers.core.runs import Runs

_AT: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Withheld:
    """Of one output and block: bit n is of the block's n-th number."""

    at_ms: int = 0  # when the last of it was decided, ms since the epoch
    skipped: int = 0  # that the route did not give it
    dropped: int = 0  # of which a person has dropped the dead letter

    def skipping(self, seq: int, at_ms: int) -> "Withheld":
        skipped = self.skipped | 1 << seq % BLOCK_SEQS
        return replace(self, at_ms=max(self.at_ms, at_ms), skipped=skipped)

    def dropping(self, seq: int, at_ms: int) -> "Withheld":
        dropped = self.dropped | 1 << seq % BLOCK_SEQS
        return replace(self, at_ms=max(self.at_ms, at_ms), dropped=dropped)

    def joined(self, other: "Withheld") -> "Withheld":
        """What either of them knows."""
        return Withheld(
            max(self.at_ms, other.at_ms),
            self.skipped | other.skipped,
            self.dropped | other.dropped,
        )


def encode(withheld: Withheld) -> bytes:
    """The bytes drawn above."""
    sets = encode_set(withheld.skipped) + encode_set(withheld.dropped)
    return _AT.pack(withheld.at_ms) + sets


def decode(data: bytes) -> Withheld:
    """What these bytes say. ValueError when they are none."""
    try:
        (at_ms,) = _AT.unpack_from(data)
        skipped, rest = decode_set(data[_AT.size :])
        dropped, rest = decode_set(rest)
    except (struct.error, IndexError) as error:
        raise ValueError(f"{len(data)} bytes are too short for what was withheld") from error
    if rest:
        raise ValueError(f"what was withheld is followed by {len(rest)} bytes")
    return Withheld(at_ms, skipped, dropped)


def runs_in(bits: int, block: int) -> Runs:
    """The numbers of a set of that block, as runs."""
    return list(_runs(bits, block * BLOCK_SEQS))


def _runs(bits: int, at: int) -> Iterator[list[int]]:
    while bits:
        gap = (bits & -bits).bit_length() - 1
        bits >>= gap
        length = ((bits + 1) & -(bits + 1)).bit_length() - 1
        bits >>= length
        at += gap
        yield [at, at + length - 1]
        at += length
