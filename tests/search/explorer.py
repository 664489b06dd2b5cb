"""Breadth-first search of all that a model may do; the shortest trace of what is wrong."""

import time
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
    numbers: dict[S, int] = {}
    came: list[tuple[int, str]] = []
    queue: list[S] = []
    edges: list[list[int]] = []

    def number_of(state: S, parent: int, label: str) -> int:
        number = numbers.get(state)
        if number is None:
            number = numbers[state] = len(queue)
            queue.append(state)
            came.append((parent, label))
        return number

    def trace(number: int) -> list[str]:
        labels = []
        while number >= 0:
            number, label = came[number]
            labels.append(label)
        return labels[::-1][1:]

    for start in model.starts():
        number_of(start, -1, "start")
    transitions = at = 0
    while at < len(queue) and at < limit:
        state = queue[at]
        if wrong := model.wrong(state):
            seconds = time.perf_counter() - begun
            return Found(wrong, trace(at), len(queue), transitions, 0, [], seconds, True)
        after = [number_of(one, at, label) for label, one in model.steps(state)]
        transitions += len(after)
        edges.append(after if live else [])
        at += 1
    whole = at == len(queue)
    stuck = _stuck(queue, edges, model.finished) if live and whole else []
    return Found(
        "",
        [],
        len(queue),
        transitions,
        len(stuck),
        trace(stuck[0]) if stuck else [],
        time.perf_counter() - begun,
        whole,
    )


def _stuck(states: list[S], edges: list[list[int]], finished: Callable[[S], bool]) -> list[int]:
    """States from which no finished one can be reached, nearest first."""
    before: list[list[int]] = [[] for _ in states]
    for number, after in enumerate(edges):
        for other in after:
            before[other].append(number)
    todo = [number for number, state in enumerate(states) if finished(state)]
    can = bytearray(len(states))
    for number in todo:
        can[number] = 1
    while todo:
        for number in before[todo.pop()]:
            if not can[number]:
                can[number] = 1
                todo.append(number)
    return [number for number in range(len(states)) if not can[number]]
