"""What a channel knows of batches that have long left it, and forgets in time, a part at each turn.

The ids that it has seen are known for one retention, what outputs were not to have for three, as
long as the origins: no manifest of that time is left then to be compared with.
"""

from collections.abc import Callable

from tiers.channel import withheld
from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import SEEN_KEY, unguard
from tiers.channel.living import RETENTIONS
from tiers.channel.windows import delete_pieces, read_window


class Forgetting:
    """Goes round and round; where it has come to is not kept over a start."""

    def __init__(self, retention_ms: int) -> None:
        self._retention_ms = retention_ms
        self._windows_from = b""
        self._withheld_from = withheld.PREFIX

    def turn(self, environment: Environment, now_ms: int, most: int) -> None:
        """Looks at so many blocks of either kind, and deletes those that are old."""

        def is_old_window(key: bytes, stored: bytes) -> bool:
            return read_window(key, stored).forgettable(now_ms, self._retention_ms)

        def is_old_record(key: bytes, stored: bytes) -> bool:
            at_ms = withheld.unpack(unguard("records", key, stored)).at_ms
            return at_ms + RETENTIONS * self._retention_ms < now_ms

        windows = _Walk(environment, "seen", b"")
        records = _Walk(environment, "records", withheld.PREFIX)
        with environment.reading() as txn:
            self._windows_from = windows.look(txn, self._windows_from, most, is_old_window)
            self._withheld_from = records.look(txn, self._withheld_from, most, is_old_record)
        if windows.old or records.old:
            with environment.writing() as txn:
                windows.delete(txn)
                for key in windows.old:
                    delete_pieces(environment, txn, *SEEN_KEY.unpack(key))
                records.delete(txn)


class _Walk:
    """Over the keys of a database that have a prefix."""

    def __init__(self, environment: Environment, database: str, prefix: bytes) -> None:
        self._db = environment.db[database]
        self._prefix = prefix
        self.old: list[bytes] = []

    def look(
        self, txn: Transaction, begin: bytes, most: int, is_old: Callable[[bytes, bytes], bool]
    ) -> bytes:
        """Where to go on the next time."""
        with txn.cursor(self._db) as cursor:
            more = cursor.set_range(begin) and cursor.key().startswith(self._prefix)
            for _ in range(most):
                if not more:
                    break
                key, stored = cursor.item()
                if is_old(key, stored):
                    self.old.append(key)
                more = cursor.next() and cursor.key().startswith(self._prefix)
            return cursor.key() if more else self._prefix

    def delete(self, txn: Transaction) -> None:
        for key in self.old:
            txn.delete(key, db=self._db)
