"""What sinks that make no files have in common: they deliver one batch after the other, in the
order of the queue, each at least once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from tiers.contracts import SinkContext
from tiers.core.change import Bad, Entry
from tiers.core.meters import Sample
from tiers.core.progress import Work
from tiers.errors import BatchError, ChannelUnavailable, StoreRefused, StoreUnavailable
from tiers.sinks import meters
from tiers.sinks.opening import Newer
from tiers.sinks.overdue import Overdue
from tiers.sinks.sink import SinkOptions

TAKEN_MAX: Final = 64  # batches in one go: so many, at most, wait for the disk to let go of them
_DUE_S: Final = 1.0  # a batch that is here for longer is overdue


class PlainSink:
    """See `Sink`. Whoever derives from it says how a batch is delivered."""

    Options: ClassVar[type[SinkOptions]] = SinkOptions

    def __init__(self, options: Any, context: SinkContext) -> None:
        self.options = options
        self.outlet = context.outlet
        self._world = context.world
        self._overdue = Overdue(context.channel, context.outlet.output, context.world.now_ms)

    async def deliver(self, entry: Entry) -> int:
        """Returning means that the batch is safe where it belongs: how many bytes that took. Called
        again after StoreUnavailable, StoreRefused and ChannelUnavailable, and after a restart.
        BatchError: it can never be delivered. Newer: not by this version."""
        raise NotImplementedError

    async def run(self) -> None:
        try:
            while True:
                if entries := await self.outlet.take(TAKEN_MAX):
                    await self._deliver(entries)
                else:
                    await self.outlet.more()
        finally:
            self.outlet.close()

    async def _deliver(self, entries: Sequence[Entry]) -> None:
        counts = self.outlet.counts
        for at, entry in enumerate(entries):
            try:
                size_bytes = await self.deliver(entry)
            except BatchError as error:
                settled = self.outlet.bury([self._bad(entry, error)])
            except Newer as error:
                self.outlet.keep([str(error)])
                continue
            except (StoreUnavailable, StoreRefused, ChannelUnavailable) as error:
                self.outlet.again(entries[at:], error)
                return
            else:
                settled = self.outlet.release([entry.position])
                counts.delivered(entry.count, size_bytes)
                counts.aged(entry.count, entry.begun_ms, self._world.now_ms())
            if entry is entries[-1]:
                await settled

    def _bad(self, entry: Entry, error: BatchError) -> Bad:
        """Who sent it has a better one, where it is not whole here."""
        try:
            self.outlet.record(entry.position)
        except BatchError:
            return Bad(entry.position, str(error), whole=False)
        return Bad(entry.position, str(error), whole=True)

    def drain(self) -> None:
        """Nothing waits for more as it is."""

    def store_id(self) -> str:
        return ""

    def work(self) -> Mapping[str, Work]:
        return self._overdue.work(_DUE_S)

    def meters(self) -> Iterable[Sample]:
        return meters.of_sink(self.outlet)

    def status(self) -> dict[str, object]:
        return {}
