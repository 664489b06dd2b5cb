"""Whether the oldest batch of a sink stays too long, and whether its file moves on meanwhile."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from tiers.contracts import Channel
from tiers.core.batch import Buffer
from tiers.core.progress import Work
from tiers.errors import ChannelUnavailable
from tiers.units import show_duration


class Overdue:
    """The oldest batch of all: that it stays means that it is stuck, whatever becomes of others.
    `counted` is called in the threads of the store."""

    def __init__(self, channel: Channel, output: str, now_ms: Callable[[], int]) -> None:
        self._channel = channel
        self._output = output
        self._now_ms = now_ms
        self._chunks: dict[int, int] = {}  # written of each file, by its first batch's position

    def counted(self, chunks: Iterable[Buffer], position: int) -> Iterator[Buffer]:
        """The chunks of the file whose first batch has that position."""
        try:
            for number, chunk in enumerate(chunks):
                self._chunks[position] = number
                yield chunk
        finally:
            self._chunks.pop(position, None)

    def work(self, due_s: float) -> Mapping[str, Work]:
        """A batch is to be published once it has been here for `due_s`."""
        try:
            oldest = next(iter(self._channel.entries(self._output, 0, 1)), None)
        except ChannelUnavailable:
            return {}  # the channel says so itself
        if oldest is None:
            return {}
        age_s = (self._now_ms() - oldest.stored_ms) / 1000
        if age_s <= due_s:
            return {}
        done = oldest.position, self._chunks.get(oldest.position, 0)
        return {"": Work(f"the oldest batch came {show_duration(age_s)} ago", done)}
