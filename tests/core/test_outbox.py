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
        first = outbox.next(4)
        assert first is not None
        outbox.send(first, peer, 0.0, place)
    came_back = [outbox.drop(BatchId(ORIGIN, seq)) for seq in (3, 1)]
    outbox.requeue(came_back, flagged=False)
    order = []
    while (pending := outbox.next(upto=4)) is not None:
        order.append(pending.id.seq)
        outbox.drop(pending.id)
    assert order == [1, 3, 4]
    assert outbox.holder(BatchId(ORIGIN, 2)) is peer


def test_what_was_apart_and_is_elsewhere_stays_there() -> None:
    """Its time to be offered to all again comes, and it was let go of, sent, or queued by then."""
    outbox = Outbox()
    peer, barred = Peer("agg-2", PeerLimits()), frozenset({"agg-1"})
    for seq in range(1, 6):
        outbox.put(batch(seq))
    for seq in (1, 2, 3, 4):
        outbox.set_apart(outbox.pending(BatchId(ORIGIN, seq)), barred, 5.0)
    outbox.drop(BatchId(ORIGIN, 1))
    for place, seq in enumerate((2, 3)):
        outbox.send(outbox.pending(BatchId(ORIGIN, seq)), peer, 0.0, place)
    for again in (outbox.drop(BatchId(ORIGIN, 3)), batch(0)):
        outbox.requeue([again], flagged=False)
    outbox.reunite(4.9)
    assert [list(queue) for queue in outbox.apart().values()] == [[BatchId(ORIGIN, 4)]]
    outbox.reunite(5.0)
    assert not outbox.apart()
    assert outbox.holder(BatchId(ORIGIN, 2)) is peer
    order = []
    while (pending := outbox.next(upto=9)) is not None:
        order.append(outbox.drop(pending.id).position)
    assert order == [4, 0, 3, 5], "only what was apart was moved"


def test_what_was_set_apart_twice_is_reunited_once() -> None:
    outbox, one = Outbox(), batch(1)
    outbox.requeue([one], flagged=False)
    outbox.set_apart(one, frozenset("a"), 1.0)
    outbox.set_apart(one, frozenset("ab"), 2.0)
    outbox.reunite(3.0)
    assert not outbox.apart()
