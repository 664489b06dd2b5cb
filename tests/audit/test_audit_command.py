"""`tiers audit`, over real sockets and a real directory."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.audit.test_audit import DAY, EDGE, OTHER, a_manifest
from tests.channel.making import opened, put
from tiers.audit.audit import audit
from tiers.cli import main
from tiers.core.change import Change
from tiers.core.commit.manifest import Manifest, encode
from tiers.core.runs import Runs
from tiers.observe.meters import Meters
from tiers.observe.status import StatusServer
from tiers.topology import load

TOPOLOGY = """
name = "t"
data = "{data}"
[tiers.edge]
agents = ["edge-1"]
next = "sink"
[[tiers.edge.sources]]
type = "generate"
[tiers.sink]
agents = {{ sink-1 = "127.0.0.1:17999" }}
[[tiers.sink.sinks]]
type = "directory"
root = "{root}"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.toml"
    path.write_text(TOPOLOGY.format(data=tmp_path, root=tmp_path / "out"))
    return path


def publish(tmp_path: Path, *files: Manifest) -> None:
    directory = tmp_path / "out" / ".tiers" / DAY / "manifests"
    directory.mkdir(parents=True, exist_ok=True)
    for one in files:
        (directory / one.name).write_bytes(encode(one))


def answer(name: str, channel_id: bytes, told: dict[str, Any]) -> tuple[Any, Any]:
    return (lambda: {"agent": name, "channel": {"id": channel_id.hex()}}), (lambda: told)


@asynccontextmanager
async def agents(
    tmp_path: Path, held: Runs, orphans: Runs | None = None, begun_ms: int = 0
) -> AsyncIterator[None]:
    """An edge that accepted five batches, and a sink that holds some."""
    own = {EDGE.hex(): {"last": 5, "begun_ms": begun_ms}}
    nothing: dict[str, Any] = {"held": {}, "dead": {}}
    holding = {"held": {EDGE.hex(): held} if held else {}, "dead": {}}
    gone = {"gone": {"held": {EDGE.hex(): orphans}, "dead": {}}} if orphans else {}
    told: dict[str, tuple[bytes, dict[str, Any]]] = {
        "edge-1": (
            EDGE,
            {"origins": own, "present": EDGE.hex(), "outputs": {"sink": nothing, **gone}},
        ),
        "sink-1": (OTHER, {"origins": {}, "present": "", "outputs": {"directory": holding}}),
    }
    async with AsyncExitStack() as stack:
        for name, (channel_id, origins) in told.items():
            (tmp_path / name).mkdir()
            snapshot, audited = answer(name, channel_id, origins)
            server = StatusServer(
                snapshot, audited, Meters(), list, lambda: None, tmp_path / name, None
            )
            await server.start()
            stack.push_async_callback(server.stop)
        yield


