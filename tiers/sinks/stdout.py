"""`type = "stdout"`: events as lines on the agent's standard output.

Who reads there slowly, or sleeps, holds the output back, and its queue grows in the channel. Where
nobody reads any more, and where a disk behind it is full, the batch is written again until it is
taken. What a pipe has taken counts as delivered, whether its reader lives to read it or not.
"""

import errno
import threading
from functools import partial
from typing import ClassVar, Final, Literal

from tiers.core.change import Entry
from tiers.errors import StoreUnavailable
from tiers.host.printer import write_some
from tiers.sinks.formats import FORMATS
from tiers.sinks.opening import encoded
from tiers.sinks.plain import PlainSink
from tiers.sinks.sink import SinkOptions

DESCRIPTOR: Final = 1
_ONE_AT_A_TIME = threading.Lock()  # batches of several sinks of an agent are not mixed


class StdoutOptions(SinkOptions):
    """No keys of its own."""

    type: Literal["stdout"] = "stdout"

    def place(self) -> str:
        return ""

    def unproven(self) -> str:
        return "standard output gets each event at least once, and cannot be asked what it got"


class StdoutSink(PlainSink):
    """Writes in a thread: it may take for ever."""

    Options: ClassVar[type[StdoutOptions]] = StdoutOptions

    async def deliver(self, entry: Entry) -> int:
        return await self.outlet.in_thread(partial(self._write, entry.position))

    def _write(self, position: int) -> int:
        lines = b"".join(encoded(self.outlet.record(position), FORMATS["text"]))
        left = memoryview(lines)
        try:
            with _ONE_AT_A_TIME:
                while left:
                    left = left[write_some(DESCRIPTOR, left) :]
        except OSError as error:
            gone = error.errno == errno.EPIPE
            why = "nobody reads it any more" if gone else error.strerror
            raise StoreUnavailable(f"standard output: {why}") from error
        return len(lines)
