"""`tiers dead`, on stopped channels and on an agent that is a process of its own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result

from tests.channel.making import opened, put
from tests.channel.test_damage import flip
from tests.faults.cluster import free_port_pair
from tests.waiting import wait_for
from tiers.cli import main
from tiers.core.change import Change
from tiers.observe.client import ask_now
from tiers.trial.demo import published_files

ROOT = Path(__file__).resolve().parent.parent.parent
TOPOLOGY = """
name = "one"
data = "{root}/data"
[tiers.all]
agents = ["node"]
[agents.node]
status = "127.0.0.1:{port}"
[[tiers.all.sources]]
type = "tail"
paths = ["{root}/*.log"]
[[tiers.all.sinks]]
name = "files"
type = "directory"
root = "{root}/out"
roll_after = "10ms"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "one.toml"
    file.write_text(TOPOLOGY.format(root=tmp_path, port=free_port_pair()))
    return file


@pytest.fixture
def directory(file: Path) -> Path:
    """Of a stopped agent with four dead letters: two of one reason, one damaged, one of an output
    that is no more."""
    directory = file.parent / "data" / "node"
    directory.mkdir(parents=True)
    asyncio.run(_make(directory))
    flip(directory / "channel" / "data.mdb", b"SPOILED")
    return directory


async def _make(directory: Path) -> None:
    async with opened(directory, outputs=["files", "gone"]) as channel:
        for body in (b"one\ntwo\n", b"\x1b[2Jthree\n" * 2, b"SPOILED\nSPOILED\n"):
            await channel.submit(Change(puts=[put(channel, body, outputs=["files"], count=2)]))
        await channel.submit(Change(puts=[put(channel, outputs=["gone"])]))
        bad = [("files", n, f"store says no to batch {n}") for n in (1, 2)]
        bad += [("files", 3, "checksum is wrong"), ("gone", 4, "no such place")]
        await channel.submit(Change(dead=bad))


def dead(*words: object, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["dead", *map(str, words)], input=answer)


def told(*words: object) -> Any:
    result = dead(*words, "--json")
    return json.loads(result.stdout)


def letters(directory: Path) -> list[int]:
    return [one["letter"] for one in told("show", directory)["letters"]]


