"""An agent's batches on disk: what may be asked of a channel, and what it does."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tiers.core.batch import BatchId, Envelope
from tiers.core.change import Change, ChannelLimits, ChannelStats, Entry, LetterHead
from tiers.core.dedupe import Known
from tiers.core.life import Life
from tiers.core.meters import Metered


class Reading(Protocol):
    """Of what a channel has committed, from any thread. Raises ChannelDamaged, and
    ChannelUnavailable where the disk does not answer."""

    def entries(self, output: str, after: int = 0, limit: int = 1000) -> list[Entry]:
        """The queue of an output by position, from the first greater than `after`."""

    def entry(self, output: str, position: int) -> Entry | None:
        """One of them; None when that output has let go of it, or never had it."""

    def record(self, position: int) -> bytes:
        """Its checksum verified. BatchError when it is damaged, or gone."""

    def stored(self, position: int) -> bytes:
        """The record, whatever its checksum says; empty when it is gone."""

    def envelope(self, position: int) -> Envelope:
        """Types checked, checksum not. BatchError when it is malformed, or gone."""

    def note(self, position: int) -> bytes:
        """What the source kept beside the batch; empty when nothing, or when it is gone."""

    def records(self, prefix: bytes) -> dict[bytes, bytes]:
        """The small values whose keys begin so, by key."""

    def seen(self, ids: Iterable[BatchId]) -> dict[BatchId, Known]:
        """Which of these arrived here once, and what is known of them."""

    def letters(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[LetterHead]:
        """Dead letters without bodies, by position and output: those behind `after`."""


class Channel(Reading, Metered, Protocol):
    """An agent's batches on disk, a queue per output, and what must be true together. But for
    reading it lives on the agent's loop."""

    begun_ms: int  # when it was made
    channel_id: bytes  # 16 random bytes, made with the channel; others after a renewal
    origin: bytes  # 16 random bytes, drawn at this start: batches that begin here have it
    was_cut_off: bool  # the run before this one had no end of its own

    @property
    def life(self) -> Life: ...

    def next_seq(self) -> int:
        """For the next batch that begins here, in the same step of the loop as its `submit`."""

    def last_position(self) -> int:
        """The highest that was given out; 0 in a fresh channel."""

    def submit(self, change: Change) -> "asyncio.Future[tuple[int, ...]]":
        """The future is done when the change is on disk, all of it: the positions of its puts, 0
        for one that had arrived before. Changes are committed in this order. While commits fail it
        waits; it raises ChannelDamaged or ChannelUnavailable when the channel ended before."""

    async def wait_room(self) -> None:
        """Until there is room for puts. Raises as `submit` does."""

    async def wait_end(self) -> None:
        """Never returns; raises once the channel has ended by itself."""

    def free_bytes(self) -> int:
        """What puts may still take; 0 from the high mark until below the low one."""

    def room_of(self, agent: str) -> int:
        """What a first agent's batches may still take of it."""

    def over(self) -> list[str]:
        """First agents without room while others have some, those that hold most first."""

    def overfull(self) -> bool:
        """Whether not even what was promised can be taken now."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Called after every commit, until what is returned is called."""

    def tell_passed_on(self, callback: Callable[[Sequence[BatchId]], None]) -> Callable[[], None]:
        """Called with what had arrived and no output waits for any more, once that is on disk;
        until what is returned is called."""

    def stats(self) -> ChannelStats: ...

    @property
    def directory(self) -> Path:
        """Of its file. What else is put there goes with it, should it be set aside."""

    def origins(self) -> Mapping[bytes, Any]:
        """All of this channel: the last number, and when it was begun and left (ms)."""

    async def work_by(self, limits: ChannelLimits, outputs: Sequence[str]) -> Change:
        """From now on: it has these limits and outputs when this returns. To be submitted in the
        step of the loop from which on puts are for these: that some begin, and others end."""

    def renew(self, why: str) -> None:
        """The next start gives this channel a new id, and flags all that waits."""

    async def close(self, within_s: float | None = None) -> None:
        """Commits all that was submitted; ChannelUnavailable when that did not succeed in time."""
