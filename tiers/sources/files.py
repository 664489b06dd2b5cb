"""One followed file: what it is, how far it was read, and reading on.

A name says little about a file: logs are renamed, truncated, deleted and written anew while they
are read. A file is its device and inode (`key`), and since inodes are given again, also a
*fingerprint* of its first bytes (`head`) and of those before the offset (`seam`). Both cover only
bytes that were put already, so a file that is only appended to can never change them.
"""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgpack

from tiers.core.batch import Buffer
from tiers.sources.blocks import count_lines, cut

HEAD_BYTES_MAX: Final = 256
SEAM_BYTES_MAX: Final = 64


class Fingerprint(NamedTuple):
    """Hash of `length` bytes of a file."""

    length: int = 0
    digest: bytes = b""

    @classmethod
    def of(cls, descriptor: int, length: int, begin: int = 0) -> "Fingerprint":
        part = os.pread(descriptor, length, begin) if length else b""
        return cls(len(part), hashlib.blake2b(part, digest_size=16).digest() if part else b"")


NOTHING: Final = Fingerprint()


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was put, as it is stored in the channel beside the block that ended there.

    msgpack: [offset, [length, hash] of head, [length, hash] of seam, path, real path,
    path now, mtime in ns]
    """

    offset: int
    head: Fingerprint
    seam: Fingerprint
    path: str  # where it was first found
    real: str  # the same without symbolic links
    now: str  # where it was when last read
    mtime_ns: int  # when last read

    def pack(self) -> bytes:
        names = [os.fsencode(name) for name in (self.path, self.real, self.now)]
        packed: bytes = msgpack.packb([self.offset, self.head, self.seam, *names, self.mtime_ns])
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> "Position":
        offset, head, seam, *names, mtime_ns = msgpack.unpackb(data)
        path, real, now = map(os.fsdecode, names)
        return cls(offset, Fingerprint(*head), Fingerprint(*seam), path, real, now, mtime_ns)


Key = tuple[int, int]  # device, inode


def pack_key(key: Key) -> bytes:
    return b"%d-%d" % key


def unpack_key(data: bytes) -> Key:
    device, inode = data.split(b"-")
    return int(device), int(inode)


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of one file, and the position that is reached once they are stored."""

    data: Buffer
    count: int
    path: str
    key: bytes
    position: bytes
    split: int = 0  # lines that had to be split
    ended: bool = False  # the last line had no newline and got one


