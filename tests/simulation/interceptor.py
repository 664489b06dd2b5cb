"""An interceptor that makes several blocks of one, with other headers: so one `put` is many
batches, and what a source asked for is not what is cut."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final, Literal

from tiers.contracts import InterceptorContext
from tiers.core.block import Block
from tiers.interceptors.interceptor import InterceptorOptions

SPLIT: Final = "split"  # the header of blocks that are to be split
PARTS: Final = 3  # values of the header of lines


def part_of(number: int) -> dict[str, str]:
    """The headers of a line that is apart."""
    return {"part": str(number % PARTS)}


class SplitOptions(InterceptorOptions):
    type: Literal["split"] = "split"


class Split:
    """Each line is a block of its own."""

    Options: ClassVar[type[InterceptorOptions]] = SplitOptions

    def __init__(self, options: SplitOptions, context: InterceptorContext) -> None:
        pass

    def apply(self, block: Block) -> Sequence[Block]:
        if SPLIT not in block.headers:
            return [block]
        lines = bytes(block.data).splitlines(keepends=True)
        numbers = [int(line.rpartition(b":")[2]) for line in lines]
        return [
            replace(block, data=line, count=1, headers=part_of(number))
            for line, number in zip(lines, numbers, strict=True)
        ]
