"""The numbers of sinks: of any, and of those that publish files."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tiers.channel.meters import BYTES_OUT, EVENTS_OUT, NEWEST, OUTPUT
from tiers.core.counts import LATENCY
from tiers.core.meters import Meter, MeterKind, Sample

if TYPE_CHECKING:
    from tiers.contracts import Outlet
    from tiers.sinks.files.settling import FileCounts

COUNTER, GAUGE = MeterKind.COUNTER, MeterKind.GAUGE

FILES: Final = Meter("sink_files", "files", COUNTER, "Files published", OUTPUT)
BATCHES: Final = Meter("sink_batches", "batches", COUNTER, "Batches delivered", OUTPUT)
FLAGGED: Final = Meter(
    "sink_flagged_events", "events", COUNTER, "Events of flagged batches, published", OUTPUT
)
CLAIMED: Final = Meter(
    "sink_claimed_batches", "batches", COUNTER, "Flagged batches claimed by this sink", OUTPUT
)
PARKED: Final = Meter(
    "sink_parked_batches", "batches", GAUGE, "Flagged batches that another has claimed", OUTPUT
)
PARKED_EVER: Final = Meter(
    "sink_ever_parked_batches", "batches", COUNTER, "Flagged batches ever parked", OUTPUT
)
DROPPED: Final = Meter(
    "sink_dropped_batches",
    "batches",
    COUNTER,
    "Flagged batches let go of, since another sink has published them",
    OUTPUT,
)
FENCED: Final = Meter("sink_fenced_files", "files", COUNTER, "Files of other sinks fenced", OUTPUT)
TAKEN_OVER: Final = Meter(
    "sink_taken_over_batches", "batches", COUNTER, "Claims taken over after their time", OUTPUT
)
VOIDED: Final = Meter(
    "sink_voided_files", "files", COUNTER, "Files of its own that were not to be", OUTPUT
)
BURIED: Final = Meter(
    "sink_dead_batches", "batches", COUNTER, "Batches brought to the dead letters", OUTPUT
)
PLANNED: Final = Meter(
    "sink_planned_files", "files", GAUGE, "Files planned and not published yet", OUTPUT
)
HELD: Final = Meter(
    "sink_held_batches", "batches", GAUGE, "Batches of the queue that it knows of", OUTPUT
)
METERS: Final = (
    *(FILES, BATCHES, FLAGGED, CLAIMED, PARKED, PARKED_EVER, DROPPED, FENCED, TAKEN_OVER),
    *(VOIDED, BURIED, PLANNED, HELD, LATENCY),
)

# The words for them in the status.
WORDS: Final = {
    **{"files": FILES, "batches": BATCHES, "events_out": EVENTS_OUT, "bytes_out": BYTES_OUT},
    **{"flagged": FLAGGED, "claimed": CLAIMED, "parked": PARKED, "parked_ever": PARKED_EVER},
    **{"dropped": DROPPED, "fenced": FENCED, "taken_over": TAKEN_OVER, "voided": VOIDED},
    **{"dead": BURIED, "planned": PLANNED, "refs": HELD},
}


def of_sink(outlet: "Outlet") -> Iterator[Sample]:
    """What any sink has delivered."""
    output, counts = outlet.output, outlet.counts
    yield EVENTS_OUT.of(counts.events_out, output)
    yield BYTES_OUT.of(counts.bytes_out, output)
    yield NEWEST.of(counts.newest_ms / 1000, output)
    yield BATCHES.of(counts.batches, output)
    yield BURIED.of(counts.dead, output)
    yield HELD.of(outlet.held(), output)
    yield LATENCY.of(counts.latency, output)


def of_files(output: str, counts: "FileCounts") -> Iterator[Sample]:
    """What a file sink has done besides."""
    yield FILES.of(counts.files, output)
    yield FLAGGED.of(counts.flagged, output)
    yield CLAIMED.of(counts.claimed, output)
    yield PARKED_EVER.of(counts.parked_ever, output)
    yield DROPPED.of(counts.dropped, output)
    yield FENCED.of(counts.fenced, output)
    yield TAKEN_OVER.of(counts.taken_over, output)
    yield VOIDED.of(counts.voided, output)
