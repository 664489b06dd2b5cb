"""Agents stopped for longer than every timeout, and continued: what others did meanwhile stands,
and what the zombie still does is fenced."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.settling import PATIENCE_S, flows_on, settle
from tests.waiting import wait_for

TAKEOVER_S = 1.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, sinks=3, more=f'takeover_after = "{TAKEOVER_S}s"')
    yield made
    made.close()


def send(cluster: Cluster, name: str, number: signal.Signals) -> None:
    cluster.children[name].send_signal(number)


def counted(cluster: Cluster, counter: str) -> int:
    """Of all sinks."""
    found = 0
    for name in cluster.ports:
        if name.startswith("sink"):
            status = cluster.status(name)
            assert status is not None
            found += int(status["outputs"][0]["detail"][counter])
    return found


def test_zombies_in_mid_stream(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 50):
        flows_on(cluster)
        for names in (["sink-1"], ["agg-1"], ["sink-2", "agg-2"]):
            for name in names:
                send(cluster, name, signal.SIGSTOP)
            # Longer than acks, sessions and claims of the stopped are waited for.
            time.sleep(6)
            for name in names:
                send(cluster, name, signal.SIGCONT)
            cluster.wait_running(*names)
            flows_on(cluster)
    wait_for(cluster.is_empty, "every channel is empty", PATIENCE_S)
    dropped = counted(cluster, "dropped")
    settle(cluster)
    assert dropped, "no batch came to two sinks: this tested nothing"
