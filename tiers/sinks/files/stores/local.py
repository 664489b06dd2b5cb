"""The store in a directory of this host (commit.md's column "directory").

A move is `renameat2` with RENAME_NOREPLACE, since link and unlink would show both names in between.
Every answer that others act upon is durable first: a name that is seen, or seen to be gone, may be
the work of a process that was killed between its rename and its fsync, and a power cut could still
undo it. So `list` and `length` sync the directory they look into.
"""

import contextlib
import ctypes
import errno
import os
import platform
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import cast

from tiers.core.batch import Buffer
from tiers.core.commit.answers import Listed, Moved
from tiers.errors import StoreRefused, StoreUnavailable

_RENAME_NOREPLACE = 1  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h
# For a libc without the wrapper (glibc before 2.28); numbers from the kernel's tables.
_SYSCALL_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
_REFUSALS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "a name is too long for this file system",
    errno.EXDEV: "a directory of the store lies on another file system",
    errno.ENOTDIR: "there is a file where a directory is needed",
    errno.EISDIR: "there is a directory where a file is needed",
    errno.ELOOP: "a chain of symbolic links",
    errno.ENXIO: "there is a socket where a file is needed",
}
_ABSENCES = (errno.ENOENT, errno.ENOTDIR)
_SYNCED_MAX = 4096  # directories remembered as durable
_RACES_MAX = 100  # tries of a call that lost a race with other agents' moves and removals


