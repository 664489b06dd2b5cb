"""What a channel lies on: a directory that one process has, and a file of LMDB in it."""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from tiers.channel.checking import structure_problems
from tiers.channel.environment import Environment, translated
from tiers.channel.home import Home, home_of
from tiers.errors import UsageError
from tiers.host.own_directory import holder


class Disk(Protocol):
    """Raises ChannelUnavailable where it does not do its part."""

    def lock(self, directory: Path) -> int:
        """The descriptor by which this process has DIR. UsageError when another has it."""

    def damage(self, path: Path) -> str:
        """Why what lies at DIR/channel must not even be opened; empty when it may, or nothing is
        there."""

    def open(self, path: Path, map_bytes: int) -> Environment:
        """What lies at DIR/channel, made where it is not there."""

    def home(self, path: Path) -> Home:
        """Where that is. Raises OSError when it cannot be looked at."""


class Lmdb:
    """See the module."""

    def lock(self, directory: Path) -> int:
        return lock_directory(directory)

    def damage(self, path: Path) -> str:
        with translated("look at the channel"):
            data = path / "data.mdb"
            if not data.exists() or data.stat().st_size == 0:
                return "its file is gone, or empty" if (path / "begun").exists() else ""
        problems = structure_problems(path)
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return problems[0] + more if problems else ""

    def open(self, path: Path, map_bytes: int) -> Environment:
        return Environment(path, map_bytes)

    def home(self, path: Path) -> Home:
        return home_of(path / "data.mdb")


LMDB: Final = Lmdb()
LOCK_WITHIN_S: Final = 1.0  # how long `open` waits for whoever holds the directory


async def lock_soon(directory: Path, disk: Disk) -> int:
    """The directory locked, for which an audit or `tiers channel` that looks in is waited for."""
    end = asyncio.get_running_loop().time() + LOCK_WITHIN_S
    while True:
        try:
            return disk.lock(directory)
        except UsageError:
            if asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(0.05)


def lock_directory(directory: Path) -> int:
    """The descriptor that holds DIR/lock. UsageError when another process holds it."""
    with translated("lock"):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except PermissionError as denied:
            raise UsageError(
                f"{directory} has files of another user: run the agent as that one, or give all of "
                "them to this one (chown -R)"
            ) from denied
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        error = UsageError(why_locked(lock, directory))
        os.close(lock)
        raise error from None
    with suppress(OSError):  # for people only: on a full disk it may not be said
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def why_locked(lock: int, directory: Path) -> str:
    """Who holds the lock, as far as the lock file tells."""
    who = holder(lock)
    return f"another agent runs on {directory}{f' ({who})' if who else ''}"
