"""What was gone before it was read, for the log: the first at once, then summed a line a minute.
A rotation that outruns the agent for a night loses a generation every few seconds."""

from tiers.core.repeats import TELL_EVERY_S
from tiers.units import show_size


class Losses:
    def __init__(self) -> None:
        self._next_s = 0.0
        self._files = self._size = 0
        self._last = ""

    def note(self, path: str, size: int) -> None:
        """So many bytes of a generation of the log `path`."""
        self._files += 1
        self._size += size
        self._last = path

    def due(self, now: float) -> str:
        """What is to be told now; mostly empty. `now` is monotonic seconds."""
        if not self._files or now < self._next_s:
            return ""
        text = f"{self._last}: {self._size} bytes were gone before they were read"
        if self._files > 1:
            text = (
                f"{show_size(self._size)} of {self._files:,} files were gone before they were "
                f"read, the last of {self._last}"
            )
        self._files = self._size = 0
        self._next_s = now + TELL_EVERY_S
        return text
