"""Fixtures that several suites share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.hadoop.cluster import HdfsCluster, missing_part

# No test asserts an absolute time: the machine is shared.
settings.register_profile("tiers", deadline=None)
settings.load_profile("tiers")


@pytest.fixture(scope="session")
def hdfs_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsCluster]:
    """A real NameNode and DataNode, started once. Use a root of your own below it."""
    if reason := missing_part():
        pytest.skip(reason)
    cluster = HdfsCluster(tmp_path_factory.mktemp("hdfs"))
    cluster.start()
    yield cluster
    cluster.stop()
