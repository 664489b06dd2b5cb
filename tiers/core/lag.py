"""How far behind a reader is, in time: how long what it takes next has been waiting.

What comes is counted from the first byte on, and taken in the order in which it came:

    end      ----------------------------------> all that has been seen so far, at each look
    done     --------->                          taken of it
             behind: now - the first look at which `end` was beyond `done`

Pure: the time is an argument.
"""

from typing import Final

_LOOKS_MAX: Final = 256  # remembered; of more, every second one is forgotten


class Lag:
    """Of one reader."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, float]] = []  # (end, first look at which it was there)
        self._waiting = 0

    def look(self, done: int, waiting: int, now_s: float) -> None:
        """So many bytes were taken so far, and so many wait. `done` never goes back."""
        end = done + waiting
        seen: list[tuple[int, float]] = []
        for upto, since_s in self._seen:
            if upto > done and (not seen or seen[-1][0] < end):
                seen.append((min(upto, end), since_s))  # what is beyond the end has gone
        if waiting and (not seen or end > seen[-1][0]):
            # Some of what is new may have waited since the look before.
            seen.append((end, now_s))
        if len(seen) > _LOOKS_MAX:
            del seen[1::2]
        self._seen, self._waiting = seen, waiting

    def behind_s(self, now_s: float) -> float:
        """0.0 where nothing waits."""
        return max(0.0, now_s - self._seen[0][1]) if self._waiting and self._seen else 0.0
