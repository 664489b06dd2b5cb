"""When batches are cut: the open batches of one source, and the rules that close them.

A batch holds events of one key: equal headers, one time bucket, one framing. There is an open batch
for each key, and all of a source's are cut together: a *cut set* goes to the disk whole, with one
set of positions. So the events that are on disk are exactly those of the blocks whose positions
are, and a source whose headers differ from event to event does not make a batch of each.

A set is cut when one of its batches has its size, when all together have theirs, or when the flow
pauses: the first event after a pause goes at once; later ones gather while the channel is busy or
the linger runs. While two are on their way to the disk the next one's batches grow beyond their
size, to `batch.size_max` at most. So it is quick when quiet and large when busy. The more small
batches there were in a set, the longer the next one gathers.

Pure: `now` is monotonic seconds, an argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tiers.core.batch import Buffer
from tiers.core.block import Block

_AT_ONCE: Final = 2  # sets under way: with so many, the next one's batches grow
_SMALL_BYTES: Final = 64 << 10  # batches that average less are made seldom
_LINGER_S_EACH: Final = 0.002  # for each of these in the set before
_LINGER_S_MAX: Final = 1.0
_Key = tuple[frozenset[tuple[str, str]], int, str, str]


@dataclass(slots=True)
class Cut:
    """What becomes one batch."""

    headers: Mapping[str, str]
    bucket_ms: int  # start of the time bucket, ms since the epoch
    blocks: list[Buffer] = field(default_factory=list)
    count: int = 0
    size: int = 0
    framing: str = "lines"
    dead: str = ""  # why it goes to the dead letters, if it does


@dataclass(slots=True)
class CutSet:
    """What goes to the disk whole. Positions are of the end of all its blocks."""

    cuts: list[Cut] = field(default_factory=list)
    size: int = 0
    positions: dict[bytes, bytes | None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(cut.count for cut in self.cuts)


@dataclass(frozen=True, slots=True)
class CuttingRules:
    """From `[batch]` of the topology."""

    size_bytes: int = 1 << 20
    grown_bytes_max: int = 4 << 20
    set_bytes_max: int = 8 << 20
    open_max: int = 4096
    linger_s: float = 0.02
    time_bucket_s: float = 3600.0

    def bucket(self, time_ms: int) -> int:
        """The start of the time bucket of a moment, aligned to UTC."""
        length = int(self.time_bucket_s * 1000)
        return time_ms - time_ms % length


class Cutter:
    """Gathers the blocks of one source, in order. `under_way` is how many of its sets are not on
    disk yet."""

    def __init__(self, rules: CuttingRules) -> None:
        self.rules = rules
        self._open: CutSet | None = None
        self._by_key: dict[_Key, Cut] = {}
        self._largest = 0  # bytes of the largest batch of the open set
        self._headers: Mapping[str, str] = {}  # those of the last block
        self._items: frozenset[tuple[str, str]] = frozenset()
        self._cut_s = float("-inf")  # when the last set was cut
        self._linger_s = rules.linger_s

    def add(
        self,
        blocks: Sequence[Block],
        positions: Mapping[bytes, bytes | None],
        now: float,
        *,
        under_way: int,
    ) -> list[CutSet]:
        """Take what was put at once: all of it goes into one set, whatever its size. Each block has
        its time. What it returns is cut, in order."""
        sets = []
        size_max = self._size_max(under_way)
        keyed = [(self._key(block), block) for block in blocks if len(block.data)]
        if self._open is not None and not self._fit(keyed, size_max):
            sets.append(self._take(now))
        if self._open is None:
            self._open = CutSet()
        for key, block in keyed:
            self._add(self._open, key, block)
        self._open.positions.update(positions)
        if self._is_full(size_max):
            sets.append(self._take(now))
        return sets

    def _add(self, to: CutSet, key: _Key, block: Block) -> None:
        cut = self._by_key.get(key)
        if cut is None:
            cut = Cut(block.headers, key[1], framing=block.framing, dead=block.dead)
            self._by_key[key] = cut
            to.cuts.append(cut)
        cut.blocks.append(block.data)
        cut.count += block.count
        cut.size += len(block.data)
        to.size += len(block.data)
        self._largest = max(self._largest, cut.size)

    def is_open(self) -> bool:
        """Whether a set is being gathered."""
        return self._open is not None

    def due_s(self) -> float | None:
        """When the open set is due if the channel is idle then; None without one."""
        return None if self._open is None else self._linger_ends_s()

    def due(self, now: float, *, under_way: int) -> CutSet | None:
        """The open set if it is time: it is large enough, or nothing is under way and the linger
        is over."""
        if self._open is None:
            return None
        full = self._is_full(self._size_max(under_way))
        lingered = now >= self._linger_ends_s()
        return self._take(now) if full or (lingered and not under_way) else None

    def flush(self, now: float) -> CutSet | None:
        """The open set, due or not: the source has ended."""
        return None if self._open is None else self._take(now)

    def _key(self, block: Block) -> _Key:
        if block.headers is not self._headers:
            self._headers, self._items = block.headers, frozenset(block.headers.items())
        assert block.time_ms is not None
        return self._items, self.rules.bucket(block.time_ms), block.framing, block.dead

    def _fit(self, keyed: Sequence[tuple[_Key, Block]], size_max: int) -> bool:
        assert self._open is not None
        if not self._open.size or not keyed:
            return True
        sizes: dict[_Key, int] = {}
        for key, block in keyed:
            there = self._by_key.get(key)
            before = sizes.get(key, there.size if there is not None else 0)
            sizes[key] = before + len(block.data)
        open_batches = len(self._by_key) + sum(key not in self._by_key for key in sizes)
        size = self._open.size + sum(len(block.data) for _, block in keyed)
        return (
            open_batches <= self.rules.open_max
            and max(sizes.values()) <= size_max
            and size <= self.rules.set_bytes_max
        )

    def _is_full(self, size_max: int) -> bool:
        assert self._open is not None
        return self._largest >= size_max or self._open.size >= self.rules.set_bytes_max

    def _linger_ends_s(self) -> float:
        return self._cut_s + self._linger_s

    def _size_max(self, under_way: int) -> int:
        grows = under_way >= _AT_ONCE
        return self.rules.grown_bytes_max if grows else self.rules.size_bytes

    def _take(self, now: float) -> CutSet:
        assert self._open is not None
        taken, self._open = self._open, None
        self._by_key, self._largest = {}, 0
        small = len(taken.cuts) if taken.size < _SMALL_BYTES * len(taken.cuts) else 0
        longer_s = min(_LINGER_S_EACH * small, _LINGER_S_MAX)
        self._linger_s = max(self.rules.linger_s, longer_s)
        self._cut_s = now
        return taken
