"""Power cuts: writes and syncs of an edge and a sink are recorded, and their disks are rebuilt as
a power cut at many moments, of both at once, could have left them.

    python -m tests.power.cuts --cuts 300 [--restarts 5] [--seed N]

At each: the channels open and are sound; every batch that an agent had said is on disk is there: of
what the sink had acked, in its channel or in a published file, of the edge's also in the edge's (so
no ack has left before the sync that covers it); every published file is whole and has its manifest.
From some of them the agents are started again: in the end every line is published exactly once.
"""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.cluster import free_port_pair, published_files
from tests.faults.counting import GENERATED, Pauses, Published
from tests.power.disk import Disk, Entry, entries
from tiers.channel.channel import Channel
from tiers.channel.checking import value_problems
from tiers.core.change import ChannelLimits
from tiers.core.commit.manifest import Manifest, decode
from tiers.observe.client import tell_drain

Environ = dict[str, str]
LINES = 3000
LIMITS = ChannelLimits(size_bytes_max=64 << 20, free_floor_bytes=0)
TOPOLOGY = """
name = "power"
data = "{data}"
[batch]
size = "4KiB"
codec = "none"
[channel]
size = "64MiB"
free_floor = "1MiB"
[tiers.edge]
agents = ["edge"]
next = "sink"
[tiers.sink]
agents = {{ sink = "127.0.0.1:{port}" }}
[[tiers.edge.sources]]
type = "generate"
count = {lines}
rate = 2000
size = 60
[[tiers.sink.sinks]]
type = "directory"
root = "{out}"
path = "%Y/%m/%d"
codec = "none"
roll_size = "16KiB"
roll_after = "100ms"
"""


def build(directory: Path) -> Path:
    """The recorder, compiled."""
    library = directory / "record.so"
    source = Path(__file__).parent / "record.c"
    subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-lpthread"], check=True
    )
    return library


def topology(directory: Path) -> Path:
    file = directory / "topology.toml"
    places = {"data": directory / "data", "out": directory / "out", "port": free_port_pair()}
    file.write_text(TOPOLOGY.format(**places, lines=LINES))
    return file


def run_both(file: Path, module: str, more: dict[str, list[str]], environment: Environ) -> None:
    """The edge until it has drained, then the sink until it has."""
    command = [sys.executable, "-m", *module.split(), str(file)]
    sink = subprocess.Popen([*command, "sink", *more["sink"]], env=environment)
    try:
        subprocess.run([*command, "edge", *more["edge"]], env=environment, check=True, timeout=120)
        answer = asyncio.run(tell_drain(file.parent / "data" / "sink"))
        assert isinstance(answer, dict), answer
        assert sink.wait(60) == 0
    finally:
        sink.kill()
        sink.wait()


def record(directory: Path, careless: str = "") -> tuple[list[Entry], str]:
    """What two agents did to their disk from their first start to their drain, and its path."""
    disk = directory / "disk"
    disk.mkdir()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(build(directory)),
        "TIERS_POWER_ROOT": str(disk),
        "TIERS_POWER_LOG": str(directory / "record"),
    }
    more = {
        "edge": [str(disk / "edge.marks"), "drain", careless],
        "sink": [str(disk / "sink.marks"), "run", careless],
    }
    run_both(topology(disk), "tests.power.child", more, environment)
    return entries(directory / "record"), str(disk.resolve())


