"""What went wrong with whom: counted, kept by peer for status, and told in the log.

The log gets the first of its kind at once; those that follow are summed for a while.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tiers.contracts import Intake
from tiers.core.printable import printable
from tiers.units import show_size

log = logging.getLogger("tiers.syslog")
_ROWS_MAX: Final = 100  # kept in memory; who was noted longest ago is forgotten
_SUM_S: Final = 10.0  # what follows one line in the log is summed for so long

_WORDS: Final = {
    "dropped_channel_full": "dropped, the channel was full",
    "dropped_kernel": "dropped by the kernel, its receive buffer was full",
    "messages_odd": "put, though its count was wrong or it was cut off",
    "connections_foreign": "refused, it sent no syslog text",
    "datagrams_foreign": "dropped, no syslog text",
    "connections_evicted": "idle for longest, closed for a new connection",
    "connections_idle": "closed, idle for too long",
    "connections_over_memory": "closed, it held most of the unfinished messages",
}


@dataclass(slots=True)
class _Row:
    times: int = 0
    size: int = 0
    last_ms: int = 0


class Notes:
    """Of one source. `what` is the name of its counter; messages are counted in it and bytes in
    `what_bytes`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._intake: Intake | None = None
        self._rows: OrderedDict[tuple[str, str], _Row] = OrderedDict()
        self._unsaid: dict[tuple[str, str], _Row] = {}
        self._summing: asyncio.TimerHandle | None = None

    def begin(self, intake: Intake) -> None:
        self._intake = intake

    def end(self) -> None:
        if self._summing is not None:
            self._summing.cancel()
            self._sum()
        self._intake = None

    def note(self, what: str, host: str, times: int = 1, size: int = 0) -> None:
        """`times` messages (or connections) of `size` bytes together; "" for an unknown host."""
        if self._intake is not None:
            self._intake.count(what, times)
            if size:
                self._intake.count(f"{what}_bytes", size)
        key = what, printable(host)
        row = self._rows.setdefault(key, _Row())
        self._rows.move_to_end(key)
        if len(self._rows) > _ROWS_MAX:
            self._rows.popitem(last=False)
        row.last_ms = time.time_ns() // 1_000_000
        unsaid = self._unsaid.setdefault(
            key if len(self._unsaid) < _ROWS_MAX else (what, ""), _Row()
        )
        for one in (row, unsaid):
            one.times += times
            one.size += size
        if self._summing is None:
            self._say()
            self._summing = asyncio.get_running_loop().call_later(_SUM_S, self._sum)

    def rows(self) -> list[dict[str, object]]:
        """The last first."""
        return [
            {"what": what, "peer": peer, "times": row.times, "bytes": row.size}
            | {"last_ms": row.last_ms}
            for (what, peer), row in reversed(self._rows.items())
        ]

    def _sum(self) -> None:
        self._summing = None
        self._say()

    def _say(self) -> None:
        for (what, peer), row in self._unsaid.items():
            size = f" ({show_size(row.size)})" if row.size else ""
            place = f" of {peer}" if peer else ""
            log.warning("%s: %d%s%s: %s", self._source, row.times, place, size, _WORDS[what])
        self._unsaid.clear()
