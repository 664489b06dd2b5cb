"""Which files are followed, and whose turn it is to be read.

What happens to a file, and what is done:

    appended to                read on
    new at a glob              read from its beginning, after the one before it at the same path
    renamed (rotated)          found again by inode in its directory, whatever its new name; read
                               to its end; once quiet for `rotate_wait_s` its last line ends too
    rotated twice unseen       generations between (same name with a number or a date added) are
                               found beside it and read too
    deleted, moved away        read to its end through the open descriptor, as above; then
                               let go of, its position deleted
    truncated, written anew,   its size or its fingerprint tells: read from its beginning
    inode given again
    unreadable                 said as trouble, tried again; others flow on

Not thread-safe: the tail source calls it from one thread of its own, since files block.
"""

import contextlib
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tiers.sources.files import Block, FollowedFile, Key, Position, pack_key, unpack_key
from tiers.sources.places import Found, Listing, Listings, is_generation, match, on_the_way
from tiers.sources.problems import Problems

FORGET_AFTER_S: Final = 86_400.0  # a file whose directory is missing: it may be unmounted
STARTED: Final = b"started"  # the position that says: this source has looked for files before


@dataclass(frozen=True, slots=True)
class FollowOptions:
    patterns: Sequence[str]
    start_at_end: bool
    rescan_s: float
    rotate_wait_s: float
    open_files_max: int
    block_size_max: int
    event_size_max: int