@dataclass(slots=True, eq=False)
class FollowedFile:
    """Not thread-safe. Methods that read raise OSError."""

    key: Key
    path: str  # where it is now
    first_path: str  # where it was first found, under which its lines are known
    real: str  # the same without symbolic links: beside it its rotated generations are looked for
    offset: int = 0
    head: Fingerprint = NOTHING
    seam: Fingerprint = NOTHING
    mtime_ns: int = 0
    size: int = 0
    descriptor: int | None = None
    moved: bool = False  # renamed: its writer will soon be done with it
    gone: bool = False  # no longer in its directory
    quiet_since: float = 0.0  # when a moved or gone file last had something new
    after: Key | None = None  # the file before it at the same path, to be read first
    end: int | None = None  # draining: read to here and no further
    _continuing: bool = field(default=False, repr=False)

    @classmethod
    def restored(cls, key: Key, position: Position) -> "FollowedFile":
        return cls(
            key=key,
            path=position.now,
            first_path=position.path,
            real=position.real,
            offset=position.offset,
            head=position.head,
            seam=position.seam,
            mtime_ns=position.mtime_ns,
            size=position.offset,
            moved=position.now != position.path,
        )

    @property
    def behind(self) -> int:
        """Bytes that were there when last looked and are not put yet."""
        return max(self.size - self.offset, 0)

    @property
    def directory(self) -> str:
        """Where to look for it when it is no longer at its path."""
        return str(Path(self.path if self.moved else self.real).parent)

    @property
    def leaving(self) -> bool:
        return self.moved or self.gone

    def open(self) -> bool:
        """False when there is another file at its path by now."""
        if self.descriptor is None:
            # Open, then look at the descriptor: a path may be another file a moment later.
            # O_NONBLOCK: a pipe put in the file's place must not hang us.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != self.key or not stat.S_ISREG(status.st_mode):
                os.close(descriptor)
                return False
            self.descriptor = descriptor
        return True

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def look(self) -> bool:
        """Notice what became of the open file. False when it is not the one that was read:
        truncated, written anew, or another file that was given the same inode."""
        assert self.descriptor is not None
        status = os.fstat(self.descriptor)
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
        return self.size >= self.offset and self._same(self.head, self.seam, self.offset)

    def restart(self) -> None:
        """Begin at the beginning, as with a new file."""
        self.offset, self.head, self.seam = 0, NOTHING, NOTHING
        self._continuing = False

    def continue_copy(self, original: "FollowedFile") -> bool:
        """Go on where the original was, if this is a copy of it; else False."""
        assert self.descriptor is not None
        if not original.offset or self.size < original.offset:
            return False
        if not self._same(original.head, original.seam, original.offset):
            return False
        self.offset, self.head, self.seam = original.offset, original.head, original.seam
        return True

    def _same(self, head: Fingerprint, seam: Fingerprint, offset: int) -> bool:
        assert self.descriptor is not None
        if Fingerprint.of(self.descriptor, head.length) != head:
            return False
        return Fingerprint.of(self.descriptor, seam.length, offset - seam.length) == seam

    def skip_to_end(self, event_size_max: int) -> None:
        """Take nothing of the whole lines that are there."""
        assert self.descriptor is not None
        begin = max(self.size - event_size_max, 0)
        newline = os.pread(self.descriptor, self.size - begin, begin).rfind(b"\n")
        self.offset = begin + newline + 1 if newline >= 0 else self.size if begin else 0
        self._mark()

    def read(self, block_size_max: int, event_size_max: int) -> Block | None:
        """The next whole lines; None when there is none. `look` before."""
        assert self.descriptor is not None
        # Room for the newlines that splitting adds.
        size = block_size_max
        if event_size_max < size:
            size = max(size - size // (event_size_max - 1) - 1, 1)
        data = os.pread(self.descriptor, size, self.offset)
        if len(data) == size < event_size_max and b"\n" not in data:
            data = os.pread(self.descriptor, event_size_max, self.offset)
            newline = data.find(b"\n")
            data = data[: newline + 1] if newline >= 0 else data
        piece = cut(data, event_size_max, self._continuing)
        self._continuing = piece.continuing
        if not piece.used:
            return None
        # Beyond what was used there is no newline; where some were added, it is a new object.
        count = count_lines(piece.block if isinstance(piece.block, bytes) else data)
        self.offset += piece.used
        return self._block(piece.block, count, split=piece.split)

    def read_unfinished(self, event_size_max: int) -> Block | None:
        """The last line, which has no newline, with one. Only after `read` gave None."""
        assert self.descriptor is not None
        data = os.pread(self.descriptor, event_size_max - 1, self.offset)
        if not data or b"\n" in data:
            return None
        self.offset += len(data)
        self._continuing = False
        return self._block(data + b"\n", 1, ended=True)

    def position(self) -> bytes:
        return Position(
            self.offset,
            self.head,
            self.seam,
            self.first_path,
            self.real,
            self.path,
            self.mtime_ns,
        ).pack()

    def _mark(self) -> None:
        assert self.descriptor is not None
        if self.head.length < HEAD_BYTES_MAX:
            self.head = Fingerprint.of(self.descriptor, min(HEAD_BYTES_MAX, self.offset))
        length = min(SEAM_BYTES_MAX, self.offset)
        self.seam = Fingerprint.of(self.descriptor, length, self.offset - length)

    def _block(self, data: Buffer, count: int, split: int = 0, ended: bool = False) -> Block:
        self._mark()
        return Block(
            data, count, self.first_path, pack_key(self.key), self.position(), split, ended
        )
