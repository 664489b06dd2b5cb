"""What people do wrong with agents, and what then is said: never a traceback."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from tests.faults.cluster import Cluster
from tests.faults.settling import all_published, settle
from tests.metering import told
from tests.waiting import wait_for
from tiers.transport import meters


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, edges=1, aggregators=1, sinks=1)
    yield made
    made.close()


def agent(cluster: Cluster, name: str) -> tuple[int, str]:
    """`tiers agent` in the foreground, to its end: exit status and what it printed."""
    file, data = str(cluster.file), str(cluster.data)
    ended = cluster.tiers("agent", file, name, "--data", data)
    return ended.returncode, ended.stdout + ended.stderr


def test_a_second_agent_on_the_same_directory_is_refused(cluster: Cluster) -> None:
    cluster.start("agg-1")
    wait_for(lambda: cluster.status("agg-1"), "it runs")
    pid = cluster.children["agg-1"].pid
    status, said = agent(cluster, "agg-1")
    assert status == 2
    assert said.strip().splitlines() == [
        f"Error: another agent runs on {cluster.data / 'agg-1'} (pid {pid})"
    ]
    for look in ("info", "check"):
        looked = cluster.tiers("channel", look, str(cluster.data / "agg-1"))
        assert looked.returncode == 2
        assert f"(pid {pid})" in looked.stderr
    # The first one is none the worse for it.
    assert cluster.status("agg-1")
    assert cluster.stop("agg-1") == 0


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_that_is_taken(cluster: Cluster, offset: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", cluster.ports["agg-1"] + offset))
        taken.listen()
        status, said = agent(cluster, "agg-1")
        assert status == 2
        assert "Traceback" not in said
        assert said.count("Error: ") == 1
        assert f"cannot listen on tcp://127.0.0.1:{cluster.ports['agg-1'] + offset}" in said
        assert "in use" in said


def test_a_wrong_topology_and_a_wrong_name(cluster: Cluster) -> None:
    status, said = agent(cluster, "agg-7")
    assert status == 2
    assert "agg-1" in said
    right = cluster.file.read_text()
    wrong = right.replace("roll_after", "rol_after").replace('next = "sink"', 'next = "sunk"')
    cluster.file.write_text(wrong)
    for command in (("agent", "agg-1"), ("up",), ("status",), ("audit",), ("check",)):
        name, *rest = command
        arguments = [name, str(cluster.file), *rest]
        arguments += [] if name == "check" else ["--data", str(cluster.data)]
        ended = cluster.tiers(*arguments)
        said = ended.stdout + ended.stderr
        assert ended.returncode == 2, (command, said)
        assert "Traceback" not in said
        assert "rol_after" in said
        assert "sunk" in said
    for garbage in (b"\xff\xfe\x00garbage", b"", b"name = ", b"[[[["):
        cluster.file.write_bytes(garbage)
        status, said = agent(cluster, "agg-1")
        assert (status, "Traceback" in said) == (2, False), said
    cluster.file.unlink()
    status, said = agent(cluster, "agg-1")
    assert (status, "Traceback" in said) == (2, False), said


def test_the_file_replaced_by_garbage_and_deleted_while_all_run(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    right = cluster.file.read_bytes()
    for garbage in (b"\xff\xfe\x00garbage", None):
        if garbage is None:
            cluster.file.unlink()
        else:
            cluster.file.write_bytes(garbage)
        cluster.write("edge-1", 100)
        for name in cluster.agents:
            wait_for(lambda n=name: topology_error(cluster, n), f"{name} says so")  # type: ignore[misc]
        all_published(cluster)
    cluster.file.write_bytes(right)
    cluster.wait_running()
    settle(cluster)
    assert "Traceback" not in "".join(map(cluster.log, cluster.agents))


def topology_error(cluster: Cluster, name: str) -> str:
    status = cluster.status(name)
    return str(status["topology_error"]) if status else ""


def test_strangers_on_the_ports_of_an_aggregator(cluster: Cluster) -> None:
    """Garbage, half-open connections, web browsers: it goes on working."""
    cluster.start()
    cluster.wait_running()
    port = cluster.ports["agg-1"]
    strangers = []
    greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + bytes(16) + bytes(32)
    for at in (port, port + 1):
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70_000, greeting, greeting[:11]):
            for _ in range(20):
                stranger = socket.create_connection(("127.0.0.1", at))
                strangers.append(stranger)
                try:
                    stranger.sendall(words)
                except OSError:
                    continue
    cluster.write("edge-1", 10_000)
    settle(cluster)
    for stranger in strangers:
        stranger.close()
    assert "Traceback" not in cluster.log("agg-1")


def test_messages_of_garbage_fill_no_log(cluster: Cluster) -> None:
    cluster.start("agg-1")
    wait_for(lambda: cluster.status("agg-1"), "it runs")
    port = cluster.ports["agg-1"]
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://127.0.0.1:{port}")

        def enough_after_more() -> bool:
            """Each lot closes its connection, and what was on its way with it may be lost."""
            with suppress(zmq.Again):
                for number in range(100):
                    push.send(b"garbage %d" % number, zmq.NOBLOCK)
            return malformed(cluster) >= 500

        wait_for(enough_after_more, "500 have come")
    assert cluster.log("agg-1").count("cannot be read") < 50


def malformed(cluster: Cluster) -> int:
    return int(told(cluster.status("agg-1"), meters.MALFORMED))
