"""Channel files damaged at many places, each opened and salvaged; a line for each kind of node.

    python -m tests.channel.damage --places 300 [--seed N]

A place is one flipped bit, or (each sixth) a tail cut off. What must hold, or it says which place
broke it: an open never fails and never believes a wrong byte; one flipped bit costs one batch at
most, which is named; of a file whose tail is gone every batch that lies before the cut is found;
nothing is in the new channel that was not in the old one, byte for byte.
"""

import argparse
import asyncio
import logging
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from tests.channel.making import opened, record
from tiers.agent.salvaging import Salvage
from tiers.channel.channel import Channel
from tiers.channel.salvage.index import RecordPlace, read_index
from tiers.channel.salvage.pages import PAGE_BYTES, PageFile
from tiers.channel.salvage.salvage import Batch, SalvageHead
from tiers.channel.salvage.salvage import salvage as salvage_of
from tiers.core.batch import BatchId, Hop, open_envelope
from tiers.core.change import Change, ChannelLimits, Put
from tiers.core.entry.routes import everywhere
from tiers.errors import BatchError

LIMITS = ChannelLimits(size_bytes_max=32 << 20, free_floor_bytes=0)
KINDS = {"edge": ("aggregator",), "aggregator": ("sink",), "sink": ("files", "archive")}
BODIES = (60, 700, 2000, 6000, 30_000)
CUT_EVERY = 6
CHILD_EVERY = 10  # of what is set aside: read by a child as an agent does
RETENTION_S = 1e10
BATCHES = 90
POSITION = b"position/tail/8-15"
LAST = msgpack.packb([100 * BATCHES])
BEFORE = msgpack.packb([100 * (BATCHES - 1)])


@dataclass
class Base:
    """A channel that has lived, and what is in it."""

    directory: Path
    outputs: tuple[str, ...]
    records: dict[BatchId, bytes] = field(default_factory=dict)  # every one that ever was
    waiting: dict[BatchId, set[str]] = field(default_factory=dict)  # of those that are there
    dead: set[BatchId] = field(default_factory=set)
    places: dict[BatchId, RecordPlace] = field(default_factory=dict)

    @property
    def live(self) -> set[BatchId]:
        return {*self.waiting, *self.dead}


async def make(directory: Path, kind: str, seed: int) -> Base:
    rng = random.Random(seed)
    base = Base(directory, KINDS[kind])
    async with opened(directory, LIMITS, base.outputs) as channel:
        origins = [rng.randbytes(16) for _ in range(3)]
        for number in range(1, BATCHES + 1):
            origin, seq = rng.choice(origins), number
            if kind == "edge":
                origin, seq = channel.origin, channel.next_seq()
            one = BatchId(origin, seq)
            base.records[one] = record(origin, seq, rng.randbytes(rng.choice(BODIES)))
            offset = msgpack.packb([number * 100])
            note = msgpack.packb([b"position/tail/", {b"8-15": offset}])
            put = Put(
                one,
                base.records[one],
                1,
                base.outputs,
                flagged=rng.random() < 0.2,
                hops=(Hop("edge-1", 1),),
                arrived=kind != "edge",
                note=note if kind == "edge" else b"",
            )
            key = POSITION if kind == "edge" else b"plan/files/%010d" % number
            (position,) = await channel.submit(Change(puts=[put], records={key: offset}))
            await _age(channel, base, one, position, rng)
    file = PageFile(directory / "channel" / "data.mdb")
    index = read_index(file)
    for position, items in index.items.items():
        base.places[next(iter(items.values())).id] = index.places[position]
    for position, letters in index.letters.items():
        base.places[letters[0].item.id] = index.places[position]
    assert base.live == set(base.places)
    file.close()
    return base


async def _age(
    channel: Channel, base: Base, one: BatchId, position: int, rng: random.Random
) -> None:
    """Half of what comes leaves again, some by one output only, and a few die."""
    base.waiting[one] = set(base.outputs)
    fate = rng.random()
    if fate < 0.1:
        output = base.outputs[0]
        base.waiting[one].remove(output)
        base.dead.add(one)
        await channel.submit(Change(dead=[(output, position, "too bad")]))
    elif fate < 0.6:
        gone = base.outputs if fate < 0.5 else base.outputs[:1]
        await channel.submit(Change(releases=[(output, position) for output in gone]))
        base.waiting[one].difference_update(gone)
    if not base.waiting[one]:
        del base.waiting[one]


def damage(data: bytes, pages: list[int], number: int, rng: random.Random) -> tuple[bytes, str]:
    """The damaged bytes, and what was done. `pages` are those of trees that are in use: of the
    others most hold bodies, or nothing."""
    if number % CUT_EVERY == 0:
        end = rng.randrange(len(data))
        return data[:end], f"cut off at {end}"
    at = rng.randrange(len(data))
    if number % 3:
        page = rng.choice(pages) * PAGE_BYTES
        upper = int.from_bytes(data[page + 14 : page + 16], "little")
        begin, end = (0, 64) if page < 2 * PAGE_BYTES or rng.random() < 0.4 else (upper, PAGE_BYTES)
        at = page + rng.randrange(min(begin, PAGE_BYTES - 1), 160 if page < 2 * PAGE_BYTES else end)
    bit = rng.randrange(8)
    damaged = bytearray(data)
    damaged[at] ^= 1 << bit
    return bytes(damaged), f"bit {bit} of byte {at} flipped"


