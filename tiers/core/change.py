"""What goes into a channel and what comes out, as data.

A `Change` is atomic: all of it is on disk, or none. Changes are committed in the order in which
they were submitted, several to one fsync.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tiers.core.batch import BatchId, Buffer, Hop
from tiers.core.hop.peers import HandedTo
from tiers.core.withheld import Withheld

NO_OUTPUT: Final = "-"  # of a dead letter that no output wanted; no output has such a name


class Handed(NamedTuple):
    """A batch was stored by a peer, and is kept here until it is published."""

    output: str
    position: int
    to: HandedTo
    flagged: bool


class Bad(NamedTuple):
    """A batch that an output can never deliver."""

    position: int
    reason: str
    whole: bool  # as it was sealed: who has sent it has no better one


@dataclass(frozen=True, slots=True)
class Put:
    """One batch to be stored, once, and queued for each of `outputs`. Where there are none it is
    a dead letter of no output, or is dropped: it was here, and nobody waits for it."""

    id: BatchId
    record: Buffer  # see core/batch.py; kept until committed, not copied before
    count: int  # events, as in the envelope
    outputs: Sequence[str]
    flagged: bool = False
    hops: Sequence[Hop] = ()  # this agent's own hop included, last
    arrived: bool = False  # from a peer: marked seen in the same transaction
    note: bytes = b""  # what a source wants kept beside the batch (its position), for salvage
    # Why it goes to the dead letters of its outputs at once, where they have room, or to those of
    # no output. Without outputs and without a reason it is dropped.
    dead: str = ""
    # The position of the dead letters of `outputs` (or of no output) that it was, and that it is no
    # more. Under an id of its own it is a new batch. Without such letters any more it is left out.
    letter: int = 0
    skipped: Sequence[str] = ()  # outputs to which its route does not give it: for the audit


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch in the queue of one output."""

    position: int  # ever growing within a channel, from 1
    id: BatchId  # under a checksum of its own: true even where the record is damaged
    flagged: bool
    hops: tuple[Hop, ...]
    stored_ms: int  # when this channel took it
    count: int  # events
    size: int  # bytes of the record
    handed_to: HandedTo | None = None
    crc: int | None = None  # of the record

    @property
    def agent(self) -> str:
        """The first agent: who stored the batch before all others."""
        return self.hops[0].agent if self.hops else ""

    @property
    def begun_ms(self) -> int:
        """When that agent had stored it, by its clock."""
        return self.hops[0].stored_ms if self.hops else self.stored_ms


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that must become true together. Applied in the order of the fields."""

    outputs: Sequence[str] = ()  # there is a queue of each from now on
    ends: Sequence[str] = ()  # of them: they are given nothing from this on, until they begin
    begins: Sequence[str] = ()  # of them: what was stored since it ended, if ever, is not for it
    puts: Sequence[Put] = ()
    # Small values by key; None deletes. A positions record of a source, a mark, a plan, ...
    records: Mapping[bytes, bytes | None] = field(default_factory=dict)
    flags: Sequence[tuple[str, int]] = ()  # (output, position): flagged from now on
    handed: Sequence[Handed] = ()
    dead: Sequence[tuple[str, int, str]] = ()  # (output, position, reason): to the dead letters
    # The same for what cannot be read. Where upstream still has it (`ChannelLimits.ask_again`)
    # its id counts as never seen, so that it comes once more.
    damaged: Sequence[tuple[str, int, str]] = ()
    releases: Sequence[tuple[str, int]] = ()  # (output, position): that output lets go
    drops: Sequence[tuple[str, int]] = ()  # (output, position): dead letters, on purpose
    withheld: Sequence[tuple[str, BatchId, Withheld]] = ()  # output, any batch of the block


@dataclass(frozen=True, slots=True)
class LetterHead:
    """A dead letter without its body."""

    position: int
    output: str
    reason: str
    at_ms: int
    id: BatchId
    flagged: bool
    hops: tuple[Hop, ...]
    count: int  # events
    size: int  # bytes of the record
    after: tuple[int, int]  # where the next one begins
    twice_given: bool = False  # another batch has its id: delivered, it needs one of its own


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A batch that an output could not deliver, and why."""

    position: int
    output: str
    reason: str
    at_ms: int
    flagged: bool
    hops: tuple[Hop, ...]
    count: int
    record: bytes  # empty where the body was damaged beyond reading


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What waits in the queue of one output."""

    batches: int
    events: int
    size_bytes: int
    oldest_ms: int | None  # when this channel took the oldest


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """`[channel]` of the topology. The file may outgrow `size_bytes_max` by the headroom that
    deletes need; puts stop at the high mark."""

    size_bytes_max: int = 8 << 30
    high: float = 0.9  # of the size: above it puts stop
    low: float = 0.8  # of the size: below it they go on
    free_floor_bytes: int = 512 << 20  # free space left on the disk for others
    commit_bytes_max: int = 8 << 20  # bodies in one group commit
    dedupe_retention_s: float = 7 * 86400.0  # how long ids are known after they left
    ask_again: bool = False  # upstream keeps what is not published: damaged batches come again


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """A channel at one moment. `used_bytes` are live pages, not the file's length."""

    channel_id: bytes
    size_bytes: int  # the configured limit
    used_bytes: int
    free_bytes: int  # what puts may still take: 0 when full, or when the disk is at its floor
    disk_free_bytes: int
    free_floor_bytes: int  # free space that puts leave on the disk
    batches: int
    dead: int  # dead letters
    dead_bytes: int  # of their records
    dead_bytes_max: int  # the most that they may take
    undeliverable: Mapping[str, int]  # batches that wait, since dead letters of that agent are full
    over: Sequence[str]  # first agents whose batches have no more room while others have some
    queues: Mapping[str, QueueStats]
    puts: int
    put_bytes: int
    at_floor: bool  # `trouble` is that the disk is at its floor
    trouble: str  # empty, or why commits or puts do not go on ("disk full: ...")
    set_aside: str  # empty, or what happened to the channel that was here before
    news: str = ""  # empty, or what happened to its disk lately
