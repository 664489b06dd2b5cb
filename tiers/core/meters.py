"""Numbers that an agent tells: each is declared once, as a `Meter`, in the room of its parts.

    SENT = Meter("sender_flagged_batches", "batches", Kind.COUNTER, "Sent to ...", ("output",))

    def meters(self) -> Iterator[Sample]:  # of a part
        yield SENT.of(self.flagged, self.output)

A part counts in plain attributes, as it always did, and is read when somebody asks: counting takes
no lock. `/metrics`, `/status` and whoever reads those know each number by its meter. Labels are
names of the topology file or of this code: never one for each batch, file or stranger.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

PREFIX: Final = "tiers_"
_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0),
)


def seconds(least: float, most: float) -> tuple[float, ...]:
    """Bounds of a histogram of durations, so that those of one agent can be compared."""
    return tuple(bound for bound in _SECONDS if least <= bound <= most)


class MeterKind(StrEnum):
    COUNTER = "counter"  # grows from the agent's start on
    GAUGE = "gauge"  # as it is now
    HISTOGRAM = "histogram"  # how many were how large, from the agent's start on


@dataclass(frozen=True, slots=True, eq=False)
class Meter:
    """`unit` ("" for none) ends the name, as in Prometheus' conventions. A histogram's `bounds`
    are the upper ones of its buckets, ascending, in the unit; the last bucket has no bound."""

    name: str  # without the prefix, and without "_total"
    unit: str
    kind: MeterKind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        assert not self.unit or self.name.endswith(self.unit), f"{self.name}: unit {self.unit}"
        assert not self.name.endswith("_total"), f"{self.name}: `shown` says so of a counter"
        assert (self.kind is MeterKind.HISTOGRAM) == bool(self.bounds), f"{self.name}: its bounds"

    @property
    def family(self) -> str:
        """`tiers_sink_files`."""
        return PREFIX + self.name

    @property
    def shown(self) -> str:
        """The name under which it is told: `tiers_sink_files_total`."""
        return self.family + ("_total" if self.kind is MeterKind.COUNTER else "")

    def of(self, value: "float | Histogram", *labels: str) -> "Sample":
        """What it is now, for these values of its labels."""
        assert len(labels) == len(self.labels), f"{self.name}: {labels}"
        return Sample(self, labels, value)


class Histogram:
    """Counts values by size. Noting one costs a search in a few bounds and three additions."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, meter: Meter) -> None:
        self._bounds = meter.bounds
        self._counts = [0] * (len(meter.bounds) + 1)
        self.sum = 0.0

    def note(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[float, int]]:
        """Upper bounds, and how many values were no larger; the last is infinite."""
        return list(
            zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True),
        )


class Sample(NamedTuple):
    """One number at one moment."""

    meter: Meter
    labels: tuple[str, ...]  # values, in the order of the meter's labels
    value: float | Histogram


class Metered(Protocol):
    """A part that has numbers."""

    def meters(self) -> Iterable[Sample]:
        """All of them, as they are now. Called on the loop: it does not block."""
