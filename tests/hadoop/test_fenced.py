"""A sink stopped between its manifest and its rename, for longer than all is waited for: another
publishes what is in that file, and the rename that comes late must find nothing to move.

With `guarantee = "end"`: only then what the stopped sink had stored comes to another, flagged.
"""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Writer
from tests.faults.inflicting import counted
from tests.faults.settling import LOOK_S, PATIENCE_S, flows_on, settle
from tests.hadoop.cluster import HdfsCluster
from tests.hadoop.stand_in import FORWARD, Answer, stand_in
from tests.hadoop.test_delivery import HdfsDelivery
from tests.hadoop.test_faults import step_of
from tests.waiting import wait_for
from tiers.sinks import meters

END = '[delivery]\nguarantee = "end"\nlost_after = "2s"\nfailover_after = "1s"\n'


class Holder:
    """Answers for the NameNode; stops the first sink that is to publish a file once it is armed,
    and holds what it asks until `go_on`."""

    def __init__(self) -> None:
        self.cluster: HdfsDelivery
        self.armed = threading.Event()
        self.stopped = threading.Event()
        self.go_on = threading.Event()
        self.victim = ""
        self._lock = threading.Lock()

    def script(self, operation: str, path: str) -> Answer:
        with self._lock:
            hold = self.armed.is_set() and step_of(operation, path, []) == "move file"
            if hold:
                self.armed.clear()
                self.victim = path.rpartition("/")[2].partition(".")[0]
                self.cluster.children[self.victim].send_signal(signal.SIGSTOP)
                self.stopped.set()
        if hold:
            self.go_on.wait(PATIENCE_S)
        return FORWARD


@pytest.fixture
def holder(tmp_path: Path, hdfs_cluster: HdfsCluster) -> Iterator[Holder]:
    made = Holder()
    with stand_in(made.script, hdfs_cluster.url) as url:
        more = 'takeover_after = "2s"'
        made.cluster = HdfsDelivery(tmp_path, hdfs_cluster, url=url, more=more, extra=END)
        yield made
        made.go_on.set()
        made.cluster.close()


def test_a_sink_stopped_before_its_rename_is_fenced(holder: Holder) -> None:
    cluster = holder.cluster
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 20):
        flows_on(cluster)
        holder.armed.set()
        wait_for(holder.stopped.is_set, "a sink is to publish a file", PATIENCE_S)
        fences = "another sink fences the file"
        wait_for(lambda: counted(cluster, meters.FENCED), fences, PATIENCE_S, LOOK_S)
        holder.go_on.set()
        cluster.children[holder.victim].send_signal(signal.SIGCONT)
        cluster.wait_running(holder.victim)
        flows_on(cluster)
    settle(cluster)
