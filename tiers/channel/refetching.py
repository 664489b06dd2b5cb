"""Batches of which a copy here is damaged, and that are to come once more.

With `guarantee = "end"` upstream keeps a batch until it is published. So one whose record cannot be
read counts as never seen: who has sent it is told so, and sends it again. What comes is for those
outputs that have met the damage, and for no other: the others have let go of the batch, or have
still to let go of the first copy, and must not get it twice. It is passed on once no output waits
for any copy, nor for another.

    records: "again/" origin 16 seq u64 -> C | msgpack [[position, ...], [output, ...]]
             the positions of its copies, and the outputs that want another
"""

from dataclasses import dataclass, field
from typing import Final

import msgpack

from tiers.channel.layout import SEEN_KEY, decoding
from tiers.core.batch import BatchId

PREFIX: Final = b"again/"


@dataclass(slots=True)
class Again:
    """What is known of one batch."""

    positions: list[int] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def pack(self) -> bytes:
        return bytes(msgpack.packb([self.positions, self.outputs]))


def key_of(batch: BatchId) -> bytes:
    return PREFIX + SEEN_KEY.pack(*batch)


def unpack(value: bytes) -> Again:
    with decoding("a batch that is to come again"):
        positions, outputs = msgpack.unpackb(value)
        return Again(list(positions), list(outputs))
