"""Where followed files may be: globs, directories to watch, names that rotation gives."""
# glob, not Path.glob: that one does not follow symbolic links in `**`, and takes time for objects.
# ruff: noqa: PTH207

import contextlib
import glob
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiers.sources.files import Key

_GENERATION: Final = re.compile(r"[._-]\d[\d._:T-]*")
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".Z", ".lz4")


@dataclass(frozen=True, slots=True)
class Found:
    """A file at a glob, as stat saw it."""

    paths: list[str]
    status: os.stat_result


def match(patterns: Sequence[str], problem: Callable[[str, OSError], None]) -> dict[Key, Found]:
    """Regular files at the globs (absolute), each once, however many paths lead to it."""
    found: dict[Key, Found] = {}
    for pattern in patterns:
        for path in glob.iglob(pattern, recursive=True):
            try:
                status = Path(path).stat()
            except FileNotFoundError:
                continue  # it just went, or is a symbolic link to nothing
            except OSError as error:
                problem(path, error)
                continue
            if stat.S_ISREG(status.st_mode):
                at = found.setdefault((status.st_dev, status.st_ino), Found([], status))
                at.paths.append(path)
    return found


def is_generation(path: str, of: str) -> bool:
    """Whether rotation may have made `path` of `of`: with a number or a date added, and not
    compressed."""
    name, base = Path(path).name, Path(of).name
    if not name.startswith(base) or name.endswith(_COMPRESSED):
        return False
    return _GENERATION.fullmatch(name, len(base)) is not None


class Listing:
    """The entries of one directory."""

    def __init__(self, directory: str) -> None:
        """Raises OSError."""
        device = Path(directory).stat().st_dev
        with os.scandir(directory) as entries:
            self._names = sorted((entry.name, (device, entry.inode())) for entry in entries)
        self._paths = {key: f"{directory.rstrip('/')}/{name}" for name, key in self._names}

    def path(self, key: Key) -> str | None:
        return self._paths.get(key)

    def generations(self, name: str, since_ns: int) -> list[tuple[int, Key, str]]:
        """Files that rotation may have made of `name`, written since `since_ns`. Each with its
        mtime, and in its order."""
        young = []
        for at in range(bisect_left(self._names, (name,)), len(self._names)):
            found, key = self._names[at]
            if not found.startswith(name):
                break
            if is_generation(found, name):
                path = self._paths[key]
                with contextlib.suppress(OSError):
                    status = os.lstat(path)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime_ns >= since_ns:
                        young.append((status.st_mtime_ns, key, path))
        return sorted(young)


class Listings:
    """Directories, each read once per look."""

    def __init__(self) -> None:
        self._known: dict[str, Listing | None] = {}

    def of(self, directory: str) -> Listing | None:
        """None when there is no such directory. Raises OSError."""
        if directory not in self._known:
            try:
                self._known[directory] = Listing(directory)
            except (FileNotFoundError, NotADirectoryError):
                self._known[directory] = None
        return self._known[directory]


def on_the_way(pattern: str) -> Iterator[str]:
    """Directories that exist, from the (absolute) pattern's fixed part down to its files."""
    parts = Path(pattern).parts[:-1]
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    base = Path(*parts[:fixed])
    while not base.is_dir():
        base = base.parent
    yield str(base)
    for end in range(fixed + 1, len(parts) + 1):
        wild = os.path.join(*parts[:end], "")  # noqa: PTH118 the slash at its end: only directories
        for directory in glob.iglob(wild, recursive=True):
            yield directory.rstrip("/")
