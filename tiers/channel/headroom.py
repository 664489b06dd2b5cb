"""How much room puts still have: pure, from sizes that the writer measures.

Two limits at once, each with its mark to stop at and its mark to go on from:
 - live pages against the channel's size: stop at `high`, go on below `low`;
 - the free space of the disk against its floor. Pages that are free inside the file cost no
   disk, so at the floor puts may still go into them (into half of them, since free pages lie
   scattered, and deletes need some too): else a channel that was emptied could never fill again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tiers.channel.layout import pages
from tiers.core.change import Put

_ITEM_BYTES: Final = 128  # what an item or a small value costs, roughly


@dataclass(frozen=True, slots=True)
class Sizes:
    """All in bytes."""

    used: int  # live pages
    file: int  # all pages of the file, free ones among them
    disk_free: int
    pending: int  # submitted and not committed


@dataclass(slots=True)
class Headroom:
    size_bytes_max: int
    high: float
    low: float
    free_floor_bytes: int
    full: bool = False

    def free_bytes(self, sizes: Sizes) -> int:
        """What puts may still take; 0 from the high mark until below the low mark."""
        filled = sizes.used + sizes.pending
        disk = self._on_disk(sizes)
        if self.full:
            ample = min(
                self.free_floor_bytes // 8, int((self.high - self.low) * self.size_bytes_max)
            )
            self.full = filled > self.low * self.size_bytes_max or disk < max(1, ample)
        if not self.full:
            room = min(int(self.high * self.size_bytes_max) - filled, disk)
            if room > 0:
                return room
            self.full = True
        return 0

    def overfull(self, sizes: Sizes) -> bool:
        """Whether even what comes on credit given before is too much: beyond the size itself,
        or into what the disk should keep free."""
        filled = sizes.used + sizes.pending
        return filled >= self.size_bytes_max or (self.full and self._on_disk(sizes) < 0)

    def at_floor(self, sizes: Sizes) -> bool:
        """Whether it is the disk that keeps puts from going on."""
        return self.full and sizes.disk_free <= self.free_floor_bytes

    def _on_disk(self, sizes: Sizes) -> int:
        above_floor = max(0, sizes.disk_free - self.free_floor_bytes)
        reusable = max(0, sizes.file - sizes.used) // 2
        return above_floor + reusable - sizes.pending


def pending_bytes(puts: Sequence[Put]) -> int:
    """What these are going to take, about."""
    return sum(
        pages(len(put.record)) + _ITEM_BYTES * len(put.outputs) + len(put.note) for put in puts
    )
