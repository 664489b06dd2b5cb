"""What one write transaction holds while changes are applied to it: the state, what was read of
windows and checksums, and a batch's record with whatever holds it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tiers.channel import refetching, withheld
from tiers.channel.accounts import AccountChange, Accounts
from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import (
    POSITION,
    QUEUE_KEY,
    SEEN_KEY,
    ChannelState,
    QueueItem,
    guard,
    pack_hops,
    unguard,
    unpack_item,
)
from tiers.channel.windows import delete_pieces, read_window
from tiers.core import dedupe
from tiers.core.batch import BatchId, sum_of
from tiers.core.change import Put
from tiers.core.dedupe import Window
from tiers.core.withheld import Withheld
from tiers.errors import ChannelDamaged


class Held:
    """See the module; what is to be done with it is said by those that build on it."""

    def __init__(
        self,
        environment: Environment,
        txn: Transaction,
        before: ChannelState,
        now_ms: int,
        accounts: Accounts,
        *,
        ask_again: bool = False,
    ) -> None:
        self.state = before.copy()
        self.passed_on: list[BatchId] = []
        self.apart: list[str] = []  # of what came under a known id: what is said of it
        self.moves: dict[str, AccountChange] = {}
        self._accounts = accounts
        self._ask_again = ask_again
        self._environment = environment
        self._db = environment.db
        self._txn = txn
        self._now_ms = now_ms
        self._windows: dict[bytes, Window] = {}
        self._pieces: dict[bytes, bytes] = {}
        self._withheld: dict[bytes, Withheld] = {}
        self._again = self._is_any_again()

    def _store(self, put: Put, position: int, **what: Any) -> QueueItem:
        """The record and its note; the item for whatever is to hold them."""
        at = POSITION.pack(position)
        # Positions only grow, so LMDB may fill page after page instead of splitting them.
        fresh = self._txn.put(at, put.record, append=True, db=self._db["batches"])
        assert fresh, "a position was given twice"
        if put.note:
            self._txn.put(at, guard(at, put.note), db=self._db["notes"])
        self.state.batches += 1
        item = QueueItem(
            put.flagged,
            put.arrived,
            bool(put.note),
            self._now_ms,
            put.count,
            len(put.record),
            put.id,
            sum_of(put.record),
            pack_hops(put.hops),
        )
        return replace(item, **what)

    def _piece(self, batch: BatchId) -> tuple[bytes, bytes]:
        key = SEEN_KEY.pack(batch.origin, dedupe.piece_of(batch.seq))
        piece = self._pieces.get(key)
        if piece is None:
            stored = self._txn.get(key, db=self._db["sums"])
            piece = unguard("sums", key, stored) if stored is not None else b""
        return key, piece

    def _item(self, output: str, position: int) -> QueueItem | None:
        key = QUEUE_KEY.pack(self.state.outputs[output].id, position)
        stored = self._txn.get(key, db=self._db["queue"])
        return None if stored is None else unpack_item(unguard("queue", key, stored))

    def _take_from_queue(self, output: str, position: int) -> QueueItem | None:
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

    def _move(self, agent: str, **bytes_more: int) -> None:
        self.moves[agent] = self.moves.get(agent, AccountChange()) + AccountChange(**bytes_more)

    def _delete(self, position: int, item: QueueItem) -> None:
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

    def _is_queued(self, position: int) -> bool:
        for totals in self.state.outputs.values():
            if totals.batches:
                key = QUEUE_KEY.pack(totals.id, position)
                if self._txn.get(key, db=self._db["queue"]) is not None:
                    return True
        return False

    def _is_dead(self, position: int) -> bool:
        if not self.state.dead:
            return False
        cursor = self._txn.cursor(self._db["dead"])
        at = POSITION.pack(position)
        return cursor.set_range(at) and cursor.key()[: len(at)] == at

    def _window(self, batch: BatchId) -> tuple[bytes, Window]:
        key = SEEN_KEY.pack(batch.origin, dedupe.block_of(batch.seq))
        window = self._windows.get(key)
        if window is None:
            stored = self._txn.get(key, db=self._db["seen"])
            window = read_window(key, stored) if stored is not None else Window()
            self._windows[key] = window
            if stored is None:
                self._let_go_of_sums(batch.origin, dedupe.block_of(batch.seq) - 2)
        return key, window

    def _let_go_of_sums(self, origin: bytes, block: int) -> None:
        """A new block begins: of the last but one nobody asks any more, unless it is still here."""
        stored = self._txn.get(key := SEEN_KEY.pack(origin, max(block, 0)), db=self._db["seen"])
        if block >= 0 and stored is not None and not read_window(key, stored).held:
            delete_pieces(self._environment, self._txn, origin, block)

    def _withheld_of(self, output: str, batch: BatchId) -> tuple[bytes, Withheld]:
        """What is known of its block, and where that is kept."""
        key = withheld.key_of(output, batch)
        known = self._withheld.get(key)
        if known is None:
            stored = self._txn.get(key, db=self._db["records"])
            known = Withheld()
            if stored is not None:
                known = withheld.unpack(unguard("records", key, stored))
        return key, known

    def _skip(self, outputs: Iterable[str], batch: BatchId) -> None:
        """These were not to have it."""
        for output in outputs:
            key, known = self._withheld_of(output, batch)
            self._withheld[key] = known.skipping(batch.seq, self._now_ms)

    def _note_dropped(self, outputs: Iterable[str], batch: BatchId) -> None:
        for output in outputs:
            key, known = self._withheld_of(output, batch)
            self._withheld[key] = known.dropping(batch.seq, self._now_ms)

    def _is_any_again(self) -> bool:
        cursor = self._txn.cursor(self._db["records"])
        return cursor.set_range(refetching.PREFIX) and cursor.key().startswith(refetching.PREFIX)

    def _queue(self, output: str, position: int, item: QueueItem) -> None:
        totals = self.state.outputs[output]
        key = QUEUE_KEY.pack(totals.id, position)
        self._txn.put(key, guard(key, item.pack()), db=self._db["queue"])
        totals.batches += 1
        totals.events += item.count
        totals.size_bytes += item.size
