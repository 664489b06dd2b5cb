"""The loop's long turns are seen, with what held it."""

import asyncio
import logging
import time

import pytest

from tests.waiting import eventually
from tiers.observe import watch as module
from tiers.observe.watch import Watch


def hold(seconds: float) -> None:
    """Does not sleep: what holds a loop mostly reckons."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def run(held: list[float], watch: Watch) -> None:
    async def turns() -> None:
        watch.begin()
        await asyncio.sleep(0)
        for seconds in held:
            hold(seconds)
            await asyncio.sleep(0)
        await eventually(lambda: watch.long >= len(held), "they are counted")

    with asyncio.Runner(loop_factory=watch.new_loop) as runner:
        runner.run(turns())


def test_a_long_turn_is_told_with_where_it_was(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PACKAGE", "/tests/")
    caplog.set_level(logging.INFO)
    watch = Watch()
    run([0.3], watch)
    told = watch.status()
    assert told["longest_turn_s"] >= 0.3
    assert told["longest_turn_at"].endswith(" hold")
    assert "observe/test_watch.py:" in caplog.text
    assert "CPU" in caplog.text


def test_many_long_turns_are_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch()
    run([0.05] * 10, watch)
    assert watch.long >= 10
    assert len([r for r in caplog.records if "a turn of the loop" in r.getMessage()]) == 1
    monkeypatch.setattr(module, "TELL_EVERY_S", 0.0)
    with asyncio.Runner(loop_factory=watch.new_loop) as runner:
        runner.run(asyncio.sleep(0))
    told = [r.getMessage() for r in caplog.records if "a turn of the loop" in r.getMessage()]
    assert "the longest of " in told[1]


def test_before_it_begins_nothing_is_counted() -> None:
    watch = Watch()

    async def turns() -> None:
        hold(0.05)
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=watch.new_loop) as runner:
        runner.run(turns())
    assert watch.long == 0


def test_a_loop_that_rests_is_looked_at_less_often_until_it_is_met_in_a_turn() -> None:
    watch = Watch()
    assert {watch.look_after_s() for _ in range(10)} == {module.TURN_S_MAX}
    assert {watch.look_after_s() for _ in range(3)} == {module._REST_S}
    watch._loop_thread = 1
    watch.turn_begins()
    assert watch.look_after_s() == module.TURN_S_MAX
    watch.turn_ends()
    assert {watch.look_after_s() for _ in range(10)} == {module.TURN_S_MAX}
    assert watch.look_after_s() == module._REST_S
