"""The walk: which files are at the globs now.

Each directory is visited once, by device and inode, so links in a circle are walked once round.
Real directories come before links to directories: a file that can be reached by both is known
by its own path. A link to a file, or to a directory where a wildcard found it, is followed where it
is root's, or its owner owns what it leads to as well: who may write beside a log must not make us
read for him what he may not (`follow_links`: always, or never). Directories that a pattern names in
full are the administrator's.
"""

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from glob import has_magic
from typing import Final

from tiers.sources.tail.door import DirectoryEntry, Door, Status
from tiers.sources.tail.ours import Identity, Ours

WALK_S_MAX: Final = 30.0
_ANY: Final = "**"


class Stopped(Exception):
    """The source was told to stop."""


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file at the globs, as stat saw it."""

    paths: list[str]
    status: Status


@dataclass(slots=True)
class Walked:
    """What a walk saw."""

    files: dict[Identity, Found] = field(default_factory=dict)
    directories: dict[str, Identity] = field(default_factory=dict)  # on the way, in its order
    problems: list[tuple[str, OSError | str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)  # what is worth a word, no more
    complete: bool = True  # its time was enough

    def problem(self, path: str, why: OSError | str) -> None:
        self.problems.append((path, why))

    def remark(self, path: str, text: str) -> None:
        self.remarks.append((path, text))


def watched(
    door: Door, on_the_way: Mapping[str, Identity], files: Iterable[str], limit: int
) -> dict[str, Identity]:
    """At most `limit` directories, those on the way to globs first, then those of files."""
    found = dict(list(on_the_way.items())[:limit])
    for file in files:  # behind symbolic links
        directory = os.path.dirname(file)  # noqa: PTH120
        if len(found) >= limit:
            break
        if directory not in found:
            try:
                status = door.stat(directory)
            except OSError:
                continue
            if status.is_directory:
                found[directory] = (status.device, status.inode)
    return found


class Pattern:
    """A glob, absolute. `**` stands for any directories; names that begin with a dot are matched
    only by patterns that do."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = [part for part in text.split("/") if part]
        self._names = [_name(part) if has_magic(part) else None for part in self.parts]

    def matcher(self, at: int) -> "re.Pattern[str] | None":
        """None for a part that is a plain name."""
        return self._names[at]

    def matches(self, path: str) -> bool:
        """Whether a file at this path is at the glob, whatever the disk says now."""
        return self._rest([part for part in path.split("/") if part], 0)

    def _rest(self, names: Sequence[str], at: int) -> bool:
        if at == len(self.parts):
            return not names
        if self.parts[at] == _ANY:
            if at + 1 == len(self.parts):
                return bool(names)
            return any(
                self._rest(names[skip:], at + 1)
                for skip in range(len(names))
                if not any(name.startswith(".") for name in names[:skip])
            )
        if not names or not self._is(names[0], at):
            return False
        return self._rest(names[1:], at + 1)

    def _is(self, name: str, at: int) -> bool:
        wanted = self._names[at]
        return name == self.parts[at] if wanted is None else fits(wanted, name)


def _name(part: str) -> "re.Pattern[str]":
    part = "*" if part == _ANY else part
    hidden = "" if part.startswith(".") else r"(?!\.)"
    return re.compile(hidden + translate(part))


def fits(wanted: "re.Pattern[str]", name: str) -> bool:
    return wanted.match(name) is not None


