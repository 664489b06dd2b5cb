"""How much routes have kept from outputs, as numbers: of what is on disk."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tiers.channel import meters
from tiers.core.change import Put
from tiers.core.meters import Sample


class RouteCounts:
    """Since the start, of one channel."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self._outputs = tuple(outputs)
        self._batches: Counter[str] = Counter()  # by output
        self._events: Counter[str] = Counter()
        self._unrouted_batches = 0
        self._unrouted_events = 0

    def take(self, puts: Sequence[Put], positions: Iterable[int]) -> None:
        """These are on disk; 0 in place of a position: it was here before."""
        for put, position in zip(puts, positions, strict=True):
            if put.skipped and position:
                self._batches.update(put.skipped)
                self._events.update(dict.fromkeys(put.skipped, put.count))
                if not put.outputs:
                    self._unrouted_batches += 1
                    self._unrouted_events += put.count

    def samples(self) -> Iterator[Sample]:
        yield meters.UNROUTED.of(self._unrouted_batches)
        yield meters.UNROUTED_EVENTS.of(self._unrouted_events)
        for output in self._outputs:
            yield meters.SKIPPED.of(self._batches[output], output)
            yield meters.SKIPPED_EVENTS.of(self._events[output], output)
