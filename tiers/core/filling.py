"""How long until something is full, at the rate at which it has been filling lately.

Pure: the time is an argument.
"""

import math
from collections import deque
from typing import Final

_WINDOW_S: Final = 60.0
_SPAN_S_MIN: Final = 5.0  # the rate of less than that says nothing
_LOOKS_MAX: Final = 256


class Filling:
    """Of one store of bytes."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=_LOOKS_MAX)

    def look(self, used_bytes: int, now_s: float) -> None:
        looks = self._looks
        looks.append((now_s, used_bytes))
        while len(looks) > 1 and looks[1][0] <= now_s - _WINDOW_S:
            looks.popleft()

    def full_s(self, free_bytes: int) -> float:
        """Seconds until so much more is used: infinite while it does not fill, or where that is
        not known yet."""
        if free_bytes <= 0:
            return 0.0
        if not self._looks:
            return math.inf
        (begun_s, begun), (now_s, used) = self._looks[0], self._looks[-1]
        if now_s - begun_s < _SPAN_S_MIN or used <= begun:
            return math.inf
        return free_bytes * (now_s - begun_s) / (used - begun)
