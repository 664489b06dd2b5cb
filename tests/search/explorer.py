"""Breadth-first search of all that a model may do; the shortest trace of what is wrong."""

import sys
import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class Model(Protocol[S]):
    """What is searched. States are immutable and hashable."""

    def starts(self) -> Iterable[S]: ...

    def steps(self, state: S) -> Iterator[tuple[str, S]]:
        """What may happen next, each with a label."""

    def wrong(self, state: S) -> str:
        """The invariant that does not hold here; empty where all do."""

    def finished(self, state: S) -> bool:
        """Nothing needs to happen any more."""


@dataclass
class Found(Generic[S]):
    """What a search found."""

    wrong: str  # empty: every state is right
    trace: list[str]  # the shortest way there
    states: int
    transitions: int
    stuck: int  # states from which no finished one can be reached
    stuck_trace: list[str]
    seconds: float
    whole: bool  # False: stopped at the limit

    def __str__(self) -> str:
        text = f"{self.states} states, {self.transitions} transitions, {self.seconds:.1f} s"
        if not self.whole:
            text += ", NOT ALL: stopped at the limit"
        if self.wrong:
            return f"{text}: {self.wrong}\n  " + "\n  ".join(self.trace)
        if self.stuck:
            return f"{text}: {self.stuck} stuck, such as\n  " + "\n  ".join(self.stuck_trace)
        return f"{text}: holds"


def search(model: Model[S], limit: int = 10**7, live: bool = True) -> Found[S]:
    """All states, nearest first, at most `limit`. `live`: whether each can finish is asked, too."""
    begun = time.perf_counter()
    reached = _Reached[S]()
    for start in model.starts():
        reached.number(start, 0, "start")
    at = 0
    while at < len(reached.states) and at < limit:
        state = reached.states[at]
        if wrong := model.wrong(state):
            seconds = time.perf_counter() - begun
            trace = reached.trace(at)
            states, transitions = len(reached.states), reached.transitions
            return Found(wrong, trace, states, transitions, 0, [], seconds, True)
        for label, after in model.steps(state):
            number = reached.number(after, at, label)
            reached.transitions += 1
            if live:
                reached.targets.append(number)
        reached.ends.append(len(reached.targets))
        at += 1
    whole = at == len(reached.states)
    stuck = reached.stuck(model.finished) if live and whole else []
    return Found(
        "",
        [],
        len(reached.states),
        reached.transitions,
        len(stuck),
        reached.trace(stuck[0]) if stuck else [],
        time.perf_counter() - begun,
        whole,
    )


class _Reached(Generic[S]):
    """The states that were reached, in order, and how. Arrays of numbers, since they are many."""

    def __init__(self) -> None:
        self.states: list[S] = []
        self.transitions = 0
        self.targets = array("I")  # of the steps of all states, one state after another
        self.ends = array("Q")  # where those of a state end
        self._numbers: dict[S, int] = {}
        self._parents = array("I")
        self._labels: list[str] = []

    def number(self, state: S, parent: int, label: str) -> int:
        number = self._numbers.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
            self._parents.append(parent)
            self._labels.append(sys.intern(label))
        return number

    def trace(self, number: int) -> list[str]:
        """The labels on the way to a state; its first is a start."""
        labels = []
        while self._labels[number] != "start":
            labels.append(self._labels[number])
            number = self._parents[number]
        return labels[::-1]

    def stuck(self, finished: Callable[[S], bool]) -> list[int]:
        """States from which no finished one can be reached, nearest first."""
        # For each state, those before it, as `targets` and `ends` have those after it.
        count = len(self.states)
        begins = array("Q", bytes(8 * (count + 1)))
        for target in self.targets:
            begins[target + 1] += 1
        for number in range(count):
            begins[number + 1] += begins[number]
        filled = array("Q", begins)
        sources = array("I", bytes(4 * len(self.targets)))
        begin = 0
        for number, end in enumerate(self.ends):
            for place in range(begin, end):
                target = self.targets[place]
                sources[filled[target]] = number
                filled[target] += 1
            begin = end
        todo = [number for number, state in enumerate(self.states) if finished(state)]
        can = bytearray(count)
        for number in todo:
            can[number] = 1
        while todo:
            number = todo.pop()
            for before in sources[begins[number] : begins[number + 1]]:
                if not can[before]:
                    can[before] = 1
                    todo.append(before)
        return [number for number in range(count) if not can[number]]
