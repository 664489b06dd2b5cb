"""Salvage into the new channel: everything once, flagged, whatever dies on the way."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from tests.channel.making import LIMITS, arrived, opened
from tests.channel.test_salvage import OUTPUTS, SOURCE, live, make, waiting
from tiers.agent import salvaging
from tiers.agent.salvaging import Salvage
from tiers.channel.channel import Channel
from tiers.channel.salvage.salvage import Batch, read_mark
from tiers.channel.salvage.salvage import salvage as read_salvage
from tiers.core.batch import BatchId
from tiers.core.change import Change, ChannelLimits
from tiers.core.entry.routes import Route, everywhere
from tiers.errors import ChannelDamaged

RETENTION_S = 1e10  # records of these tests were sealed in 1970
DIES = """
import os, signal, sys
from pathlib import Path
from tiers.channel.salvage import salvage
class Out:
    def __init__(self, left):
        self.left = left
    def write(self, data):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGSEGV)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    def flush(self):
        pass
salvage.main(sys.argv[1:], Out(%d))
"""


def condemn(directory: Path) -> None:
    """The channel here is set aside at the next open."""
    (directory / "channel" / "damaged").write_text("a test said so")


@asynccontextmanager
async def begun(
    directory: Path,
    limits: ChannelLimits = LIMITS,
    outputs: Sequence[str] = OUTPUTS,
    sources: Sequence[Any] = (),
    route: Route | None = None,
) -> AsyncIterator[tuple[Channel, Salvage]]:
    async with opened(directory, limits, outputs) as channel:
        salvage = Salvage(directory, channel, route or everywhere(outputs), sources, RETENTION_S)
        await salvage.begin()
        yield channel, salvage


def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()


def queued(channel: Channel) -> dict[int, list[str]]:
    """Outputs by seq; all of it flagged."""
    found: dict[int, list[str]] = {}
    for output in OUTPUTS:
        for entry in channel.entries(output):
            assert entry.flagged
            channel.record(entry.position)
            found.setdefault(entry.id.seq, []).append(output)
    return found


WANTED = {number: waiting(number)[0] for number in live()}
DEAD = [number for number in live() if number % 5 == 0]


def holds_all(channel: Channel) -> None:
    assert queued(channel) == WANTED
    letters = [(one.output, one.reason, one.flagged) for one in channel.dead_letters()]
    assert letters == [("files", "too bad", True)] * len(DEAD)


async def test_all_comes_back_flagged_and_once(tmp_path: Path) -> None:
    old_id, origin = await make(tmp_path)
    condemn(tmp_path)
    async with begun(tmp_path) as (channel, salvage):
        assert channel.channel_id != old_id
        positions = {SOURCE + b"8-15": msgpack.packb([6000, 60])}
        assert channel.records(b"position/") == positions, "before the first batch"
        assert not salvage.settled()
        assert not salvage.whole()
        await salvage.run()
        holds_all(channel)
        assert {entry.id.origin for entry in channel.entries("next")} == {origin}
        assert (salvage.settled(), salvage.whole()) == (True, True)
        assert "40 batches" in salvage.text()
        (status,) = salvage.status()
        assert (status["state"], status["salvaged"], status["dead"]) == ("done", 40, len(DEAD))
        assert channel.next_seq() == 1, "its own numbers are its own"
    (kept,) = tmp_path.glob("channel.damaged-*")
    assert read_mark(kept) is not None
    async with begun(tmp_path) as (channel, salvage):
        assert salvage.whole()
        assert salvage.settled()
        await salvage.run()
        holds_all(channel)
        assert salvage.status()[0]["salvaged"] == 40, "told after a restart as well"


async def test_a_half_done_salvage_goes_on_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, origin = await make(tmp_path)
    condemn(tmp_path)
    monkeypatch.setattr(salvaging, "GROUP_BATCHES_MAX", 7)
    async with begun(tmp_path) as (channel, salvage):
        running = asyncio.create_task(salvage.run())
        channel.subscribe(lambda: _cancel(running))  # with the first group
        await asyncio.gather(running, return_exceptions=True)
        assert not salvage.settled()
        # One of them leaves, and one that is still to come arrives from elsewhere.
        first = channel.entries("next")[0]
        await channel.submit(Change(releases=[(one, first.position) for one in OUTPUTS]))
        (kept,) = tmp_path.glob("channel.damaged-*")
        told = [one for one in read_salvage(kept, 0) if isinstance(one, Batch)]
        sealed = next(one.record for one in told if one.seq == 59)
        await channel.submit(
            Change(
                puts=[replace(arrived(origin, 59, outputs=OUTPUTS), record=sealed)],
                records={SOURCE + b"8-15": b"further"},
            )
        )
    async with begun(tmp_path) as (channel, salvage):
        await salvage.run()
        assert salvage.whole()
        found = [entry.id.seq for entry in channel.entries("next")]
        assert sorted(found) == [number for number in live() if number != first.id.seq]
        assert len(channel.dead_letters()) == len(DEAD)
        assert channel.records(b"position/") == {SOURCE + b"8-15": b"further"}


@pytest.mark.parametrize("frames", [2, 5, 30])
async def test_a_reader_that_dies_costs_at_most_the_batch_it_had_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    await make(tmp_path)
    condemn(tmp_path)
    monkeypatch.setattr(salvaging, "READER", ("-c", DIES % frames))
    monkeypatch.setattr(salvaging, "TRIES_MAX", 100)
    async with begun(tmp_path) as (channel, salvage):
        await salvage.run()
        found = queued(channel)
        assert salvage.settled()
        assert not salvage.whole()
        # Each reader tells of `frames` less one, and the next begins after the one it died over.
        died = [number for at, number in enumerate(live(), 1) if at % frames == 0]
        assert sorted(found) == [number for number in live() if number not in died]
        (status,) = salvage.status()
        assert status["missing"] == len(died)


async def test_a_reader_that_always_dies_is_given_up_and_the_agent_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(tmp_path / "edge")
    condemn(tmp_path / "edge")
    (tmp_path / "a.log").write_bytes(b"x" * 5000)
    tail = SimpleNamespace(name="tail", paths=[str(tmp_path / "*.log")])
    monkeypatch.setattr(salvaging, "READER", ("-c", DIES % 0))
    async with begun(tmp_path / "edge", sources=[tail]) as (channel, salvage):
        await salvage.run()
        assert (salvage.settled(), salvage.whole()) == (True, False)
        assert "failed 6 times" in salvage.text()
        assert "source tail reads 4.9 KiB from the beginning" in salvage.text()
        assert channel.records(b"position/") == {}
    monkeypatch.undo()
    async with begun(tmp_path / "edge") as (channel, salvage):
        await salvage.run()
        holds_all(channel)
        assert salvage.whole(), "the next start tries again"


async def test_what_is_lost_is_a_dead_letter_and_named(tmp_path: Path) -> None:
    _, origin = await make(tmp_path)
    file = tmp_path / "channel" / "data.mdb"
    condemn(tmp_path)
    async with begun(tmp_path) as (channel, salvage):
        await salvage.run()
        bodies = {one.id.seq: channel.record(one.position)[-30:] for one in channel.entries("next")}
    data = file.read_bytes()
    for seq in (4, 14):
        data = data.replace(bodies[seq], bytes(30))
    file.write_bytes(data)
    condemn(tmp_path)
    for _ in range(2):
        async with begun(tmp_path) as (channel, salvage):
            await salvage.run()
            assert sorted(queued(channel)) == [n for n in live() if n not in (4, 14)]
            lost = {one.id: one.output for one in channel.letters() if one.id.seq in (4, 14)}
            assert set(lost) == {BatchId(origin, 4), BatchId(origin, 14)}
            reasons = [one.reason for one in channel.dead_letters() if not one.record]
            assert len(reasons) == 3, "two outputs waited for the one, one for the other"
            assert all("its record is damaged" in reason for reason in reasons)
            assert "2 batches lost (18 events)" in salvage.text()
            assert not salvage.whole()


async def test_what_waits_only_for_an_output_that_is_no_more_waits_on(tmp_path: Path) -> None:
    await make(tmp_path)
    condemn(tmp_path)
    async with begun(tmp_path, outputs=["files"]) as (channel, salvage):
        await salvage.run()
        assert salvage.settled()
        assert not salvage.whole()
        stranded = [n for n in live() if n % 7 == 0 and n % 5]
        assert salvage.status()[0]["stranded"] == len(stranded)
        there = [entry.id.seq for entry in channel.entries("files")]
        assert there == [n for n in live() if n % 7 and n % 5]
    async with begun(tmp_path) as (channel, salvage):
        await salvage.run()
        assert salvage.whole()
        assert {entry.id.seq for entry in channel.entries("next")} == set(stranded)


async def test_a_full_channel_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(tmp_path, batches=300)
    condemn(tmp_path)
    monkeypatch.setattr(salvaging, "GROUP_BYTES_MAX", 100_000)
    small = ChannelLimits(size_bytes_max=1 << 20, free_floor_bytes=0)
    async with begun(tmp_path, small) as (channel, salvage):
        running = asyncio.create_task(salvage.run())
        seen: set[int] = set()
        while not running.done():
            for output in OUTPUTS:
                entries = channel.entries(output)
                seen |= {entry.id.seq for entry in entries}
                changes = [(output, entry.position) for entry in entries]
                await channel.submit(Change(releases=changes))
            await asyncio.sleep(0.001)
        await running
        seen |= {entry.id.seq for output in OUTPUTS for entry in channel.entries(output)}
        assert seen == set(live(300))
        assert salvage.status()[0]["salvaged"] == len(live(300))


async def test_a_salvaged_channel_that_is_damaged_again_is_salvaged_again(tmp_path: Path) -> None:
    _, origin = await make(tmp_path)
    for _ in range(3):
        condemn(tmp_path)
        async with begun(tmp_path) as (channel, salvage):
            await salvage.run()
            holds_all(channel)
            assert {entry.id.origin for entry in channel.entries("next")} == {origin}
            assert msgpack.unpackb(channel.records(SOURCE)[SOURCE + b"8-15"])[0] == 6000
    assert len(list(tmp_path.glob("channel.damaged-*"))) == 3


async def test_a_channel_that_ends_ends_the_salvage(tmp_path: Path) -> None:
    await make(tmp_path)
    condemn(tmp_path)
    rng = random.Random(2)
    async with begun(tmp_path) as (channel, salvage):
        channel._end(ChannelDamaged(f"a test said so {rng.random()}"))
        with pytest.raises(ChannelDamaged):
            await salvage.run()


async def test_a_file_that_is_gone_is_said_and_keeps_no_agent_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(tmp_path)
    (tmp_path / "channel" / "data.mdb").unlink()
    monkeypatch.setattr(salvaging, "TRIES_MAX", 2)
    async with begun(tmp_path) as (channel, salvage):
        await salvage.run()
        assert (salvage.settled(), salvage.whole()) == (True, False)
        assert "reading it failed 2 times" in salvage.text()
        await channel.submit(Change(puts=[arrived(b"o" * 16, 1, outputs=OUTPUTS)]))
