"""What every source promises (tiers/contracts) to an intake that its test holds. See sourcing.py
for how a new one gets this suite, and test_source_at_work.py for what agents make of it."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.contracts.sourcing import LINES, Rig, rigs
from tests.sources.intake import RecordingIntake
from tests.waiting import eventually
from tiers.sources import BUILTIN


@pytest.fixture(params=list(rigs(Path())))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return rigs(tmp_path)[request.param]


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


async def test_all_is_put_with_headers_and_drain_ends_it(rig: Rig) -> None:
    intake, source = RecordingIntake(), rig.make(headers={"service": "x"})
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    await eventually(lambda: intake.events)
    source.drain()
    await asyncio.wait_for(task, 20)
    assert intake.events == len(set(intake.lines)) == LINES
    for put in intake.puts:
        assert put.headers == {"service": "x"}
        assert put.block.count(b"\n") == put.count
        assert put.time_ms is None


async def test_drain_before_it_was_ever_run(rig: Rig) -> None:
    intake, source = RecordingIntake(), rig.make()

    async def run() -> None:
        source.drain()
        await source.run(intake)

    await asyncio.wait_for(run(), 20)


async def test_drain_twice_is_once(rig: Rig) -> None:
    intake, source = RecordingIntake(), rig.make()
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    source.drain()
    source.drain()
    await asyncio.wait_for(task, 20)


async def test_back_pressure_is_honoured(rig: Rig) -> None:
    intake, source = RecordingIntake(block_size_max=200), rig.make()
    intake.close_gate()
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    # UDP looks before it puts; all others wait in a put, and in one only.
    if "udp" not in str(rig.options):
        await eventually(lambda: intake.waiting)
    for _ in range(100):
        await asyncio.sleep(0)
        assert intake.waiting <= 1
    assert intake.events == 0
    intake.open_gate()
    await eventually(lambda: intake.events == LINES)
    await stop(task)
    assert not any(name.startswith("dropped") for name in intake.counters)


@pytest.mark.parametrize("event_size_max", [1 << 20, 9])
async def test_blocks_are_no_larger_than_they_may_be(rig: Rig, event_size_max: int) -> None:
    intake = RecordingIntake(block_size_max=200, event_size_max=event_size_max)
    source = rig.make()
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    await eventually(lambda: intake.events >= LINES)
    source.drain()
    await asyncio.wait_for(task, 20)
    for put in intake.puts:
        assert len(put.block) <= 200 or put.count == 1
    if rig.type != "generate":  # its size is an option; the topology checks it
        assert max(map(len, intake.lines)) <= event_size_max
        # Every line is longer than 9 bytes and shorter than a million.
        assert intake.counters["lines_split"] == (LINES if event_size_max == 9 else 0)


async def test_an_event_that_is_longer_than_a_block_stays_whole(rig: Rig) -> None:
    intake = RecordingIntake(block_size_max=5)
    source = rig.make()
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    await eventually(lambda: intake.events == LINES)
    await stop(task)
    assert all(put.count <= 1 for put in intake.puts)


@pytest.mark.parametrize("puts", [0, 1, 3])
async def test_cancel_is_safe_at_any_put(rig: Rig, puts: int) -> None:
    """What was accepted is whole; a later run goes on exactly there."""
    intake, source = RecordingIntake(block_size_max=200), rig.make()
    intake.close_gate(puts)
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    if "udp" not in str(rig.options):
        await eventually(lambda: intake.waiting)
    await stop(task)
    if not rig.exact:
        return
    again, source = RecordingIntake(intake.stored), rig.make()
    task = asyncio.create_task(source.run(again))
    await eventually(lambda: intake.events + again.events >= LINES)
    source.drain()
    await task
    assert intake.events + again.events == LINES
    assert len({*intake.lines, *again.lines}) == LINES


async def test_what_it_has_not_read_yet_is_told_where_it_can_be_seen(rig: Rig) -> None:
    intake, source = RecordingIntake(block_size_max=200), rig.make()
    before = source.unread_bytes()
    assert not before
    intake.close_gate(1)
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    if before is not None:
        await eventually(lambda: intake.waiting and source.unread_bytes())
    intake.open_gate()
    await eventually(lambda: intake.events == LINES and not source.unread_bytes())
    assert (source.unread_bytes() is None) == (before is None)
    await stop(task)


async def test_status_is_plain_data_before_during_and_after(rig: Rig) -> None:
    intake, source = RecordingIntake(), rig.make()
    json.dumps(source.status())
    task = asyncio.create_task(source.run(intake))
    await rig.feed(source)
    await eventually(lambda: intake.events == LINES)
    assert json.dumps(source.status())
    await stop(task)
    json.dumps(source.status())


def test_unknown_keys_are_rejected(rig: Rig) -> None:
    with pytest.raises(ValidationError, match="colour"):
        rig.validate(colour="red")


def test_options_are_frozen_and_name_their_headers(rig: Rig) -> None:
    options = rig.validate(headers={"a": "b"})
    assert options.header_names() >= {"a"}
    with pytest.raises(ValidationError):
        options.name = "other"


def test_every_builtin_source_is_under_this_suite(tmp_path: Path) -> None:
    assert set(BUILTIN) == {rig.type for rig in rigs(tmp_path).values()}
