"""A source that reads numbered lines from a file that is always there; its position is the next
number, committed with its batches."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final, Literal

from tests.simulation.interceptor import SPLIT, part_of
from tests.simulation.nodes import Boot, booted
from tiers.contracts import Intake
from tiers.core.block import Block
from tiers.core.progress import Work
from tiers.sources.source import SourceOptions

LINES_PER_PUT: Final = 3
EVERY_S: Final = 1.1
QUICK_S: Final = 0.3  # of the lines after the faults
APART: Final = 0.2  # of the puts: each line is a batch of its own
SPLIT_APART: Final = 0.5  # of those: by an interceptor, of one put
APART_LINES: Final = 6  # then: sets of two are cut, and several are under way at once


class NumbersOptions(SourceOptions):
    type: Literal["numbers"] = "numbers"


class Numbers:
    """Lines from `1` on, some at a time, as far as the world has any."""

    Options: ClassVar[type[NumbersOptions]] = NumbersOptions
    agent = ""

    def __init__(self, options: NumbersOptions) -> None:
        self._draining = False

    async def run(self, intake: Intake) -> None:
        boot = booted()
        world = boot.node.world
        number = int(intake.positions.get(b"file", b"1"))
        while not self._draining:
            # Not of those that are to be spread evenly: batches of a moment share a bundle.
            apart = number <= world.lines and world.chance(APART)
            whole = not apart or world.chance(SPLIT_APART)
            at_once = APART_LINES if apart else LINES_PER_PUT
            upto = min(number + at_once, world.ending.lines + 1)
            while number < upto:
                end = upto if whole else number + 1
                lines = [f"{boot.node.label}:{n}\n".encode() for n in range(number, end)]
                headers = ({SPLIT: "yes"} if whole else part_of(number)) if apart else {}
                positions = {b"file": str(end).encode()}
                block = Block(b"".join(lines), end - number, headers)
                receipt: Any = await intake.put(block, positions)
                receipt.add_done_callback(partial(_received, boot, end - 1))
                number = end
                boot.put_upto = end - 1
            await asyncio.sleep(EVERY_S if number <= world.lines else QUICK_S)

    def drain(self) -> None:
        self._draining = True

    def unread_bytes(self) -> None:
        return None

    def work(self) -> Mapping[str, Work]:
        return {}

    def status(self) -> dict[str, object]:
        return {}


def _received(boot: Boot, upto: int, receipt: "asyncio.Future[None]") -> None:
    """A receipt says that all lines up to this one are on disk."""
    if not receipt.cancelled() and receipt.exception() is None:
        boot.node.world.ledger.check_stored(boot.node.machine, upto, "has a receipt")
