"""Which batches of one origin are in which published files, in little room.

A store tells of a hundred million batches; those of a file mostly follow each other, so what is
kept is runs, a few integers for each file: never anything for each batch. Only for batches that
are in two files their manifests are looked at again, by whoever asks.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from tiers.core import runs
from tiers.core.runs import Runs


class Copies:
    """Of one origin. A *file* here is the number that the caller has given to it."""

    def __init__(self) -> None:
        self.events = 0  # each copy counted
        self._firsts = array("q")
        self._lasts = array("q")
        self._files = array("q")
        self._sorted = True

    def add(self, seqs: Iterable[int], events: int, file: int) -> None:
        """That file has these, and so many events in them."""
        self.events += events
        before = None
        for seq in sorted(seqs):
            if before is not None and seq == before + 1:
                self._lasts[-1] = seq
            else:  # the same one again, too: then it is in this file twice
                self._firsts.append(seq)
                self._lasts.append(seq)
                self._files.append(file)
            before = seq
        self._sorted = False

    def published(self) -> Runs:
        """What is in any file."""
        self._sort()
        found: Runs = []
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if found and first <= found[-1][1] + 1:
                found[-1][1] = max(found[-1][1], last)
            else:
                found.append([first, last])
        return found

    def doubled(self) -> Runs:
        """What is in more than one file."""
        self._sort()
        found: Runs = []
        reached = -1  # how far those before reach
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if first <= reached:
                found.append([first, min(last, reached)])
            reached = max(reached, last)
        return runs.union(found)

    def files_with(self, wanted: Runs) -> list[int]:
        """The files that have any of these, each once."""
        ends = [last for _, last in wanted]
        found = set()
        for first, last, file in zip(self._firsts, self._lasts, self._files, strict=True):
            place = bisect_left(ends, first)
            if place < len(wanted) and wanted[place][0] <= last:
                found.add(file)
        return sorted(found)

    def file_before(self, seq: int) -> int | None:
        """Of batches with lower numbers, the file of the one next to it."""
        self._sort()
        place = bisect_left(self._firsts, seq)
        return self._files[place - 1] if place else None

    def file_after(self, seq: int) -> int | None:
        """Of batches with higher numbers, the file of the one next to it."""
        self._sort()
        place = bisect_right(self._firsts, seq)
        return self._files[place] if place < len(self._files) else None

    def _sort(self) -> None:
        if self._sorted:
            return
        order = sorted(range(len(self._firsts)), key=self._firsts.__getitem__)
        for name in ("_firsts", "_lasts", "_files"):
            column = getattr(self, name)
            setattr(self, name, array("q", [column[place] for place in order]))
        self._sorted = True
