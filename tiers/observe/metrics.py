"""An agent's numbers as Prometheus reads them, and as JSON, by the same names."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from tiers.channel.meters import METERS as CHANNEL
from tiers.core.meters import Histogram, Meter, MeterKind
from tiers.observe.meters import Numbers
from tiers.observe.process import METERS as PROCESS
from tiers.sinks.meters import METERS as SINKS
from tiers.sources.meters import METERS as SOURCES
from tiers.transport.meters import METERS as TRANSPORT

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

ALL: Final = (*PROCESS, *SOURCES, *TRANSPORT, *CHANNEL, *SINKS)


def text_of(reading: Numbers, accept: str) -> tuple[bytes, str]:
    """What `/metrics` answers to who accepts that, and its content type. May take long where there
    are a thousand peers: not for the loop."""
    # Nobody who is not asked pays for it: 10 ms and 1 MB.
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(accept)
    told: Any = SimpleNamespace(collect=lambda: _families(reading))
    return encode(told), content_type


def _families(reading: Numbers) -> "Iterator[Metric]":
    from prometheus_client import core

    made = {
        MeterKind.COUNTER: core.CounterMetricFamily,
        MeterKind.GAUGE: core.GaugeMetricFamily,
        MeterKind.HISTOGRAM: core.HistogramMetricFamily,
    }
    for meter, samples in reading.families():
        family = made[meter.kind](meter.family, meter.help, labels=meter.labels)
        for labels, value in samples.items():
            if isinstance(value, Histogram):
                buckets = [(_bound(bound), count) for bound, count in value.buckets()]
                family.add_metric(labels, buckets, value.sum)
            else:
                family.add_metric(labels, value)
        yield family


def _bound(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound)


def json_of(reading: Numbers) -> dict[str, list[dict[str, object]]]:
    """The samples of each meter, by the name that `/metrics` has for it. A number that is infinite
    is null; a histogram tells how many values there were, and their sum."""
    return {
        meter.shown: [
            {"labels": dict(zip(meter.labels, labels, strict=True)), **_json(value)}
            for labels, value in samples.items()
        ]
        for meter, samples in reading.families()
    }


def _json(value: float | Histogram) -> dict[str, object]:
    if isinstance(value, Histogram):
        return {"count": value.count, "sum": value.sum}
    return {"value": None if math.isinf(value) else value}


def table() -> str:
    """All meters, as the README shows them."""
    rows = ["| number | kind | labels | what it is |", "|---|---|---|---|"]
    rows += [f"| `{one.shown}` | {one.kind} | {_labels(one)} | {one.help} |" for one in ALL]
    return "\n".join(rows)


def _labels(meter: Meter) -> str:
    return ", ".join(f"`{label}`" for label in meter.labels) or "-"
