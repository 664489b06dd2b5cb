"""What of a queue is in memory: read ahead, in its order, in fair shares.

A queue is read as far as there is room in memory, and the room is shared among first agents
(core/quota.py). Batches of one that has its share are passed over, and those behind them
brought; once it has room again, its batches are looked for from where they were passed over.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from tiers.core.quota import may_take

HELD_MAX: Final = 65536  # batches of one output known in memory; with "end" most wait elsewhere


class Queued(Protocol):
    """An entry of a queue."""

    @property
    def position(self) -> int: ...

    @property
    def agent(self) -> str: ...


E = TypeVar("E", bound=Queued)
Closed = Callable[[str], bool]  # whether none of a first agent's batches are to be brought now


class ReadAhead:
    """Call `begin`, read entries behind that position, and give them to `pick`: what that brings
    is held until it is let go of."""

    def __init__(self, held_max: int) -> None:
        self.held_max = held_max
        self.upto = 0  # everything up to there was brought, or passed over
        self.passed: dict[str, int] = {}  # first agent: its batches behind this one wait
        self._agent: str | None = None  # whose batches are looked for; None: everybody's
        self._held: dict[int, str] = {}  # first agents by position
        self._held_of: Counter[str] = Counter()

    def held(self) -> int:
        """Batches in memory."""
        return len(self._held)

    def is_full(self) -> bool:
        """Whether no more may be held."""
        return len(self._held) >= self.held_max

    def room(self, agent: str) -> int:
        """How many more batches of a first agent may be held."""
        return may_take(self.held_max - len(self._held), self._held_of[agent])

    def let_go(self, positions: Iterable[int]) -> None:
        """These are held no longer. Fine for what never was: an earlier run had brought it."""
        for position in positions:
            agent = self._held.pop(position, None)
            if agent is not None:
                self._held_of[agent] -= 1
                if not self._held_of[agent]:
                    del self._held_of[agent]

    def begin(self, closed: Closed) -> int:
        """The position behind which to read on."""
        self._agent = next((agent for agent in self.passed if self._more_of(agent, closed)), None)
        return self.upto if self._agent is None else self.passed[self._agent]

    def _more_of(self, agent: str, closed: Closed) -> int:
        return 0 if closed(agent) else self.room(agent)

    @property
    def looks_back(self) -> bool:
        """Whether batches are looked for that were passed over."""
        return self._agent is not None

    def pick(self, entries: Sequence[E], closed: Closed) -> list[E]:
        """What is to be brought of the entries that follow; none, where none follow."""
        if self._agent is None:
            picked = self._pick_on(entries, closed)
        else:
            picked = self._pick_of(self._agent, entries, self._more_of(self._agent, closed))
        for entry in picked:
            self._held[entry.position] = entry.agent
        self._held_of.update(entry.agent for entry in picked)
        return picked

    def _pick_on(self, entries: Sequence[E], closed: Closed) -> list[E]:
        picked: list[E] = []
        left: dict[str, int] = {}
        for entry in entries:
            agent, self.upto = entry.agent, entry.position
            if agent in self.passed:
                continue
            if agent not in left:
                left[agent] = self._more_of(agent, closed)
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
