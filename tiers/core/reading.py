"""Where a queue was read to, and whose batches were passed over for the time being.

A queue is read in its order, as far as there is room in memory, and the room is shared among first
agents (core/quota.py). Batches of one that has its share are passed over, and those behind them
brought; once it has room again, its batches are looked for from where they were passed over.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Queued(Protocol):
    """An entry of a queue."""

    @property
    def position(self) -> int: ...

    @property
    def agent(self) -> str: ...


E = TypeVar("E", bound=Queued)
Room = Callable[[str], int]  # how many more batches of a first agent may be brought


class Reading:
    """Call `begin`, read entries behind that position, and give them to `pick`."""

    def __init__(self) -> None:
        self.upto = 0  # everything up to there was brought, or passed over
        self.passed: dict[str, int] = {}  # first agent: its batches behind this one wait
        self._agent: str | None = None  # whose batches are looked for; None: everybody's

    def begin(self, room: Room) -> int:
        """The position behind which to read on."""
        self._agent = next((agent for agent in self.passed if room(agent) > 0), None)
        return self.upto if self._agent is None else self.passed[self._agent]

    @property
    def looks_back(self) -> bool:
        """Whether batches are looked for that were passed over."""
        return self._agent is not None

    def pick(self, entries: Sequence[E], room: Room) -> list[E]:
        """What is to be brought of the entries that follow; none, where none follow."""
        if self._agent is None:
            return self._pick_on(entries, room)
        return self._pick_of(self._agent, entries, room(self._agent))

    def _pick_on(self, entries: Sequence[E], room: Room) -> list[E]:
        picked: list[E] = []
        left: dict[str, int] = {}
        for entry in entries:
            agent, self.upto = entry.agent, entry.position
            if agent in self.passed:
                continue
            if agent not in left:
                left[agent] = room(agent)
            if left[agent] <= 0:
                self.passed[agent] = entry.position - 1
                continue
            left[agent] -= 1
            picked.append(entry)
        return picked

    def _pick_of(self, agent: str, entries: Sequence[E], most: int) -> list[E]:
        picked: list[E] = []
        # To the end of the line: others that were passed over have their turn before it comes.
        behind = self.passed.pop(agent)
        for entry in entries:
            if entry.position > self.upto:
                return picked
            if entry.agent == agent:
                if len(picked) == most:
                    break
                picked.append(entry)
            behind = entry.position
        if entries and behind < self.upto:
            self.passed[agent] = behind
        return picked
