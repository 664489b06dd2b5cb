"""Batches that another sink has claimed, or that cannot be settled: they wait, and are looked at
again now and then (commit.md, "Parked batches")."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tiers.core.commit.filing import Bucket, FileDraft, Ref
from tiers.core.turns import Turns

_STOPPED_SHOWN: Final = 16  # reasons told in the status
_FIRST_S: Final = 0.25  # a holder that is well publishes soon


class ParkedGroup(NamedTuple):
    """Batches that are looked at together."""

    bucket: Bucket
    stopped: bool  # a claim or a manifest cannot be read; else another sink holds the claim


@dataclass(slots=True, eq=False)
class _Group:
    """Some of a place's, which are looked at in one go."""

    place: ParkedGroup
    due_s: float
    waiting: dict[Ref, str] = field(default_factory=dict)  # and why


class Parking:
    """What waits is looked at again after as long as it has been here, at most `again_s_max`; at
    most `group_max` batches in one go."""

    def __init__(self, again_s_max: float, group_max: int) -> None:
        self.again_s_max = again_s_max
        self.group_max = group_max
        self.held = 0
        self.held_of: Counter[str] = Counter()  # by first agent
        self._due: Turns[_Group] = Turns()
        self._all: dict[_Group, None] = {}
        self._groups: list[tuple[float, int, _Group]] = []  # a heap: due, and a number as it came
        self._begun = 0  # groups
        self._open: dict[
            ParkedGroup, _Group
        ] = {}  # the newest of each place: there may be more to come

    def add(self, place: ParkedGroup, refs: Iterable[tuple[Ref, str]], now_s: float) -> None:
        """These wait from now on, for these reasons. They count as flagged."""
        for ref, why in refs:
            wait_s = min(self.again_s_max, max(_FIRST_S, now_s - ref.came_s))
            group = self._open.get(place)
            if group is None or len(group.waiting) >= self.group_max or group.due_s <= now_s:
                group = self._open[place] = _Group(place, now_s + wait_s)
                self._begun += 1
                self._all[group] = None
                heapq.heappush(self._groups, (group.due_s, self._begun, group))
            group.waiting[ref._replace(flagged=True)] = why
            self.held += 1
            self.held_of[ref.agent] += 1

    def take(self, now_s: float, held: Collection[str] = ()) -> tuple[FileDraft, bool] | None:
        """Batches of one place that are due, and whether they wait for another sink's claim
        (else they begin anew); None when none is due. First agents but those of `held` have their
        turns."""
        while self._groups and self._groups[0][0] <= now_s:
            due_s, _, due = heapq.heappop(self._groups)
            if self._open.get(due.place) is due:
                del self._open[due.place]
            for agent in sorted({ref.agent for ref in due.waiting}):
                self._due.add(agent, due_s, due)
        group = self._due.take(held)
        if group is None:
            return None
        del self._all[group]
        refs = sorted(group.waiting)
        self.held -= len(refs)
        self.held_of.subtract(ref.agent for ref in refs)
        self.held_of += Counter()  # without those that have none
        draft = FileDraft(group.place.bucket, refs, min(ref.came_s for ref in refs))
        return draft, not group.place.stopped

    def next_due_s(self, held: Collection[str] = ()) -> float | None:
        """When some are to be looked at again, but those of `held`; None while there are none."""
        if self._due.waits(held):
            return 0.0
        return self._groups[0][0] if self._groups else None

    def parked(self) -> int:
        """Batches that wait for another sink."""
        return sum(len(group.waiting) for group in self._all if not group.place.stopped)

    def stopped(self) -> list[dict[str, str]]:
        """What a person has to look at, each once."""
        whys: Counter[str] = Counter()
        for group in self._all:
            if group.place.stopped:
                whys.update(group.waiting.values())
        shown = whys.most_common(_STOPPED_SHOWN)
        return [{"what": f"{count} flagged batches", "why": why} for why, count in shown]
