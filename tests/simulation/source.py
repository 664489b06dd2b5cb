"""A source that reads numbered lines from a file that is always there; its position is the next
number, committed with its batches."""

import asyncio
from typing import ClassVar, Final, Literal

from tiers.sources.source import Intake, SourceOptions

LINES_PER_PUT: Final = 3
EVERY_S: Final = 1.1
QUICK_S: Final = 0.3  # of the lines after the faults


class NumbersOptions(SourceOptions):
    type: Literal["numbers"] = "numbers"


class Numbers:
    """Lines from `1` on, some at a time, as far as the world has any."""

    Options: ClassVar[type[NumbersOptions]] = NumbersOptions
    agent = ""

    def __init__(self, options: NumbersOptions) -> None:
        self._draining = False

    async def run(self, intake: Intake) -> None:
        from tests.simulation.network import SimSocket

        world = SimSocket.world
        name = world.current().name
        number = int(intake.positions.get(b"file", b"1"))
        while not self._draining:
            upto = min(number + LINES_PER_PUT, world.ending.lines + 1)
            if upto > number:
                block = b"".join(f"{name}:{n}\n".encode() for n in range(number, upto))
                positions = {b"file": str(upto).encode()}
                await intake.put(block, upto - number, {}, positions=positions)
                number = upto
            await asyncio.sleep(EVERY_S if number <= world.lines else QUICK_S)

    def drain(self) -> None:
        self._draining = True

    def status(self) -> dict[str, object]:
        return {}
