"""Where followed files may be: globs, directories to watch, names that rotation gives."""
# glob, not Path.glob: that one does not follow symbolic links in `**`, and takes time for objects.
# ruff: noqa: PTH207

import contextlib
import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiers.sources.files import Key

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


def generations(
    name: str, listing: Mapping[Key, str], since_ns: int
) -> Iterator[tuple[int, Key, str]]:
    """Files in a directory that rotation may have made of `name`: with a number or a date added,
    not compressed, written since `since_ns`. Each with its mtime."""
    pattern = re.compile(re.escape(name) + r"[._-]\d[\d._:T-]*")
    for key, path in listing.items():
        if pattern.fullmatch(Path(path).name) and not path.endswith(_COMPRESSED):
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and status.st_mtime_ns >= since_ns:
                    yield status.st_mtime_ns, key, path


class Listings:
    """Directories by inode, each read once per scan."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Key, str] | None] = {}

    def of(self, directory: str) -> dict[Key, str] | None:
        """Path by key; None when there is no such directory. Raises OSError."""
        if directory not in self._known:
            try:
                device = Path(directory).stat().st_dev
                with os.scandir(directory) as entries:
                    self._known[directory] = {(device, e.inode()): e.path for e in entries}
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
