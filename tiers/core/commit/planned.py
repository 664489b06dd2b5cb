"""What a file is to be, before a byte of it is written, and how that rests in the channel:

    msgpack [3, sink, start, day, path, codec, format, events, events flagged,
             [first, length, ...]]

under the key "plan/<output>/<file id, 10 digits>": runs of positions, since a bucket's batches
mostly follow each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgpack

from tiers.core.batch import BatchId
from tiers.core.commit import store_names
from tiers.core.commit.filing import Ref
from tiers.errors import ChannelDamaged

_VERSION: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one file."""

    sink: str
    file_id: int
    day: str
    path: str  # the published file
    codec: str
    refs: Sequence[Ref] = ()  # by position; empty for a plan found after a restart
    positions: Sequence[int] = ()  # of all its batches in the channel's queue
    events: int = 0  # in all its batches
    events_flagged: int = 0  # of these in flagged ones
    # Of flagged batches: the claims' numbers. Not kept: after a restart no claim is mine.
    numbers: Mapping[BatchId, int] = field(default_factory=dict)
    start: str = ""  # of the channel, when this was planned: as names have it
    format: str = "text"

    @property
    def writer(self) -> str:
        return store_names.writer_name(self.sink, self.start)

    @property
    def name(self) -> str:
        return store_names.file_name(self.writer, self.file_id)


def encode_plan(plan: Plan) -> bytes:
    """The bytes of a plan's record."""
    runs: list[int] = []
    for position in plan.positions:
        if runs and position == runs[-2] + runs[-1]:
            runs[-1] += 1
        else:
            runs += (position, 1)
    words = (plan.sink, plan.start, plan.day, plan.path, plan.codec, plan.format)
    packed: bytes = msgpack.packb([_VERSION, *words, plan.events, plan.events_flagged, runs])
    return packed


def decode_plan(file_id: int, data: bytes) -> Plan:
    """A plan that `encode_plan` made, without refs. ChannelDamaged for any other bytes: the
    channel compares its own checksum, so this is no accident that could be worked around."""
    try:
        version, sink, start, day, path, codec, *rest = msgpack.unpackb(data)
        if version != _VERSION:
            raise ValueError(f"version {version!r}; this reads {_VERSION}")
        kind, events, flagged, runs = rest
        pairs = zip(runs[::2], runs[1::2], strict=True)
        positions = [p for first, length in pairs for p in range(first, first + length)]
        words = (str(day), str(path), str(codec))
        numbers = (int(events), int(flagged))
        return Plan(
            str(sink), file_id, *words, (), positions, *numbers, start=str(start), format=str(kind)
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ChannelDamaged(f"the plan of file {file_id} cannot be read: {error}") from error
