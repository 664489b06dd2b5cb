"""The ends of one hop, started for a test and stopped whatever it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.transport.parts import (
    Context,
    ReceiverSide,
    SenderSide,
    Stranger,
    a_context,
    a_free_address,
)
from tiers.topology import Address


class Hop:
    """Starts the ends, and stops all of them whatever the test does."""

    def __init__(self, context: Context, directory: Path) -> None:
        self.context = context
        self.directory = directory
        self.address = a_free_address()
        self.closing: list[Any] = []

    async def receiver(self, where: str = "r", at: Address | None = None, **k: Any) -> ReceiverSide:
        side = await ReceiverSide.start(
            self.context, self.directory / where, at or self.address, **k
        )
        self.closing.append(side)
        return side

    async def sender(
        self, where: str = "s", peers: dict[str, Address] | None = None, **k: Any
    ) -> SenderSide:
        peers = peers or {"agg-1": self.address}
        side = await SenderSide.start(self.context, self.directory / where, peers, **k)
        self.closing.append(side)
        return side

    def move(self) -> None:
        """From now on receivers listen somewhere else."""
        self.address = a_free_address()

    def stranger(self) -> Stranger:
        stranger = Stranger(self.context, self.address)
        self.closing.append(stranger)
        return stranger

    async def stop(self, side: SenderSide | ReceiverSide) -> None:
        self.closing.remove(side)
        await side.stop()

    async def close(self) -> None:
        for side in reversed(self.closing):
            done = side.stop() if hasattr(side, "stop") else side.close()
            if done is not None:
                await done


@asynccontextmanager
async def a_hop(directory: Path) -> AsyncIterator[Hop]:
    for name in "rst":
        (directory / name).mkdir()
    async with a_context() as context:
        made = Hop(context, directory)
        try:
            yield made
        finally:
            await made.close()


async def flows(sender: SenderSide, receiver: ReceiverSide) -> None:
    """Batches still move."""
    before = len(receiver.seqs())
    await sender.put(range(1000 + before, 1010 + before))
    await sender.empty()
    assert len(receiver.seqs()) == before + 10
