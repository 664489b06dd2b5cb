"""Every example that is shipped loads, and is found in a checkout and in a wheel. Those that no
other suite runs are run here."""

import gzip
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from tests.waiting import wait_for
from tiers.errors import UsageError
from tiers.observe.client import ask_now
from tiers.topology import example_names, examples, find_topology, load
from tiers.trial.demo import free_loopback, published_files

ROOT = Path(__file__).resolve().parent.parent


def test_the_examples_are_those_of_the_checkout() -> None:
    assert example_names() == sorted(path.stem for path in (ROOT / "topologies").glob("*.toml"))
    assert {"quickstart", "hdfs", "single", "syslog", "fan-out", "web-logs"} <= {*example_names()}


@pytest.mark.parametrize("name", example_names())
def test_an_example_loads_without_any_variable(name: str) -> None:
    topology = load(find_topology(name), env={})
    assert topology.name == name
    for agent in topology.agent_names():
        assert topology.outputs(agent)
        topology.data_of(agent)


def test_no_two_examples_share_an_address_or_a_directory() -> None:
    topologies = [load(find_topology(name), env={}) for name in example_names()]
    addresses = [
        address
        for topology in topologies
        for tier in topology.tiers
        for address in topology.peers(tier).values()
    ]
    assert len(set(addresses)) == len(addresses)
    assert len({topology.data for topology in topologies}) == len(topologies)


def test_the_quickstart_is_one_edge_two_aggregators_and_two_sinks_on_loopback() -> None:
    topology = load(find_topology("quickstart"), {"LOG": "/in.log", "OUT": "/out"})
    assert [len(topology.tiers[tier].agents) for tier in topology.order()] == [1, 2, 2]
    assert topology.sinks("sink-1")[0].place() == "directory /out"
    assert not topology.insecure


def test_the_hdfs_example_writes_to_loopback_and_takes_the_log_from_the_environment() -> None:
    topology = load(find_topology("hdfs"), {"LOG": "/some/access.log"})
    assert [len(topology.tiers[tier].agents) for tier in topology.order()] == [1, 2, 2]
    assert "http://127.0.0.1:9870" in topology.sinks("sink-1")[0].place()
    assert topology.sources("edge-1")[0].model_dump()["paths"] == ("/some/access.log",)


def test_an_unknown_example_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'quickstart'"):
        find_topology("quikstart")
    with pytest.raises(UsageError, match=r"no example topology '\.\./pyproject'"):
        find_topology("../pyproject")


def test_examples_of_an_installed_package_are_beside_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "tiers"
    shutil.copytree(ROOT / "topologies", package / "topologies")
    monkeypatch.setattr(examples, "_PACKAGE", package)
    assert find_topology("quickstart") == package / "topologies" / "quickstart.toml"


def tiers(*arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tiers", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
    )


def test_the_single_agent_example_delivers(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(b"one\ntwo\n")
    up = tiers(
        *("up", "topologies/single.toml", "--drain", "--data", str(tmp_path / "data")),
        LOG=str(tmp_path / "*.log"),
        OUT=str(tmp_path / "out"),
    )
    assert up.wait() == 0
    (file,) = published_files(tmp_path / "out")
    assert file.name.endswith(".log.zst")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes()) == (
        b"one\ntwo\n"
    )


def test_the_routes_example_gives_each_sink_what_it_wants(tmp_path: Path) -> None:
    for name in ("app", "errors", "debug"):
        (tmp_path / f"{name}.log").write_bytes(b"of %s\n" % name.encode())
    variables = {"LOGS": str(tmp_path), "OUT": str(tmp_path / "out")}
    data = ("--data", str(tmp_path / "data"))
    assert tiers("up", "topologies/routes.toml", "--drain", *data, **variables).wait() == 0
    found = {
        sink: [file.read_bytes() for file in published_files(tmp_path / "out" / sink)]
        for sink in ("all", "errors")
    }
    lines = {sink: sorted(b"".join(files).splitlines()) for sink, files in found.items()}
    assert lines == {"all": [b"of app", b"of errors"], "errors": [b"of errors"]}
    assert tiers("audit", "topologies/routes.toml", *data, **variables).wait() == 0


def test_the_syslog_example_delivers_through_its_relays(tmp_path: Path) -> None:
    # On a loopback address of its own, as several runs of the tests may go on side by side.
    host = free_loopback([5514, 7600, 7602])
    text = (ROOT / "topologies" / "syslog.toml").read_text()
    file = tmp_path / "syslog.toml"
    file.write_text(text.replace("127.0.0.1:76", f"{host}:76"))
    variables = {"LISTEN": f"{host}:5514", "OUT": str(tmp_path / "out")}
    data = ("--data", str(tmp_path / "data"))
    up = tiers("up", str(file), *data, **variables)
    try:
        wait_for(lambda: _accepts(host, b"<13>a line\n"), "it listens")
        wait_for(lambda: _events_in(tmp_path / "data" / "edge-1") == 1, "it has the message")
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait() == 0
    assert tiers("up", str(file), *data, "--drain", **variables).wait() == 0
    (published,) = published_files(tmp_path / "out")
    assert published.relative_to(tmp_path / "out").parts[:2] == ("syslog", "127.0.0.1")
    assert gzip.decompress(published.read_bytes()) == b"<13>a line\n"


def _events_in(directory: Path) -> object:
    answer = ask_now(directory)
    return answer["events_in"] if isinstance(answer, dict) else answer


def _accepts(host: str, message: bytes) -> bool:
    try:
        with socket.create_connection((host, 5514), timeout=5) as connection:
            connection.sendall(message)
    except OSError:
        return False
    return True
