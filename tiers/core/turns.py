"""What waits, in the lines of those to whom it belongs: the lines are served by turns.

So whoever has ten thousand things waiting keeps nobody else waiting for more than its turn. What
belongs to several stands in the line of each, and is served once.
"""

import heapq
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Turns(Generic[T]):
    """In each line what has the least `at` comes first, of equals what was added first."""

    def __init__(self) -> None:
        self._lines: dict[str, list[tuple[float, int, T]]] = {}  # heaps, in the order of turns
        self._waiting: set[T] = set()
        self._added = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, item: T) -> bool:
        return item in self._waiting

    def add(self, owner: str, at: float, item: T) -> None:
        """Into the line of an owner; it may stand in others, too."""
        self._added += 1
        self._waiting.add(item)
        heapq.heappush(self._lines.setdefault(owner, []), (at, self._added, item))

    def waits(self, held: Collection[str] = ()) -> bool:
        """Whether somebody other than those of `held` may have something to take."""
        return any(owner not in held for owner in self._lines)

    def take(self, held: Collection[str] = ()) -> T | None:
        """The first of the line whose turn it is, which then has the last turn. Those of `held`
        have none now. None where nothing else waits."""
        while (owner := next((one for one in self._lines if one not in held), None)) is not None:
            line = self._lines.pop(owner)
            while line:
                item = heapq.heappop(line)[2]
                if item in self._waiting:  # else another of its owners was served with it
                    self._waiting.discard(item)
                    if line:
                        self._lines[owner] = line
                    return item
        return None
