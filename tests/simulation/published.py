"""One output's store: what is published there, and the rules of commit.md that every call keeps."""

from typing import TYPE_CHECKING

from tiers.core.batch import BatchId
from tiers.core.commit import manifest

if TYPE_CHECKING:
    from tests.simulation.store import Files

OWN = ".tiers"


class Violation(AssertionError):
    """An invariant does not hold."""


def show(key: BatchId) -> str:
    return f"{key.origin.hex()[:6]}-{key.seq}"


class Published:
    """Told of each change before it is made."""

    def __init__(self) -> None:
        self.files: Files  # set by the world
        self.lines: dict[bytes, str] = {}  # where
        self.batches: dict[BatchId, str] = {}
        self._closed: set[str] = set()  # days
        self._too_late: set[str] = set()  # manifests that came into a closed day

    def changed(self, what: str, path: str, target: str | bytes = b"") -> None:
        """Raises Violation."""
        inside = path.split("/")
        if what == "write":
            if inside[0] != OWN or "tmp" not in inside:
                raise Violation(f"written in view: {path}")
            return
        if what == "delete":
            if inside[0] != OWN or not (path.endswith(".small") or "trash" in inside):
                raise Violation(f"removed: {path}")
            return
        assert isinstance(target, str)
        if inside[0] != OWN:
            raise Violation(f"a published file was moved: {path}")
        if what == "move" and not target.startswith(OWN):
            self._publish(path, target)
        elif what == "move" and target.startswith(f"{OWN}/closed/"):
            self._closed.add(target.rpartition("/")[2])
        elif what == "move" and "/manifests/" in target and target.split("/")[1] in self._closed:
            self._too_late.add(target)
        elif what == "move" and len(inside) > 2 and inside[2] in ("manifests", "void"):
            raise Violation(f"a {inside[2]} entry was moved: {path}")

    def _publish(self, path: str, target: str) -> None:
        if target in self.files.files:
            raise Violation(f"a published file was replaced: {target}")
        record = self.files.files.get(path.replace("/tmp/", "/manifests/"))
        if record is None:
            raise Violation(f"published without a manifest: {target}")
        if path.replace("/tmp/", "/manifests/") in self._too_late:
            raise Violation(f"published into a closed day: {target}")
        told = manifest.decode(record[0])
        if told.path != target:
            raise Violation(f"published as {target}, its manifest says {told.path}")
        for item in told.items:
            if item.id in self.batches:
                where = self.batches[item.id]
                raise Violation(f"doubled: {show(item.id)} in {target} and in {where}")
            self.batches[item.id] = target
        for line in self.files.files[path][0].splitlines():
            if line in self.lines:
                raise Violation(f"doubled: line {line!r} in {target} and in {self.lines[line]}")
            self.lines[line] = target
