"""An intake that records what a source puts, with a gate to play a full channel."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

from tiers.core.block import Block


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of `put`."""

    block: bytes
    count: int
    headers: Mapping[str, str]
    time_ms: int | None
    positions: Mapping[bytes, bytes | None]


class RecordingIntake:
    """Takes everything until `close_gate`; then `put` waits, as with a full channel."""

    def __init__(
        self,
        positions: Mapping[bytes, bytes] | None = None,
        *,
        block_size_max: int = 1 << 20,
        event_size_max: int = 1 << 20,
        keep: bool = True,
    ) -> None:
        self.block_size_max = block_size_max
        self.event_size_max = event_size_max
        self.retention_s = 7 * 86_400.0
        self.written: Sequence[str] = ()
        self.positions: Mapping[bytes, bytes] = dict(positions or {})
        self.stored: dict[bytes, bytes] = dict(self.positions)  # positions as they are on disk now
        self.puts: list[Recorded] = []
        self.counters: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.remarks: list[str] = []
        self.events = 0
        self.bytes = 0
        self.waiting = 0  # puts that wait at the gate
        self._keep = keep
        self._until_closed = 0
        self._open = asyncio.Event()
        self._open.set()

    def close_gate(self, after_puts: int = 0) -> None:
        """From now on, or once so many more are taken, `put` waits."""
        self._until_closed = after_puts
        if not after_puts:
            self._open.clear()

    def open_gate(self) -> None:
        self._until_closed = 0
        self._open.set()

    async def put(
        self, block: Block, positions: Mapping[bytes, bytes | None] | None = None
    ) -> Awaitable[None]:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1
        if self._until_closed:
            self._until_closed -= 1
            if not self._until_closed:
                self._open.clear()
        block.check()
        data = bytes(block.data)
        self.events += block.count
        self.bytes += len(data)
        if self._keep:
            assert data.count(b"\n") == block.count, "count is not the number of newlines"
            headers, positions = dict(block.headers), dict(positions or {})
            self.puts.append(Recorded(data, block.count, headers, block.time_ms, positions))
        for key, value in (positions or {}).items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def has_room(self) -> bool:
        return self._open.is_set()

    def count(self, counter: str, by: int = 1) -> None:
        self.counters[counter] += by

    def trouble(self, text: str) -> None:
        self.troubles.append(text)

    def remark(self, text: str, at_risk: bool = False) -> None:
        self.remarks.append(text)

    @property
    def data(self) -> bytes:
        """All that was put, in order."""
        return b"".join(put.block for put in self.puts)

    @property
    def lines(self) -> list[bytes]:
        """All events that were put, in order, each with its newline."""
        # Not splitlines: that would cut at a lone \r too.
        return [line + b"\n" for line in self.data.split(b"\n")[:-1]]

    @property
    def last_trouble(self) -> str:
        return self.troubles[-1] if self.troubles else ""
