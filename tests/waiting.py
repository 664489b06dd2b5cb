"""Waiting for a condition with a deadline: what tests do instead of sleeping."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
DEADLINE_S = 90.0  # no test is slower for it; a busy machine may be
_STEP_S = 0.01
_SHARE = 0.05  # of the time waited already is the next step: a look may cost a process


def wait_for(
    condition: Callable[[], T],
    what: str = "",
    deadline_s: float = DEADLINE_S,
    step_s: float = _STEP_S,
) -> T:
    """The first true value of `condition()`; fails naming `what` when the deadline has passed."""
    start = time.monotonic()
    while not (value := condition()):
        waited_s = time.monotonic() - start
        if waited_s > deadline_s:
            raise AssertionError(f"waited {deadline_s} s in vain: {what or condition}")
        time.sleep(max(step_s, _SHARE * waited_s))
    return value


async def eventually(
    condition: Callable[[], T], what: str = "", deadline_s: float = DEADLINE_S
) -> T:
    """`wait_for` for a test that runs on a loop."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s in vain: {what or condition}")
        await asyncio.sleep(_STEP_S)
    return value


def move_on(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """The running loop's clock: what was to come by then comes now."""
    loop = asyncio.get_running_loop()
    plain = loop.time
    patch.setattr(loop, "time", lambda: plain() + seconds)
