"""Files and directories that cannot be read now."""

import contextlib
from collections.abc import Iterator


class Problems:
    """One that cannot be read holds back no other. It is tried again at each look."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def clear(self) -> None:
        self._lines.clear()

    def note(self, path: str, error: OSError) -> None:
        self._lines[path] = f"cannot read {path}: {error.strerror or error}"

    @contextlib.contextmanager
    def of(self, path: str) -> Iterator[None]:
        """Notes what goes wrong with this one, and goes on."""
        try:
            yield
        except FileNotFoundError:
            pass  # it just went; the next look will tell
        except OSError as error:
            self.note(path, error)

    def line(self) -> str:
        """One line about all that cannot be read now; empty when there is none."""
        if not self._lines:
            return ""
        first, more = next(iter(self._lines.values())), len(self._lines) - 1
        return f"{first} (and {more} more)" if more else first
