"""A source that fails is started again from what is stored, and nothing else notices."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, cast

import pytest

from tests.channel.making import opened
from tests.metering import number
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.contracts import Intake
from tiers.core.batch import split, verify
from tiers.core.block import Block
from tiers.core.codecs import decompress
from tiers.core.cutting import CuttingRules
from tiers.core.progress import Work
from tiers.core.routes import everywhere
from tiers.errors import ChannelUnavailable
from tiers.intake import SourceIntake
from tiers.press import Press
from tiers.running import Made, Running
from tiers.sources import meters
from tiers.sources.source import SourceOptions
from tiers.world import CLOCK, Clock

LINES = 200


class Stumbling:
    """Puts numbered lines; fails at some of them, each time it is made anew until it does not."""

    Options: ClassVar[type[SourceOptions]] = SourceOptions

    def __init__(self, fails_at: set[int]) -> None:
        self.unread: int | None = None
        self._fails_at = fails_at
        self._draining = asyncio.Event()

    async def run(self, intake: Intake) -> None:
        number = int(intake.positions.get(b"next", b"1"))
        while number <= LINES:
            if number in self._fails_at:
                self._fails_at.discard(number)
                raise ZeroDivisionError(f"at line {number}")
            position = {b"next": str(number + 1).encode()}
            await intake.put(Block(b"%d\n" % number, 1), position)
            number += 1
            await asyncio.sleep(0)
        await self._draining.wait()

    def drain(self) -> None:
        self._draining.set()

    def unread_bytes(self) -> int | None:
        return self.unread

    def work(self) -> Mapping[str, Work]:
        return {}

    def status(self) -> dict[str, object]:
        return {}


class StoppedClock(Clock):
    """It goes on when the test says so."""

    s = 0.0

    def now_s(self) -> float:
        return self.s


def running(channel: Channel, press: Press, fails_at: set[int], clock: Clock = CLOCK) -> Running:
    def make() -> Made:
        rules = CuttingRules(linger_s=0.001)
        intake = SourceIntake(
            "numbers", "edge-1", channel, everywhere(["out"]), press, rules, 1 << 20, 60.0
        )
        return Stumbling(fails_at), intake

    return Running("numbers", "numbers", channel, clock, make)


def lines(channel: Channel) -> list[int]:
    found: list[int] = []
    for entry in channel.entries("out", 0, 10_000):
        record = channel.record(entry.position)
        envelope = verify(record)
        raw = decompress(envelope.codec, split(record)[1], envelope.size)
        found += [int(line) for line in raw.split()]
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.backoff.Backoff.wait_s", lambda *_: 0.0)


async def test_it_goes_on_where_it_was_stored(tmp_path: Path, quick: None) -> None:
    press = Press("none", 1)
    async with opened(tmp_path) as channel:
        source = running(channel, press, {1, 20, 21, 90, LINES})
        work = asyncio.create_task(source.run())
        await eventually(lambda: source.intake.events >= LINES and not source.failure)
        assert source.failures == number(source, meters.RESTARTS, "numbers") == 5
        source.drain()
        await work
        assert source.state == "done"
        assert lines(channel) == list(range(1, LINES + 1)), "none lost, none twice, in order"
        assert source.intake.events == LINES, "counted on over its lives"
        assert number(source, meters.EVENTS, "numbers") == LINES
    press.close()


async def test_how_far_behind_it_is_is_known_from_looks(tmp_path: Path) -> None:
    press, clock = Press("none", 1), StoppedClock()
    async with opened(tmp_path) as channel:
        source = running(channel, press, set(), clock)
        stumbling = cast(Stumbling, source.source)
        told = {one.meter for one in source.meters()}
        assert told.isdisjoint({meters.UNREAD, meters.BEHIND}), "it cannot see that"
        for second, unread in enumerate((0, 100, 100, 300)):
            clock.s, stumbling.unread = float(second), unread
            source.look()
        clock.s = 10.0
        assert number(source, meters.UNREAD, "numbers") == 300
        assert number(source, meters.BEHIND, "numbers") == 9
        source.intake.bytes, stumbling.unread = 100, 200
        assert number(source, meters.BEHIND, "numbers") == 7, "what came at 1 s was taken"
        stumbling.unread = 0
        assert number(source, meters.BEHIND, "numbers") == 0
    press.close()


async def test_while_it_waits_its_failure_is_told(tmp_path: Path) -> None:
    press = Press("none", 1)
    async with opened(tmp_path) as channel:
        source = running(channel, press, {5})
        work = asyncio.create_task(source.run())
        await eventually(lambda: source.failure)
        assert source.failure == "ZeroDivisionError: at line 5"
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    press.close()


async def test_told_to_drain_meanwhile_it_drains(tmp_path: Path) -> None:
    press = Press("none", 1)
    async with opened(tmp_path) as channel:
        source = running(channel, press, {5})
        work = asyncio.create_task(source.run())
        await eventually(lambda: source.failure)
        source.drain()
        await asyncio.wait_for(work, 30)
        assert lines(channel) == list(range(1, LINES + 1))
    press.close()


async def test_the_end_of_the_channel_is_no_failure_of_the_source(
    tmp_path: Path, quick: None
) -> None:
    press = Press("none", 1)
    with contextlib.suppress(ChannelUnavailable):
        async with opened(tmp_path) as channel:
            source = running(channel, press, {5})
            channel._end(ChannelUnavailable("the disk is gone"))
            with pytest.raises(ChannelUnavailable, match="the disk is gone"):
                await source.run()
            with pytest.raises(ChannelUnavailable, match="the disk is gone"):
                await channel.wait_end()
    press.close()
