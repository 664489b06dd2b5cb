"""What LMDB is to a channel, in memory: the tables of a file, with transactions that take place
whole or not at all. All that lies above is the channel's own code.

A commit is there from the moment at which it ends, for as long as its `Tables` are; what was not
committed is gone. A copy of them is the image of a disk.
"""

import threading
from bisect import bisect_left, insort
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from tiers.channel.disk import Lmdb
from tiers.channel.environment import Environment, translated
from tiers.channel.home import Home
from tiers.channel.layout import DATABASES, RECORD_KEY_BYTES_MAX

PAGE_BYTES: Final = 4096
_HEAD_BYTES: Final = 16  # of a page
_NODE_BYTES: Final = 10  # of a key in a page, with its place there
_NODE_BYTES_MAX: Final = 2038  # a larger value has pages of its own


class Table:
    """One database: keys in order."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []
        self.leaf_bytes = 0
        self.overflow_pages = 0

    def copy(self) -> "Table":
        other = Table()
        other.values, other.keys = self.values.copy(), self.keys.copy()
        other.leaf_bytes, other.overflow_pages = self.leaf_bytes, self.overflow_pages
        return other

    def set(self, key: bytes, value: bytes | None) -> bytes | None:
        """Puts a value, or deletes it where None; what was there."""
        before = self.values.get(key)
        if before is not None:
            self._count(key, before, -1)
        if value is not None:
            self._count(key, value, 1)
            self.values[key] = value
            if before is not None:
                pass
            elif self.keys and key < self.keys[-1]:
                insort(self.keys, key)
            else:
                self.keys.append(key)
        elif before is not None:
            del self.values[key]
            del self.keys[bisect_left(self.keys, key)]
        return before

    def _count(self, key: bytes, value: bytes, sign: int) -> None:
        size = _NODE_BYTES + len(key) + len(value)
        if size > _NODE_BYTES_MAX:
            self.overflow_pages += sign * -(-(_HEAD_BYTES + len(value)) // PAGE_BYTES)
            size = _NODE_BYTES + len(key) + 8  # the number of its first page
        self.leaf_bytes += sign * size

    def stat(self) -> dict[str, int]:
        return {
            "psize": PAGE_BYTES,
            "entries": len(self.keys),
            "leaf_pages": -(-self.leaf_bytes // (PAGE_BYTES - _HEAD_BYTES)),
            "branch_pages": 0,
            "overflow_pages": self.overflow_pages,
        }


class Tables:
    """In place of `lmdb.Environment`."""

    def __init__(self, map_bytes: int = 1 << 30) -> None:
        self.tables = {name: Table() for name in DATABASES}
        self.commits = 0
        self.map_bytes = map_bytes
        self.pages_max = 0  # that were ever used
        self.turn = threading.RLock()  # of one transaction

    def copy(self) -> "Tables":
        other = Tables(self.map_bytes)
        other.tables = {name: table.copy() for name, table in self.tables.items()}
        other.commits, other.pages_max = self.commits, self.pages_max
        return other

    def begin(self, *, write: bool = False, buffers: bool = False) -> "Transaction":
        return Transaction(self, write=write, buffers=buffers)

    def pages(self) -> int:
        stats = [table.stat() for table in self.tables.values()]
        return sum(stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)

    def info(self) -> dict[str, int]:
        return {
            "map_size": self.map_bytes,
            "last_pgno": self.pages_max,
            "last_txnid": self.commits,
        }

    def stat(self) -> dict[str, int]:
        return {"psize": PAGE_BYTES}

    def set_mapsize(self, map_bytes: int) -> None:
        self.map_bytes = map_bytes

    def reader_check(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Transaction:
    """In place of `lmdb.Transaction`, as far as a channel asks it."""

    def __init__(self, tables: Tables, *, write: bool, buffers: bool) -> None:
        self.tables = tables
        self._write = write
        self.shown: Any = memoryview if buffers else bytes
        self._before: list[tuple[Table, bytes, bytes | None]] = []

    def __enter__(self) -> "Transaction":
        self.tables.turn.acquire()
        return self

    def __exit__(self, kind: object, *what: object) -> None:
        try:
            if kind is not None:
                self._undo()
            elif self._before:  # LMDB counts no empty ones
                self._commit()
        finally:
            self.tables.turn.release()

    def _commit(self) -> None:
        pages = self.tables.pages()
        if pages * PAGE_BYTES > self.tables.map_bytes:
            self._undo()
            raise lmdb.MapFullError("the map in memory is full")
        self.tables.commits += 1
        self.tables.pages_max = max(self.tables.pages_max, pages)

    def _undo(self) -> None:
        for table, key, value in reversed(self._before):
            table.set(key, value)

    def id(self) -> int:
        return self.tables.commits + self._write

    def get(self, key: bytes | memoryview, default: Any = None, db: str = "") -> Any:
        value = self.tables.tables[db].values.get(bytes(key))
        return default if value is None else self.shown(value)

    def put(
        self, key: bytes, value: bytes | memoryview, *, append: bool = False, db: str = ""
    ) -> bool:
        """`append`: False where the key is not behind all others."""
        if not 0 < len(key) <= RECORD_KEY_BYTES_MAX:
            raise lmdb.BadValsizeError(f"a key of {len(key)} bytes")
        table = self.tables.tables[db]
        if append and table.keys and key <= table.keys[-1]:
            return False
        self._set(table, key, bytes(value))
        return True

    def delete(self, key: bytes | memoryview, db: str = "") -> bool:
        return self.pop(key, db) is not None

    def pop(self, key: bytes | memoryview, db: str = "") -> Any:
        table = self.tables.tables[db]
        if key not in table.values:
            return None
        before = self._set(table, bytes(key), None)
        return None if before is None else self.shown(before)

    def _set(self, table: Table, key: bytes, value: bytes | None) -> bytes | None:
        if not self._write:
            raise lmdb.ReadonlyError("put or delete in a read transaction")
        before = table.set(key, value)
        self._before.append((table, key, before))
        return before

    def stat(self, db: str) -> dict[str, int]:
        return self.tables.tables[db].stat()

    def cursor(self, db: str) -> "Cursor":
        return Cursor(self, db)


class Cursor:
    """At a key of a table, or nowhere."""

    def __init__(self, txn: Transaction, db: str) -> None:
        self._txn = txn
        self._db = db
        self._table = txn.tables.tables[db]
        self._key: bytes | None = None
        self._was_put = False  # somewhere; a cursor that ran over an end stays there

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *what: object) -> None:
        pass

    def _go(self, index: int) -> bool:
        there = 0 <= index < len(self._table.keys)
        self._key = self._table.keys[index] if there else None
        self._was_put = True
        return there

    def first(self) -> bool:
        return self._go(0)

    def last(self) -> bool:
        return self._go(len(self._table.keys) - 1)

    def set_range(self, key: bytes | memoryview) -> bool:
        """At the first key that is not before this one."""
        return self._go(bisect_left(self._table.keys, bytes(key)))

    def next(self) -> bool:
        if self._key is None:
            return not self._was_put and self.first()
        index = bisect_left(self._table.keys, self._key)
        return self._go(index + (self._key in self._table.values))

    def prev(self) -> bool:
        if self._key is None:
            return not self._was_put and self.last()
        return self._go(bisect_left(self._table.keys, self._key) - 1)

    def key(self) -> Any:
        return self._txn.shown(self._key or b"")

    def value(self) -> Any:
        return self._txn.shown(b"" if self._key is None else self._table.values[self._key])

    def item(self) -> tuple[Any, Any]:
        return self.key(), self.value()

    def delete(self) -> bool:
        """The one it is at, and on to the next. Whether one was deleted."""
        if self._key is None:
            return False
        key = self._key
        self._txn.delete(key, self._db)
        self._go(bisect_left(self._table.keys, key))
        return True

    def iternext(self, *, values: bool = True) -> Iterator[Any]:
        more = self._key is not None or self.first()
        while more:
            yield self.item() if values else self.key()
            more = self._key is not None and self.next()

    def __iter__(self) -> Iterator[Any]:
        return self.iternext()


class MemoryEnvironment(Environment):
    """A channel's file that is no file."""

    def __init__(self, tables: Tables, path: Path, map_bytes: int) -> None:
        self.tables = tables
        super().__init__(path, map_bytes)

    def _open(self) -> None:
        with translated("open"):
            self._map_bytes = max(self._map_bytes, self.tables.map_bytes)
            self.tables.map_bytes = self._map_bytes
            names: dict[str, Any] = {name: name for name in DATABASES}
            self.db = names
            env: Any = self.tables
            self._env = env

    # Without the gate: nothing below is opened anew or grows.

    def reading(self) -> Any:
        return self._opened().begin()

    def viewing(self) -> Any:
        return self._opened().begin(buffers=True)


class MemoryDisk(Lmdb):
    """Directories whose channels are in memory, for as long as `tables` are."""

    def __init__(self, tables: dict[Path, Tables]) -> None:
        self.tables = tables

    def damage(self, path: Path) -> str:
        gone = path not in self.tables and (path / "begun").exists()
        return "its file is gone, or empty" if gone else ""

    def at(self, path: Path, map_bytes: int) -> Tables:
        if path not in self.tables:
            self.tables[path] = Tables(map_bytes)
        return self.tables[path]

    def open(self, path: Path, map_bytes: int) -> Environment:
        return MemoryEnvironment(self.at(path, map_bytes), path, map_bytes)

    def home(self, path: Path) -> Home:
        return Home("memory", 1, 1)
