"""The audit: accounts of what was published, held, dead, missing and doubled."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.channel.making import opened, put
from tests.sinks.parts import MemoryStore, unavailable
from tiers.audit import (
    Holding,
    OriginAccount,
    Queue,
    accounts,
    audit,
    counting,
    holding_of,
)
from tiers.channel.change import Change
from tiers.cli import main
from tiers.core import layout
from tiers.core.batch import BatchId
from tiers.core.manifest import Item, Manifest, encode
from tiers.core.runs import Runs
from tiers.observe.status import StatusServer
from tiers.shelf import read_store
from tiers.topology import load, parse

DAY = "2026-11-23"
EDGE, OTHER = b"\x01" * 16, b"\x02" * 16


def a_manifest(
    seqs: Sequence[int], file_id: int, flagged: bool = False, origin: bytes = EDGE
) -> Manifest:
    items = [Item(BatchId(origin, seq), 10, flagged) for seq in seqs]
    return Manifest("s.o.1", file_id, DAY, f"file-{file_id}.log", "none", 100, items)


def edge(next_seq: int = 6, **outputs: Queue) -> Holding:
    return Holding("edge-1", "edge", EDGE.hex(), next_seq, outputs)


def sink(held: Runs | None = None, dead: Runs | None = None, output: str = "s") -> Holding:
    return Holding("sink-1", "sink", "ff" * 16, 1, {output: queue(held, dead)})


def queue(held: Runs | None = None, dead: Runs | None = None, origin: bytes = EDGE) -> Queue:
    return Queue({origin.hex(): held} if held else {}, {origin.hex(): dead} if dead else {})


def only(found: list[OriginAccount]) -> OriginAccount:
    (one,) = found
    return one


# --- accounts ----------------------------------------------------------------------------------


def test_all_published() -> None:
    one = only(accounts([a_manifest([1, 2, 3], 1), a_manifest([4, 5], 2)], [edge(), sink()]))
    assert (one.agent, one.accepted, one.published) == ("edge-1", 5, [[1, 5]])
    assert one.events == 50
    assert not (one.gaps or one.doubles or one.held or one.dead)


def test_what_is_held_or_dead_is_no_gap_and_the_rest_is() -> None:
    one = only(accounts([a_manifest([1], 1)], [edge(), sink(held=[[2, 2]], dead=[[4, 4]])]))
    assert one.held == {"sink-1": [[2, 2]]}
    assert one.dead == {"sink-1": [[4, 4]]}
    assert one.gaps == [[3, 3], [5, 5]]


def test_nothing_published_of_what_was_accepted_is_a_gap() -> None:
    assert only(accounts([], [edge(), sink()])).gaps == [[1, 5]]


def test_of_an_agent_that_was_not_asked_gaps_are_known_up_to_what_was_seen() -> None:
    one = only(accounts([a_manifest([1, 4], 1)], [sink(held=[[7, 7]])]))
    assert (one.agent, one.accepted) == ("", None)
    assert one.gaps == [[2, 3], [5, 6]]


def test_agents_that_accepted_nothing_have_no_account() -> None:
    assert accounts([], [edge(next_seq=1), sink()]) == []
    assert accounts([], [edge(next_seq=1, sink=queue(dead=[[1, 1]], origin=OTHER))])


@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, True, True)])
def test_doubles_are_doubles_flagged_or_not(flags: Sequence[bool]) -> None:
    files = [a_manifest([1], number, flag) for number, flag in enumerate(flags, 1)]
    (double,) = only(accounts(files, [edge(next_seq=2)])).doubles
    assert double.seq == 1
    assert double.events == 10 * (len(flags) - 1)
    assert double.files == tuple(file.path for file in files)


STRANGE: list[Any] = [
    *([], {"y": 3}, {"y": [3]}, {"y": "ab"}, {"y": [["a", "b"]]}, {"y": [[2, 1]]}, {"y": [[0, 1]]})
]


@pytest.mark.parametrize(
    "answer",
    [
        "not running",
        {},
        {"channel": {"id": "x"}},
        {"channel": {"id": "x"}, "audit": []},
        {"channel": {"id": "x"}, "audit": {"next_seq": {}, "outputs": {}}},
        {"channel": {"id": "x"}, "audit": {"next_seq": {"x": "z"}, "outputs": {}}},
        {"channel": {"id": "x"}, "audit": {"next_seq": {"x": 0}, "outputs": {}}},
        {"channel": {"id": "x"}, "audit": {"next_seq": {"x": 1}, "outputs": []}},
        {"channel": {"id": "x"}, "audit": {"next_seq": {"x": 1}, "outputs": {"o": {"held": {}}}}},
        *(
            {
                "channel": {"id": "x"},
                "audit": {"next_seq": {"x": 1}, "outputs": {"o": {"held": held, "dead": {}}}},
            }
            for held in STRANGE
        ),
    ],
)
def test_a_strange_answer_is_no_answer(answer: Any) -> None:
    told = holding_of("edge-1", "edge", answer)
    assert isinstance(told, str)
    assert "malformed" in told or told == answer


# --- several outputs -----------------------------------------------------------------------------

FAN_OUT = """
name = "t"
[tiers.edge]
agents = ["edge-1"]
next = ["relay", "archive"]
[[tiers.edge.sources]]
type = "generate"
[tiers.relay]
agents = { relay-1 = "127.0.0.1:7300" }
next = "sink"
[[tiers.relay.sinks]]
type = "directory"
name = "copy"
root = "/copy"
[[tiers.relay.sinks]]
type = "directory"
name = "sink-too"
root = "/too"
[tiers.sink]
agents = { sink-1 = "127.0.0.1:7310" }
[[tiers.sink.sinks]]
type = "directory"
root = "/out"
[tiers.archive]
agents = { archive-1 = "127.0.0.1:7320" }
[[tiers.archive.sinks]]
type = "directory"
root = "/archive"
"""


@pytest.mark.parametrize(
    ("tier", "output", "wanted"),
    [
        ("sink", "directory", {"edge-1": {"relay"}, "relay-1": {"sink"}, "sink-1": {"directory"}}),
        ("relay", "copy", {"edge-1": {"relay"}, "relay-1": {"copy"}}),
        ("archive", "directory", {"edge-1": {"archive"}, "archive-1": {"directory"}}),
    ],
)
def test_only_the_queues_that_lead_to_an_output_count(
    tier: str, output: str, wanted: dict[str, set[str]]
) -> None:
    topology = parse(FAN_OUT, "t.toml", {})
    holdings = [
        Holding(
            agent,
            name,
            agent,
            1,
            {o: queue([[1, 1]]) for o in (*topology.tiers[name].outputs, "gone")},
        )
        for name in topology.order()
        for agent in topology.tiers[name].agents
    ]
    counted = counting(topology, tier, output, holdings)
    assert {holding.agent: {*holding.outputs} for holding in counted} == wanted


def test_a_batch_that_waits_for_one_output_is_missing_at_the_other() -> None:
    holding = edge(3, relay=queue([[1, 1]]), archive=queue(dead=[[2, 2]]))
    relay, archive = (
        only(accounts([], [holding.towards([output])])) for output in ("relay", "archive")
    )
    assert (relay.held, relay.dead, relay.gaps) == ({"edge-1": [[1, 1]]}, {}, [[2, 2]])
    assert (archive.held, archive.dead, archive.gaps) == ({}, {"edge-1": [[2, 2]]}, [[1, 1]])


# --- stores ------------------------------------------------------------------------------------


def keep(store: MemoryStore, one: Manifest, *places: str) -> None:
    """A file's manifest, and the file in `tmp` or `void` if told."""
    files = {layout.manifest_path(DAY, one.name): encode(one)}
    if "tmp" in places:
        files[layout.tmp_path(DAY, one.name)] = b""
    if "void" in places:
        files[layout.void_path(DAY, one.name)] = b""
    for path, content in files.items():
        store.make_parents(path)
        store.files[path] = content


