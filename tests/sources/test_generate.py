"""generate: every line unique, numbered without gaps over restarts, paced without drift."""

import asyncio
import itertools
import re
import time
from typing import Any

import pytest
from pydantic import ValidationError

from tests.sources.intake import RecordingIntake
from tests.waiting import eventually
from tiers.sources.generate import Generate, GenerateOptions, _Sheet


def make(**keys: Any) -> Generate:
    return Generate(GenerateOptions.model_validate({"type": "generate", **keys}))


async def produce(intake: RecordingIntake, **keys: Any) -> Generate:
    source = make(**keys)
    source.drain()
    await source.run(intake)
    return source


def numbers(intake: RecordingIntake) -> list[int]:
    return [int(n) for n in re.findall(rb"[0-9a-f]{8}-([0-9]{12})", intake.data)]


@pytest.mark.parametrize("form", ["access", "numbers"])
@pytest.mark.parametrize("block_size_max", [1 << 20, 5000, 10])
async def test_numbers_are_complete_and_in_order(form: str, block_size_max: int) -> None:
    intake = RecordingIntake(block_size_max=block_size_max)
    await produce(intake, count=2345, format=form)
    assert numbers(intake) == list(range(1, 2346))
    assert len(intake.lines) == 2345
    for put in intake.puts:
        assert len(put.block) <= block_size_max or put.count == 1


async def test_two_runs_never_make_the_same_line() -> None:
    first, second = RecordingIntake(), RecordingIntake()
    await produce(first, count=1000, format="numbers")
    await produce(second, count=1000, format="numbers")
    assert not set(first.lines) & set(second.lines)


async def test_restart_goes_on_where_the_stored_position_is() -> None:
    intake = RecordingIntake(block_size_max=3000)
    await produce(intake, count=100)
    for stop in range(len(intake.puts)):
        (position,) = intake.puts[stop].positions.values()
        assert position is not None
        again = RecordingIntake({b"next": position})
        await produce(again, count=100)
        kept = sum(put.count for put in intake.puts[: stop + 1])
        assert numbers(again) == list(range(kept + 1, 101))
        runs = {line.split(b"n=")[1][:8] for line in intake.lines + again.lines}
        assert len(runs) == 1


@pytest.mark.parametrize("size", [1, 100, 170, 171, 400, 5000])
async def test_lines_have_about_the_size(size: int) -> None:
    for form, least in (("access", 155), ("numbers", 23)):
        intake = RecordingIntake()
        await produce(intake, count=50, size=size, format=form)
        for line in intake.lines:
            assert len(line) <= max(size, least + 40)
            assert len(line) >= min(size, 22)
            assert b"\0" not in line and b"\1" not in line


@pytest.mark.parametrize("size", [250, 400, 5000])
@pytest.mark.parametrize("form", ["access", "numbers"])
async def test_lines_that_have_room_have_the_size(size: int, form: str) -> None:
    intake = RecordingIntake(block_size_max=10_000)
    await produce(intake, count=20, size=size, format=form)
    assert {len(line) for line in intake.lines} == {size}


async def test_of_what_lines_tell() -> None:
    intake = RecordingIntake()
    await produce(intake, count=2000)
    found = [re.findall(rb'^(\S+) .*" (\d+) (\d+) "-"', line) for line in intake.lines]
    addresses, statuses, sizes = zip(*(one for (one,) in found), strict=True)
    octets = {int(octet) for address in addresses for octet in address.split(b".")}
    assert octets <= set(range(1, 255))
    assert len(octets) > 200
    assert {int(status) for status in statuses} == {200, 302, 304, 404, 500}
    assert statuses.count(b"200") > len(statuses) // 2
    assert all(100 <= int(size) < 60_000 for size in sizes)


async def test_access_lines_look_like_nginx() -> None:
    intake = RecordingIntake()
    await produce(intake, count=3000)
    shape = re.compile(
        rb'[\d.]+ - - \[\d\d/[A-Z][a-z]{2}/\d{4}(:\d\d){3} \+0000\] "GET /\S+ HTTP/1\.1" '
        rb'\d{3} \d+ "-" "[^"]+"\n'
    )
    assert all(shape.fullmatch(line) for line in intake.lines)


async def test_a_rate_is_even_and_without_drift() -> None:
    intake = RecordingIntake()
    source = make(rate=2000)
    started = time.monotonic()
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: intake.events >= 1000 and len(intake.puts) > 10)
    elapsed, came = time.monotonic() - started, intake.events
    source.drain()
    await task
    # Never ahead of the rate; a slow machine may make it late, then it catches up.
    assert came <= elapsed * 2000 + 1
    assert elapsed >= 0.49
    assert sorted(put.count for put in intake.puts)[len(intake.puts) // 2] <= 400, "in small pieces"


async def test_after_its_count_it_stays_until_drained() -> None:
    intake = RecordingIntake()
    source = make(count=10)
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: intake.events == 10)
    assert not task.done()
    assert source.status()["left"] == 0
    source.drain()
    await task


async def test_drain_of_an_endless_one_ends_at_once() -> None:
    source, intake = make(), RecordingIntake(keep=False)
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: intake.events > 0)
    source.drain()
    await task
    assert source.status()["left"] is None


async def test_drain_of_a_slow_endless_one_does_not_wait_for_its_next_line() -> None:
    source, intake = make(rate=0.001), RecordingIntake()
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: intake.events == 1)
    source.drain()
    await asyncio.wait_for(task, 10)


async def test_a_slow_one_with_a_count_lets_others_go_on() -> None:
    source, intake = make(rate=0.001, count=5), RecordingIntake()
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: intake.events == 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert intake.events == 1


async def test_headers_go_along() -> None:
    intake = RecordingIntake()
    await produce(intake, count=1, headers={"service": "web"})
    assert intake.puts[0].headers == {"service": "web"}


def test_wrong_options_are_refused() -> None:
    for keys in ({"rate": -1}, {"format": "json"}, {"size": "0"}, {"speed": 3}):
        with pytest.raises(ValidationError):
            make(**keys)


@pytest.mark.parametrize("low", [0, 1, 500, 997])
@pytest.mark.parametrize("size", [0, 49, 50, 51, 149, 150, 1000, 10**6])
def test_as_many_lines_as_fit(low: int, size: int) -> None:
    sheet = _Sheet("numbers", 50, 1)
    for high in (low + 1, low + 2, 999, 1000):
        fitting = sheet.fitting(low, high, size)
        assert fitting == min(high, low + size // 50)
        assert len(sheet.lines(low, fitting, b"n" * 18, b"t" * 20)) == 50 * (fitting - low)


async def test_sheets_differ_from_each_other() -> None:
    intake = RecordingIntake()
    await produce(intake, count=4000)
    tails = [line.split(b"HTTP/1.1")[1] for line in intake.lines]
    blocks = [tuple(tails[i : i + 1000]) for i in range(0, 4000, 1000)]
    assert all(a != b for a, b in itertools.combinations(blocks, 2))
