"""The numbers of a channel, and of the outputs whose queues are in it."""

from collections.abc import Iterator
from typing import Final

from tiers.core.change import ChannelStats
from tiers.core.meters import Histogram, Meter, MeterKind, Sample, seconds

COUNTER, GAUGE, HISTOGRAM = MeterKind.COUNTER, MeterKind.GAUGE, MeterKind.HISTOGRAM

SIZE: Final = Meter("channel_size_bytes", "bytes", GAUGE, "Size of the channel, by the topology")
USED: Final = Meter("channel_used_bytes", "bytes", GAUGE, "Pages in use in the channel's file")
FREE: Final = Meter(
    "channel_free_bytes",
    "bytes",
    GAUGE,
    "What it still takes in: 0 when full, or when the disk is at its floor",
)
DISK_FREE: Final = Meter(
    "channel_disk_free_bytes", "bytes", GAUGE, "Free space on the data directory's disk"
)
BATCHES: Final = Meter("channel_batches", "batches", GAUGE, "Batches in the channel, once each")
DEAD: Final = Meter("channel_dead_batches", "batches", GAUGE, "Batches in the dead letters")
DEAD_BYTES: Final = Meter("channel_dead_bytes", "bytes", GAUGE, "Bytes of the dead letters")
DROPPED: Final = Meter(
    "channel_dropped_batches", "batches", COUNTER, "Dead letters dropped by a person"
)
DROPPED_EVENTS: Final = Meter("channel_dropped_events", "events", COUNTER, "Events of these")
RETRIED: Final = Meter(
    "channel_retried_batches", "batches", COUNTER, "Dead letters queued again by a person"
)
UNROUTED: Final = Meter(
    "channel_unrouted_batches",
    "batches",
    COUNTER,
    "Batches that no output wanted: dead letters of none, or dropped",
)
UNROUTED_EVENTS: Final = Meter("channel_unrouted_events", "events", COUNTER, "Events of these")
PUTS: Final = Meter("channel_put_batches", "batches", COUNTER, "Batches put into the channel")
PUT_BYTES: Final = Meter("channel_put_bytes", "bytes", COUNTER, "Bytes of these, as stored")
COMMITS: Final = Meter(
    "channel_commit_seconds",
    "seconds",
    HISTOGRAM,
    "How long group commits took, the fsync included",
    bounds=seconds(0.001, 30.0),
)
FULL: Final = Meter(
    "channel_full_seconds",
    "seconds",
    GAUGE,
    "Time until the channel is full, as it has been filling in the last minute; "
    "infinite while it is not filling",
)
OUTPUT: Final = ("output",)  # labels of what is told of an output
WAITING_BATCHES: Final = Meter(
    "output_waiting_batches", "batches", GAUGE, "Batches that wait for the output", OUTPUT
)
WAITING_EVENTS: Final = Meter(
    "output_waiting_events", "events", GAUGE, "Events that wait for the output", OUTPUT
)
WAITING_BYTES: Final = Meter(
    "output_waiting_bytes", "bytes", GAUGE, "Bytes that wait for the output, as stored", OUTPUT
)
OLDEST: Final = Meter(
    "output_oldest_seconds",
    "seconds",
    GAUGE,
    "How long the oldest batch that waits for the output has been in this channel; "
    "0 where none waits",
    OUTPUT,
)
EVENTS_OUT: Final = Meter(
    "output_events",
    "events",
    COUNTER,
    "Events sent to peers, those sent again included, or published",
    OUTPUT,
)
BYTES_OUT: Final = Meter(
    "output_bytes", "bytes", COUNTER, "Bytes of these, as sent or as written", OUTPUT
)
NEWEST: Final = Meter(
    "output_newest_timestamp_seconds",
    "seconds",
    GAUGE,
    "Freshness: when the newest batch that a peer has acked, or that was published, "
    "was stored by its first agent; 0 before the first",
    OUTPUT,
)
SKIPPED: Final = Meter(
    "output_skipped_batches",
    "batches",
    COUNTER,
    "Batches that their route did not give to the output",
    OUTPUT,
)
SKIPPED_EVENTS: Final = Meter("output_skipped_events", "events", COUNTER, "Events of these", OUTPUT)
METERS: Final = (
    *(SIZE, USED, FREE, DISK_FREE, BATCHES, DEAD, DEAD_BYTES, PUTS, PUT_BYTES, COMMITS, FULL),
    *(DROPPED, DROPPED_EVENTS, RETRIED, UNROUTED, UNROUTED_EVENTS, SKIPPED, SKIPPED_EVENTS),
    *(WAITING_BATCHES, WAITING_EVENTS, WAITING_BYTES, OLDEST, EVENTS_OUT, BYTES_OUT, NEWEST),
)

# The words for them in the status.
WORDS: Final = {
    **{"size_bytes": SIZE, "used_bytes": USED, "free_bytes": FREE, "disk_free_bytes": DISK_FREE},
    **{"batches": BATCHES, "dead": DEAD, "commits": COMMITS, "puts": PUTS, "put_bytes": PUT_BYTES},
    **{"dropped": DROPPED, "dropped_events": DROPPED_EVENTS, "retried": RETRIED},
    **{"unrouted": UNROUTED, "unrouted_events": UNROUTED_EVENTS},
}
WORDS_OF_OUTPUT: Final = {
    **{"batches": WAITING_BATCHES, "events": WAITING_EVENTS, "bytes": WAITING_BYTES},
    **{"oldest_s": OLDEST, "events_out": EVENTS_OUT, "bytes_out": BYTES_OUT},
    **{"skipped": SKIPPED, "skipped_events": SKIPPED_EVENTS},
}


def samples(stats: ChannelStats, commits: Histogram, now_ms: int) -> Iterator[Sample]:
    """Of a channel; outputs' own counts come from what drains them."""
    yield SIZE.of(stats.size_bytes)
    yield USED.of(stats.used_bytes)
    yield FREE.of(stats.free_bytes)
    yield DISK_FREE.of(stats.disk_free_bytes)
    yield BATCHES.of(stats.batches)
    yield DEAD.of(stats.dead)
    yield DEAD_BYTES.of(stats.dead_bytes)
    yield PUTS.of(stats.puts)
    yield PUT_BYTES.of(stats.put_bytes)
    yield COMMITS.of(commits)
    for output, queue in stats.queues.items():
        yield WAITING_BATCHES.of(queue.batches, output)
        yield WAITING_EVENTS.of(queue.events, output)
        yield WAITING_BYTES.of(queue.size_bytes, output)
        age_ms = 0 if queue.oldest_ms is None else now_ms - queue.oldest_ms
        yield OLDEST.of(max(0.0, age_ms / 1000), output)
