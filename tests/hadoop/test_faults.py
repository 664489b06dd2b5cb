"""A sink killed at chosen moments of its file's way into a real HDFS: every line arrives once.

The moments are found from outside: the sinks speak to the NameNode through a server of the test's,
which knows each step by its request, and kills who made it, before or after HDFS has done it.
"""

import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Writer
from tests.faults.settling import flows_on, settle
from tests.hadoop.cluster import HdfsCluster
from tests.hadoop.stand_in import DROP, FORWARD, HALF, LOSE, Answer, stand_in
from tests.hadoop.test_delivery import HdfsDelivery
from tests.waiting import wait_for

# What is asked for, and what then becomes of the request of the sink that is killed.
MOMENTS: list[tuple[str, Answer]] = [
    ("create tmp", DROP),  # before a byte of the file is there
    ("create tmp", HALF),  # half of its bytes are at the DataNode
    ("move manifest", DROP),  # the file is complete, and nobody knows of it
    ("move manifest", LOSE),  # the intent is there
    ("list claims", DROP),  # before the check
    ("move file", DROP),  # between manifest and rename
    ("move file", LOSE),  # right after the rename
]
# The sink lives, and no answer comes to it: of what HDFS has not done, and of what it has.
LOST: list[tuple[str, Answer]] = [
    ("move manifest", DROP),
    ("move manifest", LOSE),
    ("move file", DROP),
    ("move file", LOSE),
]


class Killer:
    """Answers for the NameNode; kills the sink that makes the request which is waited for, unless
    it spares it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cluster: HdfsDelivery
        self.killed = threading.Event()
        self.victim = ""
        self.spares = False
        self._armed: tuple[str, Answer] | None = None
        self._lock = threading.Lock()

    def arm(self, moment: str, then: Answer) -> None:
        self.killed.clear()
        self._armed = (moment, then)

    def script(self, operation: str, path: str) -> Answer:
        with self._lock:
            if self._armed is None or step_of(operation, path, self.asked[-50:]) != self._armed[0]:
                return FORWARD
            _, then = self._armed
            self._armed = None
        if "list" in step_of(operation, path, []):
            self.victim = "sink-1"  # a listing does not say who asks
        else:
            self.victim = path.rpartition("/")[2].partition(".")[0]
        if then is not HALF:
            self._kill()
        return then

    def half_sent(self, path: str) -> None:
        print(f"half of {path} is there")
        self._kill()

    def _kill(self) -> None:
        if not self.spares:
            self.cluster.children[self.victim].kill()
        self.killed.set()


def step_of(operation: str, path: str, asked: list[str]) -> str:
    """Which step of commit.md a request is; empty for all that are not waited for."""
    name = path.rpartition("/")[2]
    tmp = "/tmp/sink-" in path and not name.endswith(".small")
    if operation == "CREATE" and tmp:
        return "create tmp"
    if operation == "LISTSTATUS" and path.endswith("/claims"):
        return "list claims"
    if operation == "RENAME" and tmp:
        return "move file"
    if operation == "RENAME" and any(
        urllib.parse.unquote(one).partition("?")[0] == path and "manifests" in one for one in asked
    ):
        return "move manifest"
    return ""


@pytest.fixture
def killer(tmp_path: Path, hdfs_cluster: HdfsCluster) -> Iterator[Killer]:
    made = Killer()
    with stand_in(made.script, hdfs_cluster.url, made.asked, made.half_sent) as url:
        made.cluster = HdfsDelivery(tmp_path, hdfs_cluster, url=url, more='takeover_after = "3s"')
        yield made
        made.cluster.close()


def test_a_sink_killed_at_each_step_of_a_file(killer: Killer) -> None:
    cluster = killer.cluster
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 50):
        flows_on(cluster)
        for moment, then in MOMENTS:
            killer.arm(moment, then)
            wait_for(killer.killed.is_set, f"a sink comes to {moment}")
            cluster.kill(killer.victim)
            print(f"{killer.victim} killed at {moment}")
            cluster.start(killer.victim)
            cluster.wait_running(killer.victim)
        killer.spares = True
        for moment, then in LOST:
            killer.arm(moment, then)
            wait_for(killer.killed.is_set, f"a sink comes to {moment}")
            flows_on(cluster, 1000)
    settle(cluster)