@contextmanager
def agent(file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs meanwhile, and is stopped at the end if it still does."""
    with (file.parent / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tiers", "agent", str(file), "node"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=stderr,
        )
        try:
            wait_for(lambda: _state(file) == "running", "the agent runs")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _state(file: Path) -> str:
    answer = ask_now(file.parent / "data" / "node")
    return answer["state"] if isinstance(answer, dict) else ""


def published(file: Path) -> bytes:
    files = published_files(file.parent / "out")
    return b"".join(sorted(one.read_bytes() for one in files))


def test_list_groups_by_output_and_reason(file: Path, directory: Path) -> None:
    groups = told("list", file, "node")["groups"]
    assert [(one["output"], one["reason"], one["batches"], one["events"]) for one in groups] == [
        ("files", "store says no to batch …", 2, 4),
        ("files", "checksum is wrong", 1, 2),
        ("gone", "no such place", 1, 1),
    ]
    assert all(0 < one["oldest_ms"] <= one["newest_ms"] and one["bytes"] for one in groups)
    lines = dead("list", directory / "channel").output.splitlines()
    assert lines[0].split() == [
        "output",
        "batches",
        "events",
        "bytes",
        "oldest",
        "newest",
        "reason",
    ]
    assert lines[1].endswith("  store says no to batch …")
    assert [one["batches"] for one in told("list", directory, "--output", "gone")["groups"]] == [1]
    assert dead("list", directory, "--cause", "unheard of").output == "no dead letters\n"


def test_show_tells_all_and_nothing_that_a_terminal_obeys(directory: Path) -> None:
    shown = dead("show", directory, "--ids", "1-3", "--lines", "1").output
    assert "\x1b" not in shown
    for words in (
        "letter   1 of files",
        "reason   store says no to batch 1",
        "hops     edge-1 1970-01-01 00:00:00",
        "headers  service=web",
        "framing  lines, codec none",
        "body     one\n         … (4 bytes more)",
        r"body     \x1b[2Jthree",
        "body     damaged: checksum of batch",
    ):
        assert words in shown, shown
    assert letters(directory) == [1, 2, 3, 4]
    found = told("show", directory, "--limit", "1", "--cause", "*batch 2")
    assert ([one["letter"] for one in found["letters"]], found["more"]) == ([2], False)
    assert found["letters"][0]["lines"] == [r"\x1b[2Jthree"] * 2
    assert told("show", directory, "--limit", "1")["more"] is True


def test_export_writes_files_and_removes_nothing(directory: Path, tmp_path: Path) -> None:
    to = tmp_path / "letters"
    found = told("export", directory, "--to", to)
    assert {**found, "directory": ""} == {
        "directory": "",
        "letters": 4,
        "bytes": 8 + 20 + 7 + len((to / "3-files.record").read_bytes()),
        "unopened": 0,
        "damaged": 1,
    }
    assert (to / "1-files.body").read_bytes() == b"one\ntwo\n"
    beside = json.loads((to / "1-files.json").read_text())
    assert (beside["file"], beside["headers"]) == ("1-files.body", {"service": "web"})
    assert not (to / "3-files.body").exists()
    damaged = json.loads((to / "3-files.json").read_text())
    assert damaged["unread"].startswith("damaged: checksum")
    assert b"POILED\n" in (to / damaged["file"]).read_bytes()
    assert letters(directory) == [1, 2, 3, 4]
    again = dead("export", directory, "--to", to)
    assert (again.exit_code, len(again.stderr.splitlines())) == (2, 1)
    assert "is not empty" in again.stderr


def test_retry_of_a_stopped_agent(file: Path, directory: Path) -> None:
    result = dead("retry", directory, "--ids", "1")
    assert result.exit_code == 2, "which outputs it has, only a topology tells"
    assert "give the topology file" in result.stderr
    result = dead("retry", file, "node")
    assert result.exit_code == 1
    assert "2 dead letters queued again: 4 events" in result.stdout
    assert "1 refused: damaged: checksum" in result.stderr
    assert "1 refused: output 'gone' is configured no more" in result.stderr
    assert letters(directory) == [3, 4]
    with agent(file):
        wait_for(lambda: len(published(file)) == 28, "they are published")
    assert dead("retry", directory, "--ids", "3").exit_code == 1, "the kept topology tells now"


def test_drop_asks(file: Path, directory: Path) -> None:
    result = dead("drop", file, "node", "--ids", "1,3", answer="n\n")
    assert (result.exit_code, letters(directory)) == (1, [1, 2, 3, 4])
    assert "Drop 2 dead letters of files (4 events, " in result.stdout
    assert dead("drop", file, "node", "--json").exit_code == 2
    assert dead("drop", file, "node", "--ids", "1", answer="y\n").exit_code == 0
    assert letters(directory) == [2, 3, 4]
    found = told("drop", file, "node", "--yes")
    assert (found["letters"], found["refused"]) == (3, [])
    assert letters(directory) == []
    assert told("drop", file, "node", "--yes")["letters"] == 0


def test_a_running_agent_does_all_of_it(file: Path, directory: Path, tmp_path: Path) -> None:
    with agent(file):
        assert sum(one["batches"] for one in told("list", file, "node")["groups"]) == 4
        assert letters(directory / "channel") == [1, 2, 3, 4]
        assert "body     damaged: checksum" in dead("show", directory, "--ids", "3").output
        assert told("export", directory, "--to", tmp_path / "out of it")["letters"] == 4
        assert told("retry", directory, "--ids", "1")["letters"] == 1
        refused = told("retry", file, "node", "--ids", "3-4")["refused"]
        assert [one["letters"] for one in refused] == [1, 1]
        wait_for(lambda: published(file) == b"one\ntwo\n", "it is published")
        assert told("drop", directory, "--ids", "2", "--yes")["letters"] == 1
        assert letters(directory) == [3, 4]
        answer = ask_now(directory)
        assert isinstance(answer, dict)
        channel = answer["channel"]
        assert (channel["dead"], channel["dropped"], channel["retried"]) == (2, 1, 1)
        audit = CliRunner().invoke(main, ["audit", str(file)])
        assert "dropped on purpose at node: 2" in audit.output
        assert re.findall(r"GAP .*", audit.output) == ["GAP of 1 batches: 4"], "never for files"
    log = (tmp_path / "stderr").read_text()
    assert log.count("a person had 1 dead letter dropped for good: 2 events") == 1
    assert log.count("a person had 1 dead letter queued again: 2 events") == 1


def test_nothing_of_it_is_offered_over_tcp(file: Path, directory: Path) -> None:
    port = file.read_text().split("127.0.0.1:")[1].split('"')[0]

    async def ask(method: str, path: str) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{port}{path}", data=b'[[1,"files"]]') as got,
        ):
            return got.status

    with agent(file):
        for method, path in (
            ("GET", "/dead"),
            ("GET", "/dead/record?letter=1"),
            ("POST", "/dead/retry"),
            ("POST", "/dead/drop"),
        ):
            assert asyncio.run(ask(method, path)) == 404, path
        assert letters(directory) == [1, 2, 3, 4]


def test_a_kill_neither_loses_nor_doubles(file: Path, directory: Path) -> None:
    """What was answered is so; the rest is a letter or published, and never both."""
    with agent(file) as process:
        assert told("retry", directory, "--ids", "1")["letters"] == 1
        process.kill()
        process.wait()
    assert letters(directory) == [2, 3, 4]
    with agent(file):
        wait_for(lambda: published(file) == b"one\ntwo\n", "it is published")
        told("retry", directory, "--ids", "2")
        wait_for(lambda: published(file).count(b"three") == 2, "so is the other")
    assert published(file).count(b"one") == 1
    assert letters(directory) == [3, 4]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "{root}/nowhere"], "wanted an agent's directory"),
        (["list", "{root}"], "there is no channel here"),
        (["list", "{root}/one.toml", "nobody"], "nobody"),
        (["list", "{root}/nothing.toml", "node"], "nothing.toml"),
        (["list", "{root}/data/node", "--ids", "x"], "wanted a letter's number"),
        (["drop", "{root}/data/node", "--json"], "give --yes as well"),
    ],
)
def test_errors_are_one_line(words: list[str], said: str, directory: Path, tmp_path: Path) -> None:
    result = dead(*(word.format(root=tmp_path) for word in words))
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


async def test_an_agent_that_has_the_channel_and_does_not_answer(directory: Path) -> None:
    async with opened(directory, outputs=["files"]):
        result = await asyncio.to_thread(dead, "list", directory)
    assert result.exit_code == 2
    assert "another agent runs on" in result.stderr
    assert "wait until it answers, or stop it" in result.stderr