def test_what_became_of_each_file() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1))
    keep(store, a_manifest([2], 2), "tmp")
    keep(store, a_manifest([3], 3), "void")
    keep(store, a_manifest([4], 4), "tmp", "void")
    shelf = read_store(store)
    assert [one.file_id for one in shelf.published] == [1]
    assert (shelf.pending, shelf.void, shelf.problems) == (2, 1, [])


def test_manifests_are_listed_before_tmp_and_tmp_before_void() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1), "tmp", "void")
    store.seen.clear()
    read_store(store)
    looks = [name.rpartition("/")[2] for name in store.seen if name.startswith("list")]
    assert looks == ["list .tiers", "closed", "manifests", "tmp", "void"]


def test_what_is_no_mark_of_a_day_forgets_none() -> None:
    store = MemoryStore()
    for name in ("README", DAY):
        store.make_parents(layout.closed_path(name))
        store.files[layout.closed_path(name)] = b""
    assert read_store(store).forgotten == {DAY}


def test_an_empty_store() -> None:
    shelf = read_store(MemoryStore())
    assert not (shelf.published or shelf.problems)


def test_manifests_that_cannot_be_believed_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    for file_id in (1, 2, 3):
        keep(store, a_manifest([1] if file_id < 3 else range(1, 100), file_id))
    path = [layout.manifest_path(DAY, a_manifest([], n).name) for n in (1, 2, 3)]
    store.files[path[0]] = store.files[path[0]][:-3]
    store.files[path[1]] = encode(a_manifest([1], 9))
    monkeypatch.setattr("tiers.core.manifest.MANIFEST_BYTES_MAX", len(store.files[path[2]]) - 1)
    problems = read_store(store).problems
    assert ["checksum" in problems[0], "says that it is" in problems[1]] == [True, True]
    assert "too many" in problems[2]


