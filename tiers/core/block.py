"""What a source hands over: a block of whole events, before it is in any batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tiers.core import events
from tiers.core.batch import TIME_MS_MAX, Buffer, check_headers
from tiers.core.events import EVENTS
from tiers.errors import BatchError

LINES: Final = "lines"  # each event ends with a newline
_NEWLINE: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Block:
    """`count` whole events with the same headers and of the same time, as many as there are.
    An event is at least one byte."""

    data: Buffer
    count: int
    headers: Mapping[str, str] = field(default_factory=dict)
    time_ms: int | None = None  # of the events, ms since the epoch; None: of now
    framing: str = LINES  # or `events`: see events.py
    dead: str = ""  # why it goes to the dead letters, if it does

    def check(self) -> None:
        """Raises BatchError for what no receiver or sink would take; headers apart."""
        if self.framing == EVENTS:
            if (found := events.count(self.data)) != self.count:
                raise BatchError(f"a block says {self.count} events, and has {found}")
        elif self.framing != LINES:
            wanted = f"{LINES!r} or {EVENTS!r}"
            raise BatchError(f"a block has the framing {wanted}, not {self.framing!r}")
        elif len(self.data) and (self.count < 1 or self.data[-1] != _NEWLINE):
            raise BatchError("a block is newline-terminated events, and says how many")
        if self.time_ms is not None and not 0 <= self.time_ms <= TIME_MS_MAX:
            raise BatchError(f"no calendar has the time {self.time_ms} ms after 1970")


NOTHING: Final = Block(b"", 0)  # to store positions alone


class HeaderCheck:
    """Headers mostly come again: those that came last are good ones."""

    def __init__(self) -> None:
        self._last: Mapping[str, str] = {}

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises BatchError for headers that no receiver would take."""
        if headers != self._last:
            check_headers(headers)
            self._last = dict(headers)
