"""What must always hold (delivery.md and commit.md), checked at every commit and store call."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tiers.channel.environment import Environment
from tiers.channel.layout import QUEUE_KEY, State, unguard, unpack_item
from tiers.channel.writer import Done, Submitted
from tiers.core import manifest
from tiers.core.batch import BatchId

if TYPE_CHECKING:
    from tests.simulation.nodes import Boot
    from tests.simulation.store import Files

OWN = ".tiers"


class Violation(AssertionError):
    """An invariant does not hold."""


def show(key: BatchId) -> str:
    return f"{key.origin.hex()[:6]}-{key.seq}"


class Ledger:
    """Every batch and every line, from its source to its file."""

    files: "Files"

    def __init__(self, say: Callable[[str], None], guarantee: str) -> None:
        self._say = say
        self._guarantee = guarantee
        self.lines: dict[bytes, str] = {}  # published: where
        self.published: dict[BatchId, str] = {}
        self.stored: dict[tuple[str, BatchId], Counter[bool]] = {}  # by tier: copies by flag
        self.seen: set[tuple[bytes, BatchId]] = set()
        self._at: dict[tuple[bytes, int], BatchId] = {}  # by channel and position
        self._closed: set[str] = set()  # days
        self._too_late: set[str] = set()  # manifests that came into a closed day

    # -- the store -------------------------------------------------------------------------

    def changed(self, what: str, path: str, target: str | bytes = b"") -> None:
        """Before it is done."""
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
            if item.id in self.published:
                where = self.published[item.id]
                raise Violation(f"doubled: {show(item.id)} in {target} and in {where}")
            self.published[item.id] = target
        for line in self.files.files[path][0].splitlines():
            if line in self.lines:
                raise Violation(f"doubled: line {line!r} in {target} and in {self.lines[line]}")
            self.lines[line] = target

    # -- channels --------------------------------------------------------------------------

    def looked(
        self, environment: Environment, state: State, group: Sequence[Submitted]
    ) -> list[tuple[str, BatchId]]:
        """What a group is about to let go of."""
        wanted = [pair for item in group for pair in item.change.releases]
        if not wanted:
            return []
        found = []
        with environment.reading() as txn:
            for output, position in wanted:
                key = QUEUE_KEY.pack(state.outputs[output].id, position)
                stored = txn.get(key, db=environment.db["queue"])
                if stored is not None:
                    found.append((output, unpack_item(unguard("queue", key, stored)).id))
        return found

    def committed(
        self,
        boot: "Boot",
        channel: bytes,
        done: Done,
        released: list[tuple[str, BatchId]],
    ) -> None:
        """A group is on disk."""
        tier = boot.name.partition("-")[0]
        for item, positions, _ in done:
            for put, position in zip(item.change.puts, positions, strict=True):
                if position:  # else the channel had it, and left it out
                    self._at[channel, position] = put.id
                    self._put(tier, channel, put.id, put.flagged)
            letters = (*item.change.dead, *item.change.damaged)
            for output, position, reason in letters:
                if self._guarantee == "end" and position in boot.node.damaged:
                    # Upstream has it still, and is told that it is not here.
                    self.seen.discard((channel, self._at[channel, position]))
                    continue
                raise Violation(f"dead letter: {boot.name}, {output} {position}: {reason}")
        for output, key in released:
            kept = tier == "sink" or self._guarantee == "end"
            if kept and key not in self.published:
                raise Violation(f"{boot.name} released {show(key)} before it is published")
            below = {"edge": "agg", "agg": "sink"}.get(tier)
            if below is not None and (below, key) not in self.stored:
                raise Violation(f"{boot.name} released {show(key)} ({output}), stored nowhere")

    def _put(self, tier: str, channel: bytes, key: BatchId, flagged: bool) -> None:
        if (channel, key) in self.seen:
            raise Violation(f"stored twice by one receiver: {show(key)} in tier {tier}")
        self.seen.add((channel, key))
        copies = self.stored.setdefault((tier, key), Counter())
        copies[flagged] += 1
        if copies[False] > 1:
            raise Violation(f"two unflagged copies of {show(key)} in tier {tier}")
