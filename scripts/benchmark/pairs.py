"""What pairs of measurements tell: the ratio of the second to the first, and how sure that is.

On a shared machine both of a pair suffer the same. The mean of the ratios' logarithms is the
geometric mean of the ratios; Student's distribution gives the interval in which the true one lies
in 95 of 100 cases.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

# Of Student's distribution at 97.5 %, by degrees of freedom from 1 on; beyond: the normal one's.
_QUANTILES: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_QUANTILE_BEYOND: Final = 1.96


@dataclass(frozen=True, slots=True)
class Spread:
    """A ratio, and the ends of its interval; those are NaN for a single pair."""

    ratio: float
    low: float
    high: float


@dataclass(slots=True)
class Pairs:
    """Of one figure."""

    unit: str
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def medians(self) -> tuple[float, float]:
        return statistics.median(self.before), statistics.median(self.after)

    def spread(self) -> Spread:
        """Raises ValueError where a measurement is not above zero."""
        return spread([b / a for a, b in zip(self.before, self.after, strict=True)])


def spread(ratios: Sequence[float]) -> Spread:
    """Of at least one ratio, all above zero."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) == 1:
        return Spread(math.exp(mean), math.nan, math.nan)
    freedom = len(logs) - 1
    quantile = _QUANTILES[freedom - 1] if freedom <= len(_QUANTILES) else _QUANTILE_BEYOND
    half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return Spread(math.exp(mean), math.exp(mean - half), math.exp(mean + half))