def test_a_manifest_that_vanishes_is_a_problem() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1))
    store.before = lambda _n, name: store.files.clear() if name.startswith("read") else None
    assert "gone" in read_store(store).problems[0]


def test_a_store_that_cannot_be_read_is_a_problem() -> None:
    store = MemoryStore()
    store.before = unavailable
    assert "out of order" in read_store(store).problems[0]


# --- the whole, over real sockets and a real directory -------------------------------------------

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
async def agents(tmp_path: Path, held: Runs, orphans: Runs | None = None) -> AsyncIterator[None]:
    """An edge that accepted five batches, and a sink that holds some."""
    nothing: dict[str, Any] = {"held": {}, "dead": {}}
    holding = {"held": {EDGE.hex(): held} if held else {}, "dead": {}}
    gone = {"gone": {"held": {EDGE.hex(): orphans}, "dead": {}}} if orphans else {}
    told: dict[str, tuple[bytes, dict[str, Any]]] = {
        "edge-1": (EDGE, {"next_seq": {EDGE.hex(): 6}, "outputs": {"sink": nothing, **gone}}),
        "sink-1": (OTHER, {"next_seq": {OTHER.hex(): 1}, "outputs": {"directory": holding}}),
    }
    async with AsyncExitStack() as stack:
        for name, (channel_id, origins) in told.items():
            (tmp_path / name).mkdir()
            snapshot, audited = answer(name, channel_id, origins)
            server = StatusServer(snapshot, audited, lambda: None, tmp_path / name, None)
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
    closed = tmp_path / "out" / ".tiers" / "closed"
    closed.mkdir(parents=True)
    (closed / "2026-01-01").touch()
    async with agents(tmp_path, held=[]):
        told = await run("audit", file, "--json")
        shown = await run("audit", file)
    (output,) = json.loads(told.output)["outputs"]
    assert output["forgotten_days"] == ["2026-01-01"]
    (origin,) = output["origins"]
    assert (origin["forgotten"], origin["gaps"]) == ([[1, 2]], [[4, 4]])
    assert "of days that the store has forgotten: 1-2" in shown.output
    assert told.exit_code == 1


async def test_agents_that_cannot_be_asked_are_named(file: Path, tmp_path: Path) -> None:
    publish(tmp_path, a_manifest([1, 3], 1))
    shown = await run("audit", file)
    assert shown.exit_code == 1
    assert "GAP of 1 batches (agents edge-1, sink-1 could not be asked): 2" in shown.output
    publish(tmp_path, a_manifest([2], 2))
    shown = await run("audit", file)
    assert shown.exit_code == 0
    assert "as far as could be asked" in shown.output


async def test_the_channel_of_a_stopped_agent_explains_what_is_not_published(
    file: Path, tmp_path: Path
) -> None:
    async with opened(tmp_path / "edge-1", outputs=["sink"]) as channel:
        for _ in range(4):
            await channel.submit(Change(puts=[put(channel, outputs=["sink"])]))
        await channel.submit(Change(releases=[("sink", 1), ("sink", 2)], dead=[("sink", 3, "bad")]))
        origin = channel.channel_id
    publish(tmp_path, a_manifest([1], 1, origin=origin))
    shown = await run("audit", file)
    assert shown.exit_code == 1
    for wanted in ("4 batches accepted", "dead letters of edge-1: 3", "GAP of 1 batches (agents"):
        assert wanted in shown.output
    publish(tmp_path, a_manifest([2], 2, origin=origin))
    shown = await run("audit", file)
    assert shown.exit_code == 0, shown.output
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
