"""Real processes killed with SIGKILL in mid-stream, one, two and all at one moment, and left dead
for long: no line is missing, and none is there twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.inflicting import (
    SHORT,
    kill_at_one_moment,
    leave_dead_for_long,
    pairs,
)
from tests.faults.settling import flows_on, settle
from tests.seeds import some_dice


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, more=SHORT)
    yield made
    made.close()


def begin(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()


def test_each_kind_of_node(cluster: Cluster) -> None:
    begin(cluster)
    with Writer(cluster):
        flows_on(cluster)
        names = ("agg-1", "sink-1", "edge-1", "sink-2", "agg-2", "edge-2")
        kill_at_one_moment(cluster, some_dice(), [(name,) for name in names])
    settle(cluster)


def test_two_at_one_moment_and_all_at_one_moment(cluster: Cluster) -> None:
    dice = some_dice()
    begin(cluster)
    with Writer(cluster):
        flows_on(cluster)
        groups = [*pairs(cluster, dice, 5), *[cluster.agents] * 3]
        kill_at_one_moment(cluster, dice, groups)
    settle(cluster)


def test_dead_for_longer_than_anything_waits_and_back_with_its_disk(cluster: Cluster) -> None:
    """What it held arrives only then; what others have published meanwhile stands."""
    begin(cluster)
    with Writer(cluster, 50):
        flows_on(cluster)
        leave_dead_for_long(cluster, [("agg-1",), ("sink-1",), ("agg-2", "sink-2")])
    settle(cluster)
