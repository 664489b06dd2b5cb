"""Nodes stopped, frozen and killed at full speed: what a stop costs, and that nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.settling import PATIENCE_S, flows_on, settle, tell
from tests.waiting import wait_for

SHUTDOWN_TIMEOUT_S = 10


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, edges=1)
    yield made
    made.close()


def test_sigterm_in_mid_stream_costs_nothing(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, lines_per_step=200):
        flows_on(cluster)
        for name in ("agg-1", "sink-1", "edge-1"):
            begun = time.monotonic()
            assert cluster.stop(name) == 0, cluster.log(name)
            took_s = time.monotonic() - begun
            print(f"{name} stopped within {took_s:.2f} s")
            assert took_s < SHUTDOWN_TIMEOUT_S
            assert "not settled" not in cluster.log(name)
            cluster.start(name)
            cluster.wait_running(name)
            flows_on(cluster)
    settle(cluster)
    assert not any("Traceback" in cluster.log(name) for name in cluster.agents)


def test_a_frozen_aggregator_comes_back_a_zombie(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, lines_per_step=100):
        flows_on(cluster)
        frozen = cluster.children["agg-1"]
        frozen.send_signal(signal.SIGSTOP)
        wait_for(lambda: peer_state(cluster, "agg-1") == "down", "the edge gives it up")
        assert "agg-1: " in cluster.command("status").stdout
        flows_on(cluster, 8_000)
        frozen.send_signal(signal.SIGCONT)
        wait_for(lambda: peer_state(cluster, "agg-1") == "up", "it is back")
        flows_on(cluster)
    settle(cluster)


def peer_state(cluster: Cluster, name: str) -> str:
    """Empty while the edge is too busy to tell."""
    status = cluster.status("edge-1")
    if status is None:
        return ""
    (output,) = status["outputs"]
    (state,) = (p["state"] for p in output["detail"]["peers"] if p["agent"] == name)
    return str(state)


def test_killed_at_full_speed(cluster: Cluster) -> None:
    """Small batches and a backlog, so that there is always something in flight."""
    cluster.extra = '[batch]\nsize = "64KiB"\n'
    cluster.write_topology()
    cluster.start()
    cluster.wait_running()
    for name in ("agg-1", "sink-2", "sink-1", "agg-1"):
        before = cluster.events_in("sink")
        cluster.write("edge-1", 50_000)
        wait_for(lambda b=before: cluster.events_in("sink") != b, "it flows")  # type: ignore[misc]
        cluster.kill(name)
        # Longer than `failover_after`, so that others take over what it may hold.
        if name != "sink-2":
            other = {"agg-1": "edge-1", "agg-2": "edge-1"}.get(name, "agg-2")
            wait_for(lambda n=name, o=other: is_down(cluster, o, n), f"{name} is given up")  # type: ignore[misc]
        cluster.start(name)
        cluster.wait_running(name)
    settle(cluster)


def is_down(cluster: Cluster, asked: str, name: str) -> bool:
    status = cluster.status(asked)
    outputs = status["outputs"] if status else []
    peers = [peer for output in outputs for peer in output["detail"]["peers"]]
    return any(peer["agent"] == name and peer["state"] == "down" for peer in peers)


def test_an_edge_killed_while_its_files_are_rotated(cluster: Cluster) -> None:
    """By rename, and by a second link to the file whose first name goes."""
    cluster.start()
    cluster.wait_running()
    log = cluster.directory / "edge-1" / "access.log"
    for turn in range(36):
        for _ in range(3):
            cluster.write("edge-1", 97)
        if turn % 3 == 2:
            linked = log.with_name(f"linked.{turn}.log")
            os.link(log, linked)
            log.unlink()
        else:
            log.rename(log.with_name(f"access.{turn}.log"))
        if turn % 12 == 5:
            cluster.kill("edge-1")
            cluster.write("edge-1", 97)
            cluster.start("edge-1")
        if turn % 12 == 11:
            cluster.wait_running("edge-1")
    cluster.wait_running()
    settle(cluster)


def test_up_killed_takes_its_agents_along_and_a_new_one_goes_on(cluster: Cluster) -> None:
    up = start_up(cluster)
    try:
        cluster.wait_running()  # before its first look, a rotated file would be none of the edge's
        with Writer(cluster, lines_per_step=400):
            wait_for(lambda: cluster.events_in("sink") > 4000, "it flows")
            pids = [status["pid"] for n in cluster.agents if (status := cluster.status(n))]
            assert len(pids) == len(cluster.agents)
            up.kill()
            up.wait()
            wait_for(lambda: not any(map(is_alive, pids)), "its agents end", 30)
            up = start_up(cluster)
            wait_for(lambda: cluster.events_in("sink") > 4000, "it flows again", PATIENCE_S)
        up.terminate()
        assert up.wait(30) == 0
    finally:
        up.kill()
        up.wait()
    drain = cluster.command("up", "--drain")
    assert drain.returncode == 0, drain.stdout
    cluster.pauses.all_is_published()
    tell(cluster)


def start_up(cluster: Cluster) -> "subprocess.Popen[bytes]":
    log = (cluster.directory / "up.txt").open("ab")
    command = [sys.executable, "-m", "tiers", "up", str(cluster.file), "--data", str(cluster.data)]
    with log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