class Walk:
    """One look at all globs. Raises only `Stopped`."""

    def __init__(
        self,
        door: Door,
        patterns: Sequence[Pattern],
        follow_links: bool | None,
        clock: Callable[[], float],
        go_on: Callable[[], None],
        ours: Ours | None = None,
    ) -> None:
        self._door = door
        self._patterns = patterns
        self._follow_links = follow_links
        self._ours = ours
        self._clock = clock
        self._go_on = go_on
        self._until = clock() + WALK_S_MAX
        self._listed: tuple[Identity, list[DirectoryEntry]] = (0, 0), []
        self._matched = False  # the present pattern, by something
        self.walked = Walked()

    def run(self) -> Walked:
        for pattern in self._patterns:
            self._matched = False
            if not self._all_of(pattern):
                break
            if not self._matched:
                self.walked.remark(pattern.text, f"no file is at {pattern.text}")
        return self.walked

    def _all_of(self, pattern: Pattern) -> bool:
        """False when the time is over."""
        visited: set[tuple[int, Identity]] = set()
        here: deque[tuple[str, int]] = deque([("/", 0)])
        linked: deque[tuple[str, int]] = deque()  # after all that is reached without links
        while here or linked:
            path, at = (here or linked).popleft()
            for deeper, part, is_link in self._step(pattern, path, at, visited):
                (linked if is_link else here).append((deeper, part))
            self._go_on()
            if self._clock() > self._until:
                self.walked.complete = False
                self.walked.problem(
                    pattern.text,
                    f"looking for {pattern.text} took {WALK_S_MAX:g} s and was given up: "
                    "fewer directories below it, please",
                )
                return False
        return True

    def _step(
        self, pattern: Pattern, directory: str, at: int, visited: set[tuple[int, Identity]]
    ) -> Iterator[tuple[str, int, bool]]:
        """Directories to visit from this one, each with the part of the pattern that is next."""
        try:
            status = self._door.stat(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            self.walked.problem(directory, error)
            return
        here = (status.device, status.inode)
        if not status.is_directory or (at, here) in visited:
            return
        visited.add((at, here))
        last = at + 1 == len(pattern.parts)
        wanted = pattern.matcher(at)
        if wanted is None:
            path = _join(directory, pattern.parts[at])
            if last:
                if self._is_read(directory, here):
                    self._file(path, False)
            elif self._is_there(path, directory, here):
                yield path, at + 1, False
            return
        if not self._is_read(directory, here):
            return
        anywhere = pattern.parts[at] == _ANY
        if anywhere and not last:
            yield from self._step(pattern, directory, at + 1, visited)
        for name, _, is_directory, is_link in self._entries(directory, here):
            if not fits(wanted, name):
                continue
            self._go_on()
            path = _join(directory, name)
            leads = self._leads_to_directory(path, wants_file=last) if is_link else is_directory
            if leads and (anywhere or not last):
                yield path, at if anywhere else at + 1, is_link
            elif last and leads is False:
                self._file(path, is_link)

    def _is_read(self, directory: str, here: Identity) -> bool:
        """Whether the files of a directory are; then it is worth a watch, too."""
        if self._ours and (root := self._ours.root_of(directory, here)):
            self.walked.problem(
                root,
                f"{root} is where a sink of this agent writes: what is there is not read, since it "
                "would be published again, for ever (write elsewhere, or name other files)",
            )
            return False
        self.walked.directories.setdefault(directory, here)
        return True

    def _is_there(self, path: str, directory: str, here: Identity) -> bool:
        """A directory that is named in the pattern; else the one above it is worth a watch."""
        try:
            if self._door.stat(path).is_directory:
                return True
            self.walked.problem(path, f"{path} is no directory")
        except FileNotFoundError:
            pass
        except OSError as error:
            self.walked.problem(path, error)
        self.walked.directories.setdefault(directory, here)
        return False

    def _entries(self, directory: str, here: Identity) -> list[DirectoryEntry]:
        """Kept for a moment: `**` asks twice."""
        if self._listed[0] != here:
            try:
                self._listed = here, self._door.entries(directory)
            except OSError as error:
                self._listed = here, []
                if not isinstance(error, FileNotFoundError):
                    self.walked.problem(directory, error)
        return self._listed[1]

    def _leads_to_directory(self, link: str, *, wants_file: bool) -> bool | None:
        """None: it leads nowhere that is wanted, or is not to be followed."""
        if self._follow_links is False:
            return None
        try:
            own, target = self._door.lstat(link), self._door.stat(link)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.walked.problem(link, error)
            return None
        if not (target.is_directory or wants_file):
            return None
        if self._follow_links is None and own.owner not in (0, target.owner):
            self.walked.problem(
                link,
                f"{link} is a link to what its owner does not own, and is not followed "
                "(follow_links = true follows it)",
            )
            return None
        return target.is_directory

    def _file(self, path: str, is_link: bool) -> None:
        """Take what is at the path, if it is a file. `is_link`: known to be one to follow."""
        try:
            status = self._door.stat(path) if is_link else self._door.lstat(path)
            if status.is_link:
                if self._leads_to_directory(path, wants_file=True) is None:
                    return
                status = self._door.stat(path)
        except FileNotFoundError:
            return  # it just went, or is a link to nothing
        except OSError as error:
            self.walked.problem(path, error)
            return
        self._matched = True
        if status.is_regular:
            found = self.walked.files.setdefault((status.device, status.inode), Found([], status))
            if path not in found.paths:
                found.paths.append(path)
        elif not status.is_directory:
            self.walked.remark(path, f"{path} is no regular file ({_kind(status)})")


def _kind(status: Status) -> str:
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(status.mode), "of another kind")


def _join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


class Listing:
    """The names in one directory. Raises OSError; one that is missing has no names."""

    def __init__(self, door: Door, directory: str) -> None:
        self.directory = directory
        self.missing = False
        try:
            self.names = {entry.name: entry.inode for entry in door.entries(directory)}
        except (FileNotFoundError, NotADirectoryError):
            self.names, self.missing = {}, True
        self.by_inode = {inode: name for name, inode in self.names.items()}


class Listings:
    """Directories, each read once per look."""

    def __init__(self, door: Door, problem: Callable[[str, OSError], None]) -> None:
        self._door = door
        self._problem = problem
        self._known: dict[str, Listing | None] = {}

    def of(self, directory: str) -> Listing | None:
        """None for one that cannot be read: what is in it is unknown."""
        if directory not in self._known:
            try:
                self._known[directory] = Listing(self._door, directory)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG):
                    self._problem(directory, error)
                self._known[directory] = None
        return self._known[directory]


def absolute(pattern: str) -> Pattern:
    return Pattern(os.path.abspath(pattern))  # noqa: PTH100 keeps `**` and links as they are
