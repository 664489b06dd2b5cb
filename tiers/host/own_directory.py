"""The directory of one agent's files, DATA/NAME: nobody else has anything to do there.

Its channel holds what all others write, and whoever may open its status socket may drain it. What
lies in it under one of our names is looked at before any of it is opened: a pipe would hold us up
for ever, a device take what is written to it. Links are followed to what we expect.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tiers.errors import ChannelUnavailable, UsageError

_FILES: Final = (
    *("lock", "running", "agent.log", "agent.log.1", "topology.toml", "topology.left"),
    *("channel/data.mdb", "channel/lock.mdb", "channel/begun", "channel/damaged"),
)
_DIRECTORIES: Final = ("channel",)
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def make_own(directory: Path) -> None:
    """The directory, for its user alone (0700), those above it as they come. UsageError, with what
    to do, when it cannot be made or used."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {_why(directory, error)}") from error
    with suppress(OSError):  # another's, or of a file system without modes
        if directory.stat().st_mode & 0o077:
            directory.chmod(0o700)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
        raise UsageError(
            f"{directory} cannot be used: {_why(directory, OSError(code, os.strerror(code)))}"
        )
    for names, wanted in ((_DIRECTORIES, "a directory"), (_FILES, "a file")):
        for name in names:
            if why := _wrong_kind(directory / name, wanted):
                raise UsageError(f"{directory / name} {why}; move it away, and start again")
            _check_ours(directory / name, directory)
    if (directory / "status.sock").is_dir():
        raise UsageError(f"{directory / 'status.sock'} is a directory; move it away")


def _wrong_kind(path: Path, wanted: str) -> str:
    """What lies there in place of what is wanted; empty where nothing does, or it is that."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        parent = Path(os.path.realpath(path)).parent
        missing = error.errno == errno.ENOENT and parent.is_dir()
        is_link = os.path.islink(path)  # noqa: PTH114 Path's raises where it may not look
        return f"leads nowhere ({error.strerror})" if is_link and not missing else ""
    found = next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")
    return "" if found == wanted else f"is {found}, and {wanted} is wanted"


def _check_ours(path: Path, directory: Path) -> None:
    """What a start as another user has left is of no use to this one."""
    if not os.access(path, os.F_OK) or os.access(path, os.R_OK | os.W_OK):
        return
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise UsageError(f"{path} lies on a read-only file system; mount it writable")
    raise UsageError(
        f"{path} is not for user {os.geteuid()} to write: run the agent as the user that "
        f"owns {directory}, or give all of it to this one (chown -R)"
    )


@contextmanager
def opening(directory: Path) -> Iterator[None]:
    """The channel in it is opened: ChannelUnavailable says where, and what to do."""
    try:
        yield
    except ChannelUnavailable as error:
        full = str(error).startswith("disk full")
        todo = "make room on its disk (df, df -i)" if full else "look at its disk"
        raise ChannelUnavailable(
            f"{directory}: {error}; {todo}, or give another directory with --data"
        ) from error


class Footing:
    """The channel's file as it was found under its name when the agent began: a file that was
    deleted goes on as long as somebody has it open, and then it is gone with all that is in it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "channel" / "data.mdb"
        self._began_as = self._now()

    def lost(self) -> str:
        """What became of it; empty while it is there. Asks the disk: not for the loop."""
        now = self._now()
        if now == self._began_as or self._began_as is None:
            return ""
        return f"{self._file} was {'deleted' if now is None else 'replaced'} under the agent"

    def _now(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
            return None if gone else getattr(self, "_began_as", None)
        return found.st_dev, found.st_ino


def _why(directory: Path, error: OSError) -> str:
    elsewhere = "give another directory with --data"
    match error.errno:
        case errno.EACCES | errno.EPERM:
            what = f"user {os.geteuid()} may not; give it to this user (chown), or run as its owner"
            return f"{what}, or {elsewhere}"
        case errno.EROFS:
            return f"its file system is read-only; mount it writable, or {elsewhere}"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{_file_in(directory)} is no directory; {elsewhere}"
        case errno.ENOSPC | errno.EDQUOT:
            return f"the disk is full (df, df -i); make room, or {elsewhere}"
        case errno.ELOOP:
            return f"its links go in a circle; {elsewhere}"
        case errno.ENAMETOOLONG:
            return f"its name is too long; {elsewhere}"
        case _:
            return f"{error.strerror or error}; {elsewhere}"


def _file_in(directory: Path) -> Path:
    """What stands in the way: the first of the path, from above, that is no directory."""
    for above in (*reversed(directory.parents), directory):
        with suppress(OSError):
            if not above.is_dir() and (above.exists() or above.is_symlink()):
                return above
    return directory


def who_has(directory: Path) -> str:
    """Whose agent runs on a directory, for a person ("pid 12"); empty where none does, or where
    that cannot be seen. See channel/opening.py for its lock."""
    try:
        lock = os.open(directory / "lock", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder(lock) or "pid unknown"
    finally:
        os.close(lock)
    return ""


def holder(lock: int) -> str:
    """Who holds a lock, as far as its file tells: "pid 12"; else empty."""
    said = os.pread(lock, 20, 0).decode(errors="replace").strip()
    return f"pid {said}" if said.isdigit() else ""
