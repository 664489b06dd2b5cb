"""Every batch that an output has not released, and where each is: queued here, or with one peer."""

from collections import OrderedDict
from collections.abc import Iterable

from tiers.core.batch import BatchId
from tiers.core.peers import Peer, Pending


class Outbox:
    """Batches in the order of their positions; those that came back come first."""

    def __init__(self) -> None:
        self.flagged = 0  # batches flagged since the start
        # By id: what is queued may be acked too, and with a lost peer's batches it gets long.
        self._queue: OrderedDict[BatchId, Pending] = OrderedDict()
        self._where: dict[BatchId, Peer | None] = {}  # None: queued

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: BatchId) -> bool:
        return key in self._where

    def queued(self) -> int:
        """How many wait for a peer."""
        return len(self._queue)

    def holder(self, key: BatchId) -> Peer | None:
        """The peer that a batch is with; None while it is queued."""
        return self._where[key]

    def next(self, upto: int) -> Pending | None:
        """The first in the queue, unless its position is behind `upto`."""
        first = next(iter(self._queue.values()), None)
        return first if first is not None and first.position <= upto else None

    def put(self, pending: Pending) -> None:
        """A batch that is new here, to the end of the queue."""
        assert pending.id not in self._where, "a batch is offered once"
        self._where[pending.id] = None
        self._queue[pending.id] = pending

    def send(self, peer: Peer, now: float, place: int) -> None:
        """The first in the queue leaves for a peer, at `place` of its next bundle."""
        key, pending = self._queue.popitem(last=False)
        self._where[key] = peer
        peer.sending(pending, now, place)

    def hand(self, pending: Pending, peer: Peer) -> None:
        """A batch that is nowhere is with the peer until it is published."""
        assert pending.id not in self._where, "a batch is with one peer"
        self._where[pending.id] = peer
        peer.handed[pending.id] = pending

    def drop(self, key: BatchId) -> Pending:
        """Forget a batch, wherever it is."""
        peer = self._where.pop(key)
        if peer is None:
            return self._queue.pop(key)
        held = peer.forget(key)
        assert held is not None, "a batch is queued or with a peer"
        return held

    def skip(self, key: BatchId) -> None:
        """Forget a batch that did not leave: those behind it in its bundle moved up."""
        peer = self._where[key]
        if peer is not None and key in peer.in_flight:
            peer.skip(key)
            del self._where[key]
        else:
            self.drop(key)

    def requeue(self, batches: Iterable[Pending], *, flagged: bool) -> None:
        """Back to the head of the queue, in order; no peer has them any more."""
        for pending in sorted(batches, key=lambda item: item.position, reverse=True):
            if flagged and not pending.flagged:
                pending.flagged = True
                self.flagged += 1
            pending.handed_to = None
            self._where[pending.id] = None
            self._queue[pending.id] = pending
            self._queue.move_to_end(pending.id, last=False)