class LocalStore:
    """A `Store` (see there for the contract) in the directory `root`, made at the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._lock = threading.Lock()
        self._root_seen: tuple[int, int] | None = None
        self._synced: set[tuple[int, int]] = set()

    def write(self, path: str, chunks: Iterable[Buffer]) -> int:
        target = self._full(path)
        with _translated(f"write {target}"):
            self._prepare(target.parent)
            try:
                length, identity = _write_new(target, chunks)
            except FileExistsError:
                # Written beside and moved over it: whatever an earlier writer of this name still
                # does goes into a file without a name.
                beside = target.with_name(f"{target.name}.{secrets.token_hex(8)}.small")
                try:
                    length, identity = _write_new(beside, chunks)
                    beside.replace(target)
                except BaseException:
                    beside.unlink(missing_ok=True)  # nobody else knows its name
                    raise
            _sync(target.parent)
            found = os.lstat(target)
        if (found.st_dev, found.st_ino) != identity:
            raise StoreUnavailable(f"write {target}: another writer replaced it meanwhile")
        return length

    def move(self, source: str, target: str) -> Moved:
        old, new = self._full(source), self._full(target)
        for _ in range(_RACES_MAX):
            with _translated(f"move {old} to {new}"):
                try:
                    _rename_noreplace(old, new)
                except FileExistsError:
                    # Kernels differ in which of the two they look at first.
                    return Moved.TARGET_THERE if _is_there(old) else self._source_gone()
                except (FileNotFoundError, NotADirectoryError):
                    if (answer := self._missing(old, new)) is None:
                        continue
                    return answer
                _sync_both(old, new)
                return Moved.DONE
        raise StoreUnavailable(f"move {old} to {new}: names come and go under it")

    def replace(self, source: str, target: str) -> Moved:
        old, new = self._full(source), self._full(target)
        for _ in range(_RACES_MAX):
            with _translated(f"replace {new} by {old}"):
                try:
                    old.rename(new)
                except (FileNotFoundError, NotADirectoryError):
                    if (answer := self._missing(old, new)) is None:
                        continue
                    return answer
                _sync_both(old, new)
                return Moved.DONE
        raise StoreUnavailable(f"replace {new} by {old}: names come and go under it")

    def make_parents(self, path: str) -> None:
        target = self._full(path)
        with _translated(f"make the directories above {target}"):
            self._prepare(target.parent)

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        target = self._full(path)
        with _translated(f"read {target}"):
            try:
                with open(target, "rb", opener=_open_at_once) as file:
                    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        return b""  # a pipe whose writer says nothing, a device without an end
                    return file.read(-1 if bytes_max is None else bytes_max + 1)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_root()
                return None

    def length(self, path: str) -> int | None:
        target = self._full(path)
        with _translated(f"ask the length of {target}"):
            try:
                _sync(target.parent)
                found = target.stat()
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return None
            return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, path: str) -> list[Listed] | None:
        directory = self._full(path) if path else self._root
        with _translated(f"list {directory}"):
            try:
                _sync(directory)
                with os.scandir(directory) as entries:
                    listed = [one for entry in entries if (one := _listed(entry))]
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return None
        return sorted(listed)

    def delete(self, path: str) -> bool:
        target = self._full(path)
        with _translated(f"delete {target}"):
            if not _is_there(target):
                self._check_root()
                return False
            _remove(target)
            with contextlib.suppress(FileNotFoundError):
                _sync(target.parent)
            return True

    def now_ms(self) -> int:
        # The agents of a directory are on one host (commit.md), so they share its clock.
        return time.time_ns() // 1_000_000

    def where(self) -> str:
        return f"directory {self._root}"

    def close(self) -> None:
        """Nothing is held open."""

    def _full(self, path: str) -> Path:
        """A wrong path is our own mistake: header values are made safe before they get here."""
        parts = path.split("/")
        assert all(part not in ("", ".", "..") and "\0" not in part for part in parts), path
        return self._root.joinpath(*parts)

    def _prepare(self, directory: Path) -> None:
        self._check_root()
        self._make_directory(directory)
        self._check_root()  # from here on it is known

    def _make_directory(self, directory: Path) -> None:
        """Make `directory` and what is missing above it; each name durable in its parent."""
        for _ in range(_RACES_MAX):
            try:
                directory.mkdir()
            except FileNotFoundError:
                self._make_directory(directory.parent)
                continue  # it may have been removed again meanwhile
            except FileExistsError:
                if not stat.S_ISDIR(directory.stat().st_mode):
                    raise _not_a_directory(directory) from None
                self._sync_upwards(directory, created=False)
            else:
                self._sync_upwards(directory, created=True)
            return
        raise StoreUnavailable(f"make {directory}: others remove it at once")

    def _sync_upwards(self, directory: Path, created: bool) -> None:
        """Make the name of `directory` durable, and those above it up to the root's.

        A directory that was there counts as durable only once it was synced by this process: who
        made it may have died before it came to that.
        """
        while created or directory == self._root or self._root in directory.parents:
            found = directory.stat()
            identity = (found.st_dev, found.st_ino)
            with self._lock:
                if identity in self._synced and not created:
                    return
            try:
                _sync(directory.parent)
            except PermissionError:
                if created or directory != self._root:
                    raise
                # What is above a root that others made need not be ours to read.
            with self._lock:
                if len(self._synced) >= _SYNCED_MAX:
                    self._synced.clear()
                self._synced.add(identity)
            directory, created = directory.parent, False

    def _missing(self, old: Path, new: Path) -> Moved | None:
        """Which of the names a rename did not find; None when both are there by now."""
        if not _is_there(old):
            return self._source_gone()
        try:
            parent = new.parent.stat()
        except FileNotFoundError:
            return Moved.NO_PARENT
        if not stat.S_ISDIR(parent.st_mode):
            raise _not_a_directory(new.parent)
        return None

    def _source_gone(self) -> Moved:
        self._check_root()
        return Moved.SOURCE_GONE

    def _check_root(self) -> None:
        """Before saying that something is absent: the root must be the one that was there before.

        Below an unmounted file system everything seems absent, and who believes it publishes again.
        """
        try:
            found = self._root.stat()
        except FileNotFoundError:
            if self._root_seen is None:
                return
            raise StoreUnavailable(f"the store's directory {self._root} has vanished") from None
        identity = (found.st_dev, found.st_ino)
        with self._lock:
            self._root_seen = self._root_seen or identity
            if self._root_seen != identity:
                raise StoreUnavailable(
                    f"{self._root} is another directory than before (is a file system"
                    " unmounted?); restart the agent if that is meant to be so"
                )


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """OSError to StoreRefused or StoreUnavailable, saying what was asked. `_Foreign` passes."""
    try:
        yield
    except _Foreign as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None
    except OSError as error:
        code = error.errno or 0
        if code in _REFUSALS:
            raise StoreRefused(f"{what}: {_REFUSALS[code]}") from error
        if code in (errno.ENOSPC, errno.EDQUOT):
            text = "no space left" if code == errno.ENOSPC else "the disk quota is used up"
            raise StoreUnavailable(f"{what}: {text}") from error
        raise StoreUnavailable(f"{what}: {error.strerror or error}") from error


class _Foreign(Exception):
    """Carries, as its cause, what the caller's own chunks raised: not the store's to translate."""


def _guarded(chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    try:
        yield from chunks
    except Exception as error:
        raise _Foreign from error


def _write_new(path: Path, chunks: Iterable[Buffer]) -> tuple[int, tuple[int, int]]:
    """Write a file that must not be there; synced. Its length, and device and inode."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)  # the umask takes its part
    try:
        length = 0
        for chunk in _guarded(chunks):
            rest = memoryview(chunk)
            while rest:
                count = os.write(descriptor, rest)
                length += count
                rest = rest[count:]
        os.fsync(descriptor)
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if found.st_size != length:
        raise StoreUnavailable(f"write {path}: {found.st_size} bytes there, {length} written")
    return length, (found.st_dev, found.st_ino)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_both(old: Path, new: Path) -> None:
    """After a rename: the directory that has the name now, then the one that had it."""
    _sync(new.parent)
    if old.parent != new.parent:
        _sync(old.parent)


