"""Disks that fill up or are not to be written to, and are well again: back-pressure, a word in
status, nothing lost."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.channel.making import fill, tmpfs
from tests.faults.cluster import Cluster
from tests.faults.settling import all_published, settle
from tests.metering import told
from tests.waiting import wait_for
from tiers.sources.meters import UNREAD

MIB = 1 << 20
SMALL_DISK = '[channel]\nsize = "1GiB"\nfree_floor = "4MiB"\n[batch]\nsize = "64KiB"\n'
SMALL_DISK += '[delivery]\nshutdown_timeout = "1s"\n'


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(**how: Any) -> Cluster:
        made.append(Cluster(tmp_path, edges=1, aggregators=1, sinks=1, **how))
        return made[0]

    yield make
    for cluster in made:
        cluster.close()


@pytest.mark.parametrize("name", ["edge-1", "agg-1", "sink-1"])
def test_an_agent_whose_disk_is_filled_by_another(make: Callable[..., Cluster], name: str) -> None:
    cluster = make(extra=SMALL_DISK)
    cluster.data.mkdir()
    with tmpfs(cluster.data / name, 24 * MIB) as disk:
        cluster.start()
        cluster.wait_running()
        cluster.write("edge-1", 2_000)
        all_published(cluster)

        fill(disk / "filler")
        if name == "edge-1":  # else all goes through pages that are free in the file
            cluster.kill("agg-1")
        cluster.write("edge-1", 60_000)
        wait_for(lambda: "disk" in trouble(cluster, name), f"full: {cluster.log(name)}")
        assert not cluster.is_healthy(name)
        shown = cluster.command("status")
        assert (shown.returncode, "disk" in shown.stdout) == (1, True), shown.stdout
        # A full disk is no reason to end, nor, after a kill, not to begin.
        assert cluster.stop(name) == 0, cluster.log(name)
        cluster.start(name)
        wait_for(lambda: cluster.status(name), f"it runs: {cluster.log(name)}")
        cluster.kill(name)
        cluster.start(name)
        wait_for(lambda: trouble(cluster, name), f"it runs: {cluster.log(name)}")
        # A changed topology is not to be kept on a full disk either.
        cluster.extra += "heartbeat = 0.4\n"
        cluster.write_topology()
        wait_for(lambda: generation(cluster, name) == 2, "it sees the changed file")

        (disk / "filler").unlink()
        if name == "edge-1":
            cluster.start("agg-1")
        wait_for(lambda: not trouble(cluster, name), "there is room again")
        settle(cluster)
        assert "Traceback" not in cluster.log(name)


def trouble(cluster: Cluster, name: str) -> str:
    status = cluster.status(name)
    return str(status["channel"]["trouble"]) if status else ""


def generation(cluster: Cluster, name: str) -> int:
    status = cluster.status(name)
    return int(status["generation"]) if status else 0


def test_a_small_channel_holds_back_all_before_it(make: Callable[..., Cluster]) -> None:
    """The sink is stopped: the aggregator fills to its size, then the edge to its own, then the
    files wait; memory stays bounded."""
    cluster = make(extra='[channel]\nsize = "8MiB"\n[batch]\nsize = "64KiB"\ncodec = "none"\n')
    cluster.start("edge-1", "agg-1")
    wait_for(lambda: cluster.status("edge-1") and cluster.status("agg-1"), "they run")
    cluster.write("edge-1", 250_000)  # 19 MB

    def is_full(name: str) -> bool:
        status = cluster.status(name)
        return bool(status and status["channel"]["free_bytes"] < 2 * MIB)  # one sender's share

    wait_for(lambda: is_full("agg-1") and is_full("edge-1"), "both are full")
    status = cluster.status("edge-1")
    assert status is not None
    assert told(status, UNREAD) > 2 * MIB
    for name in ("edge-1", "agg-1"):
        status = cluster.status(name)
        assert status is not None
        assert status["channel"]["used_bytes"] < 8.5 * MIB
        assert status["channel"]["trouble"] == ""
        anonymous = anonymous_bytes(status["pid"])
        print(f"{name}: {anonymous / MIB:.0f} MiB")
        assert anonymous < 150 * MIB
    cluster.start("sink-1")
    settle(cluster)


def anonymous_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))


def test_a_root_whose_disk_is_full_for_a_while(
    make: Callable[..., Cluster], tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "store", 8 * MIB) as disk:
        cluster = make(sink=f'type = "directory"\nroot = "{disk / "out"}"')
        cluster.out = disk / "out"
        cluster.start()
        cluster.wait_running()
        cluster.write("edge-1", 1000)
        all_published(cluster)
        fill(disk / "filler")
        cluster.write("edge-1", 20_000)
        wait_for(lambda: "no space" in error(cluster), f"it says so: {cluster.log('sink-1')}")
        assert not cluster.is_healthy("sink-1")
        cluster.kill("sink-1")
        cluster.start("sink-1")
        wait_for(lambda: "no space" in error(cluster), f"it says so: {cluster.log('sink-1')}")
        (disk / "filler").unlink()
        settle(cluster)
        assert error(cluster) == ""


def test_a_root_that_may_not_be_written_for_a_while(
    make: Callable[..., Cluster], tmp_path: Path
) -> None:
    """Root may write anywhere, but not below a file."""
    cluster = make()
    cluster.start()
    cluster.wait_running()
    cluster.write("edge-1", 1000)
    all_published(cluster)
    away = tmp_path / "away"
    cluster.out.rename(away)
    cluster.out.write_text("in its place")
    cluster.write("edge-1", 1000)
    wait_for(lambda: error(cluster), "it says so")
    assert not cluster.is_healthy("sink-1")
    os.unlink(cluster.out)  # noqa: PTH108
    away.rename(cluster.out)
    settle(cluster)


def error(cluster: Cluster) -> str:
    status = cluster.status("sink-1")
    return str(status["outputs"][0]["error"]) if status else ""
