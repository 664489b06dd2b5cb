"""Where a sink publishes files."""

from collections.abc import Iterable
from typing import Protocol

from tiers.core.batch import Buffer
from tiers.core.commit.answers import Listed, Moved


class Store(Protocol):
    """Where a sink publishes files: what is asked of HDFS and of a directory (commit.md). Returning
    means done and durable. A call may be repeated. One that raises StoreUnavailable may have been
    carried out, or may yet be. Paths are `/`-separated and relative to the store's root; calls
    block and are made from worker threads, several at a time. Every method raises StoreUnavailable
    (unclear, ask again) or StoreRefused (a clear no: permissions, quota)."""

    def write(self, path: str, chunks: Iterable[Buffer]) -> int:
        """Create `path` (and its parents) with all of `chunks`, durable, its length checked.
        Returns the length. When it fails it may leave any prefix: so only below a tmp directory.
        An existing `path` is replaced."""

    def move(self, source: str, target: str) -> Moved:
        """Atomic; never replaces. Where both source is gone and target is there: TARGET_THERE
        is answered only if the source is there too, else SOURCE_GONE."""

    def replace(self, source: str, target: str) -> Moved:
        """Atomic; replaces a target that is there. Never TARGET_THERE."""

    def make_parents(self, path: str) -> None:
        """All directories above `path`, durable. Fine when they are there."""

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        """The content; None only where there is definitely no such file. Of more than `bytes_max`
        bytes one more than that, so that the caller sees it."""

    def length(self, path: str) -> int | None:
        """Bytes; None only where there is definitely no such file."""

    def list(self, path: str) -> list[Listed] | None:
        """Entries of a directory, by name; None only where there is definitely none."""

    def delete(self, path: str) -> bool:
        """Remove a file or a tree, for trash only. False where nothing was there."""

    def now_ms(self) -> int:
        """The store's clock, ms since the epoch, as good as it can be told."""

    def where(self) -> str:
        """For a person: "hdfs http://nn:9870 /logs", "directory /data/logs"."""

    def close(self) -> None: ...
