"""Reading a channel: each method is one short read transaction, from any thread."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from tiers.channel.environment import Environment, Transaction, Views
from tiers.channel.layout import (
    DEAD_KEY,
    POSITION,
    QUEUE_KEY,
    SEEN_KEY,
    unguard,
    unpack_hops,
    unpack_item,
    unpack_letter,
)
from tiers.channel.letters import TWICE_GIVEN
from tiers.channel.windows import read_window
from tiers.core import batch, dedupe
from tiers.core.batch import BatchId, Envelope
from tiers.core.change import DeadLetter, Entry, LetterHead
from tiers.core.dedupe import Known
from tiers.errors import BatchError, ChannelDamaged, ChannelUnavailable

_HEAD_BYTES_MAX: Final = 4 + batch.ENVELOPE_BYTES_MAX


class Reader:
    """What was committed last, through `environment`. Damaged values raise ChannelDamaged;
    a file that cannot be read at the moment raises ChannelUnavailable."""

    def __init__(self, environment: Environment, outputs: dict[str, int]) -> None:
        self._environment = environment
        self._outputs = outputs  # ids by name

    def _found_damage(self, error: ChannelDamaged) -> None:
        """Told of damage before it is raised, on the thread that met it."""

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        try:
            with self._environment.reading() as txn:
                yield txn
        except ChannelDamaged as error:
            self._found_damage(error)
            raise

    @contextmanager
    def _viewing(self) -> Iterator[Views]:
        try:
            with self._environment.viewing() as txn:
                yield txn
        except ChannelDamaged as error:
            self._found_damage(error)
            raise

    def entries(self, output: str, after: int = 0, limit: int = 1000) -> list[Entry]:
        """The queue of an output by position, from the first position greater than `after`."""
        found: list[Entry] = []
        prefix = QUEUE_KEY.pack(self._outputs[output], 0)[:2]
        with self._reading() as txn, txn.cursor(self._environment.db["queue"]) as cursor:
            more = cursor.set_range(prefix + POSITION.pack(after + 1))
            while more and len(found) < limit:
                key, stored = cursor.item()
                if not key.startswith(prefix):
                    break
                item = unpack_item(unguard("queue", key, stored))
                found.append(item.entry(QUEUE_KEY.unpack(key)[1]))
                more = cursor.next()
        return found

    def entry(self, output: str, position: int) -> Entry | None:
        """One entry; None when that output has let go of it, or never had it."""
        key = QUEUE_KEY.pack(self._outputs[output], position)
        with self._reading() as txn:
            stored = txn.get(key, db=self._environment.db["queue"])
            if stored is None:
                return None
            return unpack_item(unguard("queue", key, stored)).entry(position)

    def record(self, position: int) -> bytes:
        """The record, its checksum verified. BatchError when it is damaged, or gone."""
        record = self.stored(position)
        if not record:
            raise BatchError(f"there is no batch at position {position}")
        batch.check(record)
        return record

    def stored(self, position: int) -> bytes:
        """The record as it is, its checksum not compared; empty when it is gone, or could not be
        salvaged."""
        with self._reading() as txn:
            return txn.get(POSITION.pack(position), b"", db=self._environment.db["batches"])

    def envelope(self, position: int) -> Envelope:
        """The envelope alone, types checked, checksum not. BatchError when it is malformed, or
        gone. The body is not read."""
        with self._viewing() as txn:
            record = txn.get(POSITION.pack(position), db=self._environment.db["batches"])
            if record is None:
                raise BatchError(f"there is no batch at position {position}")
            head = bytes(record[: _head_bytes(record)])
        return batch.open_envelope(head)

    def note(self, position: int) -> bytes:
        """What the source kept beside the batch; empty when nothing, or when it is gone."""
        key = POSITION.pack(position)
        with self._reading() as txn:
            stored = txn.get(key, db=self._environment.db["notes"])
            return b"" if stored is None else unguard("notes", key, stored)

    def records(self, prefix: bytes) -> dict[bytes, bytes]:
        """The small values whose keys begin with `prefix`, by key."""
        found: dict[bytes, bytes] = {}
        with self._reading() as txn, txn.cursor(self._environment.db["records"]) as cursor:
            more = cursor.set_range(prefix) if prefix else cursor.first()
            while more and cursor.key().startswith(prefix):
                key, stored = cursor.item()
                found[key] = unguard("records", key, stored)
                more = cursor.next()
        return found

    def seen(self, ids: Iterable[BatchId]) -> dict[BatchId, Known]:
        """Which of these arrived and were stored here once, and what is known of them. Committed
        ones only."""
        found: dict[BatchId, Known] = {}
        windows: dict[bytes, dedupe.Window] = {}
        pieces: dict[bytes, bytes] = {}
        with self._reading() as txn:
            for one in ids:
                key = SEEN_KEY.pack(one.origin, dedupe.block_of(one.seq))
                window = windows.get(key)
                if window is None:
                    stored = txn.get(key, db=self._environment.db["seen"])
                    window = dedupe.Window() if stored is None else read_window(key, stored)
                    windows[key] = window
                if one.seq in window:
                    key = SEEN_KEY.pack(one.origin, dedupe.piece_of(one.seq))
                    if key not in pieces:
                        stored = txn.get(key, db=self._environment.db["sums"])
                        pieces[key] = b"" if stored is None else unguard("sums", key, stored)
                    sums = dedupe.sums_of(pieces[key], one.seq)
                    found[one] = Known(window.was_passed_on(one.seq), sums)
        return found

    def letters(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[LetterHead]:
        """Dead letters without their records, by position, then output: those behind `after`."""
        found: list[LetterHead] = []
        with self._reading() as txn, txn.cursor(self._environment.db["dead"]) as cursor:
            more = cursor.set_range(DEAD_KEY.pack(after[0], after[1] + 1))
            while more and len(found) < limit:
                key, stored = cursor.item()
                position, output_id = DEAD_KEY.unpack(key)
                output, reason, at_ms, item = unpack_letter(unguard("dead", key, stored))
                found.append(
                    LetterHead(
                        position,
                        output,
                        reason,
                        at_ms,
                        item.id,
                        item.flagged,
                        unpack_hops(item.hops),
                        item.count,
                        item.size,
                        (position, output_id),
                        reason.endswith(TWICE_GIVEN),
                    )
                )
                more = cursor.next()
        return found

    def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Dead letters by position, from the first position greater than `after`, each with its
        record: mind the memory, and ask for few at a time."""
        found: list[DeadLetter] = []
        database = self._environment.db
        with self._reading() as txn, txn.cursor(database["dead"]) as cursor:
            more = cursor.set_range(POSITION.pack(after + 1))
            while more:
                key, stored = cursor.item()
                position, _ = DEAD_KEY.unpack(key)
                # Letters of one position stay together, since `after` is a position.
                if len(found) >= limit and position != found[-1].position:
                    break
                letter = unpack_letter(unguard("dead", key, stored))
                item = letter.item
                record = txn.get(POSITION.pack(position), b"", db=database["batches"])
                found.append(
                    DeadLetter(
                        position,
                        letter.output,
                        letter.reason,
                        letter.at_ms,
                        item.flagged,
                        unpack_hops(item.hops),
                        item.count,
                        record,
                    )
                )
                more = cursor.next()
        return [one if _is_sound(one.record) else replace(one, record=b"") for one in found]

    def oldest_ms(self, output_id: int) -> int | None:
        """When the oldest batch of a queue was stored; None when there is none."""
        prefix = QUEUE_KEY.pack(output_id, 0)[:2]
        try:
            with self._reading() as txn, txn.cursor(self._environment.db["queue"]) as cursor:
                if not cursor.set_range(prefix):
                    return None
                key, stored = cursor.item()
                if not key.startswith(prefix):
                    return None
                return unpack_item(unguard("queue", key, stored)).stored_ms
        except (ChannelUnavailable, ChannelDamaged):
            return None  # stats must not fail; trouble tells


def _head_bytes(record: memoryview) -> int:
    """How much of a record its envelope takes, the length before it included."""
    return min(4 + int.from_bytes(record[:4], "big"), _HEAD_BYTES_MAX)


def _is_sound(record: bytes) -> bool:
    try:
        batch.verify(record)
    except BatchError:
        return False
    return True
