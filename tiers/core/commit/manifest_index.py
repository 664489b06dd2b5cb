"""What a sink has read of the other sinks' manifests: which files may hold a batch.

A manifest never changes, so each is read once and kept for as long as its day lives; only what
became of its file is asked anew, and that only until it is final. Kept as runs of sequence
numbers by origin, so that a file of thousands of neighbouring batches costs a few integers; where
batches go to sinks by turns there are no neighbours, and each costs sixteen bytes.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from tiers.core.batch import BatchId
from tiers.core.commit import store_names
from tiers.core.commit.manifest import decode
from tiers.core.runs import runs_of
from tiers.errors import StoreRefused


class Seqs(NamedTuple):
    """Sequence numbers as runs, in two columns: as pairs they would take ten times the room."""

    firsts: "array[int]"
    lasts: "array[int]"

    def has(self, seq: int) -> bool:
        place = bisect_right(self.firsts, seq) - 1
        return place >= 0 and seq <= self.lasts[place]

    def any_of(self, sought: Sequence[int]) -> bool:
        """Whether any of these is here; they are sorted."""
        if not self.firsts:
            return False
        # Nearly always there are none: a file has what was sealed within a minute or so.
        begin, end = bisect_left(sought, self.firsts[0]), bisect_right(sought, self.lasts[-1])
        return any(self.has(sought[place]) for place in range(begin, end))


_NONE: Final = Seqs(array("q"), array("q"))


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file of another sink, named by its manifest."""

    day: str  # with its generation
    name: str

    @property
    def tmp(self) -> str:
        return store_names.tmp_path(self.day, self.name)

    @property
    def void(self) -> str:
        return store_names.void_path(self.day, self.name)

    @property
    def manifest(self) -> str:
        return store_names.manifest_path(self.day, self.name)


class Says(NamedTuple):
    """What a manifest says of its file."""

    file: File
    held: Mapping[bytes, Seqs]
    wrong: str = ""  # why nobody can read it


@lru_cache(maxsize=1)
def opened(content: bytes) -> Says:
    """Of a long one that takes a second: kept, so that who calls it beforehand on another thread
    saves the loop from it."""
    try:
        manifest = decode(content)
    except StoreRefused as error:
        return Says(File("", ""), {}, str(error))
    seqs: dict[bytes, list[int]] = {}
    for item in manifest.items:
        seqs.setdefault(item.id.origin, []).append(item.id.seq)
    held = {origin: _in_columns(numbers) for origin, numbers in seqs.items()}
    return Says(File(manifest.day, manifest.name), held)


@dataclass(slots=True)
class Manifests:
    """What one sink has read of the others' manifests. Those of its own present start are left
    out, since its plans tell what became of these files. Those of earlier starts are not: where
    this disk is there twice, the other may be in such a start still."""

    own: str  # the writer that this sink is
    held: dict[File, Mapping[bytes, Seqs]] = field(default_factory=dict)
    unreadable: dict[File, str] = field(default_factory=dict)  # why
    void: set[File] = field(default_factory=set)
    published: set[File] = field(default_factory=set)

    def unread(self, day: str, names: Iterable[str]) -> list[File]:
        """Those of a listing that have not been read; unreadable ones are read again, since
        somebody may have mended them."""
        files = (File(day, name) for name in names if not self._is_own(name))
        return [file for file in files if file not in self.held and file not in self.void]

    def _is_own(self, name: str) -> bool:
        written = store_names.split_file_name(name)
        return written is not None and written[0] == self.own

    def read(self, file: File, content: bytes | None) -> None:
        """What a listed manifest says. One that is gone was removed with its day."""
        self.unreadable.pop(file, None)
        if content is None:
            return
        says = opened(content)
        if says.wrong:
            self.unreadable[file] = f"{file.manifest}: {says.wrong}"
        elif says.file != file:
            of = f"{says.file.day}/{says.file.name:.120}"
            self.unreadable[file] = f"{file.manifest}: manifest of another file, {of}"
        else:
            self.held[file] = says.held

    def holding(self, batches: Iterable[BatchId], days: Iterable[str]) -> list[File]:
        """Files of these days that have any of the batches and are not known to be void."""
        # File by file, not batch by batch: there may be a day of files, and they are asked for
        # hundreds of batches while everything else on this loop waits.
        sought: dict[bytes, list[int]] = {}
        for batch in sorted(batches):
            sought.setdefault(batch.origin, []).append(batch.seq)
        return sorted(
            file
            for file, held in self.held.items()
            if file.day in days
            and any(held.get(origin, _NONE).any_of(seqs) for origin, seqs in sought.items())
        )

    def has(self, file: File, batch: BatchId) -> bool:
        """Whether that file's manifest has the batch."""
        # Another settlement, or the end of a day, may have let go of the file meanwhile.
        return self.held.get(file, {}).get(batch.origin, _NONE).has(batch.seq)

    def in_the_way(self, days: Iterable[str]) -> list[File]:
        """Files of these days that may have any batch, since nobody can read which."""
        return [file for file in self.unreadable if file.day in days and file not in self.void]

    def voided(self, file: File) -> None:
        """It will never be published."""
        self.void.add(file)
        self.held.pop(file, None)
        self.unreadable.pop(file, None)

    def days(self) -> set[str]:
        """Days (with their generations) of which something is held."""
        return {file.day for file in (*self.held, *self.unreadable, *self.void)}

    def forget(self, day: str) -> None:
        """A day is gone from the store."""
        for found in (self.held, self.unreadable):
            for file in [file for file in found if file.day == day]:
                del found[file]
        self.void = {file for file in self.void if file.day != day}
        self.published = {file for file in self.published if file.day != day}


def _in_columns(numbers: Iterable[int]) -> Seqs:
    firsts, lasts = array("q"), array("q")
    for first, last in runs_of(numbers):
        firsts.append(first)
        lasts.append(last)
    return Seqs(firsts, lasts)
