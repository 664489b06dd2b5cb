"""A machine that was resumed, memory and all: it is noticed, and the agent starts again."""

import asyncio
import os
import signal
import sys

import pytest

from tests.waiting import eventually
from tiers.cli import agent
from tiers.host import resuming
from tiers.host.clock import Clock


class Leaping(Clock):
    """A wall clock that the test puts ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0
        self.looks = 0

    def now_ms(self) -> int:
        self.looks += 1
        return super().now_ms() + int(self.ahead_s * 1000)


@pytest.mark.parametrize("leap_s", [3600.0, -3600.0])
async def test_a_leap_of_the_wall_clock_is_noticed(
    leap_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Leaping()
    monkeypatch.setattr(resuming, "LOOK_S", 0.001)
    noticing = asyncio.create_task(resuming.resumed(clock))
    for _ in range(5):  # a clock that is put right little by little leaps nowhere
        seen = clock.looks
        await eventually(lambda seen=seen: clock.looks > seen)  # type: ignore[misc]
        clock.ahead_s += 1.0
    assert not noticing.done()
    clock.ahead_s += leap_s
    assert abs(await noticing - leap_s) < 5.0


@pytest.mark.parametrize(
    ("arguments", "draining", "more"),
    [
        (["agent", "t.toml", "edge-1"], False, []),
        (["agent", "t.toml", "edge-1"], True, ["--drain"]),
        (["agent", "t.toml", "edge-1", "--drain"], True, []),
    ],
)
def test_the_same_command_is_started_again(
    arguments: list[str], draining: bool, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    command = [sys.executable, "-m", "tiers", *arguments]
    monkeypatch.setattr(sys, "orig_argv", command)
    monkeypatch.setattr(os, "execv", lambda program, argv: begun.append(argv))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    agent._start_again(draining=draining)
    assert begun == [command + more]


def test_where_that_is_not_possible_its_status_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(program: str, argv: list[str]) -> None:
        raise FileNotFoundError(program)

    monkeypatch.setattr(os, "execv", gone)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    agent._start_again(draining=False)
