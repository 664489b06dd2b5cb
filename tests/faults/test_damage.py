"""Channel files of running tiers damaged: a body costs its batch, anything else the channel, and
never is a wrong byte published, or an agent started again and again."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmdb.verify import verify

from tests.faults.cluster import Cluster
from tests.faults.settling import PATIENCE_S
from tests.waiting import wait_for
from tiers.channel.environment import Environment
from tiers.channel.layout import POSITION, QUEUE_KEY
from tiers.core.batch import open_envelope, split
from tiers.core.codecs import decompress

# Small batches, so that many rest in a channel.
SMALL = '[batch]\nsize = "4KiB"\n'
LINES = 4000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, edges=1, aggregators=1, sinks=1, extra=SMALL, roll_after="1h")
    yield made
    made.close()


def queued(cluster: Cluster, name: str) -> int:
    """Events that rest in an agent's channel."""
    status = cluster.status(name)
    return sum(output["events"] for output in status["outputs"]) if status else 0


def rest(cluster: Cluster, name: str, events: int) -> None:
    """Agents up to `name` run until the events rest in its channel; it alone is killed then."""
    wait_for(lambda: queued(cluster, name) == events, f"all rests in {name}: {cluster.log(name)}")
    cluster.kill(name)


def data_file(cluster: Cluster, name: str) -> Path:
    return cluster.data / name / "channel" / "data.mdb"


def records(file: Path) -> dict[int, bytes]:
    """Every record of a stopped agent's channel by position."""
    environment = Environment(file.parent, 1 << 20, readonly=True)
    try:
        with environment.reading() as txn:
            rows = list(txn.cursor(environment.db["batches"]))
            queue = {QUEUE_KEY.unpack(key)[1] for key, _ in txn.cursor(environment.db["queue"])}
    finally:
        environment.close()
    found = {POSITION.unpack(key)[0]: value for key, value in rows}
    return {position: record for position, record in found.items() if position in queue}


def flip(file: Path, what: bytes, at: int) -> None:
    """Flips one bit in every copy of `what`."""
    data = file.read_bytes()
    place = data.find(what)
    assert place >= 0
    with file.open("r+b") as stream:
        while place >= 0:
            stream.seek(place + at)
            stream.write(bytes([data[place + at] ^ 0x10]))
            place = data.find(what, place + 1)


def lines_of(record: bytes) -> Counter[bytes]:
    _, body = split(record)
    raw = decompress("zstd", body, open_envelope(record).size)
    return Counter(raw.splitlines(keepends=True))


def damage_bodies(file: Path) -> Counter[bytes]:
    """A bit in the body of one batch, one in a key of another's envelope, and one in the `seq` of
    a third, which makes it that of a fourth; the lines that costs."""
    lost: Counter[bytes] = Counter()
    by_seq = {open_envelope(record).seq: record for record in records(file).values()}
    third = next(seq for seq in by_seq if seq < 128 and seq ^ 0x10 in by_seq)
    first, second = (seq for seq in sorted(by_seq)[-2:] if seq != third)
    for seq, at in (
        (first, len(by_seq[first]) - 40),
        (second, 5),
        (third, by_seq[third].index(b"\xa3seq") + 4),
    ):
        flip(file, by_seq[seq], at)
        lost += lines_of(by_seq[seq])
    return lost


def audited(cluster: Cluster) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(cluster.command("audit", "--json").stdout)
    return report


def test_a_damaged_body_goes_to_the_dead_letters_and_the_rest_flows_on(cluster: Cluster) -> None:
    lost: Counter[bytes] = Counter()
    cluster.write("edge-1", LINES)
    running = []
    for name in ("edge-1", "agg-1", "sink-1"):
        running.append(name)
        cluster.start(name)
        rest(cluster, name, LINES - lost.total())
        lost += damage_bodies(data_file(cluster, name))
        if name == "sink-1":
            cluster.roll_after = "1s"
            cluster.write_topology()
        cluster.start(name)
    wanted = cluster.wanted() - lost.keys()
    wait_for(lambda: wanted <= cluster.published().keys(), "the rest is published", PATIENCE_S)
    for name in running:
        status = cluster.status(name)
        assert status is not None
        assert (status["channel"]["dead"], status["healthy"]) == (3, False)
        assert "dead letter" in (shown := cluster.command("status").stdout), shown
    report = audited(cluster)
    assert report["ok"], report
    assert cluster.drain() == {"edge-1": 1, "agg-1": 1, "sink-1": 1}
    assert cluster.published() == Counter(wanted)
    for name in running:
        assert "Traceback" not in cluster.log(name)


def damage_tree(file: Path) -> None:
    """Bits in the heads of pages that are in use, until lmdb.verify finds it."""
    size = file.stat().st_size
    for page in range(2, size // 4096):
        with file.open("r+b") as stream:
            stream.seek(page * 4096 + 10)  # flags of the page
            (byte,) = stream.read(1)
            stream.seek(page * 4096 + 10)
            stream.write(bytes([byte ^ 0x10]))
        if any(verify(str(file.parent))):  # type: ignore[no-untyped-call]
            return
    raise AssertionError("nothing to damage")


def truncate(file: Path) -> None:
    """Less and less of the file, until a page is gone that is in use."""
    while not any(verify(str(file.parent))):  # type: ignore[no-untyped-call]
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size * 2 // 3)


@pytest.mark.parametrize("damage", [damage_tree, truncate])
def test_a_damaged_file_is_set_aside_and_the_agent_goes_on(cluster: Cluster, damage: Any) -> None:
    cluster.write("edge-1", LINES)
    cluster.start()
    channels = {}
    # From the last to the first, so that what the edge reads again has a way that is open.
    for name in ("sink-1", "agg-1", "edge-1"):
        wait_for(lambda: queued(cluster, "sink-1") == LINES, "all rests in the sink")
        status = cluster.status(name)
        assert status is not None
        channels[name] = status["channel"]["id"]
        cluster.kill(name)
        damage(data_file(cluster, name))
        check = cluster.tiers("channel", "check", str(cluster.data / name))
        assert (check.returncode, "Traceback" in check.stderr) == (1, False), check
        info = cluster.tiers("channel", "info", str(cluster.data / name))
        assert (info.returncode, "Traceback" in info.stderr) == (2, False), info
        cluster.start(name)
        wait_for(lambda n=name: cluster.status(n), f"{name} runs: {cluster.log(name)}")  # type: ignore[misc]
        fresh = cluster.status(name)
        assert fresh is not None
        assert fresh["channel"]["id"] != channels[name]
        assert "set aside as channel.damaged-" in fresh["channel"]["set_aside"]
        assert fresh["healthy"] is False
        assert "set aside" in cluster.command("status").stdout
        if name == "sink-1":  # what rested there is gone with its channel; written again
            cluster.write("edge-1", LINES)
    cluster.roll_after = "1s"
    cluster.write_topology()
    cluster.stop("sink-1")
    cluster.start("sink-1")
    # The edge read its files from the beginning.
    wait_for(lambda: cluster.wanted() <= cluster.published().keys(), "published", PATIENCE_S)
    assert set(cluster.drain().values()) == {0}
    lines = cluster.published()
    assert lines.keys() == cluster.wanted()
    assert lines.total() == 3 * LINES
    assert "Traceback" not in "".join(map(cluster.log, cluster.agents))
