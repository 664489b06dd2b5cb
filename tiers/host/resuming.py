"""Noticing that this machine was resumed, memory and all: from a snapshot, or after a sleep.

Such a process goes on as if no time had passed, and what it holds in memory may be long out of
date: so it is to be started again. What tells it is the wall clock, which is put right then, while
the monotonic one has stood still. (A clock that is put right by so much at any other time costs a
start for nothing.)
"""

import asyncio
from typing import Final

from tiers.contracts import Clock

LEAP_S_MIN: Final = 10.0
LOOK_S: Final = 1.0


async def resumed(clock: Clock) -> float:
    """Returns once the wall clock has leapt against the monotonic one: by how many seconds."""
    ahead_s = _ahead_s(clock)
    while True:
        await asyncio.sleep(LOOK_S)
        before_s, ahead_s = ahead_s, _ahead_s(clock)
        if abs(ahead_s - before_s) >= LEAP_S_MIN:
            return ahead_s - before_s


def _ahead_s(clock: Clock) -> float:
    """How far the wall clock is ahead of the monotonic one."""
    return clock.now_ms() / 1000 - clock.now_s()
