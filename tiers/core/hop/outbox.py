"""Every batch that an output has not released, and where each is: queued here, or with one peer."""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Final

from tiers.core.batch import BatchId
from tiers.core.hop.peers import Peer, Pending

Barred = frozenset[str]  # names of peers
ALL_MAY: Final[Barred] = frozenset()
_Queue = OrderedDict[BatchId, Pending]  # what is queued may be acked too


class Outbox:
    """Batches in the order of their positions; those that came back come first. What some peers do
    not take is queued apart, so that it holds up no others: by who they are."""

    def __init__(self) -> None:
        self.flagged = 0  # batches flagged since the start
        self._queues: dict[Barred, _Queue] = {ALL_MAY: OrderedDict()}
        self._where: dict[BatchId, Peer | Barred] = {}
        self._due: list[tuple[float, BatchId]] = []  # a heap: when what is apart may go to all

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: BatchId) -> bool:
        return key in self._where

    def queued(self) -> int:
        """How many wait for any peer."""
        return len(self._queues[ALL_MAY])

    def apart(self) -> Mapping[Barred, Mapping[BatchId, Pending]]:
        """What is queued apart, by the peers that do not take it."""
        return {barred: queue for barred, queue in self._queues.items() if barred and queue}

    def queued_bytes(self, name: str) -> int:
        """Of the first that this peer may take: whether there are any, rather than how many."""
        queues = [queue for barred, queue in self._queues.items() if name not in barred]
        return sum(pending.size for queue in queues for pending in islice(queue.values(), 16))

    def holder(self, key: BatchId) -> Peer | None:
        """The peer that a batch is with; None while it is queued."""
        where = self._where[key]
        return where if isinstance(where, Peer) else None

    def pending(self, key: BatchId) -> Pending:
        """A batch, wherever it is."""
        where = self._where[key]
        return where.pending(key) if isinstance(where, Peer) else self._queues[where][key]

    def compared(
        self, ids: Iterable[BatchId], sums: Sequence[int]
    ) -> tuple[list[BatchId], list[BatchId]]:
        """Of what a peer says it has: what is the same here, and what has another content. Of an
        id that is told twice, one of them may be the same."""
        same: dict[BatchId, None] = {}
        other: dict[BatchId, None] = {}
        for key, crc in zip_longest(ids, sums):
            if key in self._where:
                own = self.pending(key).crc
                (same if not crc or own in (None, crc) else other)[key] = None
        return list(same), [key for key in other if key not in same]

    def next(self, upto: int, barred: Barred = ALL_MAY) -> Pending | None:
        """The first in a queue, unless its position is behind `upto`."""
        first = next(iter(self._queues.get(barred, _NONE).values()), None)
        return first if first is not None and first.position <= upto else None

    def put(self, pending: Pending) -> None:
        """A batch that is new here, to the end of the queue."""
        assert pending.id not in self._where, "a batch is offered once"
        self._where[pending.id] = ALL_MAY
        self._queues[ALL_MAY][pending.id] = pending

    def set_apart(self, pending: Pending, barred: Barred, until_s: float) -> None:
        """A queued batch that these peers do not take, before that time."""
        self._unqueue(pending.id)
        self._where[pending.id] = barred
        self._queues.setdefault(barred, OrderedDict())[pending.id] = pending
        if until_s < float("inf"):
            heapq.heappush(self._due, (until_s, pending.id))

    def reunite(self, now: float) -> None:
        """What was apart until now is queued for all again."""
        due: set[BatchId] = set()  # one that was set apart twice comes twice
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            where = self._where.get(key)
            if where is not None and not isinstance(where, Peer) and where:
                due.add(key)
        self.requeue([self._unqueue(key) for key in due], flagged=False)

    def reunite_all(self) -> None:
        """Other peers, or other limits of theirs: who takes what is found out anew."""
        apart = [pending for queue in self.apart().values() for pending in queue.values()]
        for pending in apart:
            self._unqueue(pending.id)
        self._due.clear()
        self.requeue(apart, flagged=False)

    def send(self, pending: Pending, peer: Peer, now: float, place: int) -> None:
        """A queued batch leaves for a peer, at `place` of its next bundle."""
        self._unqueue(pending.id)
        self._where[pending.id] = peer
        peer.sending(pending, now, place)

    def hand(self, pending: Pending, peer: Peer) -> None:
        """A batch that is nowhere is with the peer until it is published."""
        assert pending.id not in self._where, "a batch is with one peer"
        self._where[pending.id] = peer
        peer.handed[pending.id] = pending

    def drop(self, key: BatchId) -> Pending:
        """Forget a batch, wherever it is."""
        where = self._where[key]
        if not isinstance(where, Peer):
            pending = self._unqueue(key)
        else:
            held = where.forget(key)
            assert held is not None, "a batch is queued or with a peer"
            pending = held
        del self._where[key]
        return pending

    def skip(self, key: BatchId) -> None:
        """Forget a batch that did not leave: those behind it in its bundle moved up."""
        peer = self.holder(key)
        if peer is not None and key in peer.in_flight:
            peer.skip(key)
            del self._where[key]
        else:
            self.drop(key)

    def requeue(self, batches: Iterable[Pending], *, flagged: bool) -> None:
        """Back to the head of the queue, in order; no peer has them any more."""
        queue = self._queues[ALL_MAY]
        for pending in sorted(batches, key=lambda item: item.position, reverse=True):
            if flagged and not pending.flagged:
                pending.flagged = True
                self.flagged += 1
            pending.handed_to = None
            self._where[pending.id] = ALL_MAY
            queue[pending.id] = pending
            queue.move_to_end(pending.id, last=False)

    def _unqueue(self, key: BatchId) -> Pending:
        barred = self._where[key]
        assert not isinstance(barred, Peer), "it is queued"
        queue = self._queues[barred]
        pending = queue.pop(key)
        if barred and not queue:
            del self._queues[barred]
        return pending


_NONE: Final[_Queue] = OrderedDict()
