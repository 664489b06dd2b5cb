"""What a store holds, as its manifests say: what `tiers audit` reads of it."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from tiers.audit.counting import check_file
from tiers.audit.occurrences import Copies
from tiers.contracts import Store
from tiers.core import runs
from tiers.core.commit import manifest, store_names
from tiers.core.commit.answers import Listed
from tiers.core.commit.manifest import Manifest
from tiers.core.runs import Runs
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.files.days import closed_days

_OPENERS: Final = 2  # each has one published file in memory
_READERS: Final = 8  # manifests are read side by side: each is a round trip in HDFS
_IN_MEMORY: Final = 32  # manifests at a time: what is kept of them is little


class Published(NamedTuple):
    """A published file, without its batches."""

    day: str  # with its generation
    name: str  # of its manifest
    path: str
    codec: str
    format: str
    size_bytes: int
    events: int


@dataclass(frozen=True, slots=True)
class Double:
    """One batch in several published files."""

    seq: int
    events: int  # beyond the first copy
    files: tuple[str, ...]


@dataclass(slots=True)
class Shelf:
    """What a store holds, as its manifests say."""

    where: str
    published: list[Published] = field(default_factory=list)
    copies: dict[bytes, Copies] = field(default_factory=dict)  # by origin
    doubles: dict[bytes, list[Double]] = field(default_factory=dict)  # by origin
    pending: int = 0
    void: int = 0
    forgotten: set[str] = field(default_factory=set)  # days whose manifests have been removed
    counted: int | None = None  # files opened and found as their manifests say; None: not asked
    removed: list[str] = field(default_factory=list)  # published files that somebody took away
    problems: list[str] = field(default_factory=list)  # from which nothing can be concluded
    unread: bool = False  # there may be manifests of which nothing is here

    def put(self, one: Manifest) -> None:
        """Count a published file."""
        batches: dict[bytes, list[tuple[int, int]]] = {}
        for item in one.items:
            batches.setdefault(item.id.origin, []).append((item.id.seq, item.events))
        number = len(self.published)
        for origin, found in batches.items():
            events = sum(count for _, count in found)
            copies = self.copies.setdefault(origin, Copies())
            copies.add([seq for seq, _ in found], events, number)
        events = sum(item.events for item in one.items)
        self.published.append(
            Published(one.day, one.name, one.path, one.codec, one.format, one.size_bytes, events)
        )

    def day_of(self, file: int | None) -> str | None:
        """The day of a file of `copies`, without its generation."""
        return None if file is None else store_names.generations(self.published[file].day)[0]

    def find_doubles(self, read: Callable[[Published], Manifest | None]) -> None:
        """Say what is in several files. `read` gives the manifests of these once more."""
        for origin, copies in self.copies.items():
            if doubled := copies.doubled():
                files = (self.published[number] for number in copies.files_with(doubled))
                manifests = (found for one in files if (found := read(one)) is not None)
                self.doubles[origin] = _doubles(origin, doubled, manifests)


def _doubles(origin: bytes, doubled: Runs, manifests: Iterable[Manifest]) -> list[Double]:
    copies: dict[int, list[tuple[str, int]]] = {}
    for one in manifests:
        for item in one.items:
            if item.id.origin == origin and runs.common([[item.id.seq] * 2], doubled):
                copies.setdefault(item.id.seq, []).append((one.path, item.events))
    return [
        Double(seq, sum(events for _, events in files[1:]), tuple(path for path, _ in files))
        for seq, files in sorted(copies.items())
    ]


def read_store(store: Store) -> Shelf:
    """All manifests of a store, and what became of their files."""
    shelf = Shelf(store.where())
    gone: list[tuple[str, str]] = []
    try:
        with ThreadPoolExecutor(_READERS) as readers:
            for day in _days(store):
                _read_day(store, day, shelf, readers, gone)
        left = _days(store)  # again, and last: some may have been forgotten while they were read
        shelf.forgotten = set(closed_days(store)) - set(left)
        shelf.problems += [f"{path}: gone while it was read" for day, path in gone if day in left]
        shelf.unread = bool(shelf.problems)
        shelf.find_doubles(partial(_read_again, store, shelf))
    except (StoreUnavailable, StoreRefused) as error:
        shelf.problems.append(f"cannot be read: {error}")
        shelf.unread = True
    return shelf


def _days(store: Store) -> list[str]:
    listed = store.list(store_names.OWN) or []
    return [entry.name for entry in listed if entry.is_directory and store_names.is_day(entry.name)]


def _read_day(
    store: Store,
    day: str,
    shelf: Shelf,
    readers: ThreadPoolExecutor,
    gone: list[tuple[str, str]],
) -> None:
    # In this order: see the head of audit/audit.py.
    entries = _files(store, store_names.manifests_path(day))
    tmp = {entry.name for entry in _files(store, store_names.tmp_path(day, "").rstrip("/"))}
    void = {entry.name for entry in _files(store, store_names.void_path(day, "").rstrip("/"))}
    published = []
    for entry in entries:
        if entry.name in tmp:
            shelf.pending += 1
        elif entry.name in void:
            shelf.void += 1
        else:
            published.append(entry)
    for first in range(0, len(published), _IN_MEMORY):
        some = published[first : first + _IN_MEMORY]
        for entry, found in zip(
            some, readers.map(lambda entry: _read_manifest(store, day, entry), some), strict=True
        ):
            if found is None:
                gone.append((day, store_names.manifest_path(day, entry.name)))
            elif isinstance(found, str):
                shelf.problems.append(found)
            else:
                shelf.put(found)


def _files(store: Store, path: str) -> list[Listed]:
    """Directories are none of ours, and no sink looks at them either."""
    return [entry for entry in store.list(path) or [] if not entry.is_directory]


def _read_manifest(store: Store, day: str, entry: Listed) -> Manifest | str | None:
    """It; what is wrong with it; or None where there is none any more."""
    path = store_names.manifest_path(day, entry.name)
    if entry.size_bytes > manifest.MANIFEST_BYTES_MAX:
        return f"{path}: {entry.size_bytes} bytes are too many for a manifest"
    try:
        data = store.read(path, manifest.MANIFEST_BYTES_MAX)
        if data is None:
            return None
        found = manifest.decode(data)
    except StoreRefused as error:
        return f"{path}: {error}"
    if (found.name, found.day) != (entry.name, day):
        return f"{path}: it says that it is {found.name} of {found.day}"
    return found


def _read_again(store: Store, shelf: Shelf, one: Published) -> Manifest | None:
    path = store_names.manifest_path(one.day, one.name)
    data = store.read(path, manifest.MANIFEST_BYTES_MAX)
    if data is not None:
        return manifest.decode(data)  # it was read before, and never changes
    shelf.problems.append(f"{path}: gone while it was read, with batches that are in other files")
    return None


def count_files(store: Store, shelf: Shelf) -> None:
    """Open every published file and compare it with its manifest."""
    shelf.counted = 0
    with ThreadPoolExecutor(_OPENERS) as openers:
        opened = openers.map(
            lambda one: check_file(
                store, one.path, one.codec, one.format, one.size_bytes, one.events
            ),
            shelf.published,
        )
        for one, problem in zip(shelf.published, opened, strict=True):
            if problem is None:
                shelf.removed.append(one.path)
            elif problem:
                shelf.problems.append(problem)
            else:
                shelf.counted += 1
