"""Closing and forgetting days (commit.md, "Forgetting a day"): no store grows for ever.

A day whose newest entry is older than the retention is closed by a mark; what still comes for it
goes to its next generation. One that has been closed for longer than the retention is moved to
the trash in one rename and deleted there. Any sink does any of it, at any time, as often as it
likes: each step is atomic or can be repeated. All times are the store's.
"""

import logging
from typing import NamedTuple

from tiers.contracts import Clock, Store
from tiers.core.commit import store_names
from tiers.core.commit.answers import Listed, Moved

_log = logging.getLogger(__name__)
_ROOMS = ("tmp", "manifests", "void", "claims")


class Days(NamedTuple):
    """Days with their generations."""

    closed: set[str]
    forgotten: set[str]  # of these, the ones of which only the mark is left


def tend_days(store: Store, sink: str, retention_ms: int, clock: Clock) -> Days:
    """Close and forget what is old enough; how the days are then. Blocks."""
    now_ms = store.now_ms()
    closed = closed_days(store)
    there: set[str] = set()
    for entry in _entries(store, store_names.OWN):
        day = entry.name
        if not entry.is_directory or not store_names.is_day(day):
            continue
        there.add(day)
        # A mark's own time is not enough to remove a day: somebody may have put it there.
        since_ms = now_ms - retention_ms
        if closed.get(day, 0) >= since_ms or _is_young(store, entry, since_ms):
            continue
        if day in closed:
            _forget(store, day, clock)
            there.remove(day)
        elif _close(store, sink, day, clock):
            closed[day] = now_ms
    for entry in _entries(store, store_names.TRASH):
        store.delete(f"{store_names.TRASH}/{entry.name}")
    return Days(set(closed), set(closed) - there)


def closed_days(store: Store) -> dict[str, int]:
    """Days and generations that are closed, and when each mark was made. Blocks."""
    return {
        one.name: one.modified_ms
        for one in _entries(store, store_names.CLOSED)
        if not one.is_directory and store_names.is_day(one.name)
    }


def _entries(store: Store, path: str) -> list[Listed]:
    return store.list(path) or []


def _is_young(store: Store, day: Listed, since_ms: int) -> bool:
    """Whether anything in a day is so new: also what was moved away from it changed a directory."""
    if day.modified_ms >= since_ms:
        return True
    rooms = _entries(store, f"{store_names.OWN}/{day.name}")
    if any(room.modified_ms >= since_ms for room in rooms):
        return True  # as of every day in use: its files need no listing, there are thousands
    return any(
        one.modified_ms >= since_ms
        for room in rooms
        if room.name in _ROOMS
        for one in _entries(store, f"{store_names.OWN}/{day.name}/{room.name}")
    )


def _close(store: Store, sink: str, day: str, clock: Clock) -> bool:
    """A mark that is there was moved there: its existence says all."""
    staged = store_names.staged_mark_path(clock.number())
    store.write(staged, [f"{sink}\n".encode()])
    target = store_names.closed_path(day)
    if (moved := store.move(staged, target)) is Moved.NO_PARENT:
        store.make_parents(target)
        moved = store.move(staged, target)
    if moved is Moved.DONE:
        _log.info("day %s is closed: its newest entry is older than the retention", day)
    elif moved is Moved.TARGET_THERE:
        store.delete(staged)
        return store.length(target) is not None  # a file, and durable
    return moved is Moved.DONE


def _forget(store: Store, day: str, clock: Clock) -> None:
    target = store_names.trash_path(day, clock.number())
    source = f"{store_names.OWN}/{day}"
    if store.move(source, target) is Moved.NO_PARENT:
        store.make_parents(target)
        store.move(source, target)
    _log.info("day %s is forgotten: it has been closed for longer than the retention", day)
