"""Hadoop's own nodes killed in the middle of writes, and started again: the NameNode comes back in
safe mode, the DataNode with what it had synced. Every line arrives once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Writer
from tests.faults.settling import flows_on, settle
from tests.hadoop.cluster import HdfsCluster
from tests.hadoop.test_delivery import HdfsDelivery
from tests.waiting import wait_for

VICTIMS = (("namenode",), ("datanode",), ("namenode", "datanode"))


@pytest.fixture
def cluster(tmp_path: Path, hdfs_cluster: HdfsCluster) -> Iterator[HdfsDelivery]:
    made = HdfsDelivery(tmp_path, hdfs_cluster)
    yield made
    made.close()
    hdfs_cluster.start()  # others use it, too


def publishes_on(cluster: HdfsDelivery) -> None:
    """Files come again, and no sink is in trouble any more: the next one is of the next fault."""
    before = cluster.count_files()
    wait_for(lambda: cluster.count_files() > before + 2, "files are published", 120)
    wait_for(lambda: not is_in_trouble(cluster), "all sinks are well", 120)


def is_in_trouble(cluster: HdfsDelivery) -> bool:
    """A sink says that the store does not answer, and its agent goes on."""
    statuses = [cluster.status(name) for name in cluster.ports if name.startswith("sink")]
    return any(output["error"] for status in statuses if status for output in status["outputs"])


def test_hadoops_nodes_killed_in_the_middle_of_writes(
    cluster: HdfsDelivery, hdfs_cluster: HdfsCluster
) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 50):
        flows_on(cluster)
        for victims in VICTIMS:
            for victim in victims:
                hdfs_cluster.kill(victim)
            print(f"killed {' and '.join(victims)}")
            wait_for(lambda: is_in_trouble(cluster), "a sink says so", 120)
            hdfs_cluster.start()
            publishes_on(cluster)
        flows_on(cluster)
    settle(cluster)
