"""What a sink has read of the other sinks' manifests: which files may hold a batch.

A manifest never changes, so each is read once and kept for as long as its day lives; only what
became of its file is asked anew, and that only until it is final. Kept as runs of sequence
numbers by origin, so that a file of thousands of neighbouring batches costs a few integers.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tiers.core import layout
from tiers.core.batch import BatchId
from tiers.core.manifest import decode
from tiers.core.runs import Runs, runs_of
from tiers.errors import StoreRefused

_SEQ_MAX: Final = 2**63


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file of another sink, named by its manifest."""

    day: str  # with its generation
    name: str

    @property
    def tmp(self) -> str:
        return layout.tmp_path(self.day, self.name)

    @property
    def void(self) -> str:
        return layout.void_path(self.day, self.name)

    @property
    def manifest(self) -> str:
        return layout.manifest_path(self.day, self.name)


@dataclass(slots=True)
class Manifests:
    """What one sink has read of the others' manifests."""

    sink: str  # whose own manifests are left out: its plans tell what became of its files
    held: dict[File, Mapping[bytes, Runs]] = field(default_factory=dict)
    unreadable: dict[File, str] = field(default_factory=dict)  # why
    void: set[File] = field(default_factory=set)
    published: set[File] = field(default_factory=set)

    def unread(self, day: str, names: Iterable[str]) -> list[File]:
        """Those of a listing that have not been read; unreadable ones are read again, since
        somebody may have mended them."""
        own = f"{self.sink}-"
        files = (File(day, name) for name in names if not name.startswith(own))
        return [file for file in files if file not in self.held and file not in self.void]

    def read(self, file: File, content: bytes | None) -> None:
        """What a listed manifest says. One that is gone was removed with its day."""
        self.unreadable.pop(file, None)
        if content is None:
            return
        try:
            manifest = decode(content)
            if (manifest.day, manifest.name) != (file.day, file.name):
                raise StoreRefused(f"manifest of another file, {manifest.day}/{manifest.name:.120}")
        except StoreRefused as error:
            self.unreadable[file] = f"{file.manifest}: {error}"
            return
        seqs: dict[bytes, list[int]] = {}
        for item in manifest.items:
            seqs.setdefault(item.id.origin, []).append(item.id.seq)
        self.held[file] = {origin: runs_of(numbers) for origin, numbers in seqs.items()}

    def holding(self, batch: BatchId, days: Iterable[str]) -> list[File]:
        """Files of these days that have the batch and are not known to be void."""
        return [file for file in self.held if file.day in days and self.has(file, batch)]

    def has(self, file: File, batch: BatchId) -> bool:
        """Whether that file's manifest has the batch."""
        # Another settlement, or the end of a day, may have let go of the file meanwhile.
        runs = self.held.get(file, {}).get(batch.origin, [])
        place = bisect_right(runs, [batch.seq, _SEQ_MAX]) - 1
        return place >= 0 and batch.seq <= runs[place][1]

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
