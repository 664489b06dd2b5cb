"""Which batches go into which file, and when a file is due.

A *bucket* is what may share a file: one UTC day of sealing and one directory (the path template
filled with headers and time). Batches gather in their bucket's open draft, flagged ones in another.
A draft is due when it has reached `roll_size_bytes` or `file_batches_max`, and when its oldest
batch has been in this channel for `roll_after_s`. Only references are held here, never bodies, so
what this costs in memory is the number of batches held, and the sink bounds that.

Times are seconds of a monotonic clock, given by the caller.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from tiers.core.batch import BatchId
from tiers.core.turns import Turns

FILE_BATCHES_MAX: Final = 16384


class Bucket(NamedTuple):
    """What the batches of one file have in common."""

    day: str  # UTC day of sealing, "2026-11-23"
    directory: str  # relative to the store's root


class Ref(NamedTuple):
    """A batch that rests in the channel."""

    position: int
    id: BatchId
    events: int
    flagged: bool
    size_bytes: int  # about what it will take in the file
    came_s: float  # when it came into this channel
    agent: str = ""  # that stored it first
    begun_ms: int = 0  # when that was, by its clock


@dataclass(frozen=True, slots=True)
class FileDraft:
    """The batches of a file to be, by position."""

    bucket: Bucket
    refs: Sequence[Ref]
    oldest_s: float  # when the oldest of them came into this channel


def cut(draft: FileDraft, flagged_max: int) -> tuple[FileDraft, Sequence[Ref]]:
    """The beginning of a draft, with at most this many flagged batches, and the rest of it."""
    flagged = [at for at, ref in enumerate(draft.refs) if ref.flagged]
    if len(flagged) <= flagged_max:
        return draft, ()
    end = flagged[flagged_max]
    return replace(draft, refs=draft.refs[:end]), draft.refs[end:]


@dataclass(slots=True, eq=False)
class _Open:
    bucket: Bucket
    refs: list[Ref] = field(default_factory=list)
    size_bytes: int = 0
    oldest_s: float = float("inf")
    agents: set[str] = field(default_factory=set)


class Filing:
    """Batches not planned yet. Changing `roll_after_s` applies to what is held, too."""

    def __init__(
        self, roll_size_bytes: int, roll_after_s: float, batches_max: int = FILE_BATCHES_MAX
    ) -> None:
        self.roll_size_bytes = roll_size_bytes
        self.roll_after_s = roll_after_s
        self.batches_max = batches_max
        self.held = 0  # refs, in open and in full drafts
        self.held_of: Counter[str] = Counter()  # by first agent
        self.open_of: Counter[str] = Counter()  # open drafts in which an agent has a batch
        self._open: dict[tuple[Bucket, bool], _Open] = {}
        self._due: Turns[_Open] = Turns()
        # (when the oldest came, a number, draft), the earliest first; some entries are stale.
        self._ages: list[tuple[float, int, _Open]] = []
        self._added = 0

    def add(self, bucket: Bucket, ref: Ref) -> None:
        """Put a batch into its bucket's draft, and close the draft when it is full. Flagged ones
        have drafts of their own: what they have to wait for holds up no others."""
        key = (bucket, ref.flagged)
        draft = self._open.get(key)
        if draft is None:
            draft = self._open[key] = _Open(bucket)
        draft.refs.append(ref)
        draft.size_bytes += ref.size_bytes
        self.held += 1
        self.held_of[ref.agent] += 1
        if ref.agent not in draft.agents:
            draft.agents.add(ref.agent)
            self.open_of[ref.agent] += 1
            if draft in self._due:
                self._due.add(ref.agent, draft.oldest_s, draft)
        if ref.came_s < draft.oldest_s:
            draft.oldest_s = ref.came_s
            self._added += 1
            heapq.heappush(self._ages, (ref.came_s, self._added, draft))
        if draft.size_bytes >= self.roll_size_bytes or len(draft.refs) >= self.batches_max:
            del self._open[key]
            self._make_due(draft)

    def take(
        self,
        now_s: float,
        *,
        hasten: bool = False,
        of: Collection[str] = (),
        held: Collection[str] = (),
    ) -> FileDraft | None:
        """The next draft that is due, by size or by age: first agents but those of `held` have
        their turns, and of each the one with the oldest batch comes first, so that a flood in many
        buckets or in one holds up no others. With `hasten` the largest one where none is due, of
        all, or of those first agents. None when there is nothing (due)."""
        while self._ages and self._ages[0][0] + self.roll_after_s <= now_s:
            _, _, aged = heapq.heappop(self._ages)
            if self._is_open(aged):
                self._make_due(aged)
        draft = self._due.take(held)
        if draft is None and hasten:
            draft = self._largest(of, held)
        return None if draft is None else self._close(draft)

    def _largest(self, of: Collection[str], held: Collection[str]) -> _Open | None:
        drafts = (one for one in self._open.values() if not of or not one.agents.isdisjoint(of))
        served = (one for one in drafts if one.agents.difference(held))
        return max(served, key=lambda draft: draft.size_bytes, default=None)

    def _make_due(self, draft: _Open) -> None:
        if draft not in self._due:
            for agent in sorted(draft.agents):
                self._due.add(agent, draft.oldest_s, draft)

    def _is_open(self, draft: _Open) -> bool:
        return self._open.get((draft.bucket, draft.refs[0].flagged)) is draft

    def next_due_s(self) -> float | None:
        """When the next open draft will be due by its age; None when there is none."""
        while self._ages and not self._is_open(self._ages[0][2]):
            heapq.heappop(self._ages)
        return self._ages[0][0] + self.roll_after_s if self._ages else None

    def _close(self, draft: _Open) -> FileDraft:
        if self._is_open(draft):  # else it was full
            del self._open[draft.bucket, draft.refs[0].flagged]
        self.held -= len(draft.refs)
        self.held_of.subtract(ref.agent for ref in draft.refs)
        self.open_of.subtract(draft.agents)
        for agent in draft.agents:
            if not self.held_of[agent]:
                del self.held_of[agent], self.open_of[agent]
        # By position, since batches of a voided file come back late and belong in front.
        return FileDraft(draft.bucket, sorted(draft.refs), draft.oldest_s)
