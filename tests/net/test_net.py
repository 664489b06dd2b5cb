"""Networks that fail between agents, each on a host of its own: every line arrives once."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Writer
from tests.faults.settling import flows_on, settle
from tests.net.hosts import PORT, RELAY, NetCluster, missing_part

FAULT_S = 2.0  # longer than a peer is waited for
_LOSS = "numgen random mod 100 < 20 drop"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NetCluster]:
    if reason := missing_part():
        pytest.skip(reason)
    made = NetCluster(tmp_path)
    yield made
    made.close()


def cut(cluster: NetCluster, host: str) -> None:
    cluster.hosts.rules(host, "add rule inet f in drop", "add rule inet f out drop")


def deaf(cluster: NetCluster, host: str) -> None:
    cluster.hosts.rules(host, "add rule inet f in drop")


def mute(cluster: NetCluster, host: str) -> None:
    cluster.hosts.rules(host, "add rule inet f out drop")


def lossy(cluster: NetCluster, host: str) -> None:
    cluster.hosts.rules(host, f"add rule inet f in {_LOSS}", f"add rule inet f out {_LOSS}")


def reset(cluster: NetCluster, host: str) -> None:
    cluster.hosts.rules(host, "add rule inet f in meta l4proto tcp reject with tcp reset")


@pytest.mark.parametrize("host", ["agg-1", "sink-1"])
def test_faults_between_hosts(cluster: NetCluster, host: str) -> None:
    faults: list[Callable[[NetCluster, str], None]] = [cut, deaf, mute, lossy, reset]
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 40):
        flows_on(cluster)
        for fault in faults:
            fault(cluster, host)
            time.sleep(FAULT_S)
            flows_on(cluster)  # by the others
            cluster.hosts.heal()
            flows_on(cluster)
    settle(cluster)


def test_a_long_way(cluster: NetCluster) -> None:
    """Every word to and from an aggregator takes 200 ms each way."""
    relay = cluster.relay("agg-1")
    try:
        address = cluster.hosts.address["agg-1"]
        for edge in cluster.edges:
            for port in (PORT, PORT + 1):
                cluster.hosts.rules(
                    edge,
                    f"add rule inet f nat ip daddr {address} tcp dport {port} "
                    f"dnat ip to {RELAY}:{port + 10_000}",
                )
        cluster.start()
        cluster.wait_running()
        with Writer(cluster, 40):
            flows_on(cluster, 20_000)
        settle(cluster)
    finally:
        relay.kill()
        relay.wait()
