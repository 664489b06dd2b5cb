"""A source that reads numbered lines from a file that is always there; its position is the next
number, committed with its batches."""

import asyncio
from typing import ClassVar, Literal

from tiers.sources.source import Intake, SourceOptions

LINES_PER_PUT = 3


class NumbersOptions(SourceOptions):
    type: Literal["numbers"] = "numbers"
    lines: int = 60
    every_ms: int = 1100


class Numbers:
    """Lines `1` to `lines`, some at a time."""

    Options: ClassVar[type[NumbersOptions]] = NumbersOptions
    agent = ""

    def __init__(self, options: NumbersOptions) -> None:
        self._options = options

    async def run(self, intake: Intake) -> None:
        from tests.simulation.network import SimSocket

        name = SimSocket.world.current().name
        number = int(intake.positions.get(b"file", b"1"))
        while number <= self._options.lines:
            upto = min(number + LINES_PER_PUT, self._options.lines + 1)
            block = b"".join(f"{name}:{n}\n".encode() for n in range(number, upto))
            positions = {b"file": str(upto).encode()}
            await intake.put(block, upto - number, {}, positions=positions)
            number = upto
            await asyncio.sleep(self._options.every_ms / 1000)

    def drain(self) -> None:
        pass

    def status(self) -> dict[str, object]:
        return {}
