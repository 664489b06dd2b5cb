"""`tiers status`: every agent a row, whatever it says or does not say."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.fleet.test_up import ROOT, script, write
from tests.waiting import wait_for
from tiers.cli import main
from tiers.observe.client import ask_now
from tiers.observe.conditions import Condition

AGENTS = ("edge-1", "agg-1", "sink-1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "three.toml", "edge-1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def agents(file: Path, data: Path) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """A stand-in for each agent of the topology, running."""
    own = [sys.executable, "-m", "tests.observe.stand_in", "agent", str(file)]
    processes = {
        name: subprocess.Popen([*own, name, "--data", str(data)], cwd=ROOT) for name in AGENTS
    }
    try:
        for name in AGENTS:
            wait_for(lambda n=name: isinstance(ask_now(data / n), dict), f"{name} answers")  # type: ignore[misc]
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def status(file: Path, data: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["status", str(file), "--data", str(data), *options])


def as_json(result: Result) -> dict[str, Any]:
    told = json.loads(result.stdout)
    assert isinstance(told, dict)
    return told


def test_healthy_agents(file: Path, data: Path, agents: dict[str, Any]) -> None:
    result = status(file, data)
    assert result.exit_code == 0, result.output
    for wanted in (*AGENTS, "running", "1,000", "166.0 KiB", "agg-1 up, 16.0 MiB credit", "1.5s"):
        assert wanted in result.stdout
    told = as_json(status(file, data, "--json"))
    assert told["healthy"] is True
    assert [each["agent"] for each in told["agents"]] == list(AGENTS)
    edge = told["agents"][0]
    assert (edge["tier"], edge["state"], edge["events_in"], edge["used_bytes"]) == (
        *("edge", "running"),
        *(1000, 4096),
    )
    assert edge["status"]["channel"]["free_bytes"] == 2**30


def test_who_runs_another_file_is_said_to(file: Path, data: Path, agents: dict[str, Any]) -> None:
    script(data, "agg-1", status={"topology_hash": "0" * 16, "generation": 2})
    shown = status(file, data).stdout
    assert shown.count("runs another topology file than this") == 1
    assert "0000000000000000, generation 2" in shown


def test_one_that_died_is_a_row_with_the_reason(
    file: Path, data: Path, agents: dict[str, "subprocess.Popen[bytes]"]
) -> None:
    agents["agg-1"].kill()
    agents["agg-1"].wait()
    result = status(file, data)
    assert result.exit_code == 1
    assert "    ! not running: connection refused" in result.stdout
    told = as_json(status(file, data, "--json"))
    states = {each["agent"]: each["state"] for each in told["agents"]}
    assert states == {"edge-1": "running", "agg-1": "unreachable", "sink-1": "running"}
    assert told["agents"][1]["status"] is None
    assert told["healthy"] is False


def test_an_unhealthy_agent_and_a_strange_one(
    file: Path, data: Path, agents: dict[str, Any]
) -> None:
    full = Condition("disk_floor", "channel", "disk full").told()
    script(data, "edge-1", status={"healthy": False, "conditions": [full]})
    script(data, "sink-1", status={"outputs": 7, "channel": [], "events_in": "many"})
    result = status(file, data)
    assert result.exit_code == 1
    assert "running, unhealthy" in result.stdout
    assert "    ! disk_floor channel: disk full (" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines() if "running" in line] == [
        *AGENTS
    ]


def test_nobody_at_home(file: Path, data: Path) -> None:
    result = status(file, data)
    assert result.exit_code == 1
    assert result.stdout.count("not running here: no directory") == 3


def test_without_a_data_directory_there_is_only_tcp_and_it_says_so(file: Path) -> None:
    result = CliRunner().invoke(main, ["status", str(file)])
    assert result.exit_code == 1
    assert result.stdout.count("neither a data directory here nor a status address") == 3


def test_a_wrong_file_is_no_bad_health(tmp_path: Path) -> None:
    result = status(tmp_path / "nowhere.toml", tmp_path)
    assert result.exit_code == 2
    assert "nowhere.toml" in result.output


@pytest.mark.parametrize("wrong", ["", 'name = "half', None])
@pytest.mark.parametrize("kept", ["topology.toml", "edge-1/topology.toml"])
def test_by_a_wrong_file_agents_are_those_that_were_last_accepted(
    file: Path, data: Path, wrong: str | None, kept: str
) -> None:
    (data / "agg-1").mkdir(parents=True)
    (data / "agg-1" / "topology.toml").write_text("damaged")
    (data / kept).parent.mkdir(exist_ok=True)
    (data / kept).write_text(file.read_text())
    file.unlink() if wrong is None else file.write_text(wrong)
    result = status(file, data)
    assert result.exit_code == 1
    assert f"These are the agents of {data / kept}" in result.stderr
    assert str(file) in result.stderr
    assert all(agent in result.stdout for agent in AGENTS)


def test_watch_goes_on_until_it_is_stopped(file: Path, data: Path, agents: dict[str, Any]) -> None:
    own = [sys.executable, "-m", "tiers", "status", str(file), "--data", str(data)]
    watching = subprocess.Popen(
        [*own, "--watch", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["agents"][0]["events_in"] == 1000
        script(data, "edge-1", status={"events_in": 2000})
        wait_for(
            lambda: json.loads(watching.stdout.readline())["agents"][0]["events_in"] == 2000,  # type: ignore[union-attr]
            "the change is seen",
        )
        watching.send_signal(2)
        assert watching.wait(30) == 0
    finally:
        watching.kill()


def test_status_has_help_with_an_example() -> None:
    result = CliRunner().invoke(main, ["status", "--help"])
    assert result.exit_code == 0
    assert "Example: tiers status" in result.output
