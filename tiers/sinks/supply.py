"""What a sink knows of its queue: references to as many batches as may be held, in fair shares."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from tiers.core.change import Entry
from tiers.core.filing import Filing, Ref
from tiers.core.quota import may_take
from tiers.core.reading import Reading
from tiers.sinks.loading import Loaded, Loading
from tiers.sinks.parking import Parking

REFS_MAX: Final = 65536  # batches known in memory; more are looked up when these are published
_UNKNOWN_SHOWN: Final = 4  # names of framings and codecs
BUCKETS_MAX: Final = 1024  # files to be, not begun yet, in which one first agent has batches
T = TypeVar("T")


class Run(Protocol):
    """Carries out what blocks."""

    async def __call__(self, call: Callable[[], T]) -> T: ...


class Supply:
    """Of one sink: what is filed, parked and under way counts for who stored it first."""

    def __init__(self, loading: Loading, filing: Filing, parking: Parking) -> None:
        self.loading = loading
        self._filing = filing
        self._parking = parking
        self._reading = Reading()
        self._under_way: Counter[str] = Counter()
        self._newer: Counter[str] = Counter()  # by first agent
        self._newer_by: Counter[str] = Counter()  # by what is not known
        self._total = 0

    def begin(self, refs: Sequence[Ref]) -> None:
        """A task has these now."""
        self._total += len(refs)
        self._under_way.update(ref.agent for ref in refs)

    def end(self, refs: Sequence[Ref]) -> None:
        """It has not any more."""
        self._total -= len(refs)
        for agent, count in Counter(ref.agent for ref in refs).items():
            self._under_way[agent] -= count
            if not self._under_way[agent]:
                del self._under_way[agent]

    def keep(self, waiting: Sequence[tuple[Entry, str]]) -> None:
        """These wait in the queue for a newer version of this agent, which reads it anew. They
        count as what is held: whoever sends many of them takes no other agent's room."""
        self._newer.update(entry.agent for entry, _ in waiting)
        self._newer_by.update(why for _, why in waiting)

    def newer(self) -> str:
        """What waits for a newer version; empty where nothing does."""
        if not self._newer_by:
            return ""
        count = sum(self._newer_by.values())
        unknown = ", ".join(why for why, _ in self._newer_by.most_common(_UNKNOWN_SHOWN))
        return f"{count:,} batches wait, sealed by a newer version ({unknown}): upgrade this agent"

    def held(self) -> int:
        """References in memory."""
        return self._filing.held + self._total + self._parking.held + self._newer.total()

    def room(self, agent: str) -> int:
        """How many more batches of a first agent may be looked up."""
        if self._filing.open_of[agent] >= BUCKETS_MAX:
            return 0
        parts = (self._filing.held_of, self._under_way, self._parking.held_of, self._newer)
        return may_take(REFS_MAX - self.held(), sum(part[agent] for part in parts))

    def passed(self) -> list[str]:
        """First agents that have their share: more of theirs waits in the queue."""
        return list(self._reading.passed)

    async def load(self, run: Run) -> Loaded | None:
        """The next of the queue; None where nothing more is there, or nothing more may be held."""
        while self.held() < REFS_MAX:
            after = self._reading.begin(self.room)
            entries = await run(partial(self.loading.entries, after))
            picked = self._reading.pick(entries, self.room)
            if picked:
                return await run(partial(self.loading.look_up, picked))
            if not entries and not self._reading.looks_back:
                return None
        return None
