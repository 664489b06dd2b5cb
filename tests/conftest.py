"""Fixtures that several suites share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.hadoop.cluster import HdfsCluster, missing_part

# No test asserts an absolute time: the machine is shared. In CI the examples are the same in every
# run: what fails there is the change's doing.
settings.register_profile("tiers", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tiers")

CORE = Path(__file__).parent / "core"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, all that needs Hadoop goes to one of them: there is one Hadoop.
    Coverage is asked of the core's own tests, as watching doubles the time of the others."""
    for item in items:
        if "hadoop" in item.path.parts or "hdfs" in item.name or is_given(item, "hdfs_cluster"):
            item.add_marker(pytest.mark.xdist_group("hadoop"))
        if not item.path.is_relative_to(CORE):
            item.add_marker(pytest.mark.no_cover)


def is_given(item: pytest.Item, fixture: str) -> bool:
    return fixture in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def hdfs_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsCluster]:
    """A real NameNode and DataNode, started once. Use a root of your own below it."""
    if reason := missing_part():
        pytest.skip(reason)
    cluster = HdfsCluster(tmp_path_factory.mktemp("hdfs"))
    cluster.start()
    yield cluster
    cluster.stop()