def tree_pages(file: PageFile) -> list[int]:
    """Pages in use that are no bodies: the meta pages, roots, and leaves."""
    main = file.metas()[0].main
    trees = [main, *(tree for node in file.walk(main) if (tree := file.tree(node)))]
    pages = {0, 1, *(tree.root for tree in trees if tree.entries)}
    for tree in trees:
        pages |= {node.offset // PAGE_BYTES for node in file.walk(tree) if node.size < 2000}
    return sorted(pages)


async def look(base: Base, work: Path, *, child: bool, cut_at: int | None) -> str:
    """Opens the damaged channel as an agent does; what became of it."""
    async with opened(work, LIMITS, base.outputs) as channel:
        if not channel.stats().set_aside:
            lost = base.live - _readable(base, channel)
            assert len(lost) <= 1, f"{len(lost)} are not readable"
            await _goes_on(base, channel)
            return "body damaged" if lost else "harmless"
        found, named, position = await (_put_back if child else _told)(base, work, channel)
    missing = base.live - found
    if cut_at is not None:
        page = cut_at - cut_at % PAGE_BYTES
        before = {one for one, place in base.places.items() if sum(place) <= page}
        assert not missing & before, f"{len(missing & before)} before the cut are missing"
        return "cut, salvaged"
    assert len(missing) <= 1, f"{len(missing)} are missing"
    assert missing <= named, "what is missing is not named"
    # It may be behind by what was damaged, and is then said to be.
    assert position in ((LAST, BEFORE) if "aggregator" in base.outputs else (b"",)), position
    return "set aside, all salvaged" if not missing else "set aside, a batch lost"


async def _goes_on(base: Base, channel: Channel) -> None:
    """Everything leaves, and more comes than was there: free pages are used, all of them."""
    for output in base.outputs:
        entries = channel.entries(output)
        await channel.submit(Change(releases=[(output, one.position) for one in entries]))
    for size in (100, 20_000, 3000, 400_000):
        one = BatchId(b"of somebody else", size)
        body = record(*one, bytes(size))
        put = Put(one, body, 1, base.outputs, arrived=True)
        (position,) = await channel.submit(Change(puts=[put]))
        assert channel.record(position) == body


Found = tuple[set[BatchId], set[BatchId], bytes]


async def _put_back(base: Base, work: Path, channel: Channel) -> Found:
    """Salvaged by a child into the new channel: what is readable there, what is named as lost,
    and positions of sources."""
    salvage = Salvage(work, channel, everywhere(base.outputs), (), RETENTION_S)
    await salvage.begin()
    await salvage.run()
    assert salvage.settled()
    for output in base.outputs:
        assert all(entry.flagged for entry in channel.entries(output))
    letters = zip(channel.letters(), channel.dead_letters(), strict=True)
    lost = {head.id for head, letter in letters if not letter.record}
    return _readable(base, channel), lost, channel.records(POSITION).get(POSITION, b"")


async def _told(base: Base, work: Path, channel: Channel) -> Found:
    """The same of what a reader in this process tells: a tenth of the time."""
    found: set[BatchId] = set()
    named: set[BatchId] = set()
    position = b""
    for told in salvage_of(next(work.glob("channel.damaged-*")), 0):
        if isinstance(told, SalvageHead):
            position = told.positions.get(POSITION, b"")
            assert not told.positions_whole or position in (b"", LAST), "a position is behind"
        elif isinstance(told, Batch):
            one = BatchId(told.origin, told.seq)
            if not told.record:
                named.add(one)
                continue
            assert told.record == base.records[one], f"{one} is not what it was"
            assert one not in found, f"{one} is told twice"
            outputs = base.outputs if told.outputs is None else told.outputs
            waiting = base.waiting.get(one, set())
            assert waiting <= {*outputs, *(output for output, _ in told.letters)}, (
                f"{one} forgotten"
            )
            found.add(one)
    return found, named, position


def _readable(base: Base, channel: Channel) -> set[BatchId]:
    """Batches of which every output that waited has what they were; the dead ones among them."""
    found: dict[BatchId, set[str]] = {}
    for output in base.outputs:
        for entry in channel.entries(output):
            try:
                assert channel.record(entry.position) == base.records[entry.id]
            except BatchError:
                continue
            found.setdefault(entry.id, set()).add(output)
    for letter in channel.dead_letters():
        if letter.record:
            one = open_envelope(letter.record).id
            assert letter.record == base.records[one]
            found.setdefault(one, set()).add(letter.output)
    return {one for one, outputs in found.items() if base.waiting.get(one, set()) <= outputs}


async def run(kind: str, places: int, seed: int, directory: Path) -> Counter[str]:
    """What became of a channel of that kind at each of so many places. AssertionError where
    something did that must not."""
    base = await make(directory / "base", kind, seed)
    data = (base.directory / "channel" / "data.mdb").read_bytes()
    file = PageFile(base.directory / "channel" / "data.mdb")
    pages = tree_pages(file)
    file.close()
    rng = random.Random(seed + 1)
    outcomes: Counter[str] = Counter()
    for number in range(places):
        work = directory / "work"
        shutil.rmtree(work, ignore_errors=True)
        (work / "channel").mkdir(parents=True)
        damaged, what = damage(data, pages, number, rng)
        (work / "channel" / "data.mdb").write_bytes(damaged)
        try:
            cut_at = len(damaged) if len(damaged) < len(data) else None
            child = number % CHILD_EVERY == 1
            outcomes[await look(base, work, child=child, cut_at=cut_at)] += 1
        except Exception as error:
            raise AssertionError(
                f"{kind}, seed {seed}, place {number}, {what}: {error!r}"
            ) from error
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--places", type=int, default=300, help="of each kind of node")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"replay with --places {options.places} --seed {options.seed}", flush=True)
    logging.disable()
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as directory:
            told = asyncio.run(run(kind, options.places, options.seed, Path(directory)))
        told_text = ", ".join(f"{what}: {count}" for what, count in sorted(told.items()))
        print(f"{kind}: {told_text}", flush=True)


if __name__ == "__main__":
    main()
