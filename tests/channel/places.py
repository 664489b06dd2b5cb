"""Where a channel may lie: in a directory on LMDB, or in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.channel.making import LIMITS
from tiers.channel.channel import Channel
from tiers.channel.disk import Disk
from tiers.core.change import ChannelLimits

BOTH = ("one", "two")


class Place:
    """A directory, and what its channel lies on."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory = directory
        self.disk = disk

    @asynccontextmanager
    async def opened(
        self, outputs: Sequence[str] = BOTH, limits: ChannelLimits = LIMITS
    ) -> AsyncIterator[Channel]:
        channel = await Channel.open(self.directory, limits, outputs, disk=self.disk)
        try:
            yield channel
        finally:
            await channel.close()
