"""Turns among owners, and a queue that is read in fair shares."""

from collections import Counter
from random import Random
from typing import NamedTuple

import pytest

from tiers.core.reading import Closed, ReadAhead
from tiers.core.turns import Turns


def test_each_line_has_its_turn_and_in_it_the_least_comes_first() -> None:
    turns = Turns[str]()
    for number in range(1000):
        turns.add("flood", number, f"flood {number}")
    turns.add("edge-1", 5.0, "later")
    turns.add("edge-1", 4.0, "sooner")
    taken = [turns.take() for _ in range(6)]
    assert taken == ["flood 0", "sooner", "flood 1", "later", "flood 2", "flood 3"]
    assert len(turns) == 996


def test_what_belongs_to_several_is_served_once() -> None:
    turns = Turns[str]()
    for owner in ("a", "b", "c"):
        turns.add(owner, 1.0, "shared")
    turns.add("c", 2.0, "own")
    assert "shared" in turns
    assert [turns.take(), turns.take(), turns.take()] == ["shared", "own", None]
    assert "shared" not in turns
    turns.add("a", 0.0, "shared")  # once more, later
    assert turns.take() == "shared"


def test_who_is_held_has_no_turn_and_keeps_its_line() -> None:
    turns = Turns[str]()
    turns.add("flood", 0.0, "flood 0")
    turns.add("edge-1", 1.0, "own")
    turns.add("flood", 2.0, "shared")
    turns.add("edge-1", 2.0, "shared")
    assert turns.waits(["flood"])
    assert [turns.take(["flood"]) for _ in range(3)] == ["own", "shared", None]
    assert not turns.waits(["flood"])
    assert turns.waits()
    assert [turns.take(), turns.take()] == ["flood 0", None]
    assert not turns.waits()


class Entry(NamedTuple):
    position: int
    agent: str


def nobody(_agent: str) -> bool:
    return False


def is_b(agent: str) -> bool:
    return agent == "b"


class Memory:
    """Holds at most so many entries of a queue."""

    def __init__(self, queue: list[Entry], most: int) -> None:
        self.queue = queue
        self.held: list[Entry] = []
        self.reading = ReadAhead(most)
        self.known: set[int] = set()
        self.brought: list[Entry] = []

    def load(self, page: int = 7, closed: Closed = nobody) -> None:
        self.reading.let_go(self.known.difference(one.position for one in self.held))
        for _ in range(1000):
            assert self.reading.held() == len(self.held)
            if self.reading.is_full():
                return
            after = self.reading.begin(closed)
            entries = [one for one in self.queue if one.position > after][:page]
            picked = self.reading.pick(entries, closed)
            self.held += picked
            self.known = {one.position for one in self.held}
            self.brought += picked
            if not entries and not self.reading.looks_back:
                return
        raise AssertionError("it reads on and on")


def test_a_flood_before_the_others_does_not_hide_them() -> None:
    queue = [Entry(n, "flood") for n in range(1, 501)] + [Entry(501, "edge-1")]
    memory = Memory(queue, 50)
    memory.load()
    assert Entry(501, "edge-1") in memory.held
    assert Counter(one.agent for one in memory.held)["flood"] == 40
    assert list(memory.reading.passed) == ["flood"]
    memory.held.clear()
    memory.load()
    assert [one.position for one in memory.held] == list(range(41, 81)), "in its order"


def test_of_a_page_each_gets_its_room_and_who_was_passed_over_hides_nobody() -> None:
    reading = ReadAhead(5)  # 4 of one that holds none
    assert reading.begin(is_b) == 0
    page = [Entry(position, agent) for position, agent in enumerate("abbaaaaaca", 1)]
    assert [one.position for one in reading.pick(page, is_b)] == [1, 4, 5, 6, 9]
    assert reading.passed == {"b": 1, "a": 6}
    assert (reading.upto, reading.is_full()) == (10, True)
    reading.let_go([1, 4, 5, 9, 77])
    assert (reading.held(), reading.room("a"), reading.room("c")) == (1, 3, 3)
    more = [Entry(11, "b"), Entry(12, "d")]
    assert reading.pick(more, nobody) == [Entry(12, "d")], "b has its turn in its order"
    assert reading.begin(is_b) == 6, "b is still closed out"


@pytest.mark.parametrize("seed", range(30))
def test_everything_is_brought_once(seed: int) -> None:
    random = Random(seed)
    weights = [random.random() for _ in range(4)]
    agents = random.choices(["a", "b", "c", "d"], weights, k=120)
    queue = [Entry(position, agent) for position, agent in enumerate(agents, 1)]
    memory = Memory(queue[:60], 20)
    while memory.held or len(memory.brought) < 120:
        memory.load(random.choice([1, 3, 20]))
        random.shuffle(memory.held)
        for _ in range(random.randrange(1, 8)):
            if memory.held:
                gone = memory.held.pop()
                if random.random() < 0.9:  # what left is not in the queue any more
                    memory.queue = [one for one in memory.queue if one != gone]
        if random.random() < 0.2:
            more = len(memory.queue) and memory.queue[-1].position
            memory.queue += [one for one in queue if one.position > max(more, 60)][:20]
        if not memory.held:
            last = max([one.position for one in memory.queue] + [60])
            memory.queue += [one for one in queue if one.position > last]
            memory.load()
            if not memory.held:
                break
    assert Counter(memory.brought).most_common(1)[0][1] == 1, "nothing twice"
    assert {one for one in queue if one.position <= 60} <= set(memory.brought)
    for agent in "abcd":
        mine = [one.position for one in memory.brought if one.agent == agent]
        assert mine == sorted(mine), "each one's in its order"
    assert not memory.reading.passed
