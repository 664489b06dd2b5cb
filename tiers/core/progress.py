"""Health is progress: what is due and does not move for long is stalled, whatever its own code
believes of itself.

Pure: the time is an argument.
"""

from collections.abc import Mapping
from typing import NamedTuple

Place = tuple[str, str]  # a part (source, output), and what of it: a file, or "" for the whole


class Work(NamedTuple):
    """Something that could go on now."""

    what: str  # for a person: "1.2 MiB unread"
    done: object  # compared only: whatever differs after each piece of progress
    held: str = ""  # the back-pressure that holds it, by name: it is nobody's fault here


class Stalled(NamedTuple):
    """Work that was due all the time since then, and did not move."""

    place: Place
    work: Work
    since_s: float


class Progress:
    """Remembers, of all work that is due, when it moved last."""

    def __init__(self, stalled_after_s: float) -> None:
        self.stalled_after_s = stalled_after_s
        self._moved: dict[Place, tuple[object, float]] = {}

    def look(self, works: Mapping[Place, Work], now_s: float) -> list[Stalled]:
        """All work that is due now; what is not named has none. Gives what is stalled."""
        moved: dict[Place, tuple[object, float]] = {}
        stalled = []
        for place, work in works.items():
            before, since_s = self._moved.get(place, (work.done, now_s))
            if work.held or before != work.done:
                since_s = now_s
            moved[place] = work.done, since_s
            if now_s - since_s > self.stalled_after_s:
                stalled.append(Stalled(place, work, since_s))
        self._moved = moved
        return stalled
