"""Tiers that grow and shrink while they run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, Writer, free_port_pair
from tests.faults.settling import LOOK_S, PATIENCE_S, all_published, flows_on, settle
from tests.waiting import wait_for
from tiers.agent.reloading import LEAVE_AFTER_S

# Peers take turns by bundle: where each is a batch of a few lines, events are as even as that.
SMALL = '[batch]\nsize = "2KiB"\n[delivery]\nbundle_size = "100B"\n'


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, sinks=1, extra=SMALL)
    yield made
    made.close()


def events_of(cluster: Cluster, *names: str) -> dict[str, int]:
    """What has come to each so far."""
    statuses = {name: cluster.status(name) for name in names}
    return {name: int(status["events_in"]) if status else 0 for name, status in statuses.items()}


def at_rest(cluster: Cluster, *names: str) -> dict[str, int]:
    """`events_of`, once nothing is on its way to them."""
    written = cluster.written.total()
    wait_for(lambda: cluster.events_in("sink") == written, "all has come", PATIENCE_S, LOOK_S)
    return events_of(cluster, *names)


def shares_are_even(cluster: Cluster, *names: str) -> None:
    """Of what is written once the last of them takes part; counted at rest, as they are not asked
    all at one moment."""
    with Writer(cluster, lines_per_step=60):  # no more than flows on in batches of a few lines
        wait_for(lambda: all(events_of(cluster, *names).values()), f"{names} take part", PATIENCE_S)
    before = at_rest(cluster, *names)
    with Writer(cluster, lines_per_step=60):
        flows_on(cluster, 60_000)
    shares = [count - before[name] for name, count in at_rest(cluster, *names).items()]
    print(f"shares {shares}")
    assert max(shares) <= 1.2 * min(shares), shares


def test_load_is_even_and_an_added_aggregator_takes_its_share(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    shares_are_even(cluster, "agg-1", "agg-2")
    cluster.ports["agg-3"] = free_port_pair()
    cluster.write_topology()
    cluster.start("agg-3")
    shares_are_even(cluster, "agg-1", "agg-2", "agg-3")
    settle(cluster)


def test_an_agent_taken_out_of_the_file_drains_and_ends(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        flows_on(cluster)
        del cluster.ports["agg-1"]
        cluster.write_topology()
        wait_for(lambda: peers_of(cluster, "edge-1") == ["agg-2"], "the edge sends to the other")
        flows_on(cluster)
    assert cluster.wait_exit("agg-1", LEAVE_AFTER_S + PATIENCE_S) == 0
    # Asked for by name it comes again, by the topology it last accepted, and has nothing to do.
    cluster.start("agg-1")
    assert cluster.wait_exit("agg-1") == 0
    settle(cluster)


def peers_of(cluster: Cluster, edge: str) -> list[str]:
    status = cluster.status(edge)
    outputs = status["outputs"] if status else []
    return [peer["agent"] for output in outputs for peer in output["detail"]["peers"]]


def test_a_wrong_new_file_is_refused_and_the_old_one_stays_in_force(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    right = cluster.file.read_text()
    cluster.file.write_text(right.replace("roll_after", "rol_after"))

    def refusal() -> str:
        status = cluster.status("edge-1")
        return str(status["topology_error"]) if status else ""

    wait_for(refusal, "the edge says what is wrong with the file")
    assert "rol_after" in refusal()
    assert "roll_after" in refusal()
    assert not cluster.is_healthy("edge-1")
    cluster.write("edge-1", 1000)
    all_published(cluster)
    cluster.file.write_text(right)
    wait_for(lambda: cluster.is_healthy("edge-1"), "the edge takes the right file")
    settle(cluster)
