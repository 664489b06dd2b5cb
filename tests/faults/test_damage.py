"""Channel files of running tiers damaged: a body costs its batch, anything else the channel, and
never is a wrong byte published, or an agent started again and again."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmdb.verify import verify

from tests.faults.cluster import Cluster, Writer
from tests.faults.settling import (
    PATIENCE_S,
    all_published,
    audited,
    flows_on,
    settle,
    tell,
)
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
    all_published(cluster, missing=lost.total())
    for name in running:
        status = cluster.status(name)
        assert status is not None
        assert (status["channel"]["dead"], status["healthy"]) == (3, False)
        assert "dead letter" in (shown := cluster.command("status").stdout), shown
    audited(cluster)
    assert cluster.drain() == {"edge-1": 1, "agg-1": 1, "sink-1": 1}
    (count,) = tell(cluster, "named in dead letters")
    assert (count.missing, count.doubled) == (lost.total(), 0)
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


def salvage_of(cluster: Cluster, name: str) -> dict[str, Any]:
    """What an agent says of the channel that it had set aside, once it is through with it."""

    def told() -> dict[str, Any]:
        status = cluster.status(name)
        found: list[dict[str, Any]] = status["channel"]["salvage"] if status else []
        return found[0] if found and found[0]["state"] != "reading" else {}

    return wait_for(told, f"{name} has salvaged: {cluster.log(name)}", PATIENCE_S)


def damaged(cluster: Cluster, name: str, damage: Any) -> dict[str, Any]:
    """The channel of an agent that was killed is damaged, and the agent started; what it says."""
    damage(data_file(cluster, name))
    for verb, wanted in (("check", 1), ("info", 2)):
        told = cluster.tiers("channel", verb, str(cluster.data / name))
        assert (told.returncode, "Traceback" in told.stderr) == (wanted, False), told
    cluster.start(name)
    salvage = salvage_of(cluster, name)
    status = cluster.status(name)
    assert status is not None
    assert "set aside as channel.damaged-" in status["channel"]["set_aside"]
    assert "batches (" in status["channel"]["set_aside"]
    return salvage


def test_a_damaged_tree_costs_nothing_in_any_node(cluster: Cluster) -> None:
    cluster.write("edge-1", LINES)
    for name in ("edge-1", "agg-1", "sink-1"):
        cluster.start(name)
        rest(cluster, name, LINES)
        if name == "sink-1":
            cluster.roll_after = "1s"
            cluster.write_topology()
        salvage = damaged(cluster, name, damage_tree)
        assert salvage["whole"], salvage
        assert salvage["events"] == LINES
    all_published(cluster)
    cluster.write("edge-1", 100)  # what is appended later is read on from where it was
    all_published(cluster)
    cluster.wait_running()  # healthy again, all three
    assert "set aside" in cluster.command("status").stdout, "and still it is told"
    settle(cluster)
    assert "Traceback" not in "".join(map(cluster.log, cluster.agents))


@pytest.mark.parametrize("name", ["edge-1", "agg-1", "sink-1"])
def test_a_truncated_file_costs_what_was_cut_off(cluster: Cluster, name: str) -> None:
    cluster.write("edge-1", LINES)
    upstream = ["edge-1", "agg-1", "sink-1"]
    upstream = upstream[: upstream.index(name) + 1]
    cluster.start(*upstream)
    rest(cluster, name, LINES)
    cluster.roll_after = "1s"
    cluster.write_topology()
    salvage = damaged(cluster, name, truncate)
    if others := [other for other in cluster.agents if other not in cluster.children]:
        cluster.start(*others)
    wait_for(
        lambda: all(cluster.status(each) and not queued(cluster, each) for each in cluster.agents),
        "all that there was is published",
        PATIENCE_S,
    )
    cluster.pauses.all_is_published()
    status = cluster.status(name)
    assert status is not None
    assert status["healthy"] == salvage["whole"], "somebody should look"
    ended = cluster.drain()
    assert set(ended.values()) <= {0, 1}, ended
    (count,) = tell(cluster, "the tail of a file was cut off")
    assert count.accepted - count.missing >= salvage["events"] > 0
    if not salvage["again"]:  # a source read files again: outside the promise, and said
        assert not count.doubled, "what is flagged is published once"
    if salvage["whole"]:
        assert not count.missing
    assert "Traceback" not in "".join(map(cluster.log, cluster.agents))


def test_a_tree_damaged_in_mid_stream_costs_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Files of the old channel may be planned, written, half published or just published."""
    # What the old channel has claimed and not published is taken over after that.
    cluster = Cluster(tmp_path, edges=1, extra=SMALL, more='takeover_after = "5s"')
    try:
        cluster.start()
        cluster.wait_running()
        with Writer(cluster):
            flows_on(cluster)
            for name in ("sink-1", "agg-1", "edge-1", "sink-2"):
                cluster.kill(name)
                damage_tree(data_file(cluster, name))
                cluster.start(name)
                salvage = salvage_of(cluster, name)
                assert salvage["whole"], salvage
                flows_on(cluster)
        settle(cluster)
    finally:
        cluster.close()
