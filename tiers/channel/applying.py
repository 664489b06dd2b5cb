"""One group of changes, applied to one write transaction.

A batch lives as long as an output's queue or a dead letter holds it. When the last lets go, its
record and note are deleted, and if it arrived from a peer its window counts one held less: the
retention of the dedupe window begins with the last that leaves.
"""

from collections.abc import Sequence
from dataclasses import replace

from tiers.channel.change import Change, Put
from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import (
    DEAD_KEY,
    POSITION,
    QUEUE_KEY,
    SEEN_KEY,
    STATE,
    Item,
    Letter,
    State,
    guard,
    pack_hops,
    unguard,
    unpack_item,
)
from tiers.core import dedupe
from tiers.core.batch import BatchId
from tiers.core.dedupe import Window
from tiers.errors import ChannelDamaged


class Applying:
    """Call `apply` for each change, in order, then `finish`; `state` is then what is true once
    the transaction is on disk."""

    def __init__(
        self,
        environment: Environment,
        txn: Transaction,
        before: State,
        channel_id: bytes,
        now_ms: int,
    ) -> None:
        self.state = before.copy()
        self._db = environment.db
        self._txn = txn
        self._channel_id = channel_id
        self._now_ms = now_ms
        self._windows: dict[bytes, Window] = {}

    def apply(self, change: Change, positions: Sequence[int]) -> tuple[int, ...]:
        """The positions of the puts; 0 for a put that had arrived before."""
        taken = tuple(
            self._put(put, position) for put, position in zip(change.puts, positions, strict=True)
        )
        for key, value in change.records.items():
            if value is None:
                self._txn.delete(key, db=self._db["records"])
            else:
                self._txn.put(key, guard(key, value), db=self._db["records"])
        for output, position in change.flags:
            self._flag(output, position)
        for output, position, reason in change.dead:
            self._bury(output, position, reason)
        for output, position in change.releases:
            item = self._take_from_queue(output, position)
            if item is not None:
                self._delete_unless_held(position, item)
        return taken

    def finish(self) -> None:
        """Writes what was gathered: windows and the state."""
        for key, window in self._windows.items():
            value = guard(key, dedupe.encode(window))
            self._txn.put(key, value, db=self._db["seen"])
        self.state.groups += 1
        self._txn.put(STATE, guard(STATE, self.state.pack()), db=self._db["meta"])

    def _put(self, put: Put, position: int) -> int:
        assert put.outputs, "a batch that no output waits for"
        state = self.state
        state.next_position = position + 1
        if put.arrived:
            key, window = self._window(put.id)
            if put.id.seq in window:
                return 0
            self._windows[key] = window.stored(put.id.seq)
        if put.id.origin == self._channel_id:
            state.next_seq = max(state.next_seq, put.id.seq + 1)
        at = POSITION.pack(position)
        # Positions only grow, so LMDB may fill page after page instead of splitting them.
        fresh = self._txn.put(at, put.record, append=True, db=self._db["batches"])
        assert fresh, "a position was given twice"
        if put.note:
            self._txn.put(at, guard(at, put.note), db=self._db["notes"])
        size = len(put.record)
        item = Item(
            put.flagged,
            put.arrived,
            bool(put.note),
            self._now_ms,
            put.count,
            size,
            put.id,
            pack_hops(put.hops),
        ).pack()
        for output in put.outputs:
            totals = state.outputs[output]
            key = QUEUE_KEY.pack(totals.id, position)
            self._txn.put(key, guard(key, item), db=self._db["queue"])
            totals.batches += 1
            totals.events += put.count
            totals.size_bytes += size
        state.batches += 1
        return position

    def _flag(self, output: str, position: int) -> None:
        key = QUEUE_KEY.pack(self.state.outputs[output].id, position)
        stored = self._txn.get(key, db=self._db["queue"])
        if stored is None:
            return
        item = unpack_item(unguard("queue", key, stored))
        if not item.flagged:
            value = replace(item, flagged=True).pack()
            self._txn.put(key, guard(key, value), db=self._db["queue"])

    def _bury(self, output: str, position: int, reason: str) -> None:
        item = self._take_from_queue(output, position)
        if item is None:
            return
        key = DEAD_KEY.pack(position, self.state.outputs[output].id)
        letter = Letter(output, reason, self._now_ms, item)
        if self._txn.put(key, guard(key, letter.pack()), db=self._db["dead"]):
            self.state.dead += 1

    def _take_from_queue(self, output: str, position: int) -> Item | None:
        """The item, no longer in the queue; None when that output had let go of it before."""
        totals = self.state.outputs[output]
        key = QUEUE_KEY.pack(totals.id, position)
        stored = self._txn.pop(key, db=self._db["queue"])
        if stored is None:
            return None
        item = unpack_item(unguard("queue", key, stored))
        totals.batches -= 1
        totals.events -= item.count
        totals.size_bytes -= item.size
        return item

    def _delete_unless_held(self, position: int, item: Item) -> None:
        if self._is_held(position):
            return
        at = POSITION.pack(position)
        if not self._txn.delete(at, db=self._db["batches"]):
            raise ChannelDamaged(f"position {position} was queued and has no batch")
        if item.noted:
            self._txn.delete(at, db=self._db["notes"])
        self.state.batches -= 1
        if item.arrived:
            key, window = self._window(item.id)
            if not window.held:
                raise ChannelDamaged(f"window of {item.id} holds nothing, yet it was here")
            self._windows[key] = window.left(self._now_ms)

    def _is_held(self, position: int) -> bool:
        for totals in self.state.outputs.values():
            if totals.batches:
                key = QUEUE_KEY.pack(totals.id, position)
                if self._txn.get(key, db=self._db["queue"]) is not None:
                    return True
        if self.state.dead:
            cursor = self._txn.cursor(self._db["dead"])
            at = POSITION.pack(position)
            return cursor.set_range(at) and cursor.key()[: len(at)] == at
        return False

    def _window(self, batch: BatchId) -> tuple[bytes, Window]:
        key = SEEN_KEY.pack(batch.origin, dedupe.block_of(batch.seq))
        window = self._windows.get(key)
        if window is None:
            stored = self._txn.get(key, db=self._db["seen"])
            window = read_window(key, stored) if stored is not None else Window()
            self._windows[key] = window
        return key, window


def read_window(key: bytes, stored: bytes | memoryview) -> Window:
    """The window of a value of `seen`. Raises ChannelDamaged."""
    try:
        return dedupe.decode(unguard("seen", key, stored))
    except ValueError as error:
        raise ChannelDamaged(f"seen: {error}") from error
