"""What an agent's parts are to each other: put together by agent/agent.py and
agent/reloading.py, real but for what each test is about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import pytest

from tests.transport.parts import a_free_address, is_open
from tests.waiting import eventually
from tiers import sources
from tiers.agent.agent import Agent
from tiers.agent.reloading import KEPT, Reloading, begin
from tiers.agent.salvaging import Salvage
from tiers.channel.channel import Channel
from tiers.contracts import Intake
from tiers.core.batch import split
from tiers.core.block import Block
from tiers.core.change import ChannelLimits
from tiers.core.progress import Work
from tiers.sources.source import SourceOptions
from tiers.topology import Topology, load

ALONE = """
name = "alone"

[tiers.all]
agents = ["node"]
sources = [{{ type = "by-hand" }}]

[[tiers.all.sinks]]
type = "directory"
root = "{root}"

[batch]
codec = "none"
linger = "1min"

[channel]
free_floor = "0B"
"""
SINK = """
name = "sink"

[tiers.edge]
agents = ["edge-1"]
next = "sink"
sources = [{{ type = "generate" }}]

[tiers.sink]
agents = {{ sink-1 = "{address}" }}
sinks = [{{ type = "directory", root = "{root}" }}]

[channel]
free_floor = "0B"
"""
BELOW = """
name = "two-below"

[tiers.edge]
agents = { edge-1 = "127.0.0.1:7400" }
next = ["near", "far"]

[tiers.near]
agents = { near-1 = "127.0.0.1:7410" }
sinks = [{ type = "directory", root = "/near" }]

[tiers.far]
agents = { far-1 = "127.0.0.1:7420" }
sinks = [{ type = "directory", root = "/far" }]

[tiers.first]
agents = ["first-1"]
next = "edge"
sources = [{ type = "generate" }]
"""


class ByHand:
    """A source that puts what a test tells it to."""

    Options: ClassVar[type[SourceOptions]] = SourceOptions
    agent = ""
    put = 0  # blocks, by the one that a test has

    def __init__(self, options: SourceOptions) -> None:
        self._draining = asyncio.Event()

    async def run(self, intake: Intake) -> None:
        for number in range(3):
            await intake.put(Block(b"%d\n" % number, 1))
            ByHand.put = number + 1
        await self._draining.wait()

    def drain(self) -> None:
        self._draining.set()

    def unread_bytes(self) -> None:
        return None

    def work(self) -> dict[str, Work]:
        return {}

    def status(self) -> dict[str, object]:
        return {}


@asynccontextmanager
async def alone(directory: Path) -> AsyncIterator[tuple[Agent, "asyncio.Task[int]"]]:
    """An agent at work, which a test has to bring to its end."""
    file = directory / "alone.toml"
    file.write_text(ALONE.format(root=directory / "published"))
    ByHand.put = 0
    with mock.patch.dict(sources.BUILTIN, {"by-hand": f"{__name__}:ByHand"}):
        topology, data, reloading = begin(file, "node", directory)
        agent = Agent(topology, "node", data, reloading)
        task = asyncio.create_task(agent.run())
        try:
            await eventually(lambda: task.done() or ByHand.put == 3, "all is put")
            yield agent, task
        finally:
            agent.stop()
            await task


async def test_a_stop_stores_what_sources_had_put(tmp_path: Path) -> None:
    async with alone(tmp_path) as (agent, task):
        agent.stop()
        assert await task == 0
    channel = await Channel.open(agent.directory, ChannelLimits(), agent.topology.outputs("node"))
    try:
        (output,) = agent.topology.outputs("node")
        records = [channel.record(entry.position) for entry in channel.entries(output)]
    finally:
        await channel.close()
    lines = b"".join(bytes(split(record)[1]) for record in records)
    published = b"".join(f.read_bytes() for f in (tmp_path / "published").rglob("*.log"))
    assert sorted((lines + published).split()) == [b"0", b"1", b"2"]


async def test_a_drain_waits_for_what_is_salvaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    salvaged = asyncio.Event()
    asked = asyncio.Event()

    def settled(self: Salvage) -> bool:
        asked.set()
        return salvaged.is_set()

    monkeypatch.setattr(Salvage, "settled", settled)
    async with alone(tmp_path) as (agent, task):
        agent.drain()
        await eventually(asked.is_set, "the drain asks for it")
        await eventually(lambda: agent.channel.stats().batches == 0, "all else is gone")
        for _ in range(3):
            asked.clear()
            await eventually(asked.is_set, "the drain asks again")
        assert agent.state == "draining"
        salvaged.set()
        assert await task == 0
        assert agent.state == "drained"


async def test_what_has_drained_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.agent.agent.LAST_LOOK_S", 60.0)
    address = a_free_address()
    file = tmp_path / "sink.toml"
    file.write_text(SINK.format(address=address, root=tmp_path / "published"))
    topology, data, reloading = begin(file, "sink-1", tmp_path)
    agent = Agent(topology, "sink-1", data, reloading)
    task = asyncio.create_task(agent.run())

    try:
        await eventually(lambda: agent.state == "running", "it runs")
        assert await is_open(address)
        agent.drain()
        await eventually(lambda: agent.state == "drained", "it has drained")
        async with asyncio.timeout(20):
            while await is_open(address):  # noqa: ASYNC110 nothing tells
                await asyncio.sleep(0.01)
        assert not task.done(), "it waits for a last look"
    finally:
        agent._looked.set()
        await task


def test_a_middle_tier_tells_of_every_store_below_it(tmp_path: Path) -> None:
    (tmp_path / "middle.toml").write_text(BELOW)
    topology = load(tmp_path / "middle.toml")
    reloading = Reloading(tmp_path / "middle.toml", topology, "edge-1", tmp_path, left=False)
    agent = Agent(topology, "edge-1", tmp_path, reloading)
    groups: dict[str, Any] = {
        tier: SimpleNamespace(sender=SimpleNamespace(stores=lambda told=told: told))
        for tier, told in (("near", {"near/directory": "n"}), ("far", {"far/directory": "f"}))
    }
    own: Any = SimpleNamespace(store_id=lambda: "o")
    parts: Any = SimpleNamespace(groups=groups, sinks={"own": own})
    agent.parts = parts
    told = {"near/directory": "n", "far/directory": "f", "edge/own": "o"}
    assert agent.stores() == told


async def test_an_agent_that_was_taken_out_begins_by_what_it_accepted_last(tmp_path: Path) -> None:
    file, data = tmp_path / "file.toml", tmp_path / "data"
    file.write_text(BELOW)
    _, directory, reloading = begin(file, "first-1", data)
    directory.mkdir(parents=True)
    await reloading.accept()
    applied: list[Topology] = []

    async def apply(topology: Topology) -> None:
        applied.append(topology)

    task = asyncio.create_task(reloading.run(apply, lambda: None))
    try:
        moved = BELOW.replace("127.0.0.1:7400", "127.0.0.1:7500")
        file.write_text(moved)
        reloading.wake()
        await eventually(lambda: reloading.generation == 2, "the new file is in force")
        assert (directory / KEPT).read_text() == moved
    finally:
        task.cancel()
    file.write_text(moved.replace("first-1", "first-2"))
    topology, _, reloading = begin(file, "first-1", data)
    assert not reloading.left  # it has been out for no time yet
    assert str(topology.peers("edge")["edge-1"]) == "127.0.0.1:7500"
