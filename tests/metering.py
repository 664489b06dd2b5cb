"""What parts and agents tell of their numbers."""

from typing import Any

from tiers.core.meters import Meter, Metered
from tiers.observe.meters import Numbers


def number(part: Metered, meter: Meter, *labels: str) -> float:
    """What a part tells."""
    return Numbers(part.meters()).value(meter, *labels)


def told(status: dict[str, Any] | None, meter: Meter, **labels: str) -> float:
    """What an agent told in its status: the sum of all samples with these labels."""
    samples = status["meters"].get(meter.shown, ()) if status else ()
    return float(sum(one["value"] for one in samples if labels.items() <= one["labels"].items()))
