"""The store that sinks share, with the calls that may yet be carried out in it."""

from collections.abc import Container
from functools import cache
from typing import Final, NamedTuple

from tiers.core.batch import BatchId
from tiers.core.commit import store_names
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claim import decode_claim

DAY: Final = "2026-11-23"
BATCH: Final = BatchId(b"o" * 16, 7)


class Late(NamedTuple):
    """A call whose caller gave it up: it may be carried out at any time, or never."""

    kind: str  # move, replace, put (of content), put new
    source: str
    content: bytes
    target: str


class Store(NamedTuple):
    """Files, sorted, and calls under way."""

    files: tuple[tuple[str, bytes], ...] = ()
    late: frozenset[Late] = frozenset()

    def has(self, path: str) -> bool:
        return any(one == path for one, _ in self.files)

    def content(self, path: str) -> bytes | None:
        return dict(self.files).get(path)

    def names(self, directory: str) -> set[str]:
        """The entries of a directory."""
        split = [path.rpartition("/") for path, _ in self.files]
        return {name for parent, _, name in split if parent == directory}

    def published(self) -> int:
        """How many files users see."""
        return sum(not path.startswith(f"{store_names.OWN}/") for path, _ in self.files)

    def file_names(self) -> set[str]:
        """Of all files that a sink may look for itself among."""
        rooms = ("/tmp/", "/void/", "/manifests/")
        return {
            path.rpartition("/")[2] for path, _ in self.files if any(room in path for room in rooms)
        }

    def put(self, path: str, content: bytes) -> "Store":
        files = dict(self.files) | {path: content}
        return self._replace(files=tuple(sorted(files.items())))

    def truth(self, deed: Late) -> CallAnswer:
        """What a deed would be answered now."""
        if deed.kind in ("move", "replace") and not self.has(deed.source):
            return CallAnswer.SOURCE_GONE
        if deed.kind in ("move", "put new") and self.has(deed.target):
            return CallAnswer.TARGET_THERE
        return CallAnswer.DONE

    def after(self, deed: Late) -> "Store":
        """The deed is carried out."""
        if self.truth(deed) is not CallAnswer.DONE:
            return self
        if not deed.source:
            return self.put(deed.target, deed.content)
        files = dict(self.files)
        content = files.pop(deed.source)
        return self._replace(files=tuple(files.items())).put(deed.target, content)

    def giving_up(self, deed: Late) -> "Store":
        """The deed may be carried out later."""
        return self._replace(late=self.late | {deed})

    def carrying_out(self, deed: Late) -> "Store":
        """A late deed is carried out."""
        return self._replace(late=self.late - {deed}).after(deed)

    def settled(self, day: str, name: str) -> bool:
        """What became of a file will not change: its tmp is gone, and nothing late is about it.
        (Asked by its own sink, which is not writing it, or where its manifest is there.)"""
        tmp = store_names.tmp_path(day, name)
        return not self.has(tmp) and not self._late_about(_paths(day, name))

    def _late_about(self, paths: Container[str]) -> bool:
        return any(one.source in paths or one.target in paths for one in self.late)

    def tidied(self, busy: Container[str], traces_of: str = "") -> "Store":
        """What can never matter any more is forgotten: late calls that find nothing to do, and
        files that are void, and that neither their sink (`busy`) nor a late call is at; but not
        the `traces_of` a sink that may yet look for itself."""
        puts = {one.target for one in self.late if one.kind == "put"}
        idle = {
            one
            for one in self.late
            if (one.kind == "move" and not self.has(one.source) and one.source not in puts)
            or (one.kind == "put new" and self.has(one.target))
        }
        store = self._replace(late=self.late - idle) if idle else self
        for path, _ in self.files:
            directory, _, name = path.rpartition("/")
            if not directory.endswith("/void") or name in busy:
                continue
            if traces_of and name.startswith(traces_of):
                continue
            day = path.split("/")[1]
            if store.settled(day, name):
                about = _paths(day, name)
                kept = tuple([item for item in store.files if item[0] not in about])
                store = store._replace(files=kept)
        return store

    def unused(self, sink: str, used: set[int], start: int = 0) -> int:
        """The least number that no claim of this sink has, wherever it is: only whether two are
        equal matters. What two starts draw is never equal."""
        used = set(used)
        for path, content in (*self.files, *((one.target, one.content) for one in self.late)):
            if "/claims/" in path:
                holder, number = _claimed(content)
                if holder == sink:
                    used.add(number)
        return next(n for n in range(100 * start + 1, 100 * start + 100) if n not in used)


@cache
def _claimed(content: bytes) -> tuple[str, int]:
    claim = decode_claim(content, BATCH)
    return claim.sink, claim.number


def _paths(day: str, name: str) -> tuple[str, str, str]:
    tmp, manifest = store_names.tmp_path(day, name), store_names.manifest_path(day, name)
    return tmp, manifest, store_names.void_path(day, name)
