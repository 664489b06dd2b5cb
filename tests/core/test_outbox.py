"""The outbox: whatever lies in it is found at once, however much there is."""

from random import Random
from typing import ClassVar

import pytest

from tests.core.batches import ORIGIN
from tiers.core.batch import BatchId
from tiers.core.hop.outbox import Outbox
from tiers.core.hop.peers import Peer, PeerLimits, Pending


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


class Model:
    """An outbox, and where each batch should be: queued, apart from peers, in flight or handed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.outbox = Outbox()
        self.peers = [Peer(name, PeerLimits()) for name in ("agg-1", "agg-2", "agg-3")]
        self.where: dict[int, tuple[str, frozenset[str]]] = {}
        self.all = {seq: batch(seq) for seq in range(1, 17)}
        for seq, pending in self.all.items():
            pending.agent = f"edge-{seq % 3}"
            pending.size = 100 + seq

    def one(self, *places: str) -> Pending | None:
        """Any batch that is in such a place; "" is nowhere."""
        there = [s for s in self.all if self.where.get(s, ("", frozenset()))[0] in places]
        return self.all[self.random.choice(there)] if there else None

    def step(self) -> None:
        random, outbox = self.random, self.outbox
        peer = random.choice(self.peers)
        nowhere, queued, anywhere = (
            self.one(""),
            self.one("queued", "apart"),
            self.one("queued", "apart", "in flight", "handed"),
        )
        match random.randrange(8):
            case 0 if nowhere:
                outbox.put(nowhere)
                self.where[nowhere.position] = "queued", frozenset()
            case 1 if nowhere:
                outbox.hand(nowhere, peer)
                self.where[nowhere.position] = "handed", frozenset([peer.name])
            case 2 if nowhere:
                outbox.requeue([nowhere], flagged=True)
                assert (nowhere.flagged, nowhere.handed_to) == (True, None)
                self.where[nowhere.position] = "queued", frozenset()
            case 3 if queued:
                outbox.send(queued, peer, 0.0, len(peer.in_flight))
                self.where[queued.position] = "in flight", frozenset([peer.name])
            case 4 | 5 if queued:
                barred = frozenset(random.sample(("agg-1", "agg-2", "agg-3"), 2))
                outbox.set_apart(queued, barred, 1.0)
                self.where[queued.position] = "apart", barred
            case 6 if anywhere:
                let_go = random.choice([outbox.drop, outbox.skip])
                let_go(anywhere.id)
                del self.where[anywhere.position]
            case 7 if random.random() < 0.2:
                outbox.reunite_all()
                self.reunited()

    def reunited(self) -> None:
        for seq, (place, _) in self.where.items():
            if place == "apart":
                self.where[seq] = "queued", frozenset()

    def check(self) -> None:
        outbox, where = self.outbox, self.where
        assert len(outbox) == len(where)
        assert outbox.queued() == sum(place == "queued" for place, _ in where.values())
        apart: dict[frozenset[str], set[int]] = {}
        for seq, pending in self.all.items():
            assert (pending.id in outbox) is (seq in where)
            place, names = where.get(seq, ("", frozenset[str]()))
            if place:
                assert outbox.pending(pending.id) is pending
                holder = outbox.holder(pending.id)
                assert (holder.name if holder else None) == (
                    next(iter(names)) if place in ("in flight", "handed") else None
                )
            if place == "apart":
                apart.setdefault(names, set()).add(seq)
        found = {barred: {key.seq for key in queue} for barred, queue in outbox.apart().items()}
        assert found == apart
        for peer in self.peers:
            may = [s for s, (p, b) in where.items() if p in ("queued", "apart")
                   if peer.name not in b]  # fmt: skip
            assert outbox.queued_bytes(peer.name) == sum(100 + seq for seq in may)


@pytest.mark.parametrize("seed", range(10))
def test_each_batch_is_where_it_was_put(seed: int) -> None:
    model = Model(Random(seed))
    for _ in range(150):
        model.step()
        model.check()
    model.outbox.reunite(0.9)
    model.check()
    model.outbox.reunite(1.0)
    model.reunited()
    model.check()


def test_a_queue_is_read_up_to_a_position_and_told_by_its_first() -> None:
    outbox = Outbox()
    for seq in range(1, 40):
        outbox.put(batch(seq))
    assert outbox.queued_bytes("agg-1") == 16 * 100
    assert outbox.next(upto=0) is None
    assert outbox.next(upto=1) == batch(1)
    assert outbox.next(1, frozenset(["agg-1"])) is None
    outbox.requeue([outbox.drop(BatchId(ORIGIN, 7))], flagged=True)
    outbox.requeue([outbox.drop(BatchId(ORIGIN, 7))], flagged=True)
    assert outbox.flagged == 1, "a flag is for ever"


@pytest.mark.parametrize(
    ("told", "own", "same"),
    [
        ([5], 5, True),
        ([6], 5, False),
        ([6], None, True),
        ([], 5, True),
        ([0], 5, True),
        ([6, 5], 5, True),  # there twice: one of them is this
        ([5, 6], 5, True),
        ([6, 7], 5, False),
    ],
)
def test_what_a_peer_has_is_compared(told: list[int], own: int | None, same: bool) -> None:
    outbox, one = Outbox(), batch(1)
    one.crc = own
    outbox.put(one)
    ids = [one.id] * max(1, len(told))
    unknown = BatchId(ORIGIN, 99)
    found = outbox.compared([unknown, *ids], [1, *told] if told else [])
    assert found == (([one.id], []) if same else ([], [one.id]))
