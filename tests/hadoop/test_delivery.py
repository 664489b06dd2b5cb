"""Lines tailed at the edges arrive in a real HDFS, whichever node is killed on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hdfs import InsecureClient

from tests.faults.cluster import Cluster, Writer
from tests.faults.inflicting import (
    SHORT,
    counted,
    kill_at_one_moment,
    pairs,
    stop_for_long,
)
from tests.faults.settling import emptied, flows_on, settle
from tests.hadoop.cluster import HdfsCluster
from tests.seeds import some_dice
from tiers.sinks import meters


class HdfsDelivery(Cluster):
    """A cluster whose sinks write into HDFS."""

    def __init__(
        self,
        directory: Path,
        hdfs: HdfsCluster,
        *,
        sinks: int = 2,
        more: str = "",
        url: str = "",  # the sinks' way to it
        extra: str = "",
    ) -> None:
        self.root = hdfs.new_root()
        self.client = InsecureClient(hdfs.url, user="logs", timeout=(5, 60))
        sink = f'type = "hdfs"\nurl = "{url or hdfs.url}"\nuser = "logs"\nroot = "{self.root}"'
        more = f'codec = "gzip"\n{more}'
        super().__init__(directory, sinks=sinks, sink=sink, more=more, extra=extra)

    def count_files(self, store: str = "") -> int:
        found = self.client.content(self.root, strict=False)
        return int(found["fileCount"]) if found else 0

    def fetch(self) -> None:
        if self.client.status(self.root, strict=False) is None:
            return
        for folder, _, names in self.client.walk(self.root):
            inside = Path(folder).relative_to(self.root)
            if ".tiers" in inside.parts:
                continue
            (self.out / inside).mkdir(parents=True, exist_ok=True)
            for name in names:
                target = self.out / inside / name
                if not target.exists():  # published files never change
                    self.client.download(f"{folder}/{name}", str(target))


@pytest.fixture
def cluster(tmp_path: Path, hdfs_cluster: HdfsCluster) -> Iterator[HdfsDelivery]:
    made = HdfsDelivery(tmp_path, hdfs_cluster, more=SHORT)
    yield made
    made.close()


def test_into_hdfs_while_nodes_are_killed_one_two_and_all(cluster: HdfsDelivery) -> None:
    dice = some_dice()
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        flows_on(cluster)
        single = [(name,) for name in ("agg-1", "sink-1", "edge-1", "sink-2")]
        groups = [*single, *pairs(cluster, dice, 2), cluster.agents]
        kill_at_one_moment(cluster, dice, groups)
    settle(cluster)


def test_into_hdfs_while_nodes_are_zombies(cluster: HdfsDelivery) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 50):
        flows_on(cluster)
        stop_for_long(cluster, [("sink-1", "edge-1"), ("sink-2", "agg-1")])
    emptied(cluster)
    dropped = counted(cluster, meters.DROPPED)
    settle(cluster)
    assert dropped, "no batch came to two sinks: this tested nothing"
