"""A source that fails, or is retired, goes on from what is stored: nothing lost, nothing twice."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

import pytest

from tests.channel.making import opened, stored
from tests.metering import number
from tests.waiting import eventually
from tiers.agent.parts.parts import Parts
from tiers.agent.parts.source import SourcePart, SourceSpec
from tiers.channel.channel import Channel
from tiers.contracts import Intake, InterceptorContext
from tiers.core.batch import Unnumbered
from tiers.core.block import Block
from tiers.core.change import Change
from tiers.core.entry.cutting import Cut, CuttingRules
from tiers.core.entry.routes import everywhere
from tiers.core.progress import Work
from tiers.core.steps import Key, StepKind
from tiers.entry.intake import SourceIntake
from tiers.entry.press import Press
from tiers.errors import TiersError
from tiers.host.clock import CLOCK, Clock
from tiers.interceptors.chain import Chain, ChainLink
from tiers.interceptors.static import Static, StaticOptions
from tiers.observe.meters import Meters
from tiers.sources import meters
from tiers.sources.source import SourceOptions

LINES = 200


class Pace:
    """How far a source may go."""

    def __init__(self, upto: int = LINES) -> None:
        self.upto = upto
        self._moved = asyncio.Event()

    def go(self, upto: int) -> None:
        self.upto = upto
        self._moved.set()

    async def reaches(self, line: int) -> None:
        while self.upto < line:
            self._moved.clear()
            await self._moved.wait()


class Stumbling:
    """Puts numbered lines; fails at some of them, each time it is made anew until it does not."""

    Options: ClassVar[type[SourceOptions]] = SourceOptions

    def __init__(self, fails_at: set[int], pace: Pace) -> None:
        self._pace = pace
        self.unread: int | None = None
        self._fails_at = fails_at
        self._draining = asyncio.Event()

    async def run(self, intake: Intake) -> None:
        number = int(intake.positions.get(b"next", b"1"))
        while number <= LINES:
            await self._pace.reaches(number)
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


class HeldPress(Press):
    """Its work waits where the test wants that."""

    def __init__(self) -> None:
        super().__init__("none", 1, threads=1)
        self.go = threading.Event()
        self.go.set()
        self.held = False

    def _press(self, cut: Cut, origin: bytes, sealed_ms: int) -> Unnumbered:
        self.held = not self.go.is_set()
        assert self.go.wait(30)
        return super()._press(cut, origin, sealed_ms)


class StoppedClock(Clock):
    """It goes on when the test says so."""

    s = 0.0

    def now_s(self) -> float:
        return self.s


OPTIONS = SourceOptions(type="numbers", name="numbers")
RULES = CuttingRules(linger_s=0.001)
SPEC = SourceSpec(OPTIONS, (), RULES, 1 << 20, everywhere(("out",)), (), 60.0)
KEY = Key(StepKind.SOURCE, "numbers")


class Rig:
    """Parts of which there is one source."""

    def __init__(self, channel: Channel, press: Press, fails_at: set[int], clock: Clock) -> None:
        self.channel, self.press, self.fails_at, self.clock = channel, press, fails_at, clock
        self.pace = Pace()
        self.meters = Meters()
        self.parts = Parts(self.make, self.settled, self.meters, clock.random)

    async def make(self, key: Key, spec: SourceSpec) -> SourcePart:
        intake = SourceIntake(
            key.name, "edge-1", self.channel, spec.route, self.press, spec.rules, 1 << 20, 60.0
        )
        return SourcePart(spec, Stumbling(self.fails_at, self.pace), intake, self.chain, self.clock)

    def chain(self, spec: SourceSpec) -> Chain:
        here = InterceptorContext("edge-1", "host")
        made = [(one, cast(StaticOptions, one)) for one in spec.interceptors]
        return Chain([ChainLink(one, Static(options, here)) for one, options in made], 1 << 20)

    async def settled(self) -> None:
        await self.channel.submit(Change())

    async def apply(self, *specs: SourceSpec) -> None:
        await self.parts.apply(lambda: dict.fromkeys([KEY] if specs else [], *specs), 30.0)

    @property
    def source(self) -> SourcePart:
        (source,) = self.parts.sources
        return source

    @property
    def failure(self) -> str:
        return "".join(why for _, why in self.parts.failing())


@asynccontextmanager
async def running(
    tmp_path: Path,
    fails_at: set[int],
    clock: Clock = CLOCK,
    press: Press | None = None,
    upto: int = LINES,
) -> AsyncIterator[Rig]:
    press = press or Press("none", 1)
    async with opened(tmp_path) as channel:
        rig = Rig(channel, press, fails_at, clock)
        rig.pace.go(upto)
        await rig.apply(SPEC)
        try:
            yield rig
        finally:
            await rig.parts.end()
            press.close()


def lines(channel: Channel) -> list[int]:
    return [int(line) for _, raw in stored(channel) for line in raw.split()]


def has(rig: Rig, events: int) -> bool:
    return rig.source.intake.events >= events


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.backoff.Backoff.wait_s", lambda *_: 0.0)


async def test_it_goes_on_where_it_was_stored(tmp_path: Path, quick: None) -> None:
    async with running(tmp_path, {1, 20, 21, 90, LINES}) as rig:
        await eventually(lambda: rig.source.intake.events >= LINES and not rig.failure)
        source = rig.source
        assert source.failures == number(source, meters.RESTARTS, "numbers") == 5
        await rig.apply(replace(SPEC, draining=True))
        assert rig.source is source
        await eventually(lambda: source.state == "done", "it comes to its end")
        assert lines(rig.channel) == list(range(1, LINES + 1)), "none lost, none twice, in order"
        assert source.intake.events == LINES, "counted on over its lives"
        assert number(source, meters.EVENTS, "numbers") == LINES


async def test_how_far_behind_it_is_is_known_from_looks(tmp_path: Path) -> None:
    clock = StoppedClock()
    async with running(tmp_path, set(), clock) as rig:
        source = rig.source
        await eventually(lambda: source.intake.events == LINES, "all is stored")
        stumbling = cast(Stumbling, source.source)
        told = {one.meter for one in source.meters()}
        assert told.isdisjoint({meters.UNREAD, meters.BEHIND}), "it cannot see that"
        source.intake.bytes = 0
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


async def test_while_it_waits_its_failure_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, {5}) as rig:
        await eventually(lambda: rig.failure)
        assert rig.failure == "ZeroDivisionError: at line 5"


async def test_told_to_drain_meanwhile_it_drains(tmp_path: Path) -> None:
    async with running(tmp_path, {5}) as rig:
        await eventually(lambda: rig.failure)
        await rig.apply(replace(SPEC, draining=True))
        await eventually(lambda: rig.source.state == "done", "it comes to its end")
        assert lines(rig.channel) == list(range(1, LINES + 1))


async def test_made_anew_again_and_again_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async with running(tmp_path, set(), upto=5) as rig:
        for times in range(12):
            upto = 10 + 10 * times
            rig.pace.go(upto + 5)
            await eventually(partial(has, rig, upto), "it goes on")
            before = rig.source
            await rig.apply(replace(SPEC, retention_s=100.0 + times))
            assert rig.source is not before
        rig.pace.go(LINES)
        await eventually(lambda: rig.source.intake.events == LINES, "counted on over its lives")
        assert lines(rig.channel) == list(range(1, LINES + 1)), "none lost, none twice, in order"


async def test_one_that_was_retired_takes_nothing_more(tmp_path: Path) -> None:
    async with running(tmp_path, set()) as rig:
        await eventually(lambda: rig.source.intake.events >= 10, "it is at work")
        intake = rig.source.intake
        await rig.apply()
        stored = lines(rig.channel)
        with pytest.raises(TiersError, match="ended"):
            await intake.put(Block(b"0\n", 1), {b"next": b"1000"})
        await rig.settled()
        assert lines(rig.channel) == stored
        assert len(stored) == intake.events, "all that it had put is stored"


async def test_what_is_not_stored_in_time_is_never_stored(tmp_path: Path) -> None:
    """Its position is not either, and the next one reads it."""
    press = HeldPress()
    async with running(tmp_path, set(), press=press, upto=10) as rig:
        await eventually(partial(has, rig, 10), "it is at work")
        press.go.clear()
        rig.pace.go(LINES)
        await eventually(lambda: press.held, "a set is under way")
        before = rig.source
        wanted = {KEY: replace(SPEC, retention_s=100.0)}
        await rig.parts.apply(lambda: wanted, 0.01)
        press.go.set()
        await eventually(lambda: rig.source.intake.events == LINES, "the next one has read all")
        assert before.intake.events < LINES
        assert lines(rig.channel) == list(range(1, LINES + 1)), "none lost, none twice, in order"


async def test_interceptors_change_in_place_between_two_blocks(tmp_path: Path) -> None:
    async with running(tmp_path, set(), upto=50) as rig:
        source = rig.source
        for number, key in enumerate(("a", "b"), 1):
            options = StaticOptions.model_validate(
                {"type": "static", "name": key, "headers": {"mark": key}}
            )
            await rig.apply(replace(SPEC, interceptors=(options,)))
            rig.pace.go(50 + 50 * number)
            await eventually(partial(has, rig, 50 + 50 * number), "it goes on")
        await rig.apply(SPEC)
        rig.pace.go(LINES)
        assert rig.source is source
        await eventually(lambda: source.intake.events == LINES, "all is stored")
        assert sorted(lines(rig.channel)) == list(range(1, LINES + 1)), "none lost, none twice"
        marks = {one.headers.get("mark") for one, _ in stored(rig.channel)}
        assert marks >= {None, "b"}
        last = [
            one.headers.get("mark") for one, raw in stored(rig.channel) if b"200" in raw.split()
        ]
        assert last == [None]
