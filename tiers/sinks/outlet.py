"""How an agent's outputs drain their queues: sender groups and sinks, of whatever kind.

channel --entries--> take --> whoever delivers --+--> release, bury   (a Change)
           ^          ^                          |
           |          +--------- again <---------+
           +--- passed over: its first agent has its share, or is closed out
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from tiers.contracts import Channel, World
from tiers.contracts.outlet import NOTHING, nobody
from tiers.core.backoff import backoff_s
from tiers.core.change import Bad, Change, Entry
from tiers.core.counts import Counts
from tiers.core.reading import HELD_MAX, Closed, ReadAhead
from tiers.core.troubles import Troubles
from tiers.errors import ChannelUnavailable, StoreRefused, TiersError

# What was stored so lately is in memory still: the kernel keeps what it has written.
WARM_MS: Final = 5_000
_DEAD_TOLD_MAX: Final = 16  # lines for what is buried in one go
_UNKNOWN_SHOWN: Final = 4  # names of framings and codecs
_DELIVERY, _NEWER = "delivery", "newer"  # troubles that are no batch's
T = TypeVar("T")


class ChannelOutlet:
    """`Outlet` (see contracts) of one output of a channel."""

    def __init__(
        self,
        output: str,
        channel: Channel,
        world: World,
        *,
        trouble: Callable[[str], None],
        event: Callable[[str], None],
    ) -> None:
        self.output = output
        self.counts = Counts()
        self.troubles = Troubles(trouble)
        self._event = event  # for what is over as it is said
        self._channel = channel
        self._world = world
        self._workers = world.workers(f"outlet-{output}", 1)
        self._reading = ReadAhead(HELD_MAX)
        self._more = asyncio.Event()
        self._unread = True  # there may be more in the queue than was read
        self._is_behind = True  # what is next was stored long ago
        self._returned: list[Entry] = []  # by `again`
        self._failures = 0  # in a row
        self._pause: asyncio.TimerHandle | None = None  # nothing is given before its end
        self._unknown: Counter[str] = Counter()  # batches, by what this version does not know
        self._unsubscribe: Callable[[], None] | None = None

    # -- from the queue ----------------------------------------------------------------------

    async def take(self, batches_max: int, closed: Closed = nobody) -> Sequence[Entry]:
        """See `Outlet`."""
        if self._unsubscribe is None:
            self._unsubscribe = self._channel.subscribe(self._committed)
        if self._pause is not None:
            return ()
        if self._returned:
            taken, self._returned = self._returned[:batches_max], self._returned[batches_max:]
            return taken
        while batches_max > 0 and not self._reading.is_full():
            after = self._reading.begin(closed)
            looks_back = self._reading.looks_back
            if not looks_back and not self._unread:
                break
            try:
                entries = await self._entries(after, batches_max, looks_back=looks_back)
            except ChannelUnavailable:  # the channel says so itself
                self._wait(self._world.tick_s)
                break
            if picked := self._reading.pick(entries, closed):
                return picked
        return ()

    async def _entries(self, after: int, limit: int, *, looks_back: bool) -> Sequence[Entry]:
        """What was stored long ago may have to come from the disk."""
        read = partial(self._channel.entries, self.output, after, limit)
        if looks_back:
            return await self._workers.run(read)
        self._unread = False  # a commit meanwhile says otherwise
        try:
            entries = await self._workers.run(read) if self._is_behind else read()
        except BaseException:
            self._unread = True
            raise
        self._unread |= len(entries) == limit
        self._is_behind = len(entries) == limit and self.is_cold(entries[-1].stored_ms)
        return entries

    async def more(self) -> None:
        """See `Outlet`."""
        await self._more.wait()
        self._more.clear()

    def wake(self) -> None:
        """See `Outlet`."""
        self._more.set()

    def rests(self) -> bool:
        """See `Outlet`."""
        return not (self._unread or self._reading.passed or self._returned)

    def _committed(self) -> None:
        self._unread = True
        self._more.set()

    def _wait(self, wait_s: float) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(wait_s, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._more.set()

    # -- bodies --------------------------------------------------------------------------------

    def record(self, position: int) -> bytes:
        """See `Outlet`."""
        return self._channel.record(position)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """See `Outlet`."""
        return await self._workers.run(call)

    def is_cold(self, stored_ms: int) -> bool:
        """See `Outlet`."""
        return self._world.now_ms() - stored_ms > WARM_MS

    # -- back to the queue ---------------------------------------------------------------------

    def release(
        self, positions: Collection[int], also: Change = NOTHING
    ) -> "asyncio.Future[tuple[int, ...]]":
        """See `Outlet`."""
        if positions and self._failures:
            self._failures = 0
            self.troubles.say(_DELIVERY, "")
        releases = [(self.output, position) for position in positions]
        return self._let_go(positions, replace(also, releases=releases))

    def bury(
        self, bad: Collection[Bad], also: Change = NOTHING
    ) -> "asyncio.Future[tuple[int, ...]]":
        """See `Outlet`."""
        self.counts.dead += len(bad)
        for one in list(bad)[:_DEAD_TOLD_MAX]:
            self._event(f"batch at {one.position} goes to the dead letters: {one.reason}")
        if len(bad) > _DEAD_TOLD_MAX:
            self._event(f"{len(bad) - _DEAD_TOLD_MAX} more batches go to the dead letters")
        dead, damaged = (
            [(self.output, one.position, one.reason) for one in bad if one.whole is whole]
            for whole in (True, False)
        )
        positions = [one.position for one in bad]
        return self._let_go(positions, replace(also, dead=dead, damaged=damaged))

    def _let_go(
        self, positions: Collection[int], change: Change
    ) -> "asyncio.Future[tuple[int, ...]]":
        self._reading.let_go(positions)
        if not self.rests():  # there is room again
            self._more.set()
        return self._channel.submit(change)

    def again(self, entries: Sequence[Entry], error: TiersError) -> None:
        """See `Outlet`."""
        self.troubles.say(_DELIVERY, str(error))
        both = (*entries, *self._returned)
        self._returned = sorted(both, key=lambda entry: entry.position)
        self._failures += 1
        refused = isinstance(error, StoreRefused)
        self._wait(backoff_s(self._failures, refused, self._world.random.random()))

    def keep(self, whys: Sequence[str]) -> None:
        """See `Outlet`."""
        self._unknown.update(whys)
        count = self._unknown.total()
        unknown = ", ".join(what for what, _ in self._unknown.most_common(_UNKNOWN_SHOWN))
        text = f"{count:,} batches wait, sealed by a newer version ({unknown}): upgrade this agent"
        self.troubles.say(_NEWER, text)

    def close(self) -> None:
        """See `Outlet`."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._pause is not None:
            self._pause.cancel()
        self._workers.close(0.0)

    # -- what others ask -----------------------------------------------------------------------

    def held(self) -> int:
        """See `Outlet`."""
        return self._reading.held()

    def is_full(self) -> bool:
        """See `Outlet`."""
        return self._reading.is_full()

    def passed(self) -> Sequence[str]:
        """See `Outlet`."""
        return list(self._reading.passed)
