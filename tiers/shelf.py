"""What a store holds, as its manifests say: what `tiers audit` reads of it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tiers.core import layout, manifest
from tiers.core.manifest import Manifest
from tiers.counting import check_file
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.days import closed_days
from tiers.sinks.stores.store import Listed, Store

_OPENERS: Final = 2  # each has one published file in memory
_READERS: Final = 8  # manifests are read side by side: each is a round trip in HDFS


@dataclass(slots=True)
class Shelf:
    """What a store holds, as its manifests say."""

    where: str
    published: list[Manifest] = field(default_factory=list)
    pending: int = 0
    void: int = 0
    forgotten: set[str] = field(default_factory=set)  # days whose manifests have been removed
    counted: int | None = None  # files opened and found as their manifests say; None: not asked
    removed: list[str] = field(default_factory=list)  # published files that somebody took away
    problems: list[str] = field(default_factory=list)  # from which nothing can be concluded


def read_store(store: Store) -> Shelf:
    """All manifests of a store, and what became of their files."""
    shelf = Shelf(store.where())
    try:
        listed = store.list(layout.OWN) or []
        days = [entry.name for entry in listed if entry.is_directory and layout.is_day(entry.name)]
        shelf.forgotten = set(closed_days(store)) - set(days)
        with ThreadPoolExecutor(_READERS) as readers:
            for day in days:
                _read_day(store, day, shelf, readers)
    except (StoreUnavailable, StoreRefused) as error:
        shelf.problems.append(f"cannot be read: {error}")
    return shelf


def _read_day(store: Store, day: str, shelf: Shelf, readers: ThreadPoolExecutor) -> None:
    # In this order: see the head of this file.
    entries = store.list(layout.manifest_path(day, "").rstrip("/")) or []
    tmp = _names(store.list(layout.tmp_path(day, "").rstrip("/")))
    void = _names(store.list(layout.void_path(day, "").rstrip("/")))
    published = []
    for entry in entries:
        if entry.name in tmp:
            shelf.pending += 1
        elif entry.name in void:
            shelf.void += 1
        else:
            published.append(entry)
    for found in readers.map(lambda entry: _read_manifest(store, day, entry), published):
        if isinstance(found, str):
            shelf.problems.append(found)
        else:
            shelf.published.append(found)


def count_files(store: Store, shelf: Shelf) -> None:
    """Open every published file and compare it with its manifest."""
    shelf.counted = 0
    with ThreadPoolExecutor(_OPENERS) as openers:
        opened = openers.map(partial(check_file, store), shelf.published)
        for one, problem in zip(shelf.published, opened, strict=True):
            if problem is None:
                shelf.removed.append(one.path)
            elif problem:
                shelf.problems.append(problem)
            else:
                shelf.counted += 1


def _names(listed: list[Listed] | None) -> set[str]:
    return {entry.name for entry in listed or []}


def _read_manifest(store: Store, day: str, entry: Listed) -> Manifest | str:
    path = layout.manifest_path(day, entry.name)
    if entry.size_bytes > manifest.MANIFEST_BYTES_MAX:
        return f"{path}: {entry.size_bytes} bytes are too many for a manifest"
    data = store.read(path)
    if data is None:
        return f"{path}: gone while it was read"
    try:
        found = manifest.decode(data)
    except StoreRefused as error:
        return f"{path}: {error}"
    if (found.name, found.day) != (entry.name, day):
        return f"{path}: it says that it is {found.name} of {found.day}"
    return found
