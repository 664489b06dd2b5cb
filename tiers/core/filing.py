"""Which batches go into which file, and when a file is due.

A *bucket* is what may share a file: one UTC day of sealing and one directory (the path template
filled with headers and time). Batches gather in their bucket's open draft. A draft is due when it
has reached `roll_size_bytes` or `file_batches_max`, and when its oldest batch has been in this
channel for `roll_after_s`. Only references are held here, never bodies, so what this costs in
memory is the number of batches held, and the sink bounds that.

Times are seconds of a monotonic clock, given by the caller.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from tiers.core.batch import BatchId

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


@dataclass(frozen=True, slots=True)
class Draft:
    """The batches of a file to be, by position."""

    bucket: Bucket
    refs: Sequence[Ref]
    oldest_s: float  # when the oldest of them came into this channel


def cut(draft: Draft, flagged_max: int) -> tuple[Draft, Sequence[Ref]]:
    """The beginning of a draft, with at most this many flagged batches, and the rest of it."""
    flagged = [at for at, ref in enumerate(draft.refs) if ref.flagged]
    if len(flagged) <= flagged_max:
        return draft, ()
    end = flagged[flagged_max]
    return replace(draft, refs=draft.refs[:end]), draft.refs[end:]


@dataclass(slots=True)
class _Open:
    refs: list[Ref] = field(default_factory=list)
    size_bytes: int = 0
    oldest_s: float = float("inf")


class Filing:
    """Batches not planned yet. Changing `roll_after_s` applies to what is held, too."""

    def __init__(
        self, roll_size_bytes: int, roll_after_s: float, batches_max: int = FILE_BATCHES_MAX
    ) -> None:
        self.roll_size_bytes = roll_size_bytes
        self.roll_after_s = roll_after_s
        self.batches_max = batches_max
        self.held = 0  # refs, in open and in full drafts
        self._open: dict[Bucket, _Open] = {}
        self._full: deque[Draft] = deque()
        # (when the oldest came, bucket), the earliest first; entries of closed drafts are stale.
        self._ages: list[tuple[float, Bucket]] = []

    def add(self, bucket: Bucket, ref: Ref) -> None:
        """Put a batch into its bucket's draft, and close the draft when it is full."""
        draft = self._open.setdefault(bucket, _Open())
        draft.refs.append(ref)
        draft.size_bytes += ref.size_bytes
        self.held += 1
        if ref.came_s < draft.oldest_s:
            draft.oldest_s = ref.came_s
            heapq.heappush(self._ages, (ref.came_s, bucket))
        if draft.size_bytes >= self.roll_size_bytes or len(draft.refs) >= self.batches_max:
            self._full.append(self._close(bucket))

    def take(self, now_s: float, *, hasten: bool = False) -> Draft | None:
        """The next draft that is due, by size or by age: of the first of both, the one that has
        the oldest batch, so that a flood in one bucket does not hold up the others. With `hasten`
        the largest one where none is due. None when there is nothing (due)."""
        draft: Draft | None = None
        due_s = self.next_due_s()
        aged = due_s is not None and due_s <= now_s
        if self._full and not (aged and self._ages[0][0] < self._full[0].oldest_s):
            draft = self._full.popleft()
        elif aged:
            draft = self._close(self._ages[0][1])
        elif hasten and self._open:
            draft = self._close(max(self._open, key=lambda bucket: self._open[bucket].size_bytes))
        if draft is not None:
            self.held -= len(draft.refs)
        return draft

    def next_due_s(self) -> float | None:
        """When the next open draft will be due by its age; None when there is none."""
        while self._ages:
            came_s, bucket = self._ages[0]
            draft = self._open.get(bucket)
            if draft is not None and draft.oldest_s == came_s:
                return came_s + self.roll_after_s
            heapq.heappop(self._ages)
        return None

    def _close(self, bucket: Bucket) -> Draft:
        draft = self._open.pop(bucket)
        # By position, since batches of a voided file come back late and belong in front.
        return Draft(bucket, sorted(draft.refs), draft.oldest_s)
