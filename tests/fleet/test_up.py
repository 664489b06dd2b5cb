"""The supervisor, with processes that stand in for agents, and `tiers up`."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import eventually, wait_for
from tiers.cli import main
from tiers.cli.up import rows_of
from tiers.core.backoff import Backoff
from tiers.errors import TiersError
from tiers.fleet.child import AgentPlace, agent_command, bound_log, describe_end, last_words
from tiers.fleet.supervisor import Supervisor
from tiers.host.own_directory import who_has
from tiers.observe.client import ask_now, tell_drain
from tiers.topology import load
from tiers.trial.demo import Demo, published_files

ROOT = Path(__file__).parents[2]
TOPOLOGY = """
name = "three"
[tiers.edge]
agents = [{edges}]
next = "aggregator"
[[tiers.edge.sources]]
type = "generate"
count = 1
[tiers.aggregator]
agents = {{ agg-1 = "127.0.0.1:7400" }}
next = "sink"
[tiers.sink]
agents = {{ sink-1 = "127.0.0.1:7410" }}
[[tiers.sink.sinks]]
type = "directory"
root = "/nowhere"
[delivery]
shutdown_timeout = "100ms"
"""


def stand_in(topology: Path, place: AgentPlace) -> list[str]:
    command = agent_command(topology, place)
    command[command.index("tiers")] = "tests.observe.stand_in"
    return command


def write(file: Path, *edges: str) -> Path:
    text = TOPOLOGY.format(edges=", ".join(f'"{edge}"' for edge in edges))
    new = file.with_suffix(".new")
    new.write_text(text)
    return new.replace(file)


def script(data: Path, agent: str, **how: Any) -> None:
    (data / agent).mkdir(parents=True, exist_ok=True)
    (data / agent / "script.new").write_text(json.dumps(how))
    (data / agent / "script.new").replace(data / agent / "script.json")


def lives(data: Path, agent: str) -> list[str]:
    file = data / agent / "lives.txt"
    return file.read_text().split() if file.exists() else []


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        "tiers.fleet.supervisor._STOP_MARGIN_S", 30.0
    )  # however busy the machine is


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "three.toml", "edge-1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@asynccontextmanager
async def supervised(file: Path, data: Path, **how: Any) -> AsyncIterator["Run"]:
    run = Run(file, data, **how)
    run.task = asyncio.create_task(run.supervisor.run())
    try:
        yield run
    finally:
        run.supervisor.stop()
        await asyncio.wait_for(run.task, 60)


class Run:
    """A supervisor at work, and what it said."""

    task: "asyncio.Task[int]"

    def __init__(self, file: Path, data: Path, *, drain: bool = False) -> None:
        self.lines: list[str] = []
        self.supervisor = Supervisor(
            file,
            data,
            drain=drain,
            report=self.lines.append,
            command=stand_in,
            backoff=lambda: Backoff(first_s=0.02),
            random=Random(1),
            poll_s=0.02,
            look_s=0.02,
        )

    async def answering(self, *agents: str) -> None:
        for agent in agents:
            await eventually(lambda a=agent: self.answers(a), f"{agent} answers")  # type: ignore[misc]

    def answers(self, agent: str) -> bool:
        child = self.supervisor.children.get(agent)
        return child is not None and isinstance(child.answer, dict)


@pytest.mark.parametrize("seed", range(3))
def test_waits_grow_to_their_limit_with_jitter_and_begin_again_after_a_healthy_while(
    seed: int,
) -> None:
    random, backoff = Random(seed), Backoff(first_s=0.5, wait_s_max=8, healthy_after_s=30)
    waits = [backoff.wait_s(1.0, random.random()) for _ in range(2000)]
    for wait, full in zip(waits, [0.5, 1, 2, 4, *[8] * 1996], strict=True):
        assert full / 2 <= wait <= full
    assert len(set(waits)) > 1990
    assert backoff.wait_s(30.0, random.random()) <= 0.5
    assert 0.5 <= backoff.wait_s(29.0, random.random()) <= 1.0


async def test_runs_every_agent_and_starts_the_dead_again(file: Path, data: Path) -> None:
    async with supervised(file, data) as run:
        await run.answering("edge-1", "agg-1", "sink-1")
        child = run.supervisor.children["agg-1"]
        first = child.pid
        child.signal(signal.SIGKILL)
        await eventually(lambda: len(lives(data, "agg-1")) == 2, "agg-1 is started again")
        await run.answering("agg-1")
        assert child.pid != first
        assert lives(data, "edge-1") == ["begun"]
    assert await run.task == 0
    assert lives(data, "edge-1") == ["begun", "stopped"]
    assert any(line.startswith("agg-1: killed by SIGKILL after") for line in run.lines)
    assert "stand-in agg-1 begins" in (data / "agg-1" / "agent.log").read_text()


async def test_one_that_ends_by_itself_untold_is_started_again(file: Path, data: Path) -> None:
    script(data, "edge-1", exit=0)
    async with supervised(file, data) as run:
        await eventually(lambda: len(lives(data, "edge-1")) >= 4, "edge-1 is tried again")
        assert "ended with status 0" in run.lines[0]
        assert "last words: stand-in edge-1 begins" in run.lines[0]
        (each, *_) = rows_of(run.supervisor)
        assert (each.agent, each.healthy) == ("edge-1", False)


async def test_a_program_that_is_not_there_is_tried_again(file: Path, data: Path) -> None:
    run = Run(file, data)
    run.supervisor._command = lambda topology, place: ["/nowhere/at-all"]
    task = asyncio.create_task(run.supervisor.run())
    await eventually(lambda: len(run.lines) >= 6, "tried twice")
    run.supervisor.stop()
    assert await task == 0
    assert "cannot be started" in run.lines[0]


async def test_drains_upstream_first_and_tells_again_one_that_died(file: Path, data: Path) -> None:
    write(file, "edge-1", "edge-2")
    script(data, "edge-1", hold=True)
    async with supervised(file, data, drain=True) as run:
        await eventually(lambda: "told" in lives(data, "edge-1"), "edge-1 is told")
        await eventually(lambda: "drained" in lives(data, "edge-2"), "edge-2 drains")
        await run.answering("agg-1", "sink-1")
        # While edge-1 has not ended nothing downstream may be told.
        assert not run.supervisor.children["agg-1"].told
        assert not run.supervisor.children["sink-1"].told
        script(data, "edge-1")
        run.supervisor.children["edge-1"].signal(signal.SIGKILL)
        assert await asyncio.wait_for(run.task, 30) == 0
    assert lives(data, "edge-1") == ["begun", "told", "begun", "drained"]
    assert lives(data, "agg-1") == lives(data, "sink-1") == ["begun", "drained"]
    over = [line for line in run.lines if line.endswith(": drained")]
    assert over == [f"{name}: drained" for name in ("edge-2", "edge-1", "agg-1", "sink-1")]


async def test_dead_letters_do_not_hold_up_a_drain_but_make_its_status_1(
    file: Path, data: Path
) -> None:
    script(data, "agg-1", status={"channel": {"dead": 3}}, drained=1)
    async with supervised(file, data, drain=True) as run:
        assert await asyncio.wait_for(run.task, 30) == 1
    assert lives(data, "sink-1") == ["begun", "drained"]
    assert "agg-1: dead letters" in run.lines


async def test_a_crash_while_draining_is_not_taken_for_dead_letters(file: Path, data: Path) -> None:
    script(data, "agg-1", drained=1)  # Python's own status of a program that broke
    async with supervised(file, data, drain=True) as run:
        await eventually(lambda: lives(data, "agg-1").count("drained") >= 2, "agg-1 told again")
        assert lives(data, "sink-1") == ["begun"]
        script(data, "agg-1")
        assert await asyncio.wait_for(run.task, 30) == 0


async def test_stopped_while_draining_is_no_success(file: Path, data: Path) -> None:
    script(data, "edge-1", hold=True)
    async with supervised(file, data, drain=True) as run:
        await eventually(lambda: "told" in lives(data, "edge-1"), "edge-1 is told")
        run.supervisor.stop()
        assert await asyncio.wait_for(run.task, 30) == 1


async def test_agents_added_to_the_file_are_started_and_those_taken_out_may_end(
    file: Path, data: Path
) -> None:
    async with supervised(file, data) as run:
        await run.answering("edge-1")
        write(file, "edge-2")
        await run.answering("edge-2")
        assert run.supervisor.children["edge-1"].leaving
        (data / "edge-1" / "channel").mkdir()
        # It dies before it has drained: what it holds must still get out.
        run.supervisor.children["edge-1"].signal(signal.SIGKILL)
        await eventually(lambda: len(lives(data, "edge-1")) == 2, "edge-1 is started again")
        await run.answering("edge-1")
        assert isinstance(await tell_drain(data / "edge-1"), dict)
        await eventually(lambda: "edge-1: drained" in run.lines, "edge-1 is over")
        write(file, "edge-2", "edge-1")
        await eventually(lambda: len(lives(data, "edge-1")) == 4, "edge-1 is back")
    assert lives(data, "edge-1") == ["begun", "begun", "drained", "begun", "stopped"]


async def test_a_wrong_new_file_is_refused(file: Path, data: Path) -> None:
    async with supervised(file, data) as run:
        await run.answering("edge-1")
        file.write_text("name = 7")
        await eventually(lambda: run.supervisor.topology_error, "the file is refused")
        assert run.supervisor.topology.name == "three"
        file.write_text(TOPOLOGY.format(edges='"edge-9"').replace('"three"', '"four"'))
        await eventually(lambda: "four" in run.supervisor.topology_error, "another name is refused")
        assert "edge-9" not in run.supervisor.children
        write(file, "edge-1", "edge-2")
        await run.answering("edge-2")
        assert not run.supervisor.topology_error
    assert lives(data, "edge-1") == ["begun", "stopped"]


async def test_the_first_part_of_a_file_is_not_taken_over(
    file: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bytes] = []
    whole, part = file.read_bytes(), file.read_bytes().replace(b'"edge-1"', b'"edge-2"')
    contents = [whole, part, whole, part, whole]

    def look(path: Path) -> bytes:
        looks.append(contents[len(looks) % len(contents)])
        return looks[-1]

    run = Run(file, data)
    monkeypatch.setattr("tiers.fleet.supervisor.look", look)
    task = asyncio.create_task(run.supervisor.run())
    await run.answering("edge-1")
    seen = len(looks)
    await eventually(lambda: len(looks) > seen + 10, "it has looked at it again and again")
    assert "edge-2" not in run.supervisor.children
    assert not run.supervisor.children["edge-1"].leaving
    run.supervisor.stop()
    await task


async def test_one_that_is_left_out_for_a_moment_is_in_again(file: Path, data: Path) -> None:
    async with supervised(file, data) as run:
        await run.answering("edge-1")
        write(file, "edge-2")
        await eventually(lambda: run.supervisor.children["edge-1"].leaving, "it is left out")
        write(file, "edge-1", "edge-2")
        await eventually(lambda: "edge-1: in the topology again" in run.lines, "it is in again")
        assert not run.supervisor.children["edge-1"].leaving
    assert lives(data, "edge-1") == ["begun", "stopped"]


@pytest.mark.parametrize("bad", ["name = 7", "", None])
async def test_a_start_with_a_bad_file_goes_by_the_one_in_force_last(
    file: Path, data: Path, bad: str | None
) -> None:
    async with supervised(file, data) as run:
        write(file, "edge-1", "edge-2")
        await run.answering("edge-2")
        await eventually(lambda: "edge-2" in (data / "topology.toml").read_text(), "it is kept")
    file.unlink()
    if bad is not None:
        file.write_text(bad)
    with pytest.raises(TiersError):
        Supervisor(file, data, strict=True)
    with pytest.raises(TiersError):
        Supervisor(file, data / "elsewhere")
    async with supervised(file, data) as run:
        await run.answering("edge-1", "edge-2")
        assert run.supervisor.topology_error
        assert "begins by" in run.lines[0]
        write(file, "edge-1", "edge-2")
        await eventually(lambda: not run.supervisor.topology_error, "the mended file is in force")


async def test_a_new_file_that_no_longer_says_where_data_is_is_refused(
    file: Path, data: Path
) -> None:
    where = f'data = "{data}"\n'
    file.write_text(where + file.read_text())
    run = Run(file, data)
    run.supervisor._data = None
    task = asyncio.create_task(run.supervisor.run())
    await run.answering("edge-1")
    file.write_text(file.read_text().removeprefix(where))
    await eventually(lambda: "--data" in run.supervisor.topology_error, "the file is refused")
    assert run.answers("edge-1")
    run.supervisor.stop()
    assert await task == 0


async def test_one_that_does_not_stop_is_killed(
    file: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(data, "edge-1", deaf=True)
    async with supervised(file, data) as run:
        await run.answering("edge-1", "agg-1", "sink-1")
        run.supervisor.stop()
        for other in ("agg-1", "sink-1"):
            await eventually(lambda o=other: "stopped" in lives(data, o), f"{other} stops")  # type: ignore[misc]
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
        monkeypatch.setattr("tiers.fleet.supervisor.time", later)
    assert "edge-1: did not stop in time; killed" in run.lines
    assert lives(data, "edge-1") == ["begun"]
    assert lives(data, "agg-1") == ["begun", "stopped"]


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from tests.fleet.test_up import stand_in
from tiers.host.own_directory import who_has
from tiers.fleet.supervisor import Supervisor
asyncio.run(Supervisor(Path(sys.argv[1]), Path(sys.argv[2]), command=stand_in).run())
"""


