"""Disks that go back in time, and disks that are there twice, with real processes: an agent's
directory is put back to an image of it, or begins to live under another name as well.

    what               hop                                    end
    edge set back      read again: doubled, and said          the same
    others set back    what came since may be gone, and said  nothing
    cloned             nothing                                nothing

A line that is missing without a word is never right.
"""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.counting import Count
from tests.faults.inflicting import SHORT
from tests.faults.settling import (
    LOOK_S,
    PATIENCE_S,
    all_published,
    emptied,
    flows_on,
    settle,
    tell,
)
from tests.waiting import wait_for

END = '[delivery]\nguarantee = "end"\nlost_after = "4s"\n'
WENT_BACK = re.compile(r"ERROR \S+ .*the disk went back in time, or is there twice")
MOVED = "this channel was last used on another machine, or as another file"
RENEWED = "the channel was renewed"
HOWS = ("as another file", "in the same file")


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    extra = getattr(request, "param", "")
    edges = 2 if "clone_of_an_edge" in request.node.name else 1
    made = Cluster(tmp_path, edges=edges, more=SHORT, extra=extra, roll_after="2s")
    yield made
    made.close()


def begun(cluster: Cluster, *names: str) -> None:
    for name in names or cluster.agents:
        wait_for(
            partial(cluster.is_healthy, name), f"{name}: {cluster.log(name)}", PATIENCE_S, LOOK_S
        )


def image_of(cluster: Cluster, name: str) -> Path:
    """What is on its disk now: as after SIGKILL, between any two commits."""
    child = cluster.children[name]
    child.send_signal(signal.SIGSTOP)
    image = cluster.directory / "image"
    try:
        sockets = shutil.ignore_patterns("*.sock")
        shutil.copytree(cluster.data / name, image, ignore=sockets)
    finally:
        child.send_signal(signal.SIGCONT)
    return image


def put_back(cluster: Cluster, name: str, image: Path, how: str) -> None:
    there = cluster.data / name
    if how == "as another file":
        shutil.rmtree(there)
        shutil.copytree(image, there)
        return
    file = there / "channel" / "data.mdb"  # as of a disk below the file system: nothing tells
    before = file.stat().st_ino
    with (image / "channel" / "data.mdb").open("rb") as old, file.open("r+b") as stream:
        shutil.copyfileobj(old, stream)
        stream.truncate()
        os.fsync(stream.fileno())
    assert file.stat().st_ino == before


def whole_log(cluster: Cluster, name: str) -> str:
    return (cluster.directory / f"{name}.txt").read_text()


def has_looked(cluster: Cluster, edge: str) -> bool:
    status = cluster.status(edge)
    sources = status["sources"] if status is not None else []
    return any(source["detail"]["watched_directories"] for source in sources)


def quiet(cluster: Cluster, *, all_of_it: bool = False) -> Count:
    """All that is under way has arrived; what became of the lines."""
    if all_of_it:
        all_published(cluster)
    else:
        wait_for(lambda: is_read(cluster), "edges have read all", PATIENCE_S, LOOK_S)
    emptied(cluster)
    cluster.pauses.all_is_published()
    return cluster.count()


def is_read(cluster: Cluster) -> bool:
    """Whether edges, which were never started again, have taken every line."""
    statuses = {edge: cluster.status(edge) for edge in cluster.edges}
    return all(
        status is not None and status["events_in"] >= cluster.written[edge.encode()]
        for edge, status in statuses.items()
    )


def set_back(cluster: Cluster, name: str, how: str) -> None:
    """In mid-stream, behind what others have met."""
    cluster.start()
    begun(cluster)
    with Writer(cluster, lines_per_step=40):
        flows_on(cluster)
        image = image_of(cluster, name)
        flows_on(cluster, 8000)
        cluster.kill(name)
        put_back(cluster, name, image, how)
        cluster.start(name)
        wait_for(
            lambda: RENEWED in whole_log(cluster, name),
            f"{name} is renewed: {cluster.log(name)}",
            PATIENCE_S,
            LOOK_S,
        )
        begun(cluster, name)
        flows_on(cluster)
    assert WENT_BACK.search(whole_log(cluster, name))
    assert (MOVED in whole_log(cluster, name)) is (how == HOWS[0])
    status = cluster.status(name)
    assert status is not None
    assert RENEWED in status["channel"]["news"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", ["edge-1", "agg-1"])
def test_set_back_is_noticed_and_nothing_new_is_lost(cluster: Cluster, name: str, how: str) -> None:
    set_back(cluster, name, how)
    count = quiet(cluster, all_of_it=name == "edge-1")
    audit = cluster.command("audit")
    cluster.drain()
    tell(cluster, "a disk that went back, and said so")
    if name == "edge-1":
        assert not count.missing, "what was passed on since is read again"
    else:
        assert not count.doubled, "what it passed on since is flagged"
        if count.missing:
            assert "GAP" in audit.stdout, "what others had let go of shows as a gap"


def test_a_sink_set_back_publishes_nothing_twice(cluster: Cluster) -> None:
    set_back(cluster, "sink-1", HOWS[1])
    count = quiet(cluster)
    audit = cluster.command("audit")
    cluster.drain()
    tell(cluster, "a disk that went back, and said so")
    assert not count.doubled, count
    assert ("GAP" in audit.stdout) is (count.missing > 0)


@pytest.mark.parametrize("cluster", [END], indirect=True, ids=["end"])
@pytest.mark.parametrize("name", ["agg-1", "sink-1"])
def test_with_end_a_disk_that_went_back_costs_nothing(cluster: Cluster, name: str) -> None:
    set_back(cluster, name, HOWS[1])
    settle(cluster)


@pytest.mark.parametrize("name", ["agg-2", "sink-2"])
def test_a_clone_beside_its_original_costs_nothing(cluster: Cluster, name: str) -> None:
    """Both live: the clone under another name, with all that was on the disk in mid-stream."""
    original = f"{name[:-1]}1"
    others = [agent for agent in cluster.agents if agent != name]
    cluster.start(*others)
    begun(cluster, *others)
    with Writer(cluster, lines_per_step=40):
        flows_on(cluster)
        shutil.copytree(image_of(cluster, original), cluster.data / name)
        cluster.start(name)
        begun(cluster, name)
        flows_on(cluster, 8000)
    assert MOVED in whole_log(cluster, name)
    settle(cluster)


def test_the_clone_of_an_edge_loses_nothing_new(cluster: Cluster) -> None:
    """Named edge-2. Here it also reads on in the files of its original, whose positions it has:
    both see the same disk."""
    cluster.edges.remove("edge-2")
    cluster.start()
    begun(cluster)
    with Writer(cluster, lines_per_step=40):
        flows_on(cluster)
        shutil.copytree(image_of(cluster, "edge-1"), cluster.data / "edge-2")
        cluster.start("edge-2")
        wait_for(lambda: RENEWED in whole_log(cluster, "edge-2"), "renewed", PATIENCE_S, LOOK_S)
        begun(cluster, "edge-2")
        # What is renamed before its source has looked for the first time is not found.
        wait_for(lambda: has_looked(cluster, "edge-2"), "a first look", PATIENCE_S, LOOK_S)
        cluster.edges.append("edge-2")
        flows_on(cluster, 8000)
    assert MOVED in whole_log(cluster, "edge-2")
    count = quiet(cluster, all_of_it=True)
    audit = cluster.command("audit")
    cluster.drain()
    tell(cluster, "the clone reads the files of its original")
    assert not count.missing, count
    assert audit.returncode == 0, audit.stdout
