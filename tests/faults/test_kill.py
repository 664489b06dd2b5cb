"""Real processes killed with SIGKILL in mid-stream: no line is missing, and a line is there twice
only where its batch was flagged, which the claims of commit.md will settle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.settling import flows_on, settle
from tests.waiting import wait_for


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def test_each_kind_of_node_killed_in_mid_stream(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        flows_on(cluster)
        for name in ("agg-1", "sink-1", "edge-1", "sink-2", "agg-2", "edge-2"):
            cluster.kill(name)
            cluster.start(name)
            cluster.wait_running(name)
            flows_on(cluster)
    settle(cluster)


def test_an_aggregator_left_dead_while_others_carry_on(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        flows_on(cluster)
        cluster.kill("agg-1")

        def peer_is_down() -> bool:
            status = cluster.status("edge-1")
            assert status is not None
            (output,) = status["outputs"]
            return any(peer["state"] == "down" for peer in output["detail"]["peers"])

        wait_for(peer_is_down, "the edge gives agg-1 up")
        flows_on(cluster, 20_000)
    # What agg-1 held arrives only now.
    cluster.start("agg-1")
    cluster.wait_running("agg-1")
    settle(cluster)


def test_all_killed_at_once(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        flows_on(cluster)
        for name in cluster.agents:
            cluster.kill(name)
        cluster.start()
        cluster.wait_running()
        flows_on(cluster)
    settle(cluster)
