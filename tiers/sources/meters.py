"""The numbers of sources."""

from collections.abc import Iterator, Mapping
from typing import Final

from tiers.core.meters import Meter, MeterKind, Sample

COUNTER, GAUGE = MeterKind.COUNTER, MeterKind.GAUGE
_SOURCE: Final = ("source",)

EVENTS: Final = Meter("source_events", "events", COUNTER, "Events taken in, on disk", _SOURCE)
BYTES: Final = Meter("source_bytes", "bytes", COUNTER, "Bytes of these, raw", _SOURCE)
UNREAD: Final = Meter(
    "source_unread_bytes",
    "bytes",
    GAUGE,
    "What could be taken in now and is not yet, of a source that can see it (`tail`)",
    _SOURCE,
)
BEHIND: Final = Meter(
    "source_behind_seconds",
    "seconds",
    GAUGE,
    "How long what it takes in next has been waiting, since this agent has seen it (`tail`)",
    _SOURCE,
)
RESTARTS: Final = Meter(
    "source_restarts", "restarts", COUNTER, "Times it failed and was started again", _SOURCE
)
COUNTED: Final = Meter(
    "source_counted", "", COUNTER, "What else it counts: see the sources", ("source", "counter")
)
DROPPED: Final = Meter(
    "source_dropped_events",
    "events",
    COUNTER,
    "Events that it had to drop, by the reason: see the sources",
    ("source", "reason"),
)
DROPPED_BYTES: Final = Meter(
    "source_dropped_bytes", "bytes", COUNTER, "Bytes of these, where known", ("source", "reason")
)
METERS: Final = (EVENTS, BYTES, UNREAD, BEHIND, RESTARTS, COUNTED, DROPPED, DROPPED_BYTES)
# The words for them in the status, among what a source says itself.
WORDS: Final = {"unread_bytes": UNREAD}

_DROPPED: Final = "dropped_"
_BYTES: Final = "_bytes"


def counted(source: str, counters: Mapping[str, int]) -> Iterator[Sample]:
    """What a source has counted. By the contract of `Intake.count` a counter `dropped_REASON` is
    of events that are dropped, and `..._bytes` is of their bytes."""
    for counter, value in counters.items():
        if not counter.startswith(_DROPPED):
            yield COUNTED.of(value, source, counter)
            continue
        reason = counter.removeprefix(_DROPPED)
        if reason.endswith(_BYTES):
            yield DROPPED_BYTES.of(value, source, reason.removesuffix(_BYTES))
        else:
            yield DROPPED.of(value, source, reason)
