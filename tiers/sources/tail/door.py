"""The file system as the tail source sees it: one small door, which a test can replace.

Everything raises OSError. `birth_ns` comes from statx, which `os.stat` does not ask; it is 0 where
the file system or the kernel does not tell.

    struct statx (256 bytes; see statx(2))
      0  u32 mask        28 u16 mode    32 u64 inode    40 u64 size
     16  u32 links       20 u32 owner   80 birth   96 ctime   112 mtime: i64 seconds, u32 ns
    136  u32 device major, u32 minor
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

_AT_FDCWD: Final = -100
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_EMPTY_PATH: Final = 0x1000
_STATX: Final = 0xFFF  # STATX_BASIC_STATS | STATX_BTIME
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_FIELDS: Final = struct.Struct("=I12xIIxxxxH2xQQ32xqI4xqI4xqI4x8xII")


class Status(NamedTuple):
    """What is known of a file without reading it."""

    device: int
    inode: int
    birth_ns: int  # 0: not told
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    owner: int
    links: int

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class DirectoryEntry(NamedTuple):
    """One name in a directory."""

    name: str
    inode: int
    is_directory: bool
    is_link: bool


class Door(Protocol):
    """Returning means done. All but `pread` and `close` take paths as `os` gives them."""

    def stat(self, path: str) -> Status: ...

    def lstat(self, path: str) -> Status: ...

    def fstat(self, descriptor: int) -> Status: ...

    def entries(self, directory: str) -> list[DirectoryEntry]:
        """In the order of names."""

    def open(self, path: str) -> int:
        """For reading. Never waits for a writer, as a pipe would."""

    def pread(self, descriptor: int, length: int, offset: int) -> bytes: ...

    def data_after(self, descriptor: int, offset: int) -> int | None:
        """The first byte at or after `offset` that is not known to lie in a hole; None: no more."""

    def close(self, descriptor: int) -> None: ...

    def real(self, path: str) -> str:
        """Without symbolic links."""

    def where(self, descriptor: int) -> str:
        """The path by which an open file can be found now, or could last; "" where none is told."""


class RealFiles:
    """The door to the file system of this machine."""

    def stat(self, path: str) -> Status:
        return _statx(_AT_FDCWD, os.fsencode(path), 0, lambda: os.stat(path))  # noqa: PTH116

    def lstat(self, path: str) -> Status:
        flags = _AT_SYMLINK_NOFOLLOW
        return _statx(_AT_FDCWD, os.fsencode(path), flags, lambda: os.lstat(path))

    def fstat(self, descriptor: int) -> Status:
        return _statx(descriptor, b"", _AT_EMPTY_PATH, lambda: os.fstat(descriptor))

    def entries(self, directory: str) -> list[DirectoryEntry]:
        with os.scandir(directory) as found:
            return sorted(
                DirectoryEntry(each.name, each.inode(), _is_directory(each), each.is_symlink())
                for each in found
            )

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return os.pread(descriptor, length, offset)

    def data_after(self, descriptor: int, offset: int) -> int | None:
        try:
            return os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if error.errno == errno.EINVAL:  # a file system that knows no holes
                return offset
            raise

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def real(self, path: str) -> str:
        return os.path.realpath(path)

    def where(self, descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")  # noqa: PTH115


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _statx(
    directory: int, path: bytes, flags: int, plainly: Callable[[], os.stat_result]
) -> Status:
    """statx(2), or what `plainly` says where there is none."""
    if _call is None:
        return _plain(plainly())
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _call(directory, path, flags, _STATX, buffer) == 0:
        return _unpack(buffer.raw)
    error = ctypes.get_errno()
    if error in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # old kernels, and some sandboxes
        return _plain(plainly())
    raise OSError(error, os.strerror(error), os.fsdecode(path))


def _unpack(data: bytes) -> Status:
    fields = _FIELDS.unpack_from(data)
    mask, links, owner, mode, inode, size = fields[:6]
    birth, changed, modified = (fields[i] * 1_000_000_000 + fields[i + 1] for i in (6, 8, 10))
    return Status(
        os.makedev(fields[12], fields[13]),
        inode,
        birth if mask & _STATX_BTIME else 0,
        size,
        modified,
        changed,
        mode,
        owner,
        links,
    )


def _plain(found: os.stat_result) -> Status:
    return Status(
        found.st_dev,
        found.st_ino,
        0,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_mode,
        found.st_uid,
        found.st_nlink,
    )


def _find() -> Callable[..., int] | None:
    try:
        call = ctypes.CDLL(None, use_errno=True).statx
    except (OSError, AttributeError):
        return None
    call.restype = ctypes.c_int
    call.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_char_p,
    )
    found: Callable[..., int] = call
    return found


_call: Final = _find()
