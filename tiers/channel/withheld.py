"""What outputs were not to have (core/withheld.py), as it lies in a channel.

records: "withheld/" output "/" origin 16 block u64 -> C | withheld, see core/withheld.py
         kept for three retentions from when the last of its block was decided
         "channel/withheld-since"                    -> C | ms since the epoch, as digits
         since when all of it is known; where that is not there, since the channel began
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from tiers.channel.layout import SEEN_KEY
from tiers.core import dedupe, runs, withheld
from tiers.core.batch import BatchId
from tiers.core.runs import Runs
from tiers.core.withheld import Withheld
from tiers.errors import ChannelDamaged

PREFIX: Final = b"withheld/"
SINCE: Final = b"channel/withheld-since"


class BlockKey(NamedTuple):
    """Of which output, origin and block a record is."""

    output: str
    origin: bytes
    block: int

    def first(self) -> BatchId:
        """The first batch of the block."""
        return BatchId(self.origin, self.block * dedupe.BLOCK_SEQS)


def key_of(output: str, batch: BatchId) -> bytes:
    """Of the record that tells of a batch."""
    block = SEEN_KEY.pack(batch.origin, dedupe.block_of(batch.seq))
    return PREFIX + output.encode() + b"/" + block


def place_of(key: bytes) -> BlockKey:
    """ChannelDamaged for a key that is none."""
    told, block = key[len(PREFIX) : -SEEN_KEY.size], key[-SEEN_KEY.size :]
    if not (key.startswith(PREFIX) and told.endswith(b"/")):
        raise ChannelDamaged(f"key {key!r} tells no output and block")
    return BlockKey(told[:-1].decode(errors="replace"), *SEEN_KEY.unpack(block))


def unpack(value: bytes) -> Withheld:
    """What a record says, whose checksum was right. Raises ChannelDamaged."""
    try:
        return withheld.decode(value)
    except ValueError as error:
        raise ChannelDamaged(f"records: {error}") from error


def since_ms(records: Mapping[bytes, bytes], begun_ms: int) -> int:
    """Since when all of it is known. `records` are those of SINCE, `begun_ms` the channel's."""
    value = records.get(SINCE)
    if value is None:
        return begun_ms
    if not value.isdigit():
        raise ChannelDamaged(f"records: {value!r} is no time")
    return int(value)


class WithheldTold(NamedTuple):
    """What one output was not to have, by origin."""

    skipped: dict[bytes, Runs]
    dropped: dict[bytes, Runs]


def told_of(records: Mapping[bytes, bytes]) -> dict[str, WithheldTold]:
    """By output. `records` are those of PREFIX."""
    found: dict[str, WithheldTold] = {}
    for key, value in records.items():
        output, origin, block = place_of(key)
        one, told = unpack(value), found.setdefault(output, WithheldTold({}, {}))
        for bits, by_origin in ((one.skipped, told.skipped), (one.dropped, told.dropped)):
            if bits:
                before = by_origin.get(origin, [])
                by_origin[origin] = runs.union(before, withheld.runs_in(bits, block))
    return found