def test_children_do_not_outlive_a_supervisor_that_is_killed(file: Path, data: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(file), str(data)])
    agents = ("edge-1", "agg-1", "sink-1")
    try:
        for agent in agents:
            wait_for(lambda a=agent: (data / a / "status.sock").exists(), f"{agent} runs")  # type: ignore[misc]
    finally:
        parent.kill()
        parent.wait()
    for agent in agents:
        wait_for(lambda a=agent: lives(data, a) == ["begun", "stopped"], f"{agent} ends")  # type: ignore[misc]


def test_a_child_whose_parent_is_gone_does_not_begin(tmp_path: Path) -> None:
    command = stand_in(tmp_path, AgentPlace("edge-1", "edge", tmp_path))
    command[command.index(str(os.getpid()))] = "1"
    ended = subprocess.run(command, check=False, timeout=30)
    assert ended.returncode == 1
    assert not (tmp_path / "edge-1").exists()


def test_a_grown_log_is_set_aside_while_it_is_written_to(tmp_path: Path) -> None:
    with (tmp_path / "agent.log").open("ab", buffering=0) as log:
        log.write(b"old\n" * 100)
        bound_log(tmp_path, bytes_max=400)
        assert not (tmp_path / "agent.log.1").exists()
        log.write(b"more\n")
        bound_log(tmp_path, bytes_max=400)
        log.write(b"new\n\n")
    assert (tmp_path / "agent.log").read_bytes() == b"new\n\n"
    assert (tmp_path / "agent.log.1").read_bytes() == b"old\n" * 100 + b"more\n"
    assert last_words(tmp_path) == "new"
    assert last_words(tmp_path / "nowhere") == ""


