"""What may be said as often as a stranger likes is told once in a while, with how often it was.

Pure: time is an argument.
"""

from typing import Final

TELL_EVERY_S: Final = 60.0


class Repeats:
    """Of one kind of thing. The first is told at once. `now` is monotonic seconds."""

    def __init__(self, every_s: float = TELL_EVERY_S) -> None:
        self._every_s = every_s
        self._next_s = 0.0
        self._count = 0
        self._last = ""

    def note(self, text: str, count: int = 1) -> None:
        """It was again. Of all that is told together only the last text is shown."""
        self._count += count
        self._last = text

    def due(self, now: float) -> str:
        """What is to be told now; mostly empty."""
        if not self._count or now < self._next_s:
            return ""
        told = self._last if self._count == 1 else f"{self._last} ({self._count:,} times)"
        self._count, self._next_s = 0, now + self._every_s
        return told
