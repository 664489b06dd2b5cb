"""Outputs that are new in a channel that has lived: what was here before is not for them, and no
audit is to miss it there.

Of each origin that is all up to the greatest number that was seen here: what is below and came by
another agent was stored before as well, or comes yet, and is published where it is wanted.
"""

from collections.abc import Iterator, Sequence

from tiers.channel import withheld
from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import SEEN_KEY, ChannelState, guard, unguard
from tiers.channel.living import ORIGIN, origins_of
from tiers.channel.windows import read_window
from tiers.core.batch import BatchId
from tiers.core.dedupe import BLOCK_SEQS, block_of
from tiers.core.withheld import Withheld, encode


def begin_outputs(
    environment: Environment,
    txn: Transaction,
    state: ChannelState,
    outputs: Sequence[str],
    now_ms: int,
) -> None:
    """These are new. Nothing is known yet of what they were not to have."""
    if not outputs:
        return
    records = environment.db["records"]
    for origin, last in _last_numbers(environment, txn, state).items():
        for first, bits in _blocks(last):
            value = encode(Withheld(now_ms, skipped=bits))
            for output in outputs:
                key = withheld.key_of(output, BatchId(origin, first))
                txn.put(key, guard(key, value), db=records)


def _blocks(last: int) -> Iterator[tuple[int, int]]:
    """All numbers from 1 to the last: the first of each block, and its set."""
    for block in range(block_of(last) + 1):
        first = block * BLOCK_SEQS
        bits = (1 << min(last - first + 1, BLOCK_SEQS)) - 1
        yield first, bits if first else bits & ~1


def _last_numbers(
    environment: Environment, txn: Transaction, state: ChannelState
) -> dict[bytes, int]:
    """Of each origin that was seen here, or gave numbers here."""
    found: dict[bytes, int] = {}
    for key, stored in txn.cursor(environment.db["seen"]):
        origin, block = SEEN_KEY.unpack(key)
        bits = read_window(key, stored).bits
        if bits:  # else all of it was damaged, and is to come again
            greatest = block * BLOCK_SEQS + bits.bit_length() - 1
            found[origin] = max(greatest, found.get(origin, 0))
    own: dict[bytes, bytes] = {}
    with txn.cursor(environment.db["records"]) as cursor:
        more = cursor.set_range(ORIGIN)
        while more and cursor.key().startswith(ORIGIN):
            key, stored = cursor.item()
            own[key] = unguard("records", key, stored)
            more = cursor.next()
    return found | {origin: one.last for origin, one in origins_of(own, state).items() if one.last}
