"""Fixtures that several suites share."""

from collections.abc import Iterator

import pytest

from tests.hadoop.cluster import HdfsCluster, missing_part


@pytest.fixture(scope="session")
def hdfs_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsCluster]:
    """A real NameNode and DataNode, started once. Use a root of your own below it."""
    if reason := missing_part():
        pytest.skip(reason)
    cluster = HdfsCluster(tmp_path_factory.mktemp("hdfs"))
    cluster.start()
    yield cluster
    cluster.stop()
