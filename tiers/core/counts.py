"""What an output has delivered since its agent was started."""

from dataclasses import dataclass, field
from typing import Final

from tiers.core.meters import Histogram, Meter, MeterKind, seconds

LATENCY: Final = Meter(
    "sink_latency_seconds",
    "seconds",
    MeterKind.HISTOGRAM,
    "End to end, of each event: from when its first agent had stored it until it was published",
    ("output",),
    seconds(0.01, 86_400.0),
)


@dataclass(slots=True)
class Counts:
    """Kept by who drains the queue."""

    batches: int = 0
    events_out: int = 0
    bytes_out: int = 0
    dead: int = 0  # batches
    newest_ms: int = 0  # when the newest batch delivered was stored by its first agent
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY))

    def delivered(self, events: int, size_bytes: int, batches: int = 1) -> None:
        """So much is out."""
        self.batches += batches
        self.events_out += events
        self.bytes_out += size_bytes

    def aged(self, events: int, begun_ms: int, now_ms: int) -> None:
        """How old the events of a batch were by then: its first agent had stored them at
        `begun_ms`."""
        self.newest_ms = max(self.newest_ms, begun_ms)
        self.latency.note(max(0.0, (now_ms - begun_ms) / 1000), events)
