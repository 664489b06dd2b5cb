"""Waits between tries: to start what keeps dying, and to reach what does not answer.

Pure: chance is an argument.
"""

from dataclasses import dataclass
from typing import Final

BACKOFF_MIN_S: Final = 0.2
BACKOFF_MAX_S: Final = 10.0
REFUSED_MIN_S: Final = 2.0
REFUSED_MAX_S: Final = 60.0


@dataclass(slots=True)
class Backoff:
    """Growing, jittered waits, for one thing that is started again and again."""

    first_s: float = 0.5
    wait_s_max: float = 30.0
    healthy_after_s: float = 30.0  # what lived this long is no longer one that keeps dying
    _next_s: float = 0.0

    def wait_s(self, lived_s: float, random: float) -> float:
        """How long to wait now that it has died at the age of `lived_s`. `random` is in [0, 1)."""
        fresh = self._next_s == 0.0 or lived_s >= self.healthy_after_s
        wait = self.first_s if fresh else self._next_s
        self._next_s = min(2 * wait, self.wait_s_max)
        return wait * (0.5 + random / 2)


def backoff_s(failures: int, refused: bool, random: float) -> float:
    """How long to wait after that many failures in a row (from 1). `random` is in [0, 1)."""
    assert failures > 0
    least, most = (REFUSED_MIN_S, REFUSED_MAX_S) if refused else (BACKOFF_MIN_S, BACKOFF_MAX_S)
    # The exponent is bounded: 2 ** failures of a store that is down for a week would overflow.
    return float(min(most, least * 2 ** min(failures - 1, 16))) * (0.5 + random / 2)
