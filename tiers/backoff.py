"""Waits between tries: to start what keeps dying, and to reach what does not answer."""

import asyncio
from dataclasses import dataclass
from random import Random

from tiers.core import commit


@dataclass(slots=True)
class Backoff:
    """Growing, jittered waits, for one thing that is started again and again."""

    first_s: float = 0.5
    wait_s_max: float = 30.0
    healthy_after_s: float = 30.0  # what lived this long is no longer one that keeps dying
    _next_s: float = 0.0

    def wait_s(self, lived_s: float, random: Random) -> float:
        """How long to wait now that it has died at the age of `lived_s`."""
        fresh = self._next_s == 0.0 or lived_s >= self.healthy_after_s
        wait = self.first_s if fresh else self._next_s
        self._next_s = min(2 * wait, self.wait_s_max)
        return wait * random.uniform(0.5, 1.0)


async def back_off(failures: int, random: Random, *, refused: bool = False) -> None:
    """Waits after that many failures in a row. Random, so that sinks do not come back all at
    once."""
    await asyncio.sleep(commit.backoff_s(failures, refused, random.random()))
