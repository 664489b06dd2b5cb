"""When a batch is cut: the open batch of one source, and the rules that close it.

A batch is cut at its raw size, at a change of headers, framing or time bucket, or when the flow
pauses: the first event after a pause goes at once; later ones gather while the channel is busy
or the linger runs. While two are on their way to the disk the next one grows beyond its size, to
`batch.size_max` at most. So it is quick when quiet and large when busy.

Pure: `now` is monotonic seconds, an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tiers.core.batch import Buffer

_AT_ONCE: Final = 2  # cuts under way: with so many, the next one grows


@dataclass(slots=True)
class Cut:
    """What becomes one batch. Positions are of the end of its blocks."""

    headers: Mapping[str, str]
    bucket_ms: int  # start of the time bucket, ms since the epoch
    blocks: list[Buffer] = field(default_factory=list)
    count: int = 0
    size: int = 0
    positions: dict[bytes, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CuttingRules:
    """From `[batch]` of the topology."""

    size_bytes: int = 1 << 20
    grown_bytes_max: int = 4 << 20
    linger_s: float = 0.02
    time_bucket_s: float = 3600.0

    def bucket(self, time_ms: int) -> int:
        """The start of the time bucket of a moment, aligned to UTC."""
        length = int(self.time_bucket_s * 1000)
        return time_ms - time_ms % length


class Cutter:
    """Gathers the blocks of one source, in order. `under_way` is how many of its cuts are not on
    disk yet."""

    def __init__(self, rules: CuttingRules) -> None:
        self.rules = rules
        self._open: Cut | None = None
        self._cut_s = float("-inf")  # when the last batch was cut

    def add(
        self,
        block: Buffer,
        count: int,
        headers: Mapping[str, str],
        time_ms: int,
        positions: Mapping[bytes, bytes | None],
        now: float,
        *,
        under_way: int,
    ) -> list[Cut]:
        """Take a block. What it returns is cut, in order."""
        cuts = []
        size_max = self._size_max(under_way)
        bucket = self.rules.bucket(time_ms)
        held = self._open
        if held is not None and len(block):
            other = held.headers != headers or held.bucket_ms != bucket
            if held.size and (other or held.size + len(block) > size_max):
                cuts.append(self._take(now))
                held = None
            elif other:  # positions alone, so far
                held.headers, held.bucket_ms = headers, bucket
        if held is None:
            held = self._open = Cut(headers, bucket)
        if len(block):
            held.blocks.append(block)
            held.count += count
            held.size += len(block)
        held.positions.update(positions)
        if held.size >= size_max:
            cuts.append(self._take(now))
        return cuts

    def is_open(self) -> bool:
        """Whether a batch is being gathered."""
        return self._open is not None

    def due_s(self) -> float | None:
        """When the open batch is due if the channel is idle then; None without one."""
        return None if self._open is None else self._linger_ends_s()

    def due(self, now: float, *, under_way: int) -> Cut | None:
        """The open batch if it is time: it is large enough, or nothing is under way and the linger
        is over."""
        if self._open is None:
            return None
        full = self._open.size >= self._size_max(under_way)
        lingered = now >= self._linger_ends_s()
        return self._take(now) if full or (lingered and not under_way) else None

    def flush(self, now: float) -> Cut | None:
        """The open batch, due or not: the source has ended."""
        return None if self._open is None else self._take(now)

    def _linger_ends_s(self) -> float:
        return self._cut_s + self.rules.linger_s

    def _size_max(self, under_way: int) -> int:
        grows = under_way >= _AT_ONCE
        return self.rules.grown_bytes_max if grows else self.rules.size_bytes

    def _take(self, now: float) -> Cut:
        assert self._open is not None
        cut, self._open = self._open, None
        self._cut_s = now
        return cut