class Cuts:
    """Goes once through the record, and looks at images on the way."""

    def __init__(self, record: list[Entry], root: str, work: Path, seed: int) -> None:
        self._record = record
        self._disk = Disk(root)
        self._work = work
        self._rng = random.Random(seed)
        self._marks = {"edge": b"", "sink": b""}  # what each had said is on disk
        self._marks_inodes: dict[int, str] = {}
        self.acked = 0  # batches that had to be there, over all cuts

    def moments(self, count: int) -> set[int]:
        """Half of them right after something was said to be on disk, where it is most likely that
        it is not."""
        said = [at for at, one in enumerate(self._record) if one.data.startswith(b"+")]
        half = self._rng.sample(said, min(count // 2, len(said)))
        return {*half, *self._rng.sample(range(len(self._record)), count - len(half))}

    async def run(self, count: int, restarts: int) -> None:
        moments = self.moments(count)
        again = set(self._rng.sample(sorted(moments), restarts))
        for at, one in enumerate(self._record):
            self._take(one)
            if at in moments:
                image = self._work / "image"
                shutil.rmtree(image, ignore_errors=True)
                self._disk.image(image, self._rng, self._rng.choice((0.0, 0.0, 0.5, 0.9, 1.0)))
                try:
                    await self._look(image)
                    if at in again:
                        await asyncio.to_thread(_start_again, image)
                except Exception as error:
                    raise AssertionError(f"power cut after entry {at}: {error!r}") from error

    def _take(self, one: Entry) -> None:
        if one.op == "C" and one.data.endswith(b".marks"):
            self._marks_inodes[one.inode] = Path(one.data.decode()).stem
        elif one.inode in self._marks_inodes and one.op == "W":
            self._marks[self._marks_inodes[one.inode]] += one.data
        self._disk.take(one)

    async def _look(self, image: Path) -> None:
        there = _published(image / "out")
        for agent, output in (("sink", "directory"), ("edge", "sink")):
            if (image / "data" / agent / "channel").exists():
                there |= await _held(image / "data" / agent, output)
            said = {line[1:].decode() for line in self._marks[agent].splitlines()}
            missing = said - there
            assert not missing, (
                f"{len(missing)} of {len(said)} acked by the {agent} are missing: {min(missing)}"
            )
            self.acked += len(said)


async def _held(directory: Path, output: str) -> set[str]:
    """Batches in the channel of one agent, which is sound."""
    channel = await Channel.open(directory, LIMITS, [output])
    try:
        assert channel.stats().set_aside == "", channel.stats().set_aside
        assert list(value_problems(channel._environment, bodies=True)) == []
        return {str(one.id) for one in channel.entries(output, limit=10**6)}
    finally:
        await channel.close()


def _published(out: Path) -> set[str]:
    """Batches in published files, each of which is whole."""
    ids: set[str] = set()
    manifests = [decode(file.read_bytes()) for file in out.glob(".tiers/*/manifests/*")]
    by_path = {one.path: one for one in manifests}
    assert len(by_path) == len(manifests)
    for file in out.rglob("*"):
        path = str(file.relative_to(out))
        if file.is_file() and not path.startswith(".tiers"):
            assert _is_whole(file, by_path[path]), f"{path} is published and not whole"
    for one in manifests:
        day = out / ".tiers" / one.day
        if not (day / "tmp" / one.name).exists() and not (day / "void" / one.name).exists():
            assert (out / one.path).exists(), f"{one.path} has a manifest and is nowhere"
            ids |= {str(item.id) for item in one.items}
    return ids


def _is_whole(file: Path, manifest: Manifest) -> bool:
    data = file.read_bytes()
    events = sum(item.events for item in manifest.items)
    return (len(data), data.count(b"\n")) == (manifest.size_bytes, events)


def _start_again(image: Path) -> None:
    """The agents run on from what is left, to the end: every line once."""
    environment = dict(os.environ)
    pauses = Pauses(lambda: {"": len(published_files(image / "out"))})
    pauses.lines_wait()
    try:
        run_both(topology(image), "tiers agent", {"edge": ["--drain"], "sink": []}, environment)
    finally:
        pauses.close()
    found = Published().look(published_files(image / "out")).against({GENERATED: LINES})
    found.longest_pause_s = pauses.longest_s.get("", 0.0)
    print(found)
    assert found.right, found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=300)
    parser.add_argument("--restarts", type=int, default=5, help="of these, with the agents")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        recorded, root = record(directory)
        cuts = Cuts(recorded, root, directory, options.seed)
        asyncio.run(cuts.run(options.cuts, options.restarts))
    syncs = sum(one.op in "SD" for one in recorded)
    print(
        f"{options.cuts} power cuts among {len(recorded)} writes, names and syncs ({syncs} syncs): "
        f"{cuts.acked} acked batches asked for, all there"
    )


if __name__ == "__main__":
    main()
