"""What must always hold of what is on which disk (delivery.md), checked at each commit, and at the
loss of each disk; with, for each output, what is published (published.py).

Each batch has a number of copies that were *promised*, for each store in which it is to be
published: one, from the moment its source had it accepted; with `guarantee = "end"` two, once it
was handed on. A lost disk or a damaged record takes one of them away, until it is handed on
again. No commit may leave fewer on disk, unless the batch is published there.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.published import Published, Violation, show
from tests.simulation.topology import Shape
from tiers.channel.writer import Done
from tiers.core.batch import BatchId, open_envelope, split
from tiers.core.change import Handed, Put
from tiers.core.hop.messages import Guarantee

if TYPE_CHECKING:
    from tests.simulation.nodes import Boot

POSITION_KEY = b"position/numbers/file"


@dataclass
class Disk:
    """A channel: which of its outputs wait for a batch that can be read, at which positions."""

    channel: bytes
    node: str
    tier: str
    waiting: dict[BatchId, set[tuple[str, int]]] = field(default_factory=dict)
    at: dict[int, BatchId] = field(default_factory=dict)  # by position, for ever
    seen: set[BatchId] = field(default_factory=set)
    own: set[BatchId] = field(default_factory=set)  # that began here
    accepted: int = 0  # lines of its own source
    read: int = 0  # the last line that is on disk, as the source's position has it

    def drop(self, output: str, position: int) -> BatchId | None:
        """That output waits no more; None where it had not."""
        key = self.at.get(position)
        waiting = self.waiting.get(key, set()) if key is not None else set()
        if (output, position) not in waiting:
            return None
        waiting.remove((output, position))
        return key


class Ledger:
    """Every batch, from its source to its files."""

    def __init__(self, shape: Shape, guarantee: Guarantee) -> None:
        self._shape = shape
        self._guarantee = guarantee
        tiers = shape.topology.tiers
        self._ways = {
            (tier.name, output): shape.stores(tier.name, output)
            for tier in tiers.values()
            for output in tier.outputs
        }
        self.outputs = {store: Published() for way in self._ways.values() for store in way}
        self.stored: dict[tuple[str, BatchId], Counter[bool]] = {}  # by tier: copies by flag
        self.arrived: Counter[str] = Counter()  # batches from peers, by node
        self._disks: dict[str, Disk] = {}  # by machine
        self._promised: dict[tuple[str, BatchId], int] = {}  # copies, by store
        self._headers: dict[BatchId, Mapping[str, str]] = {}
        self._wanting: dict[BatchId, frozenset[str]] = {}  # stores, by its route
        self._lines: dict[BatchId, frozenset[bytes]] = {}
        self._went_back: dict[BatchId, str] = {}  # whose last copy was on that machine's disk

    # -- a commit --------------------------------------------------------------------------

    def committed(
        self, boot: "Boot", channel: bytes, done: Done, queues: Callable[[int], list[str]]
    ) -> None:
        """A group is on disk; `queues` tells which outputs wait for what is at a position. Raises
        Violation."""
        disk = self._disk(boot, channel)
        for item, positions, *_ in done:
            change = item.change
            for put, position in zip(change.puts, positions, strict=True):
                if position:  # else the channel had it, and left it out
                    self._put(disk, put, position, queues(position))
            self._read(disk, change.records.get(POSITION_KEY))
            for handed in change.handed:
                self._handed(disk, handed)
            for output, position, reason in (*change.dead, *change.damaged):
                if self._guarantee != "end" or position not in boot.node.damaged:
                    where = f"{boot.name}, {output} {position}"
                    raise Violation(f"dead letter: {where}: {reason}")
                # Upstream has it still, and is told that it is not here.
                disk.seen.discard(disk.at[position])
            for output, position in change.releases:
                self._released(disk, output, position)

    def _disk(self, boot: "Boot", channel: bytes) -> Disk:
        disk = self._disks.get(boot.machine)
        if disk is None:
            disk = Disk(channel, boot.name, self._shape.topology.tier_of(boot.name).name)
            self._disks[boot.machine] = disk
        disk.channel = channel  # another where it was renewed
        return disk

    def _put(self, disk: Disk, put: Put, position: int, outputs: list[str]) -> None:
        key = put.id
        if key in disk.seen:
            raise Violation(f"stored twice by one receiver: {show(key)} in tier {disk.tier}")
        disk.seen.add(key)
        disk.at[position] = key
        disk.waiting.setdefault(key, set()).update((output, position) for output in outputs)
        if put.arrived:
            self.arrived[disk.node] += 1
        else:
            if key in self._lines:
                raise Violation(f"an id was given twice: {show(key)} by {disk.node}")
            disk.accepted += put.count
            disk.own.add(key)
            self._lines[key] = frozenset(bytes(split(put.record)[1]).splitlines())
            self._headers[key] = open_envelope(put.record).headers
            self._wanting[key] = self._shape.wanting(disk.tier, self._headers[key])
            for store in sorted(self._wanting[key]):
                self._promised[store, key] = 1
        self._check_route(disk, key, outputs)
        copies = self.stored.setdefault((disk.tier, key), Counter())
        copies[put.flagged] += 1
        if copies[False] > 1:
            raise Violation(f"two unflagged copies of {show(key)} in tier {disk.tier}")

    def _read(self, disk: Disk, position: bytes | None) -> None:
        if position is None:
            return
        disk.read = int(position) - 1
        if disk.read > disk.accepted:
            unread = f"{disk.accepted} of {disk.read} lines"
            raise Violation(f"the position of {disk.node} is ahead of what is on disk: {unread}")

    def _leads(self, disk: Disk, output: str, key: BatchId) -> list[str]:
        """Stores that are to have the batch, and get it by that output."""
        return [one for one in self._ways[disk.tier, output] if one in self._wanting[key]]

    def _check_route(self, disk: Disk, key: BatchId, outputs: list[str]) -> None:
        """It waits for none but those of its route. Raises Violation."""
        route = self._shape.topology.tiers[disk.tier].route
        if strange := {*outputs} - {*route.of(self._headers[key]).outputs}:
            raise Violation(f"{show(key)} waits for {strange} of {disk.tier}, against its route")

    def check_stored(self, machine: str, upto: int, why: str) -> None:
        """All lines up to this one are to be on a machine's disk. Raises Violation."""
        if (found := self.read_upto(machine)) < upto:
            raise Violation(f"line {upto} of {machine} {why}, and {found} are on disk")

    def read_upto(self, machine: str) -> int:
        """The last line of its source that is on a machine's disk."""
        return self._disks[machine].read if machine in self._disks else 0

    def _handed(self, disk: Disk, handed: Handed) -> None:
        key = disk.at[handed.position]
        # Of a record that is damaged there, only those outputs that have met it ask for another.
        below = {
            store
            for there in self._disks.values()
            if there.channel == handed.to.channel
            for output, _ in there.waiting.get(key, ())
            for store in self._ways[there.tier, output]
        }
        if (handed.output, handed.position) not in disk.waiting[key]:
            return  # let go of, or damaged, meanwhile
        if self._guarantee == "end":
            for store in below.intersection(self._leads(disk, handed.output, key)):
                self._promised[store, key] = 2
        self._check(f"{disk.node} hands {show(key)} to {handed.to.agent}", disk, handed.output, key)

    def _released(self, disk: Disk, output: str, position: int) -> None:
        key = disk.drop(output, position)
        if key is None:
            return
        what = f"{disk.node} released {show(key)}"
        here = output not in self._shape.topology.tiers[disk.tier].next
        for store in self._leads(disk, output, key):
            if (here or self._guarantee == "end") and key not in self.outputs[store].batches:
                raise Violation(f"{what} before it is published in {store}")
        if not here and (output, key) not in self.stored:
            raise Violation(f"{what}, stored nowhere in {output}")
        self._check(what, disk, output, key)

    # -- copies ----------------------------------------------------------------------------

    def _check(self, what: str, disk: Disk, output: str, key: BatchId) -> None:
        """As many copies as were promised."""
        for store in self._leads(disk, output, key):
            if key in self.outputs[store].batches:
                continue
            found, promised = self._copies(store, key), self._promised[store, key]
            if found < promised:
                left = f"{found} of {promised} copies are left for {store}"
                raise Violation(f"{what}: {left}")

    def _copies(self, store: str, key: BatchId) -> int:
        """On how many disks something waits that leads there."""
        return sum(
            any(store in self._ways[disk.tier, output] for output, _ in disk.waiting.get(key, ()))
            for disk in self._disks.values()
        )

    def lost(self, machine: str) -> None:
        """A machine's disk is gone for good. Raises Violation."""
        disk = self._disks.pop(machine, None)
        if disk is not None:
            waiting = [(key, *one) for key, several in disk.waiting.items() for one in several]
            disk.waiting.clear()
            for key, output, _ in waiting:
                self._one_less(f"the disk of {machine} is lost", disk, output, key)

    def damaged(self, machine: str, position: int) -> None:
        """A record cannot be read any more. Raises Violation."""
        disk = self._disks[machine]
        key = disk.at[position]
        for output, at in list(disk.waiting[key]):
            if at == position:
                disk.drop(output, at)
                self._one_less(f"a record of {machine} is damaged", disk, output, key)

    def image(self, machine: str) -> Disk | None:
        """What is on a machine's disk now."""
        return copy.deepcopy(self._disks.get(machine))

    def cloned(self, machine: str, image: Disk | None) -> None:
        """There is another machine with that on its disk."""
        if image is not None:
            self._disks[machine] = copy.deepcopy(image)

    def went_back(self, machine: str, image: Disk | None) -> None:
        """A machine's disk is what it was. Raises Violation."""
        before = self._disks.pop(machine, None)
        self.cloned(machine, image)
        if before is None:
            return
        there = image.waiting if image is not None else {}
        for key, several in before.waiting.items():
            still = {output for output, _ in there.get(key, ())}
            for output in sorted({output for output, _ in several} - still):
                self._went_back[key] = machine
                self._one_less(f"the disk of {machine} went back", before, output, key)

    def _one_less(self, what: str, disk: Disk, output: str, key: BatchId) -> None:
        # "hop" promises nothing of lost disks; "end" that any one may be lost, but for what was
        # on no other yet.
        for store in self._leads(disk, output, key):
            alone = key in disk.own and not self._copies(store, key)
            self._promised[store, key] = 1 if self._guarantee == "end" and not alone else 0
        self._check(f"{what}, and with it {show(key)}", disk, output, key)

    # -- in the end ------------------------------------------------------------------------

    def missing(self, store: str) -> int:
        """Lines that were accepted for a store and are not published there."""
        published = self.outputs[store].lines
        return sum(
            line not in published
            for (where, key) in self._promised
            if where == store
            for line in self._lines[key]
        )

    def excused(self, store: str) -> int:
        """Lines that may be missing there for good: with "hop", those that went with a disk."""
        return sum(len(self._lines[key]) for key in self._excused(store))

    def _excused(self, store: str) -> Iterator[BatchId]:
        for (where, key), promised in self._promised.items():
            gone = where == store and not promised and key not in self.outputs[store].batches
            if gone and not self._copies(store, key):
                yield key

    def unaccounted(self, store: str, gaps: Iterable[BatchId]) -> list[BatchId]:
        """Those that an audit misses there without a reason."""
        return sorted({*gaps} - {*self._excused(store)})

    def check_routes(self) -> None:
        """Nothing is published where it was not to be. Raises Violation."""
        for store, published in self.outputs.items():
            for key in published.batches:
                if store not in self._wanting[key]:
                    raise Violation(f"{show(key)} is published in {store}, against its route")

    def to_be_told(self) -> set[str]:
        """Machines whose disks went back, and lines with them that are nowhere."""
        gone = {key for store in self.outputs for key in self._excused(store)}
        return {machine for key, machine in self._went_back.items() if key in gone}
