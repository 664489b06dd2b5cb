"""Dead letters that a person does something with.

One that is to be delivered after all goes back to the queue of its output in one change: its batch
gets a new position, since who reads a queue has long been past the old one. One that is dropped
leaves a trace, so that an audit does not take it for a loss:

    records: "dropped/" output "/" origin 16 block u64 -> C | msgpack [at_ms, [[first, last], ...]]
             sequence numbers, of a block of 4,096, that the output was not to have, and when that
             was last decided; kept for three retentions
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import msgpack

from tiers.channel.held import Held
from tiers.channel.layout import (
    DEAD_KEY,
    SEEN_KEY,
    Letter,
    decoding,
    first_agent,
    guard,
    unguard,
    unpack_letter,
)
from tiers.contracts import Reading
from tiers.core import dedupe, runs
from tiers.core.batch import BatchId
from tiers.core.change import LetterHead, Put
from tiers.core.runs import Runs

DROPPED: Final = b"dropped/"
TWICE_GIVEN: Final = (
    "two machines gave out the same numbers"  # how the reason of such a letter ends
)


class Dropped(NamedTuple):
    """Of one output and block."""

    at_ms: int = 0
    seqs: Runs = []  # noqa: RUF012 never changed in place

    def pack(self) -> bytes:
        return bytes(msgpack.packb(list(self)))


def unpack_dropped(value: bytes) -> Dropped:
    with decoding("what was dropped"):
        at_ms, seqs = msgpack.unpackb(value)
        return Dropped(int(at_ms), [[int(first), int(last)] for first, last in seqs])


def dropped_of(records: Mapping[bytes, bytes]) -> dict[str, dict[bytes, Runs]]:
    """By output and origin. `records` are those of DROPPED."""
    found: dict[str, dict[bytes, Runs]] = {}
    for key, value in records.items():
        output = key[len(DROPPED) : -SEEN_KEY.size - 1].decode()
        origin, _ = SEEN_KEY.unpack(key[-SEEN_KEY.size :])
        of = found.setdefault(output, {})
        of[origin] = runs.union(of.get(origin, []), unpack_dropped(value).seqs)
    return found


def every_letter(reader: Reading) -> Iterator[LetterHead]:
    """All dead letters, some at a time. From any thread."""
    after = (0, 0)
    while found := reader.letters(after):
        yield from found
        after = found[-1].after


class Letters(Held):
    """What becomes of dead letters, within one transaction."""

    def _put_again(self, put: Put, position: int) -> int:
        """Back to the queues of those outputs that still have it as a dead letter."""
        taken = {output: self._take_letter(output, put.letter) for output in put.outputs}
        there = {output: letter for output, letter in taken.items() if letter is not None}
        if not there:
            return 0
        old = next(iter(there.values())).item
        anew = put.id != old.id
        last = not self._is_here(put.letter)
        # A window counts a batch once: with the last of its letters it goes on being counted.
        item = self._store(
            put,
            position,
            arrived=old.arrived and last and not anew,
            again=old.again and last and not anew,
        )
        for output in there:
            self._queue(output, position, item)
        self._move(first_agent(item.hops), queued=item.size)
        if last:
            self._move(first_agent(old.hops), dead=-old.size)
            self._delete(put.letter, replace(old, arrived=old.arrived and not item.arrived))
        if anew:
            self.state.next_seq = max(self.state.next_seq, put.id.seq + 1)
            for output in self.state.outputs.keys() - there:
                self._note_dropped(output, put.id)
        return position

    def _drop(self, output: str, position: int) -> None:
        letter = self._take_letter(output, position)
        if letter is None:
            return
        if not letter.reason.endswith(TWICE_GIVEN):  # who has that id is another batch
            self._note_dropped(output, letter.item.id)
        if not self._is_here(position):
            self._move(first_agent(letter.item.hops), dead=-letter.item.size)
            self._delete(position, letter.item)

    def _take_letter(self, output: str, position: int) -> Letter | None:
        """It is a dead letter no more; None where it was none."""
        key = DEAD_KEY.pack(position, self.state.outputs[output].id)
        stored = self._txn.pop(key, db=self._db["dead"])
        if stored is None:
            return None
        self.state.dead -= 1
        return unpack_letter(unguard("dead", key, stored))

    def _is_here(self, position: int) -> bool:
        return self._is_queued(position) or self._is_dead(position)

    def _note_dropped(self, output: str, batch: BatchId) -> None:
        block = SEEN_KEY.pack(batch.origin, dedupe.block_of(batch.seq))
        key = DROPPED + output.encode() + b"/" + block
        stored = self._txn.get(key, db=self._db["records"])
        known = Dropped() if stored is None else unpack_dropped(unguard("records", key, stored))
        seqs = runs.union(known.seqs, [[batch.seq, batch.seq]])
        value = Dropped(self._now_ms, seqs).pack()
        self._txn.put(key, guard(key, value), db=self._db["records"])
