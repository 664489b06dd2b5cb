"""A process that queues again or drops one dead letter after the other until it is killed. A line
per letter, once that is on disk: its position."""

import asyncio
import random
import sys
from pathlib import Path

from tests.channel.making import LIMITS
from tiers.channel.channel import Channel
from tiers.channel.letters import every_letter
from tiers.core.entry.routes import everywhere
from tiers.dead.handling import Handling


async def main(directory: Path, seed: int) -> None:
    rng = random.Random(seed)
    channel = await Channel.open(directory, LIMITS, ["out"])
    handling = Handling(channel, everywhere(["out"]))
    for letter in list(every_letter(channel)):
        do = handling.retry if rng.random() < 0.7 else handling.drop
        await do([(letter.position, letter.output)])
        print(letter.position, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