@given(st.integers(-200, 255))
def test_every_end_can_be_told(status: int) -> None:
    assert describe_end(status)


def test_ends() -> None:
    assert describe_end(-9) == "killed by SIGKILL"
    assert describe_end(3) == "ended with status 3"


def test_up_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("name = 7")
    result = CliRunner().invoke(main, ["up", str(bad), "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "bad.toml" in result.output


def test_up_has_help_with_an_example() -> None:
    result = CliRunner().invoke(main, ["up", "--help"])
    assert result.exit_code == 0
    assert "Example: tiers up" in result.output


# --- with real agents -----------------------------------------------------------------------


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """The shipped topology in a directory of its own, with 1000 lines to tail."""
    made = Demo(tmp_path / "quickstart", events=1000)
    made.prepare()
    made.place.generated.rename(made.place.logs / "access-1.log")
    return made.place.topology


def tiers_up(topology: Path, *options: str) -> "subprocess.Popen[str]":
    own = [sys.executable, "-m", "tiers", "up", str(topology), *options]
    return subprocess.Popen(own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_up_drain_publishes_all_there_is_and_ends(quickstart: Path) -> None:
    up = tiers_up(quickstart, "--drain", "--json")
    out, _ = up.communicate(timeout=90)
    assert up.returncode == 0, out
    told = [json.loads(line) for line in out.splitlines()]
    order = [each["event"] for each in told if "event" in each]
    assert order[0] == "edge-1: drained"
    assert sorted(order[1:3]) == ["agg-1: drained", "agg-2: drained"]
    assert sorted(order[3:]) == ["sink-1: drained", "sink-2: drained"]
    last = told[-1]["agents"]
    assert {each["phase"] for each in last} == {"drained"}
    assert all(each["healthy"] for each in last)
    files = published_files(quickstart.parent / "published")
    assert sum(file.read_bytes().count(b"\n") for file in files) == 1000


def test_a_second_up_on_the_same_directories_refuses_and_disturbs_nothing(
    quickstart: Path,
) -> None:
    up = tiers_up(quickstart)
    places = [quickstart.parent / "agents" / name for name in load(quickstart).agent_names()]
    try:
        for place in places:
            wait_for(lambda p=place: isinstance(ask_now(p), dict), f"{place.name} answers")  # type: ignore[misc]
        second = tiers_up(quickstart, "--drain")
        out, _ = second.communicate(timeout=60)
        assert second.returncode == 2, out
        assert "Traceback" not in out
        assert all(f"{place.name} (pid " in out for place in places)
        states = [answer["state"] for answer in map(ask_now, places) if isinstance(answer, dict)]
        assert states == ["running"] * len(places)
    finally:
        up.terminate()
        up.communicate(timeout=60)
    assert not any(who_has(place) for place in places)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_stops_its_agents_when_told(quickstart: Path, number: signal.Signals) -> None:
    up = tiers_up(quickstart)
    agents = load(quickstart).agent_names()
    places = [quickstart.parent / "agents" / name for name in agents]
    try:
        for place in places:
            wait_for(lambda p=place: isinstance(ask_now(p), dict), f"{place.name} answers")  # type: ignore[misc]
        up.send_signal(number)
        out, _ = up.communicate(timeout=60)
    finally:
        up.kill()
    assert up.returncode == 0
    assert "stopping" in out
    for place in places:
        assert ask_now(place) == "not running: no status socket"
        assert "stopping" in (place / "agent.log").read_text()
