"""A process that puts and releases as fast as it can until it is killed.

Change number n puts a batch at position n, writes n down as the position of a source, and releases
batch n - HELD. A line per change, once it is on disk: n.
"""

import asyncio
import random
import sys
from pathlib import Path

from tests.channel.making import put
from tiers.channel.channel import Channel
from tiers.core.change import Change, ChannelLimits

HELD = 20
IN_FLIGHT = 50
POSITION = b"position/numbers"


async def main(directory: Path, seed: int) -> None:
    rng = random.Random(seed)
    limits = ChannelLimits(size_bytes_max=64 << 20, free_floor_bytes=0, commit_bytes_max=1 << 18)
    channel = await Channel.open(directory, limits, ["out"])
    flying: set[asyncio.Future[tuple[int, ...]]] = set()

    def landed(future: "asyncio.Future[tuple[int, ...]]") -> None:
        flying.discard(future)
        sys.stdout.write(f"{future.result()[0]}\n")
        sys.stdout.flush()

    while True:
        new = put(channel, rng.randbytes(rng.choice((10, 3000, 50_000))))
        number = channel.last_position() + 1
        releases = [("out", number - HELD)] if number > HELD else []
        future = channel.submit(
            Change(puts=[new], records={POSITION: b"%d" % number}, releases=releases)
        )
        flying.add(future)
        future.add_done_callback(landed)
        while len(flying) >= IN_FLIGHT:
            await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
