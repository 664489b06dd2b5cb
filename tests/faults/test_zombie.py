"""Agents stopped for longer than every timeout, and continued: what others did meanwhile stands,
and what the zombie still does is fenced."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.inflicting import SHORT, counted, stop_for_long
from tests.faults.settling import emptied, flows_on, settle
from tiers.sinks import meters


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, sinks=3, more=SHORT)
    yield made
    made.close()


def test_zombies_in_mid_stream(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 50):
        flows_on(cluster)
        stop_for_long(cluster, [("sink-1",), ("agg-1", "edge-1"), ("sink-2", "agg-2")])
    emptied(cluster)
    dropped = counted(cluster, meters.DROPPED)
    settle(cluster)
    assert dropped, "no batch came to two sinks: this tested nothing"
