"""How anything drains the queue of an output."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from tiers.core.change import Bad, Change, Entry
from tiers.core.counts import Counts
from tiers.core.reading import Closed
from tiers.core.troubles import Troubles
from tiers.errors import TiersError

NOTHING = Change()
T = TypeVar("T")


def nobody(_agent: str) -> bool:
    """No first agent is closed out."""
    return False


class Outlet(Protocol):
    """One output's queue, read a little ahead. Made by the agent, one for each output, and drained
    by one task. What was taken comes again after `again` and after a restart, and never after
    `release` and `bury`: each is one Change, done once what it returns is done, and not taken back
    by cancelling that. How much is taken at a time is bounded, and shared among first agents."""

    output: str
    counts: Counts  # of what was delivered: kept by who drains it
    troubles: Troubles  # what is wrong, until it is over

    async def take(self, batches_max: int, closed: Closed = nobody) -> Sequence[Entry]:
        """The next of the queue, in its order; of one first agent that has its share, or that is
        `closed`, none for the time being. Nothing where no more may be taken now: see `more`.
        Raises ChannelDamaged. While the channel cannot be read it gives nothing."""

    async def more(self) -> None:
        """Until `take` may give something, or `wake`."""

    def wake(self) -> None:
        """Ends `more`: who drains has something else to do, or lets in whom it had closed out."""

    def rests(self) -> bool:
        """Whether there is nothing to take before the next commit."""

    def record(self, position: int) -> bytes:
        """From any thread, since it waits for the disk. BatchError where it is damaged, or gone;
        ChannelUnavailable."""

    async def in_thread(self, call: Callable[[], T]) -> T:
        """What `call()` returns or raises: it may block, for `record`. One at a time."""

    def is_cold(self, stored_ms: int) -> bool:
        """Whether what was stored then may have to come from the disk, so that a thread should
        read it."""

    def release(
        self, positions: Collection[int], also: Change = NOTHING
    ) -> "asyncio.Future[tuple[int, ...]]":
        """These are delivered: the queue lets go of them. `also` becomes true with it."""

    def bury(
        self, bad: Collection[Bad], also: Change = NOTHING
    ) -> "asyncio.Future[tuple[int, ...]]":
        """These can never be delivered: to the dead letters. `also` becomes true with it."""

    def again(self, entries: Sequence[Entry], error: TiersError) -> None:
        """What was to be delivered could not be: these come before all others, after a while that
        grows with each failure in a row. `error` is told until the next `release`; where it is
        StoreRefused a person has to act, and the while is longer."""

    def keep(self, whys: Sequence[str]) -> None:
        """So many batches were sealed by a newer version, with what this one does not know: they
        wait in the queue for an agent that was upgraded. They count as what is held: whoever sends
        many of them takes no other agent's room."""

    def close(self) -> None:
        """Nothing more is taken."""

    def held(self) -> int:
        """Batches taken that the queue has not let go of."""

    def is_full(self) -> bool:
        """Whether no more may be held."""

    def passed(self) -> Sequence[str]:
        """First agents that have their share: more of theirs waits."""
