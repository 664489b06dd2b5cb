"""scripts/hdfs, as a person uses it."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hadoop.cluster import SCRIPT, HdfsCluster, missing_part
from tests.waiting import wait_for


def script(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[HdfsCluster]:
    if reason := missing_part():
        pytest.skip(reason)
    cluster = HdfsCluster(tmp_path / "a new one")
    cluster.start()
    yield cluster
    cluster.stop()


def test_started_stopped_and_started_again_it_keeps_what_is_in_it(cluster: HdfsCluster) -> None:
    directory = cluster.directory
    store = cluster.store("/logs")
    store.write("f", [b"kept"])

    status = script("status", "--dir", directory)
    assert status.returncode == 0
    assert status.stdout.startswith(f"{cluster.url} healthy")

    pids = {node: cluster.pid(node) for node in ("namenode", "datanode")}
    again = script("start", "--dir", directory)
    assert (again.returncode, again.stdout.strip()) == (0, cluster.url)
    assert pids == {node: cluster.pid(node) for node in pids}

    assert script("stop", "--dir", directory).returncode == 0
    for pid in pids.values():  # at most a zombie, where nobody reaps
        command = Path(f"/proc/{pid}/cmdline")
        assert not (command.exists() and command.read_bytes())
    stopped = script("status", "--dir", directory)
    assert stopped.returncode == 1
    assert "not running" in stopped.stdout
    assert script("stop", "--dir", directory).returncode == 0

    url = cluster.url
    cluster.start()
    assert cluster.url == url
    assert cluster.store("/logs").read("f") == b"kept"


def test_a_killed_node_is_told_of_and_started_again_alone(cluster: HdfsCluster) -> None:
    pid, other = cluster.pid("datanode"), cluster.pid("namenode")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: script("status", "--dir", cluster.directory).returncode == 1)
    cluster.start()
    assert cluster.pid("datanode") != pid
    assert cluster.pid("namenode") == other
    assert script("status", "--dir", cluster.directory).returncode == 0


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    if reason := missing_part():
        pytest.skip(reason)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = script("start", "--dir", tmp_path / "h", "--port-base", port)
    assert done.returncode == 1
    assert f"port {port} (http) is in use" in done.stderr


def test_a_status_of_none_says_so(tmp_path: Path) -> None:
    done = script("status", "--dir", tmp_path / "none")
    assert done.returncode == 1
    assert "start one first" in done.stderr
    assert not (tmp_path / "none").exists()
