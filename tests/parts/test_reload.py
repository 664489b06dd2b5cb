"""A file that changes under a real agent: what it does to its parts, and to what waits for them."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import published_files
from tests.transport.parts import a_free_address, is_open
from tests.waiting import eventually
from tiers.agent import reloading
from tiers.agent.agent import Agent
from tiers.agent.reloading import begin
from tiers.observe.snapshot import snapshot
from tiers.topology import Address

HEAD = """
name = "one"
[channel]
free_floor = "0B"
[delivery]
shutdown_timeout = "2s"
"""
SOURCE = '[[tiers.all.sources]]\ntype = "tail"\nname = "{name}"\npaths = ["{root}/{name}/*.log"]\n'
SINK = """
[[tiers.all.sinks]]
type = "directory"
name = "{name}"
root = "{root}"
roll_after = "{roll_after}"
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_S", 0.01)
    monkeypatch.setattr("tiers.agent.agent.TEND_S", 0.01)


class Rig:
    """One agent of one tier; its file is what `write` was last told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "one.toml"
        self.agent: Agent
        for name in ("in", "more"):
            (root / name).mkdir()

    def write(self, *tables: str, head: str = "", tier: str = 'agents = ["node"]') -> None:
        self.file.write_text(f"{HEAD}{head}[tiers.all]\n{tier}\n{''.join(tables)}")

    def source(self, name: str = "in", more: str = "") -> str:
        return SOURCE.format(name=name, root=self.root) + more

    def sink(self, name: str, root: str = "", roll_after: str = "10ms") -> str:
        return SINK.format(name=name, root=self.root / (root or name), roll_after=roll_after)

    def append(self, *lines: str, source: str = "in") -> None:
        with (self.root / source / "a.log").open("a") as log:
            log.writelines(f"{line}\n" for line in lines)

    def published(self, root: str) -> Counter[str]:
        files = published_files(self.root / root) if (self.root / root).is_dir() else []
        return Counter(line for file in files for line in file.read_text().splitlines())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        topology, data, follows = begin(self.file, "node", self.root / "data")
        self.agent = Agent(topology, "node", data, follows)
        task = asyncio.create_task(self.agent.run())
        try:
            await eventually(lambda: task.done() or self.agent.state == "running", "it runs")
            yield
        finally:
            self.agent.stop()
            await task

    async def reloaded(self) -> None:
        """The file as it is now is in force."""
        generation = self.agent.reloading.generation
        self.agent.reloading.wake()
        await eventually(lambda: self.agent.reloading.generation > generation, "it is in force")
        assert not self.agent.reloading.error
        assert not self.agent.reloading.restart_needed

    async def refused(self) -> str:
        self.agent.reloading.error = ""
        self.agent.reloading.wake()
        await eventually(lambda: self.agent.reloading.error, "it is refused")
        return self.agent.reloading.error

    def outputs(self) -> dict[str, Any]:
        return {one["name"]: one for one in snapshot(self.agent)["outputs"]}

    def conditions(self) -> set[tuple[str, str]]:
        return {(one["code"], one["part"]) for one in snapshot(self.agent)["conditions"]}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_sources_come_and_go_and_change(rig: Rig) -> None:
    rig.write(rig.source(), rig.sink("out"))
    async with rig.running():
        rig.append("1", "2")
        await eventually(lambda: rig.published("out").total() == 2, "it flows")
        before = rig.agent.parts.sources[0]
        rig.write(rig.source(), rig.source("more"), rig.sink("out"))
        rig.append("a", source="more")
        await rig.reloaded()
        assert rig.agent.parts.sources[0] is before, "it did not change"
        await eventually(lambda: rig.published("out").total() == 3, "the new one is read")
        rig.write(rig.source(more='headers = { a = "b" }\n'), rig.sink("out"))
        await rig.reloaded()
        rig.append("3")
        await eventually(lambda: rig.published("out").total() == 4, "it goes on")
        assert [one.name for one in rig.agent.parts.sources] == ["in"]
        assert rig.agent.parts.sources[0].intake.events == 3, "it counts on"
    assert rig.published("out") == Counter(["1", "2", "3", "a"]), "none missing, none twice"


async def test_a_source_of_another_name_goes_on_in_its_files(rig: Rig) -> None:
    rig.write(rig.source(), rig.sink("out"))
    async with rig.running():
        rig.append("1", "2")
        await eventually(lambda: rig.published("out").total() == 2, "it flows")
        rig.write(rig.source().replace('"in"', '"other"', 1), rig.sink("out"))
        await rig.reloaded()
        rig.append("3")
        await eventually(lambda: rig.published("out")["3"], "it goes on")
    assert rig.published("out") == Counter(["1", "2", "3"]), "none missing, none twice"


async def test_interceptors_of_a_source_and_of_the_tier_change_in_place(rig: Rig) -> None:
    rig.write(rig.source(), rig.sink("out"))
    async with rig.running():
        source = rig.agent.parts.sources[0]
        own = 'interceptors = [{ type = "static", name = "own", headers = { a = "b" } }]\n'
        of_tier = 'agents = ["node"]\ninterceptors = [{ type = "host" }]'
        for number, (mine, tier) in enumerate(((own, ""), (own, of_tier), ("", ""))):
            rig.write(rig.source(more=mine), rig.sink("out"), tier=tier or 'agents = ["node"]')
            await rig.reloaded()
            assert rig.agent.parts.sources == [source]
            assert len(source.spec.interceptors) == bool(mine) + bool(tier)
            rig.append(str(number))
        await eventually(lambda: rig.published("out").total() == 3, "all is published")


async def test_a_sink_that_is_taken_out_publishes_what_waits_for_it(rig: Rig) -> None:
    rig.write(rig.source(), rig.sink("out"), rig.sink("slow", roll_after="1h"))
    async with rig.running():
        rig.append("1", "2")
        await eventually(lambda: rig.published("out").total() == 2, "it flows")
        assert not rig.published("slow")
        rig.write(rig.source(), rig.sink("out"))
        await rig.reloaded()
        rig.append("3")
        await eventually(lambda: rig.published("slow").total() == 2, "it publishes what it has")
        await eventually(lambda: "slow" not in rig.outputs(), "it is empty, and ended")
        await eventually(lambda: rig.published("out").total() == 3, "the other goes on")
    assert rig.published("slow") == Counter(["1", "2"])


async def test_it_does_so_over_a_restart_too(rig: Rig) -> None:
    (rig.root / "slow").write_text("a file, where the sink wants a directory")
    rig.write(rig.source(), rig.sink("out"), rig.sink("slow"))
    async with rig.running():
        rig.append("1", "2")
        await eventually(lambda: rig.published("out").total() == 2, "it flows")
        rig.write(rig.source(), rig.sink("out"))
        await rig.reloaded()
        assert ("output_leaving", "slow") in rig.conditions()
        assert rig.outputs()["slow"]["kind"] == "sink"
        # Another store under the same name would get what waits for this one.
        rig.write(rig.source(), rig.sink("out"), rig.sink("slow", "other"))
        assert "batches wait for the sink slow" in await rig.refused()
        rig.write(rig.source(), rig.sink("out"))
    (rig.root / "slow").unlink()
    async with rig.running():
        await eventually(lambda: rig.published("slow").total() == 2, "it publishes what it has")
        await eventually(lambda: "slow" not in rig.outputs(), "it is empty, and ended")
        rig.write(rig.source(), rig.sink("out"), rig.sink("slow", "other"))
        await rig.reloaded()
        rig.append("3")
        await eventually(lambda: rig.published("other").total() == 1, "it gets what comes now")
    assert rig.published("slow") == Counter(["1", "2"])


async def test_a_tier_that_is_taken_out_of_next_and_of_the_file(rig: Rig) -> None:
    tier = 'agents = ["node"]\nnext = "below"\n'
    below = f'[tiers.below]\nagents = {{ far = "{a_free_address()}" }}\n'
    below += rig.sink("far").replace("tiers.all", "tiers.below")
    feeds = '[tiers.other]\nagents = ["other-1"]\nnext = "below"\n'  # or nothing would
    feeds += 'sources = [{ type = "generate" }]\n'
    rig.write(rig.source(), rig.sink("out"), below, tier=tier)
    async with rig.running():
        rig.append("1", "2")
        await eventually(lambda: rig.published("out").total() == 2, "it flows")
        group = rig.agent.parts.groups["below"]
        rig.write(rig.source(), rig.sink("out"), below, feeds)
        await rig.reloaded()
        assert rig.agent.parts.groups["below"] is group, "it may still get what waits"
        assert ("output_leaving", "below") in rig.conditions()
        rig.write(rig.source(), rig.sink("out"))
        await rig.reloaded()
        assert rig.agent.parts.groups == {}
        assert ("output_orphan", "below") in rig.conditions()
        assert "no longer has" in rig.outputs()["below"]["error"]
        rig.write(rig.source(), rig.sink("out"), below, tier=tier)
        await rig.reloaded()
        assert not {("output_orphan", "below"), ("output_leaving", "below")} & rig.conditions()
        assert not rig.outputs()["below"]["error"]


async def test_a_port_in_use_leaves_the_old_file_in_force_whole(rig: Rig) -> None:
    here = a_free_address()

    def listening(address: Address) -> str:
        return f'agents = {{ node = "{address}" }}'

    rig.write(rig.source(), rig.sink("out"), tier=listening(here))
    async with rig.running():
        receiver = rig.agent.parts.receiver
        with socket.socket() as taken, socket.socket() as next_one:
            there = a_free_address()
            taken.bind((there.host, there.port))
            taken.listen()
            next_one.bind((there.host, there.port + 1))
            next_one.listen()
            rig.write(rig.source(), rig.sink("out"), rig.sink("new"), tier=listening(there))
            assert "in use" in await rig.refused()
            assert rig.agent.reloading.generation == 1
            assert rig.agent.topology.listen("node") == here
            assert list(rig.agent.parts.sinks) == ["out"], "what had begun is taken back"
            assert ("topology_refused", "topology") in rig.conditions()
            assert rig.agent.parts.receiver is not None
            assert rig.agent.parts.receiver is not receiver, "it was begun again"
            assert await is_open(here)
        rig.append("1")
        await eventually(lambda: rig.published("out").total() == 1, "it flows")
        await rig.reloaded()
        assert await is_open(there)
        assert not await is_open(here)


async def test_limits_and_status_change_in_place(rig: Rig) -> None:
    rig.write(rig.source(), rig.sink("out"))
    async with rig.running():
        sink = rig.agent.parts.sinks["out"]
        at = a_free_address()
        head = (
            HEAD.replace("0B", "1KiB") + f'stalled_after = "7s"\n[agents.node]\nstatus = "{at}"\n'
        )
        rig.file.write_text(rig.file.read_text().replace(HEAD, head))
        await rig.reloaded()
        assert rig.agent.channel.stats().free_floor_bytes == 1024
        assert rig.agent.health._progress.stalled_after_s == 7
        assert await is_open(at)
        assert rig.agent.parts.sinks["out"] is sink