async def run(*arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    return await asyncio.to_thread(CliRunner().invoke, main, words)


async def test_agents_and_store_together(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, a_manifest([1, 2, 3], 1))
    async with agents(tmp_path, held=[[3, 5]]):
        topology = load(file)
        reach = {name: (tmp_path / name, None) for name in ("edge-1", "sink-1")}
        report = await audit(topology, reach)
        assert report.ok
        told = await run("audit", file, "--json")
        shown = await run("audit", file)
    assert told.exit_code == shown.exit_code == 0
    (output,) = json.loads(told.output)["outputs"]
    assert output["output"] == "sink/directory"
    assert (output["files"], output["events"], output["missing_batches"]) == (1, 30, 0)
    (origin,) = output["origins"]
    assert (origin["agent"], origin["accepted"], origin["gaps"]) == ("edge-1", 5, [])
    assert origin["held"] == {"sink-1": [[3, 5]]}
    assert "under way at sink-1: 4-5" in shown.output
    assert "nothing missing, nothing doubled" in shown.output


async def test_a_gap_and_a_double_are_failures(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, a_manifest([1, 2], 1), a_manifest([2, 5], 2), a_manifest([1], 3, True))
    async with agents(tmp_path, held=[]):
        told = await run("audit", file, "--json")
        shown = await run("audit", file)
    assert told.exit_code == shown.exit_code == 1
    (output,) = json.loads(told.output)["outputs"]
    assert output["missing_batches"] == 2
    assert output["doubled_events"] == 20
    assert "GAP of 2 batches: 3-4" in shown.output
    assert "DOUBLE: batch 2, 10 events, in file-1.log and file-2.log" in shown.output
    assert "DOUBLE: batch 1, 10 events" in shown.output


async def test_what_waits_for_an_output_that_is_gone_is_listed_and_explains_no_gap(
    file: Path, tmp_path: Path
) -> None:
    publish(tmp_path, a_manifest([1, 2, 3], 1))
    async with agents(tmp_path, held=[[4, 4]], orphans=[[4, 5]]):
        told = await run("audit", file, "--json")
        shown = await run("audit", file)
    assert told.exit_code == shown.exit_code == 1
    report = json.loads(told.output)
    waiting = {"agent": "edge-1", "output": "gone", "held": {EDGE.hex(): [[4, 5]]}, "dead": {}}
    assert report["orphans"] == [waiting]
    assert report["outputs"][0]["origins"][0]["gaps"] == [[5, 5]]
    assert "ORPHANS at edge-1 for output 'gone', which the topology no longer has" in shown.output
    assert "waiting of 0101010101010101: 4-5" in shown.output


async def test_files_are_opened_and_counted(file: Path, tmp_path: Path) -> None:
    whole, short, gone = (a_manifest([n], n) for n in (1, 2, 3))
    publish(tmp_path, whole, short, gone, a_manifest([4, 5], 4))
    (tmp_path / "out" / whole.path).write_bytes(b"123456789\n" * 10)
    (tmp_path / "out" / short.path).write_bytes(b"123456789\n" * 9)
    async with agents(tmp_path, held=[]):
        told = await run("audit", file, "--files", "--json")
        shown = await run("audit", file, "--files")
    (output,) = json.loads(told.output)["outputs"]
    assert output["counted_files"] == 1
    assert output["removed_files"] == ["file-3.log", "file-4.log"]
    assert output["problems"] == ["file-2.log: 90 bytes; its manifest says 100"]
    assert told.exit_code == shown.exit_code == 1
    assert "2 files removed since, such as file-3.log" in shown.output


async def test_what_is_older_than_the_days_that_are_left_is_no_gap(
    file: Path, tmp_path: Path
) -> None:
    publish(tmp_path, a_manifest([3, 5], 1))
    forget(tmp_path, "2026-01-01")
    async with agents(tmp_path, held=[]):
        told = await run("audit", file, "--json")
        shown = await run("audit", file)
    (output,) = json.loads(told.output)["outputs"]
    assert output["forgotten_days"] == ["2026-01-01"]
    (origin,) = output["origins"]
    assert (origin["forgotten"], origin["gaps"]) == ([[1, 2]], [[4, 4]])
    assert "of days that the store has forgotten: 1-2" in shown.output
    assert told.exit_code == 1


def forget(tmp_path: Path, *days: str) -> None:
    """Marks of days of which nothing else is left."""
    closed = tmp_path / "out" / ".tiers" / "closed"
    closed.mkdir(parents=True)
    for day in days:
        (closed / day).touch()


@pytest.mark.parametrize(("begun", "excused"), [("2026-11-22", False), ("2026-11-21", True)])
async def test_a_new_channel_has_no_part_in_days_that_were_forgotten_before(
    file: Path, tmp_path: Path, begun: str, excused: bool
) -> None:
    publish(tmp_path, a_manifest([3, 4, 5], 1))
    forget(tmp_path, "2026-11-20", "2026-11-21")
    begun_ms = int(datetime.fromisoformat(f"{begun}T12:00Z").timestamp() * 1000)
    async with agents(tmp_path, held=[], begun_ms=begun_ms):
        shown = await run("audit", file)
    assert shown.exit_code == (0 if excused else 1)
    assert ("perhaps of days that the store has forgotten: 1-2" in shown.output) is excused
    assert ("GAP of 2 batches: 1-2" in shown.output) is not excused


async def test_all_of_an_agent_is_of_days_that_the_store_has_forgotten(
    file: Path, tmp_path: Path
) -> None:
    forget(tmp_path, "2026-01-01")
    async with agents(tmp_path, held=[]):
        shown = await run("audit", file)
    assert shown.exit_code == 0
    assert "perhaps of days that the store has forgotten: 1-5" in shown.output


async def test_what_is_sealed_while_the_agents_are_asked_is_no_gap(
    file: Path, tmp_path: Path
) -> None:
    """The edge was asked first: 6 is still there, and 7 has overtaken it."""
    publish(tmp_path, a_manifest([1, 2, 3], 1), a_manifest([7], 2))
    async with agents(tmp_path, held=[[4, 5]]):
        shown = await run("audit", file)
    assert shown.exit_code == 0, shown.output
    assert "5 batches accepted, 4 published: 1-3, 7" in shown.output


async def test_foreign_names_are_shown_as_they_can_be(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, a_manifest([1], 1))
    directory = os.fsencode(tmp_path / "out" / ".tiers" / DAY / "manifests")
    Path(os.fsdecode(directory + b"/caf\xe9")).write_bytes(b"?")
    words = [sys.executable, "-m", "tiers", "audit", str(file)]
    shown = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "manifests/caf\\xe9" in shown.stdout


async def test_agents_that_cannot_be_asked_are_named(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, a_manifest([1, 3], 1))
    shown = await run("audit", file)
    assert shown.exit_code == 3
    assert "unknown: 1 batches: 2" in shown.output
    assert "GAP" not in shown.output
    assert "2 of 2 agents could not be asked; of 1 batches nothing is known" in shown.output
    told = json.loads((await run("audit", file, "--json")).output)
    assert (told["ok"], told["proven"], told["agents"]) == (True, False, 2)
    assert told["outputs"][0]["origins"][0]["unknown"] == [[2, 2]]
    assert set(told["unasked"]) == {"edge-1", "sink-1"}
    publish(tmp_path, a_manifest([2], 2))
    shown = await run("audit", file)
    assert shown.exit_code == 3  # who was not asked may have accepted more
    assert "NOT PROVEN: nothing missing, nothing doubled as far as could be asked" in shown.output


async def test_of_a_sink_without_a_store_nothing_is_proven_and_nothing_is_a_gap(
    file: Path, tmp_path: Path
) -> None:
    publish(tmp_path, a_manifest([1, 2, 3, 4, 5], 1))
    both = file.read_text() + '[[tiers.sink.sinks]]\ntype = "null"\n'
    alone = re.sub('type = "directory"\nroot = .*', 'type = "stdout"', file.read_text())
    async with agents(tmp_path, held=[]):
        file.write_text(both)
        told = await run("audit", file, "--json")
        shown = await run("audit", file)
        file.write_text(alone)
        of_none = await run("audit", file)
    assert told.exit_code == shown.exit_code == of_none.exit_code == 0
    facts = json.loads(told.output)
    assert facts["unproven"] == {"sink/null": "delivers nowhere, on purpose"}
    assert [one["output"] for one in facts["outputs"]] == ["sink/directory"]
    assert "sink/null: not proven: delivers nowhere, on purpose\n" in shown.output
    assert shown.output.endswith("nothing missing, nothing doubled\n")
    assert (
        "sink/stdout: not proven: standard output gets each event at least once" in of_none.output
    )
    assert of_none.output.endswith("no output has a store\n")


async def test_of_a_store_that_cannot_be_read_nothing_is_a_gap(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, a_manifest([1, 2], 1))
    (tmp_path / "out" / ".tiers" / DAY / "manifests" / a_manifest([1], 1).name).write_bytes(b"?")
    async with agents(tmp_path, held=[[5, 5]]):
        shown = await run("audit", file)
    assert shown.exit_code == 1
    assert "unknown: 4 batches: 1-4" in shown.output
    assert "GAP" not in shown.output


async def test_the_channel_of_a_stopped_agent_explains_what_is_not_published(
    file: Path, tmp_path: Path
) -> None:
    async with opened(tmp_path / "edge-1", outputs=["sink"]) as channel:
        for _ in range(4):
            await channel.submit(Change(puts=[put(channel, outputs=["sink"])]))
        await channel.submit(Change(releases=[("sink", 1), ("sink", 2)], dead=[("sink", 3, "bad")]))
        origin = channel.origin
    publish(tmp_path, a_manifest([1], 1, origin=origin))
    shown = await run("audit", file)
    assert shown.exit_code == 3
    for wanted in ("4 batches accepted", "dead letters of edge-1: 3", "unknown: 1 batches: 2"):
        assert wanted in shown.output
    publish(tmp_path, a_manifest([2], 2, origin=origin))
    shown = await run("audit", file)
    assert shown.exit_code == 3, shown.output
    assert "1 of 2 agents could not be asked" in shown.output
    assert "edge-1 could not be asked" not in shown.output


async def test_a_manifest_that_cannot_be_read_fails_it(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, *(a_manifest([n], n) for n in range(1, 13)))
    for path in (tmp_path / "out").rglob("s.o.1-*"):
        path.write_bytes(b"torn")
    shown = await run("audit", file)
    assert shown.exit_code == 1
    assert shown.output.count("PROBLEM .tiers") == 10
    assert "PROBLEM and 2 more" in shown.output


async def test_many_doubles_are_summed_up(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, a_manifest(range(1, 16), 1), a_manifest(range(1, 16), 2))
    shown = await run("audit", file)
    assert "DOUBLE: 5 batches more, 50 events" in shown.output


async def test_help_has_an_example() -> None:
    shown = await run("audit", "--help")
    assert shown.exit_code == 0
    assert "Example: tiers audit" in shown.output
