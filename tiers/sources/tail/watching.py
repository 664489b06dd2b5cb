"""What changes in directories, told as it happens (inotify(7)). Only to be quick: every `rescan`
all files are looked at, and what this does not see is found then.

The kernel merges like events that nobody has read yet, so between two reads there is a pause: a
log that is written to all the time costs one read each pause, and of reading no more than a tenth
of the loop's time is spent, whatever happens in those directories.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from inotify_simple import INotify, flags, parse_events

from tiers.sources.tail.ours import Identity

_CONTENT: Final = flags.MODIFY | flags.ATTRIB  # of a file, by its path
_NAMES: Final = (
    flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.DELETE_SELF
    | flags.MOVE_SELF | flags.UNMOUNT | flags.Q_OVERFLOW
)  # fmt: skip
_ASKED: Final = (_CONTENT | _NAMES | flags.ONLYDIR) & ~(flags.UNMOUNT | flags.Q_OVERFLOW)
_READ_BYTES: Final = 16 << 10  # some 500 events
_PAUSE_S: Final = 0.005
_NAMES_AFTER_S: Final = 0.05  # a name that has just come may be a copy that is being made
# Of a directory that just went or may not be read: the next look says so.
_PASSED_OVER: Final = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP)


class Watching:
    """Of directories, on the running loop. `changed` is told of paths whose content changed, and
    whether names did (or events were lost)."""

    def __init__(self, changed: Callable[[set[str], bool], None]) -> None:
        self.lost = False  # a directory went, or came anew: `watch` is due
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._inotify: INotify | None = None
        self._numbers: dict[str, tuple[Identity, int]] = {}  # by directory: of its watch
        self._paths: dict[int, list[str]] = {}  # one directory may have several
        self._setting: asyncio.Future[None] | None = None  # in a thread: nothing is read meanwhile
        self._timer: asyncio.TimerHandle | None = None
        self._names: asyncio.TimerHandle | None = None  # until it is told that names changed
        self._closed = False

    async def watch(self, directories: Mapping[str, Identity]) -> None:
        """These from now on, and no others. Raises OSError where the system has no more watches;
        those there are stay. One call at a time."""
        self._stop_reading()
        self._setting = self._loop.run_in_executor(None, self._set, directories)
        self._setting.add_done_callback(self._was_set)
        await asyncio.shield(self._setting)

    def close(self) -> None:
        """Idempotent."""
        was, self._closed = self._closed, True
        if self._setting is None and not was:
            self._end()

    def _was_set(self, setting: "asyncio.Future[None]") -> None:
        setting.exception()  # whoever waits has it; nobody need wait
        self._setting = None
        if self._closed:
            self._end()
        elif self._timer is None:
            self._read_on()

    def _stop_reading(self) -> None:
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())

    def _end(self) -> None:
        for timer in (self._timer, self._names):
            if timer is not None:
                timer.cancel()
        self._stop_reading()
        if self._inotify is not None:
            self._inotify.close()

    def _set(self, directories: Mapping[str, Identity]) -> None:
        self.lost = False
        if self._inotify is None:
            self._inotify = INotify(nonblocking=True)
        for path in [path for path, (identity, _) in self._numbers.items()
                     if directories.get(path) != identity]:  # fmt: skip
            self._drop(path)
        for path, identity in directories.items():
            if path not in self._numbers:
                try:
                    number = self._inotify.add_watch(path, _ASKED)
                except OSError as error:
                    if error.errno in _PASSED_OVER:
                        continue
                    raise
                self._numbers[path] = (identity, number)
                self._paths[number] = [*self._paths.get(number, ()), path]

    def _drop(self, path: str) -> None:
        assert self._inotify is not None
        _, number = self._numbers.pop(path)
        left = [other for other in self._paths[number] if other != path]
        if left:
            self._paths[number] = left
            return
        del self._paths[number]
        try:
            self._inotify.rm_watch(number)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it went with its directory
                raise

    def _forget(self, number: int) -> None:
        """The kernel has ended this watch. What is at its paths by now is another directory, even
        where it was given the same inode."""
        for path in self._paths.pop(number, ()):
            del self._numbers[path]
            self.lost = True

    def _readable(self) -> None:
        assert self._inotify is not None
        began_s = time.perf_counter()
        self._stop_reading()
        try:
            events = parse_events(os.read(self._inotify.fileno(), _READ_BYTES))
        except BlockingIOError:
            events = []
        names, paths = False, set()
        for event in events:
            names |= bool(event.mask & _NAMES)
            if event.mask & flags.IGNORED:
                self._forget(event.wd)
            if event.mask & _CONTENT and event.name:
                for directory in self._paths.get(event.wd, ()):
                    paths.add(os.path.join(directory, event.name))  # noqa: PTH118
        if paths:
            self._changed(paths, False)
        if names and self._names is None:
            self._names = self._loop.call_later(_NAMES_AFTER_S, self._named)
        pause_s = max(_PAUSE_S, 10 * (time.perf_counter() - began_s))
        self._timer = self._loop.call_later(pause_s, self._read_on)

    def _named(self) -> None:
        self._names = None
        self._changed(set(), True)

    def _read_on(self) -> None:
        self._timer = None
        if self._inotify is not None and self._setting is None:
            self._loop.add_reader(self._inotify.fileno(), self._readable)