@dataclass(slots=True)
class Step:
    """What one call of `advance` gave. With neither block nor positions there is nothing to do
    until `wake_at`, or for ever when `finished`."""

    block: Block | None = None
    positions: dict[bytes, bytes | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    trouble: str = ""
    wake_at: float = 0.0
    looked: bool = False  # at all files and directories
    finished: bool = False


class Following:
    def __init__(self, options: FollowOptions, positions: Mapping[bytes, bytes]) -> None:
        self._options = options
        self._patterns = [os.path.abspath(pattern) for pattern in options.patterns]  # noqa: PTH100
        self.files: dict[Key, FollowedFile] = {}
        self._by_path: dict[str, FollowedFile] = {}
        self._displaced: list[FollowedFile] = []  # not at their path, and the newest that was
        self._ready: OrderedDict[Key, None] = OrderedDict()  # have more, in order of their turn
        self._open: OrderedDict[Key, FollowedFile] = OrderedDict()  # least recently read first
        self._leaving: dict[Key, FollowedFile] = {}  # moved or gone, not done with yet
        self._missing: dict[Key, float] = {}  # since when, of files whose directory is missing
        self._latest: dict[str, Key] = {}  # the newest file that was at a path
        self._problems = Problems()
        self._draining = False
        self._now = self._scan_at = self._scanned_at = self._scan_cost_s = 0.0
        self._step = Step()
        # "end" is for the files there are when a source is new. Later ones are new logs.
        self._skip = options.start_at_end and not positions
        self._new = STARTED not in positions
        self._first_look = True
        self._restore(positions)

    # -- the one entry --------------------------------------------------------------------

    def advance(self, now: float, woken: Iterable[str], look: bool, draining: bool) -> Step:
        """Look around if it is time (or `look`, soon), and read the next block. `now` is
        monotonic seconds. `woken` are paths that changed."""
        self._step = Step()
        self._now = now
        if draining and not self._draining:
            self._draining, self._scan_at = True, now
        for path in woken:
            if file := self._by_path.get(path):
                self._ready.setdefault(file.key)
        if look:
            self._scan_at = min(self._scan_at, self._scanned_at + 10 * self._scan_cost_s)
        if now >= self._scan_at:
            self._scan(now)
        step = self._step
        step.block = self._next_block(now) or self._next_ending(now)
        step.trouble = self._problems.line()
        step.finished = draining and not step.block and not step.positions
        if not step.wake_at:
            step.wake_at = self._scan_at
        return step

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def directories(self, limit: int) -> list[str]:
        """Directories to watch, at most `limit`: of the files, and those on the way to globs, so
        that directories that appear later are noticed."""
        found: dict[str, None] = {}
        for pattern in self._patterns:
            for directory in on_the_way(pattern):
                found.setdefault(directory)
                if len(found) >= limit:
                    return list(found)
        for file in self.files.values():  # behind symbolic links
            directory = str(Path(file.real).parent)
            if len(found) < limit and Path(directory).is_dir():
                found.setdefault(directory)
        return list(found)

    # -- reading --------------------------------------------------------------------------

    def _next_block(self, now: float) -> Block | None:
        """Round robin, a block each, over files that have more."""
        waiting = 0
        while len(self._ready) > waiting:
            key, _ = self._ready.popitem(last=False)
            file = self.files.get(key)
            if file is None:
                continue
            if file.after is not None and file.after in self._ready:
                self._ready[key] = None  # its predecessor is read to its end first
                waiting += 1
                continue
            waiting = 0
            with self._problems.of(file.path):
                if not self._opened(file):
                    continue
                if file.end is not None and file.offset >= file.end and not file.leaving:
                    continue
                block = file.read(self._options.block_size_max, self._options.event_size_max)
                if block:
                    file.quiet_since = now
                    self._ready[key] = None
                    return self._counted(block)
                if file.leaving:
                    self._leaving[key] = file
        return None

    def _next_ending(self, now: float) -> Block | None:
        """The last line of a file that is done; files that are done are let go of."""
        if self._draining:
            for file in list(self.files.values()):
                if file.end is not None and file.offset < file.end:
                    with self._problems.of(file.path):
                        block = self._unfinished(file)
                        file.end = file.offset
                        if block:
                            return block
        for key, file in list(self._leaving.items()):
            quiet_until = file.quiet_since + self._options.rotate_wait_s
            if now < quiet_until and not self._draining:
                self._step.wake_at = min(self._step.wake_at or self._scan_at, quiet_until)
                continue
            with self._problems.of(file.path):
                block = self._unfinished(file)
                if block:
                    file.quiet_since = now  # let go of when it stays quiet
                    return block
            self._leaving.pop(key, None)
            self._release(file)
            if file.gone:
                self._forget(file)
        return None

    def _unfinished(self, file: FollowedFile) -> Block | None:
        if not self._opened(file):
            return None
        options = self._options
        block = file.read(options.block_size_max, options.event_size_max)
        return self._counted(block or file.read_unfinished(options.event_size_max))

    def _counted(self, block: Block | None) -> Block | None:
        if block:
            self._step.counts.update(lines_split=block.split, lines_ended=int(block.ended))
        return block

    def _opened(self, file: FollowedFile) -> bool:
        """Open and looked at. A file that turns out to be another is begun anew."""
        held = file.descriptor is not None
        if not held:
            while len(self._open) >= self._options.open_files_max and self._close_one():
                pass
            if not file.open():
                self._scan_at = self._now  # there is another file at its path by now
                return False
        self._open[file.key] = file
        self._open.move_to_end(file.key)
        if file.look():
            return True
        at_glob = file.path in self._by_path
        if not at_glob and not held and not is_generation(file.path, file.real):
            self._release(file)  # its inode was given to another file by now
            self._forget(file)
            self._scan_at = self._now  # which may be one to follow in its own right
            return False
        self._step.counts["files_truncated"] += 1
        if at_glob:
            self._copied(file)
            file.first_path, file.moved = file.path, False
            file.real = os.path.realpath(file.path)
        file.restart()
        return True

    def _close_one(self) -> bool:
        """Close the least recently read file that has a path to open it again by."""
        for file in self._open.values():
            if not file.gone:
                self._release(file)
                return True
        return False

    def _release(self, file: FollowedFile) -> None:
        file.close()
        self._open.pop(file.key, None)

    def _forget(self, file: FollowedFile) -> None:
        self.files.pop(file.key, None)
        self._ready.pop(file.key, None)
        self._leaving.pop(file.key, None)
        self._missing.pop(file.key, None)
        self._step.positions[pack_key(file.key)] = None
        if self._latest.get(file.first_path) == file.key:
            del self._latest[file.first_path]

    # -- looking around -------------------------------------------------------------------

    def _scan(self, now: float) -> None:
        began = time.perf_counter()
        self._problems.clear()
        found = match(self._patterns, self._problems.note)
        self._by_path, self._displaced = {}, []
        listings = Listings()
        for file in sorted(self.files.values(), key=lambda file: file.mtime_ns):
            if file.key in found:
                self._seen(file, found[file.key], now)
            else:
                self._look_for(file, listings, now)
        for file in self._displaced:  # once all inodes that were given again are known
            self._between(file, found, listings)
        for key, at in sorted(found.items(), key=lambda item: item[1].status.st_mtime_ns):
            if key not in self.files:
                self._adopt(key, at.paths[0], at.paths[0], skip=self._skip)
            if key in self.files:
                file = self.files[key]
                self._by_path.update(dict.fromkeys((*at.paths, file.real), file))
        if self._draining:
            for file in self.files.values():
                file.end = max(file.size, file.offset)
        if self._new:
            self._step.positions[STARTED] = b"1"
        self._new = self._skip = self._first_look = False
        # Never more than a tenth of the time, however many files there are.
        self._scanned_at, self._step.looked = now, True
        self._scan_cost_s = time.perf_counter() - began
        self._scan_at = now + max(self._options.rescan_s, 10 * self._scan_cost_s)

    def _seen(self, file: FollowedFile, at: Found, now: float) -> None:
        if file.path not in at.paths:
            self._moved(file, at.paths[0], now)
        file.gone = False
        self._missing.pop(file.key, None)
        self._changed(file, at.status)

    def _changed(self, file: FollowedFile, status: os.stat_result) -> None:
        """Ready if it is not as it was when last read."""
        if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
            self._ready.setdefault(file.key)
            file.size = status.st_size
        elif file.descriptor is None and file.behind:
            self._ready.setdefault(file.key)

    def _moved(self, file: FollowedFile, path: str, now: float) -> None:
        file.path, file.moved, file.gone, file.quiet_since = path, True, False, now
        if file.descriptor is not None or file.behind:
            self._leaving[file.key] = file
        self._ready.setdefault(file.key)

    def _look_for(self, file: FollowedFile, listings: Listings, now: float) -> None:
        """A followed file that is at no glob: renamed, deleted, or its directory is missing."""
        try:
            listing = listings.of(file.directory)
        except OSError as error:
            self._problems.note(file.directory, error)
            if file.descriptor is not None:
                self._ready.setdefault(file.key)
            return
        if listing is None:
            since = self._missing.setdefault(file.key, now)
            if file.descriptor is None and now - since < FORGET_AFTER_S:
                return
        self._missing.pop(file.key, None)
        path = listing.path(file.key) if listing else None
        here = path is not None and (path == file.path or self._recognized(file, path))
        if self._first_look or self._latest.get(file.first_path) == file.key:
            self._displaced.append(file)
        if path is not None and here:
            if path != file.path:
                self._moved(file, path, now)
            with contextlib.suppress(OSError):
                self._changed(file, Path(path).stat())
        elif file.descriptor is None:
            self._forget(file)
        else:
            if not file.gone:
                file.gone, file.quiet_since = True, now
            self._leaving[file.key] = file
            self._ready.setdefault(file.key)

    def _recognized(self, file: FollowedFile, path: str) -> bool:
        """Whether the file that was found by its inode alone is the one that was followed."""
        if file.descriptor is not None:
            return True  # nobody else can be given the inode meanwhile
        if not file.head.length:
            return is_generation(path, file.real)
        before, file.path = file.path, path
        same = True  # and if it cannot be read now, its position is kept
        with self._problems.of(file.path):
            same = self._opened(file)
        file.path = before
        return same

    def _between(self, file: FollowedFile, found: Mapping[Key, Found], listings: Listings) -> None:
        """Generations that came and were rotated away while nobody looked: those written after
        the last one that was read."""
        directory, name = os.path.split(file.real)
        with contextlib.suppress(OSError):
            listing = listings.of(directory) if file.mtime_ns else None
            for _, key, path in listing.generations(name, file.mtime_ns) if listing else ():
                if key not in self.files and key not in found:
                    self._adopt(key, path, file.first_path, original=file)

    def _copied(self, file: FollowedFile) -> None:
        """A file was truncated: if it was copied before, what was not read yet is in the copy."""
        directory, name = os.path.split(file.real)
        # It is being read now: not one to close for the limit of open files.
        self._open.pop(file.key)
        try:
            for _, key, path in Listing(directory).generations(name, 0):
                if key not in self.files:
                    self._adopt(key, path, file.first_path, original=file, copies_only=True)
        finally:
            self._open[file.key] = file

    def _adopt(
        self,
        key: Key,
        path: str,
        first_path: str,
        *,
        skip: bool = False,
        original: FollowedFile | None = None,
        copies_only: bool = False,
    ) -> None:
        """Follow a file that was not followed. `original`: the one it was rotated away after, or
        copied from."""
        real = original.real if original else os.path.realpath(path)
        file = FollowedFile(key, path, first_path, real)
        with self._problems.of(file.path):
            if not self._opened(file):
                return
            if skip:
                file.skip_to_end(self._options.event_size_max)
                self._step.positions[pack_key(key)] = file.position()
            if original is not None:
                if not file.continue_copy(original) and copies_only:
                    self._release(file)
                    return
                file.moved, file.quiet_since = True, self._now
            file.after = self._latest.get(first_path)
            self._latest[first_path] = key
            self.files[key] = file
            self._ready.setdefault(key)

    def _restore(self, positions: Mapping[bytes, bytes]) -> None:
        for name, value in positions.items():
            if name != STARTED:
                file = FollowedFile.restored(unpack_key(name), Position.unpack(value))
                self.files[file.key] = file
                self._latest.setdefault(file.first_path, file.key)
        for file in sorted(self.files.values(), key=lambda file: file.mtime_ns):
            self._latest[file.first_path] = file.key
