"""How full a channel is, by what its writer has reported last, and for whom there is room."""

from heapq import nlargest

from tiers.channel.accounts import Accounts
from tiers.channel.headroom import Headroom, Sizes
from tiers.channel.writer import WriterReport
from tiers.core.change import ChannelLimits
from tiers.core.hop.messages import OVER_MAX
from tiers.core.quota import may_take
from tiers.units import show_size


class Capacity:
    """`pending_bytes` are of puts that were submitted and are not committed; `failed` is why the
    channel has ended."""

    def __init__(self, limits: ChannelLimits, accounts: Accounts, report: WriterReport) -> None:
        self.report = report
        self.pending_bytes = 0
        self.failed: Exception | None = None
        self._accounts = accounts
        self.work_by(limits)

    def work_by(self, limits: ChannelLimits) -> None:
        """From now on."""
        self._floor_bytes = limits.free_floor_bytes
        self._room = Headroom(
            limits.size_bytes_max, limits.high, limits.low, limits.free_floor_bytes
        )

    def free_bytes(self) -> int:
        if self.report.trouble or self.failed is not None:
            return 0
        return self._room.free_bytes(self._sizes())

    def room_of(self, agent: str) -> int:
        """What a first agent's batches may still take of `free_bytes`: others find room, too, and
        one whose undeliverable batches find no room as dead letters brings no more of them."""
        held = self._accounts.by_agent.get(agent)
        if held is None:
            return may_take(self.free_bytes(), 0)
        return 0 if held.kept else may_take(self.free_bytes(), held.room)

    def over(self) -> list[str]:
        """First agents without room while others have some, those that hold most first."""
        free = self.free_bytes()
        if not free:
            return []
        found = [
            (move.room, agent)
            for agent, move in self._accounts.by_agent.items()
            if move.kept or not may_take(free, move.room)
        ]
        return [agent for _, agent in nlargest(OVER_MAX, found)]

    def overfull(self) -> bool:
        """Whether not even what was promised earlier can be taken now: commits fail, the size
        is reached, or the disk is below its floor."""
        if self.report.trouble or self.failed is not None:
            return True
        return self._room.overfull(self._sizes())

    def trouble(self) -> str:
        """Why commits or puts do not go on; empty when they do, or when the channel is merely
        full, which is back-pressure and no trouble."""
        if self.failed is not None:
            return str(self.failed)
        if self.at_floor():
            free, floor = self.report.disk_free_bytes, self._floor_bytes
            return f"disk at its floor: {show_size(free)} free, {show_size(floor)} are kept free"
        return self.report.trouble

    def at_floor(self) -> bool:
        if self.report.trouble:
            return False
        low = self.report.disk_free_bytes <= self._floor_bytes
        return self._room.at_floor(self._sizes()) or (low and bool(self.over()))

    def _sizes(self) -> Sizes:
        now = self.report
        return Sizes(now.used_bytes, now.file_bytes, now.disk_free_bytes, self.pending_bytes)
