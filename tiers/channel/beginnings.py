"""Outputs that are new in a channel that has lived, or come back: what came while they were not
configured is not for them, and no audit is to miss it there.

Of each origin that is all up to the greatest number that was seen here: what is below and came by
another agent was stored before as well, or comes yet, and is published where it is wanted.

records: "away/" output -> C | msgpack {origin 16: number}
         It gets nothing: up to which numbers it was given what its route gave it. Written in the
         transaction that makes it known, or that ends it; gone with the one that begins it.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgpack

from tiers.channel import withheld
from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import SEEN_KEY, ChannelState, guard, unguard
from tiers.channel.living import ORIGIN, origins_of
from tiers.channel.windows import read_window
from tiers.core.batch import BatchId
from tiers.core.dedupe import BLOCK_SEQS, block_of
from tiers.core.withheld import Withheld, encode

_AWAY = b"away/"


def outputs_of_file(
    environment: Environment,
    txn: Transaction,
    state: ChannelState,
    outputs: Sequence[str],
    now_ms: int,
) -> None:
    """A channel that has lived is opened with these: others end, if they have not, and those begin
    that are new or had ended."""
    add_outputs(environment, txn, state, outputs)
    others = [name for name in state.outputs if name not in outputs]
    end_outputs(environment, txn, state, others)
    begin_outputs(environment, txn, state, outputs, now_ms)


def add_outputs(
    environment: Environment, txn: Transaction, state: ChannelState, outputs: Sequence[str]
) -> None:
    """New ones are known from now on, and were never given anything."""
    new = [name for name in outputs if name not in state.outputs]
    state.add_outputs(new)
    for name in new:
        _go_away(environment, txn, name, {})


def end_outputs(
    environment: Environment, txn: Transaction, state: ChannelState, outputs: Sequence[str]
) -> None:
    """They get nothing more."""
    ending = [name for name in outputs if _given_before(environment, txn, name) is None]
    last = _last_numbers(environment, txn, state) if ending else {}
    for name in ending:
        _go_away(environment, txn, name, last)


def begin_outputs(
    environment: Environment,
    txn: Transaction,
    state: ChannelState,
    outputs: Sequence[str],
    now_ms: int,
) -> None:
    """These are given what comes from now on, and not what came since they ended, if they have."""
    records = environment.db["records"]
    given = {output: _given_before(environment, txn, output) for output in outputs}
    beginning = {output: before for output, before in given.items() if before is not None}
    last = _last_numbers(environment, txn, state) if beginning else {}
    for output, before in beginning.items():
        txn.delete(_AWAY + output.encode(), db=records)
        for origin, number in last.items():
            for first, bits in _blocks(before.get(origin, 0) + 1, number):
                key = withheld.key_of(output, BatchId(origin, first))
                stored = txn.get(key, db=records)
                known = Withheld()
                if stored is not None:
                    known = withheld.unpack(unguard("records", key, stored))
                value = encode(known.joined(Withheld(now_ms, skipped=bits)))
                txn.put(key, guard(key, value), db=records)


def _go_away(
    environment: Environment, txn: Transaction, output: str, last: Mapping[bytes, int]
) -> None:
    key = _AWAY + output.encode()
    txn.put(key, guard(key, msgpack.packb(last)), db=environment.db["records"])


def _given_before(
    environment: Environment, txn: Transaction, output: str
) -> dict[bytes, int] | None:
    """Up to which numbers, by origin; None where it has not ended."""
    key = _AWAY + output.encode()
    stored = txn.get(key, db=environment.db["records"])
    if stored is None:
        return None
    return dict(msgpack.unpackb(unguard("records", key, stored), strict_map_key=False))


def _blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """All numbers from the first, which is 1 at least, to the last: of each block its first, and
    its set."""
    for block in range(block_of(first), block_of(last) + 1):
        begin = block * BLOCK_SEQS
        bits = (1 << min(last - begin + 1, BLOCK_SEQS)) - 1
        yield begin, bits & ~((1 << max(first - begin, 0)) - 1)


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
