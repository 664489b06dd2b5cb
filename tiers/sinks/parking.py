"""Batches that another sink has claimed, or that cannot be settled: they wait, and are looked at
again now and then (commit.md, "Parked batches")."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from tiers.core.filing import Bucket, Draft, Ref

_STOPPED_SHOWN: Final = 16  # reasons told in the status
_FIRST_S: Final = 0.25  # a holder that is well publishes soon


class Place(NamedTuple):
    """Batches that are looked at together."""

    bucket: Bucket
    stopped: bool  # a claim or a manifest cannot be read; else another sink holds the claim


class Parking:
    """What waits is looked at again after as long as it has been here, at most `again_s_max`."""

    def __init__(self, again_s_max: float) -> None:
        self.again_s_max = again_s_max
        self.held = 0
        self._waiting: dict[Place, dict[Ref, str]] = {}
        self._due_s: dict[Place, float] = {}

    def add(self, place: Place, refs: Iterable[tuple[Ref, str]], now_s: float) -> None:
        """These wait from now on, for these reasons. They count as flagged."""
        for ref, why in refs:
            self._waiting.setdefault(place, {})[ref._replace(flagged=True)] = why
            wait_s = min(self.again_s_max, max(_FIRST_S, now_s - ref.came_s))
            self._due_s.setdefault(place, now_s + wait_s)
            self.held += 1

    def take(self, now_s: float) -> tuple[Draft, bool] | None:
        """The batches of one place that are due, and whether they wait for another sink's claim
        (else they begin anew); None when none is due."""
        place = next((place for place, due_s in self._due_s.items() if due_s <= now_s), None)
        if place is None:
            return None
        del self._due_s[place]
        refs = sorted(self._waiting.pop(place))
        self.held -= len(refs)
        return Draft(place.bucket, refs, min(ref.came_s for ref in refs)), not place.stopped

    def next_due_s(self) -> float | None:
        """When some are to be looked at again; None while there are none."""
        return min(self._due_s.values(), default=None)

    def parked(self) -> int:
        """Batches that wait for another sink."""
        return sum(len(refs) for place, refs in self._waiting.items() if not place.stopped)

    def stopped(self) -> list[dict[str, str]]:
        """What a person has to look at, each once."""
        whys: Counter[str] = Counter()
        for place, refs in self._waiting.items():
            if place.stopped:
                whys.update(refs.values())
        shown = whys.most_common(_STOPPED_SHOWN)
        return [{"what": f"{count} flagged batches", "why": why} for why, count in shown]
