"""A disk as a power cut leaves it, from the record of what a process did to files (record.c).

What a sync covers is there. Of what none covers any part may be there: a write wholly, not at
all, or some of its sectors; of names in a directory the first few changes, or any. A rename is
one change, as on every journaling file system, and sure once both directories are synced.
"""

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
PAGE_BYTES = 4096
_HEAD = struct.Struct("<cQqI")


class Entry(NamedTuple):
    """One line of the record."""

    op: str
    inode: int
    at: int
    data: bytes


def entries(record: Path) -> list[Entry]:
    found = []
    data = record.read_bytes()
    at = 0
    while at + _HEAD.size <= len(data):
        op, inode, place, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + size > len(data):
            break
        found.append(Entry(op.decode(), inode, place, data[at : at + size]))
        at += size
    return found


@dataclass(eq=False)
class File:
    """`synced` is sure, `open` are the writes and truncations since, in order."""

    synced: bytearray = field(default_factory=bytearray)
    open: list[Entry] = field(default_factory=list)

    def sync(self) -> None:
        for one in self.open:
            _apply(self.synced, one)
        self.open.clear()


@dataclass(eq=False)
class Folder:
    names: dict[str, "File | Folder"] = field(default_factory=dict)  # that are sure


Names = dict[str, "File | Folder"]
Place = tuple[Folder, str]


@dataclass(eq=False)
class Rename:
    """A change of names that is not sure yet: `what` comes to `to` and goes from `gone`."""

    what: "File | Folder"
    to: Place | None
    gone: Place | None
    unsynced: set[int]  # ids of folders whose sync it still needs


def _apply(data: bytearray, one: Entry) -> None:
    if one.op == "T":
        del data[one.at :]
        data.extend(bytes(one.at - len(data)))
    else:
        data.extend(bytes(max(0, one.at - len(data))))
        data[one.at : one.at + len(one.data)] = one.data


class Disk:
    """Take entries one by one; `image` at any time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.top = Folder()
        self._paths: dict[str, File | Folder] = {root: self.top}  # as the process sees them
        self._inodes: dict[int, File | Folder] = {}
        self._changes: list[Rename] = []

    def take(self, one: Entry) -> None:
        match one.op:
            case "C" | "N":
                node: File | Folder = File() if one.op == "C" else Folder()
                path = one.data.decode()
                self._inodes[one.inode] = node
                self._change(node, to=path)
                self._paths[path] = node
            case "R":
                old, new = one.data.decode().split("\0")
                node = self._paths[old]
                self._change(node, to=new, gone=old)
                self._move(old, new)
            case "U":
                path = one.data.decode()
                if path in self._paths:  # and no socket
                    self._change(self._paths.pop(path), gone=path)
            case "S":
                self._sync(self._inodes.get(one.inode, self.top))
            case "D":
                found = self._file(one.inode)
                _apply(found.synced, one)
            case _:
                self._file(one.inode).open.append(one)

    def _file(self, inode: int) -> File:
        found = self._inodes[inode]
        assert isinstance(found, File)
        return found

    def _folder(self, path: str) -> Place:
        above, _, name = path.rpartition("/")
        folder = self._paths[above]
        assert isinstance(folder, Folder)
        return folder, name

    def _move(self, old: str, new: str) -> None:
        for path in [p for p in self._paths if p == old or p.startswith(old + "/")]:
            self._paths[new + path.removeprefix(old)] = self._paths.pop(path)

    def _change(self, what: "File | Folder", *, to: str = "", gone: str = "") -> None:
        target = self._folder(to) if to else None
        source = self._folder(gone) if gone else None
        folders = {id(place[0]) for place in (target, source) if place}
        self._changes.append(Rename(what, target, source, folders))

    def _sync(self, node: "File | Folder") -> None:
        if isinstance(node, File):
            node.sync()
            return
        for change in self._changes:
            change.unsynced.discard(id(node))
        while self._changes and not self._changes[0].unsynced:
            _rename(lambda folder: folder.names, self._changes.pop(0))

    def image(self, directory: Path, rng: random.Random, chance: float) -> None:
        """Writes what is left. `chance` is how likely something that is not sure is there."""
        names: dict[int, Names] = {}

        def of(folder: Folder) -> Names:
            return names.setdefault(id(folder), dict(folder.names))

        in_order = rng.random() < 0.5
        broken_off = False
        for change in self._changes:
            there = not broken_off and rng.random() < chance
            broken_off = broken_off or (in_order and not there)
            if there or not change.unsynced:
                _rename(of, change)
        _write(self.top, directory, of, rng, chance)


def _rename(of: Callable[[Folder], Names], change: Rename) -> None:
    if change.gone is not None:
        folder, name = change.gone
        if of(folder).get(name) is change.what:
            del of(folder)[name]
    if change.to is not None:
        folder, name = change.to
        of(folder)[name] = change.what


def _write(
    folder: Folder,
    directory: Path,
    of: Callable[[Folder], Names],
    rng: random.Random,
    chance: float,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, node in of(folder).items():
        if isinstance(node, Folder):
            _write(node, directory / name, of, rng, chance)
        else:
            (directory / name).write_bytes(_content(node, rng, chance))


def _content(file: File, rng: random.Random, chance: float) -> bytes:
    data = bytearray(file.synced)
    torn = 0.3 if 0 < chance < 1 else 0.0
    for one in file.open:
        drawn = rng.random()
        if drawn < chance:
            _apply(data, one)
        elif drawn < chance + torn and one.op == "W":
            size = rng.choice((SECTOR_BYTES, PAGE_BYTES))
            for piece in _sectors(one, size):
                if rng.random() < 0.5:
                    _apply(data, piece)
    return bytes(data)


def _sectors(one: Entry, size: int) -> Iterator[Entry]:
    """The write cut where sectors of the file begin."""
    at = 0
    while at < len(one.data):
        end = at + size - (one.at + at) % size
        yield one._replace(at=one.at + at, data=one.data[at:end])
        at = end