def _not_a_directory(path: Path) -> NotADirectoryError:
    return NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _open_at_once(path: str, flags: int) -> int:
    """Opening a pipe would wait for its writer. What is no regular file is like an empty one."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _listed(entry: os.DirEntry[str]) -> Listed | None:
    try:
        found = entry.stat()
    except FileNotFoundError:
        return None  # moved away since the name was read
    except OSError:  # of a link that leads in a circle: one such name must not hide the others
        found = entry.stat(follow_symlinks=False)
    is_directory = stat.S_ISDIR(found.st_mode)
    size = 0 if is_directory else found.st_size
    return Listed(entry.name, size, found.st_mtime_ns // 1_000_000, is_directory)


def _remove(path: Path) -> None:
    """Remove a file or a tree, not following links; others may be removing it too."""
    try:
        path.unlink(missing_ok=True)
        return
    except IsADirectoryError:
        pass  # Linux says EISDIR here; POSIX would say EPERM
    with contextlib.suppress(FileNotFoundError):
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            _remove(path / name)
        path.rmdir()


def _rename_noreplace(old: Path, new: Path) -> None:
    """renameat2(2) with RENAME_NOREPLACE. OSError as from `os.rename`; FileExistsError too."""
    code = _renameat2(os.fsencode(old), os.fsencode(new))
    if code == 0:
        return
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        parent = PurePosixPath(new).parent
        raise StoreRefused(
            f"move {old} to {new}: the file system of {parent} cannot rename without replacing"
            " (RENAME_NOREPLACE; NFS and some FUSE file systems cannot): use a local one, or HDFS"
        )
    raise OSError(code, os.strerror(code), str(old), None, str(new))


def _renameat2(old: bytes, new: bytes) -> int:
    """0 or an errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_uint(_RENAME_NOREPLACE)
    at = ctypes.c_int(_AT_FDCWD)
    if hasattr(libc, "renameat2"):
        result = libc.renameat2(at, old, at, new, flags)
    elif number := _SYSCALL_RENAMEAT2.get(platform.machine()):
        result = libc.syscall(ctypes.c_long(number), at, old, at, new, flags)
    else:
        return errno.ENOSYS
    return 0 if cast(int, result) == 0 else ctypes.get_errno()
