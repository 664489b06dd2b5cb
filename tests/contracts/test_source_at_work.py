"""What agents make of every source: killed, reloaded or failing it loses nothing that was stored,
and where its positions say how far it is, nothing is there twice.

The invariant of cut sets: the events on disk are exactly those of the blocks whose positions are.
So a source that begins anew goes on right behind them.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.channel.making import opened, stored
from tests.contracts.sourcing import LINES, rigs
from tests.contracts.working import ONE_BY_ONE, Working
from tests.seeds import some_dice
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.core.block import Block
from tiers.entry.intake import SourceIntake
from tiers.entry.press import Press

KILLS = 3
NAMES = list(rigs(Path()))
EXACT = [name for name, rig in rigs(Path()).items() if rig.exact]


def run(directory: Path, name: str, commits: int | None, *planted: str) -> bool:
    """Whether a process that is killed after so many commits had come to its end by then."""
    command = [sys.executable, "-m", "tests.contracts.source_child", str(directory), name, *planted]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        list(islice(child.stdout, commits))
        child.kill() if commits is not None else child.wait(90)
        said = child.stderr.read()
    assert child.returncode in (0, -9), said
    return child.returncode == 0


async def lines_in(directory: Path) -> Counter[bytes]:
    async with opened(directory / "agent") as channel:
        return Counter(line for _, raw in stored(channel) for line in raw.splitlines())


def all_of(lines: Counter[bytes], copies_max: int) -> None:
    """There are as many lines as were fed, each whole, each so often at the most."""
    assert len(lines) == LINES
    assert len({len(line) for line in lines}) == 1
    assert max(lines.values()) <= copies_max


@pytest.mark.parametrize("name", NAMES)
async def test_sigkill_at_any_moment_stores_what_positions_say(name: str, tmp_path: Path) -> None:
    dice = some_dice()
    killed = sum(not run(tmp_path, name, dice.randrange(1, 12)) for _ in range(KILLS))
    assert killed > 0
    assert run(tmp_path, name, None)
    # What has no positions was fed anew to each life.
    all_of(await lines_in(tmp_path), 1 if name in EXACT else KILLS + 1)


@pytest.mark.parametrize("name", EXACT)
async def test_this_suite_sees_positions_that_are_ahead_of_their_set(
    name: str, tmp_path: Path
) -> None:
    dice = some_dice()
    for life in range(20):
        directory = tmp_path / str(life)
        directory.mkdir()
        run(directory, name, dice.randrange(1, 12), "positions ahead")
        assert run(directory, name, None)
        if len(await lines_in(directory)) < LINES:
            return
    raise AssertionError("never was a line lost")


MINE = {"of": "source"}  # a header of its batches: others are made beside it


@asynccontextmanager
async def working(name: str, directory: Path) -> AsyncIterator[tuple[Working, Channel]]:
    of, press = rigs(directory), Press("none", 1)
    async with opened(directory, ONE_BY_ONE) as channel:
        made = Working(of[name], of["generate"], channel, press)
        await made.apply(headers=MINE)
        try:
            yield made, channel
        finally:
            await made.parts.end()
            press.close()


def lines_of_it(channel: Channel) -> Counter[bytes]:
    own = (raw for one, raw in stored(channel) if MINE.items() <= one.headers.items())
    return Counter(line for raw in own for line in raw.splitlines())


async def fed_again(at_work: Working, channel: Channel, name: str) -> None:
    """What has no positions is lost with a connection, as its senders are told: it takes more."""
    if name not in EXACT:
        await at_work.rig.feed(at_work.part().source)
    await eventually(lambda: len(lines_of_it(channel)) == LINES)
    all_of(lines_of_it(channel), 1 if name in EXACT else 2)


class Third:
    """The third block that the first life puts is where it is caught."""

    def __init__(self, patch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]) -> None:
        self._put, self._then = SourceIntake.put, then
        self._first: SourceIntake | None = None
        self._puts = 0
        self.come = False

        def put(intake: SourceIntake, block: Block, *positions: Any) -> Any:
            return self._takes(intake, block, *positions)

        patch.setattr(SourceIntake, "put", put)

    async def _takes(
        self, intake: SourceIntake, block: Block, *positions: Mapping[bytes, bytes | None] | None
    ) -> Awaitable[None]:
        if block.headers.get("of") == "source" and intake is (self._first or intake):
            self._first = intake
            self._puts += 1
            if self._puts == 3:
                self.come = True
                await self._then()
        return await self._put(intake, block, *positions)


async def waits() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise ZeroDivisionError("at the third block")


@pytest.mark.parametrize("name", NAMES)
async def test_reloaded_in_mid_stream_it_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = Third(monkeypatch, waits)
    async with working(name, tmp_path) as (at_work, channel):
        beside, before = at_work.part("beside"), at_work.part()
        await at_work.rig.feed(before.source)
        await eventually(lambda: third.come)
        await at_work.apply(headers={**MINE, "generation": "2"})
        assert at_work.part() is not before
        assert at_work.part("beside") is beside
        await fed_again(at_work, channel, name)
        assert any("generation" in one.headers for one, _ in stored(channel))


@pytest.mark.parametrize("name", NAMES)
async def test_a_failure_starts_it_anew_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.core.backoff.Backoff.wait_s", lambda *_: 0.0)
    Third(monkeypatch, fails)
    async with working(name, tmp_path) as (at_work, channel):
        beside, first = at_work.part("beside"), at_work.part()
        await at_work.rig.feed(first.source)
        await eventually(lambda: at_work.part() is not first)
        await fed_again(at_work, channel, name)
        assert (at_work.part().failures, beside.failures) == (1, 0)
        assert at_work.part("beside") is beside
