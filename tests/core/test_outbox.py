"""The outbox: whatever lies in it is found at once, however much there is."""

from typing import ClassVar

from tests.core.batches import ORIGIN
from tiers.core.batch import BatchId
from tiers.core.outbox import Outbox
from tiers.core.peers import Peer, PeerLimits, Pending


class Counting(BatchId):
    """An id that counts how often any is compared."""

    compared: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        Counting.compared += 1
        return super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()


def batch(seq: int) -> Pending:
    return Pending(Counting(ORIGIN, seq), seq, 100, 10)


def test_what_is_queued_is_let_go_of_without_a_search() -> None:
    """A peer that was lost with all it had been handed comes back, and its receipts are for what
    is queued again: with a search for each they took an agent's loop for hours."""
    outbox = Outbox()
    for seq in range(2000):
        outbox.put(batch(seq))
    Counting.compared = 0
    for seq in reversed(range(1, 2000)):
        assert outbox.drop(BatchId(ORIGIN, seq)).position == seq
    assert Counting.compared < 20 * 2000
    assert outbox.next(upto=0) == batch(0)
    assert (outbox.queued(), len(outbox)) == (1, 1)


def test_what_comes_back_comes_first_and_in_order() -> None:
    outbox = Outbox()
    peer = Peer("agg-1", PeerLimits())
    for seq in (1, 2, 3, 4):
        outbox.put(batch(seq))
    for place in range(3):
        outbox.send(peer, 0.0, place)
    came_back = [outbox.drop(BatchId(ORIGIN, seq)) for seq in (3, 1)]
    outbox.requeue(came_back, flagged=False)
    order = []
    while (pending := outbox.next(upto=4)) is not None:
        order.append(pending.id.seq)
        outbox.drop(pending.id)
    assert order == [1, 3, 4]
    assert outbox.holder(BatchId(ORIGIN, 2)) is peer
