"""Numbers are declared once, counted plainly, and told alike to Prometheus and in the status."""

import json
import math
import re
from collections.abc import Iterable

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from tiers.channel import meters as of_channel
from tiers.core.meters import Histogram, Meter, MeterKind, Sample
from tiers.observe.meters import Meters, Numbers
from tiers.observe.metrics import ALL, json_of, text_of
from tiers.sources import meters as of_sources

HELD = Meter("test_held_bytes", "bytes", MeterKind.GAUGE, "Held", ("part",))
DONE = Meter("test_done_batches", "batches", MeterKind.COUNTER, "Done", ("part",))
TOOK = Meter("test_took_seconds", "seconds", MeterKind.HISTOGRAM, "Took", (), (0.1, 1.0))


class Part:
    """A part with numbers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = 0

    def meters(self) -> Iterable[Sample]:
        yield HELD.of(7.5, self.name)
        yield DONE.of(self.done, self.name)


def a_reading() -> Numbers:
    took = Histogram(TOOK)
    for value in (0.05, 0.1, 0.5, 30.0):
        took.note(value)
    took.note(0.5, times=10)
    samples = [*Part('a "quoted"\nname').meters(), *Part("b").meters(), TOOK.of(took)]
    return Numbers([*samples, of_channel.FULL.of(math.inf)])


def test_a_registry_reads_its_parts_when_it_is_asked() -> None:
    meters, one, other = Meters(), Part("one"), Part("other")
    meters.register(one, other)
    one.done = 3
    assert meters.read().value(DONE, "one") == 3
    other.done = 4
    reading = meters.read()
    assert reading.total(DONE) == 7
    assert reading.value(DONE, "nobody") == reading.total(of_channel.PUTS) == 0
    meters.forget(one)
    assert meters.read().total(DONE) == 4


def test_a_histogram_counts_by_size() -> None:
    took = Histogram(TOOK)
    assert took.buckets() == [(0.1, 0), (1.0, 0), (math.inf, 0)]
    for value in (0.1, 0.100001, 1.0, 1.1, 0.0):
        took.note(value, times=2)
    assert took.buckets() == [(0.1, 4), (1.0, 8), (math.inf, 10)]
    assert took.count == 10
    assert took.sum == pytest.approx(4.600002)


def test_prometheus_own_parser_reads_what_is_told() -> None:
    body, kind = text_of(a_reading(), "text/plain; version=0.0.4")
    assert kind.startswith("text/plain")
    families = {one.name: one for one in text_string_to_metric_families(body.decode())}
    assert [*families] == [
        *("tiers_test_held_bytes", "tiers_test_done_batches", "tiers_test_took_seconds"),
        "tiers_channel_full_seconds",
    ]
    held, done = families["tiers_test_held_bytes"], families["tiers_test_done_batches"]
    assert (held.type, held.documentation, done.type) == ("gauge", "Held", "counter")
    assert {one.labels["part"]: one.value for one in held.samples} == {
        'a "quoted"\nname': 7.5,
        "b": 7.5,
    }
    assert {one.name for one in done.samples} == {"tiers_test_done_batches_total"}
    took = {
        (one.name.removeprefix("tiers_test_took_seconds"), one.labels.get("le")): one.value
        for one in families["tiers_test_took_seconds"].samples
    }
    assert took == {
        ("_bucket", "0.1"): 2,
        ("_bucket", "1.0"): 13,
        ("_bucket", "+Inf"): 14,
        ("_count", None): 14,
        ("_sum", None): pytest.approx(35.65),
    }
    assert families["tiers_channel_full_seconds"].samples[0].value == math.inf


def test_openmetrics_is_told_to_who_accepts_it() -> None:
    body, kind = text_of(a_reading(), "application/openmetrics-text; version=1.0.0,*/*;q=0.1")
    assert kind.startswith("application/openmetrics-text")
    families = openmetrics_parser.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    assert len(list(families)) == 4


def test_the_status_tells_the_same_by_the_same_names() -> None:
    told = json_of(a_reading())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["tiers_test_done_batches_total"][1] == {"labels": {"part": "b"}, "value": 0}
    (took,) = told["tiers_test_took_seconds"]
    assert (took["labels"], took["count"]) == ({}, 14)
    assert told["tiers_channel_full_seconds"] == [{"labels": {}, "value": None}]


def test_names_are_as_prometheus_wants_them() -> None:
    names = [meter.shown for meter in ALL]
    assert len({*names}) == len(names), "each once"
    for meter in ALL:
        assert re.fullmatch(r"tiers_[a-z]+(_[a-z]+)*", meter.shown)
        assert meter.unit in ("", "bytes", "seconds") or meter.kind is not MeterKind.HISTOGRAM
        assert meter.help[-1] not in ".:", meter.name
        assert all(re.fullmatch(r"[a-z]+", label) for label in meter.labels)
        assert list(meter.bounds) == sorted({*meter.bounds})


def test_what_a_source_counts_is_told_by_reason_where_it_is_dropped() -> None:
    counters = {
        **{"dropped_kernel": 3, "dropped_channel_full": 2, "dropped_channel_full_bytes": 100},
        **{"lines_split": 5, "messages_odd_bytes": 7},
    }
    reading = Numbers(of_sources.counted("syslog", counters))
    assert reading.value(of_sources.DROPPED, "syslog", "kernel") == 3
    assert reading.value(of_sources.DROPPED, "syslog", "channel_full") == 2
    assert reading.value(of_sources.DROPPED_BYTES, "syslog", "channel_full") == 100
    assert reading.value(of_sources.COUNTED, "syslog", "lines_split") == 5
    assert reading.value(of_sources.COUNTED, "syslog", "messages_odd_bytes") == 7
