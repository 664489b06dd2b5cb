"""`guarantee = "end"` with real processes: a node is lost for good, its disk with it, in mid-
stream. No line is missing, and none is there twice."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.settling import LOOK_S, PATIENCE_S, all_published, flows_on, settle, tell
from tests.faults.test_damage import damage_bodies, data_file, truncate
from tests.metering import told
from tests.waiting import wait_for
from tiers.transport import meters

DELIVERY = '[delivery]\nguarantee = "end"\nlost_after = "4s"\n'
LINES_HELD = 4000  # what a lost node takes with it, at least


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, extra=DELIVERY, more='takeover_after = "4s"', roll_after="3s")
    yield made
    made.close()


def begin(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()


def lose(cluster: Cluster, name: str) -> None:
    """Killed while it holds what is not published, its disk gone."""
    wait_for(lambda: events_held(cluster, name) > LINES_HELD, f"{name} holds batches")
    cluster.kill(name)
    shutil.rmtree(cluster.data / name)


def events_held(cluster: Cluster, name: str) -> int:
    status = cluster.status(name)
    return sum(output["events"] for output in status["outputs"]) if status else 0


def handed(cluster: Cluster, name: str) -> int:
    """Batches that this agent has handed on and keeps."""
    return int(told(cluster.status(name), meters.HANDED))


@pytest.mark.parametrize("name", ["agg-1", "sink-1"])
def test_lost_for_good(cluster: Cluster, name: str) -> None:
    """Others take over what it had, and it never comes back."""
    begin(cluster)
    with Writer(cluster):
        flows_on(cluster)
        lose(cluster, name)
        flows_on(cluster, 20_000)
    del cluster.ports[name]
    cluster.write_topology()
    settle(cluster)


@pytest.mark.parametrize("name", ["agg-1", "sink-1"])
def test_back_with_an_empty_disk(cluster: Cluster, name: str) -> None:
    begin(cluster)
    with Writer(cluster):
        for _ in range(2):
            flows_on(cluster)
            lose(cluster, name)
            cluster.start(name)
            cluster.wait_running(name)
        flows_on(cluster)
    settle(cluster)


def test_killed_again_and_again_with_disks_that_stay(cluster: Cluster) -> None:
    """What was handed on is waited for, over restarts of both sides, and is not sent again."""
    begin(cluster)
    with Writer(cluster):
        flows_on(cluster)
        for name in ("agg-1", "sink-1", "edge-1", "sink-2", "agg-2"):
            wait_for(lambda: handed(cluster, "edge-1") > 0, "the edge waits for receipts")
            cluster.kill(name)
            cluster.start(name)
            cluster.wait_running(name)
            flows_on(cluster)
    settle(cluster)


def end(cluster: Cluster) -> None:
    """As `settle`, where dead letters may name what was damaged: nothing else is left anywhere, so
    nothing comes later, and all is there once."""
    all_published(cluster)

    def only_the_dead_are_left() -> bool:
        channels = [status and status["channel"] for status in map(cluster.status, cluster.agents)]
        return all(channel and channel["batches"] <= channel["dead"] for channel in channels)

    wait_for(only_the_dead_are_left, "nothing else is left", PATIENCE_S, LOOK_S)
    assert set(cluster.drain().values()) <= {0, 1}
    tell(cluster)


@pytest.mark.parametrize("name", ["agg-1", "sink-1"])
def test_a_channel_file_cut_short_costs_nothing(cluster: Cluster, name: str) -> None:
    """What cannot be salvaged comes again from upstream."""
    begin(cluster)
    with Writer(cluster):
        flows_on(cluster)
        wait_for(lambda: events_held(cluster, name) > LINES_HELD, f"{name} holds batches")
        cluster.kill(name)
        truncate(data_file(cluster, name))
        cluster.start(name)
        flows_on(cluster)
    end(cluster)


def test_a_damaged_body_comes_again(tmp_path: Path) -> None:
    """It is a dead letter here, and whole upstream."""
    name = "sink-1"
    delivery = DELIVERY + '[batch]\nsize = "4KiB"\n'
    cluster = Cluster(tmp_path, edges=1, aggregators=1, sinks=1, extra=delivery, roll_after="1h")
    try:
        cluster.write("edge-1", LINES_HELD)
        cluster.start()
        wait_for(lambda: events_held(cluster, name) == LINES_HELD, f"all rests in {name}")
        cluster.kill(name)
        damage_bodies(data_file(cluster, name))
        cluster.roll_after = "1s"
        cluster.write_topology()
        cluster.start(name)
        all_published(cluster)
        status: Any = cluster.status(name)
        assert status["channel"]["dead"] == 3, "named all the same"
        end(cluster)
    finally:
        cluster.close()
