"""The LMDB environment: opened, read, written, grown and opened anew; and the door of lmdb.

LMDB keeps one environment per file and process. Readers from any thread pass a gate, so that
the writer can be alone for the moment in which it grows the map or opens the file anew.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import lmdb

from tiers.channel.layout import DATABASES
from tiers.errors import ChannelDamaged, ChannelUnavailable
from tiers.units import show_size

# lmdb's classes take parameters only in its stubs.
Transaction: TypeAlias = "lmdb.Transaction[bytes]"
Views: TypeAlias = "lmdb.Transaction[memoryview]"
AnyTransaction: TypeAlias = "Transaction | Views"
GROW_BYTES: Final = 64 << 20  # by so much a full map grows
DISK_FULL_BYTES: Final = 64 << 10  # with less than that free, the disk is why a commit failed
_DAMAGE: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.CursorFullError,
)
_MISTAKES: Final = (lmdb.BadValsizeError, lmdb.InvalidParameterError, lmdb.BadDbiError)  # our own
_READERS_MAX: Final = 126  # of LMDB's slots, 64 bytes each behind a header of 128
_LOCK_BYTES: Final = 8192


class MapFull(ChannelUnavailable):
    """The map is full although limits should keep it from that: it must grow."""


class Panicked(ChannelUnavailable):
    """LMDB gave up on the environment after a failed write of its meta page: open it anew."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """The door of lmdb and of the file system beneath it."""
    try:
        yield
    except _MISTAKES:
        raise
    except lmdb.MapFullError as error:
        raise MapFull(f"{doing}: {error}") from error
    except lmdb.PanicError as error:
        raise Panicked(f"{doing}: {error}") from error
    except _DAMAGE as error:
        raise ChannelDamaged(f"{doing}: {error}") from error
    except (lmdb.Error, OSError) as error:
        code = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
        what = "disk full: " if code in (errno.ENOSPC, errno.EDQUOT) else ""
        raise ChannelUnavailable(f"{what}{doing}: {error}") from error


class Environment:
    """One channel file, open. `path` is the directory of data.mdb."""

    def __init__(self, path: Path, map_bytes: int, *, readonly: bool = False) -> None:
        self.path = path
        self.readonly = readonly
        self._map_bytes = map_bytes
        self._env: lmdb.Environment | None = None
        self._gate = threading.Condition()
        self._readers = 0
        self._alone = False
        self.db: dict[str, lmdb._Database] = {}
        self._open()

    def _open(self) -> None:
        with translated("open"):
            if not self.readonly:
                self._fill_lock_file()
            env = lmdb.Environment(
                os.fsencode(self.path),
                map_size=self._map_bytes,
                max_dbs=len(DATABASES),
                max_readers=_READERS_MAX,
                max_spare_txns=8,
                mode=0o600,
                readonly=self.readonly,
                lock=not self.readonly,
                create=not self.readonly,
                readahead=True,
                lib_version=0,
            )
            try:
                if not self.readonly:
                    env.reader_check()
                self.db = {
                    name: env.open_db(name.encode(), create=not self.readonly) for name in DATABASES
                }
            except BaseException:
                env.close()
                raise
            self._map_bytes = max(self._map_bytes, env.info()["map_size"])
            self._env = env

    def _fill_lock_file(self) -> None:
        # LMDB maps its lock file and writes reader slots into it. A hole in a mapped file on a
        # full disk would kill us with SIGBUS, so it gets its blocks before LMDB opens it (not
        # after: closing a descriptor of it would drop LMDB's POSIX locks).
        lock = os.open(self.path / "lock.mdb", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(lock, 0, _LOCK_BYTES)
        finally:
            os.close(lock)

    def close(self) -> None:
        with self._exclusive():
            if self._env is not None:
                self._env.close()
                self._env = None

    def reopen(self) -> None:
        """Closed and opened anew. Raises ChannelUnavailable; it is then closed."""
        with self._exclusive():
            if self._env is not None:
                self._env.close()
                self._env = None
            self._open()

    def grow(self, step_bytes: int) -> None:
        """Makes room in the map (an address range; the file grows only when it is used)."""
        with self._exclusive(), translated("grow the map"):
            self._map_bytes += step_bytes
            self._opened().set_mapsize(self._map_bytes)

    def _opened(self) -> lmdb.Environment:
        if self._env is None:
            raise ChannelUnavailable("the channel file is not open at the moment")
        return self._env

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._gate:
            self._alone = True
            self._gate.wait_for(lambda: self._readers == 0)
            try:
                yield
            finally:
                self._alone = False
                self._gate.notify_all()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A short read transaction, from any thread. Raises ChannelDamaged, ChannelUnavailable."""
        with self._passing_gate() as env, translated("read"), env.begin() as txn:
            yield txn

    @contextmanager
    def viewing(self) -> Iterator[Views]:
        """`reading` whose keys and values are views into the map: not copied, and dead when the
        transaction ends."""
        with self._passing_gate() as env, translated("read"), env.begin(buffers=True) as txn:
            yield txn

    @contextmanager
    def _passing_gate(self) -> Iterator[lmdb.Environment]:
        with self._gate:
            self._gate.wait_for(lambda: not self._alone)
            env = self._opened()
            self._readers += 1
        try:
            yield env
        finally:
            with self._gate:
                self._readers -= 1
                if not self._readers:
                    self._gate.notify_all()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A write transaction, durable when the block has ended; for the writer's thread only.
        Raises ChannelDamaged, ChannelUnavailable (MapFull, Panicked); nothing is written then,
        but for Panicked: look at what is there after `reopen`."""
        with translated("commit"), self._opened().begin(write=True) as txn:
            yield txn

    def used_bytes(self, txn: Transaction) -> int:
        """Live pages of all databases."""
        total = 0
        for db in self.db.values():
            stat = txn.stat(db)
            count = stat["leaf_pages"] + stat["branch_pages"] + stat["overflow_pages"]
            total += count * stat["psize"]
        return total

    def file_bytes(self) -> int:
        """Pages ever used, free ones among them: what the file takes on disk."""
        env = self._opened()
        return (env.info()["last_pgno"] + 1) * env.stat()["psize"]

    def last_commit(self) -> int:
        """The number of the last commit that the file has, on disk or not."""
        return int(self._opened().info()["last_txnid"])

    def disk_free_bytes(self) -> int:
        """What the disk still has for us."""
        with translated("free space"):
            disk = os.statvfs(self.path)
            return disk.f_bavail * disk.f_frsize

    def clear_stale_readers(self) -> int:
        """Frees the slots of readers whose process is gone; how many there were."""
        with translated("reader check"):
            return self._opened().reader_check()

    def __str__(self) -> str:
        return f"{self.path} (map of {show_size(self._map_bytes)})"


def words(error: ChannelUnavailable, disk_free_bytes: int) -> str:
    """What is said of a commit that failed. A disk that fills up in the middle of a write is EIO
    to LMDB, ENOSPC only at the next."""
    text = str(error)
    if disk_free_bytes < DISK_FULL_BYTES and not text.startswith("disk full"):
        return f"disk full: {text}"
    return text
