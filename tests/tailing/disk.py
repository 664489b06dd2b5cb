"""A file system in memory, as the tail source's door sees it, that does what real ones do.

Inode numbers are used again at once (as ext4 does), births are told or not, device numbers change
at a reboot, clocks are set back, changes within a tick of the clock have the same ctime, holes are
zeros. A hook is called before each call, so that anything may happen within a look.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from tiers.sources.tail.door import DirectoryEntry, Status

TICK_NS = 4_000_000
OPEN_MAX = 1000
DIRECTORIES = ("/", "/logs", "/logs/old")


@dataclass(eq=False)
class Inode:
    number: int
    birth_ns: int
    ctime_ns: int
    data: bytearray = field(default_factory=bytearray)
    links: int = 0
    opened: int = 0  # descriptors of the source
    writers: int = 0
    readable: bool = True
    last: str = ""  # the name that it had when it was deleted
    truncated: bool = False  # since a look that nothing disturbed
    watched_until: float = -1.0  # deleted, but the source had it open: what is in it is due


class ModelDisk:
    """The door, and what others do to the files behind it."""

    def __init__(self, *, births: bool) -> None:
        self.births = births
        self.device = 1
        self.wall_ns = 1_800_000_000_000_000_000
        self.names: dict[str, Inode] = {}
        self.descriptors: dict[int, Inode] = {}
        self.before: Callable[[], None] = lambda: None
        self.fail_next: dict[str, int] = {}  # call -> errno, once
        self.open_max = OPEN_MAX
        self._free: list[int] = []
        self._next_inode = 10
        self._next_descriptor = 3
        self._births = 0

    # -- what others do ----------------------------------------------------------------------

    def passed(self, seconds: float) -> None:
        self.wall_ns += int(seconds * 1e9)

    def make(self, path: str | None = None) -> Inode:
        number = self._free.pop() if self._free else self._next_inode
        self._next_inode += number == self._next_inode
        self._births += 1
        birth_ns = self.wall_ns + self._births if self.births else 0
        inode = Inode(number, birth_ns, self._tick())
        if path is not None:
            self.link(path, inode)
        return inode

    def link(self, path: str, inode: Inode) -> None:
        if path in self.names:
            self.unlink(path)
        self.names[path] = inode
        inode.links += 1

    def unlink(self, path: str) -> None:
        inode = self.names.pop(path, None)
        if inode is not None:
            inode.last = path
            inode.links -= 1
            self.reap(inode)

    def reap(self, inode: Inode) -> None:
        """Its number is free once nobody has it."""
        unused = not (inode.links or inode.opened or inode.writers)
        if unused and inode.number not in self._free:
            self._free.append(inode.number)

    def rename(self, old: str, new: str) -> None:
        if old in self.names and old != new:
            inode = self.names.pop(old)
            if new in self.names:
                self.unlink(new)
            self.names[new] = inode
            inode.ctime_ns = self._tick()

    def write(self, inode: Inode, data: bytes, at: int | None = None) -> None:
        at = len(inode.data) if at is None else at
        if at > len(inode.data):
            inode.data += bytes(at - len(inode.data))
        inode.data[at : at + len(data)] = data
        inode.ctime_ns = self._tick()

    def truncate(self, inode: Inode, size: int = 0) -> None:
        del inode.data[size:]
        inode.truncated = True
        inode.ctime_ns = self._tick()

    def copy(self, inode: Inode, path: str, data: bytes | None = None) -> None:
        self.make(path).data += inode.data if data is None else data

    def renumber(self, *, among_the_same: bool) -> None:
        """Everything was copied to another disk, or came back from a backup."""
        inodes = list(dict.fromkeys(self.names.values()))
        numbers = [inode.number for inode in inodes]
        if among_the_same:
            numbers = numbers[1:] + numbers[:1]
        else:
            numbers = [self._next_inode + i for i in range(len(inodes))]
            self._next_inode += len(inodes)
        for inode, number in zip(inodes, numbers, strict=True):
            inode.number, inode.ctime_ns = number, self._tick()
            self._births += 1
            inode.birth_ns = self.wall_ns + self._births if self.births else 0

    def _tick(self) -> int:
        return self.wall_ns - self.wall_ns % TICK_NS

    # -- the door ----------------------------------------------------------------------------

    def stat(self, path: str) -> Status:
        self._call("stat")
        if path in DIRECTORIES:
            number = 2 + DIRECTORIES.index(path)
            return Status(self.device, number, 1, 0, 0, 0, stat.S_IFDIR | 0o755, 0, 2)
        return self._status(self._at(path))

    lstat = stat

    def fstat(self, descriptor: int) -> Status:
        self._call("fstat")
        return self._status(self.descriptors[descriptor])

    def entries(self, directory: str) -> list[DirectoryEntry]:
        self._call("entries")
        below = directory.rstrip("/") + "/"
        found = [
            DirectoryEntry(path[len(below) :], inode.number, False, False)
            for path, inode in self.names.items()
            if path.startswith(below) and "/" not in path[len(below) :]
        ]
        found += [
            DirectoryEntry(path[len(below) :], 2 + number, True, False)
            for number, path in enumerate(DIRECTORIES)
            if path.startswith(below) and path != "/" and "/" not in path[len(below) :]
        ]
        return sorted(found)

    def open(self, path: str) -> int:
        self._call("open")
        inode = self._at(path)
        if not inode.readable:
            raise OSError(errno.EACCES, "Permission denied", path)
        if len(self.descriptors) >= self.open_max:
            raise OSError(errno.EMFILE, "Too many open files", path)
        self._next_descriptor += 1
        self.descriptors[self._next_descriptor] = inode
        inode.opened += 1
        return self._next_descriptor

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        self._call("pread")
        return bytes(self.descriptors[descriptor].data[offset : offset + length])

    def data_after(self, descriptor: int, offset: int) -> int | None:
        self._call("data_after")
        return offset if offset < len(self.descriptors[descriptor].data) else None

    def close(self, descriptor: int) -> None:
        inode = self.descriptors.pop(descriptor)
        inode.opened -= 1
        self.reap(inode)

    def real(self, path: str) -> str:
        return path

    def where(self, descriptor: int) -> str:
        self._call("where")
        inode = self.descriptors[descriptor]
        return next((path for path, at in self.names.items() if at is inode), inode.last)

    def _call(self, name: str) -> None:
        self.before()
        if error := self.fail_next.pop(name, 0):
            raise OSError(error, os.strerror(error))

    def _at(self, path: str) -> Inode:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self.names[path]

    def _status(self, inode: Inode) -> Status:
        return Status(
            self.device,
            inode.number,
            inode.birth_ns,
            len(inode.data),
            inode.ctime_ns,
            inode.ctime_ns,
            stat.S_IFREG | 0o644,
            0,
            inode.links,
        )
