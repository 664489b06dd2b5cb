"""The interceptors that the blocks of a source come through, one after the other.

What one of them drops is counted by its name, in events and bytes; so is what it fails on. A block
that it fails on goes on as it was (`on_error = "pass"`), is dropped, or goes to the dead letters
without meeting the others. So does one that comes out as no block could be: it is the fault of the
interceptor.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from tiers.contracts import Interceptor
from tiers.core.block import Block, HeaderCheck
from tiers.core.printable import printable_text
from tiers.errors import BatchError
from tiers.interceptors.interceptor import InterceptorOptions

_SAID_CHARS_MAX: Final = 300


class ChainLink(NamedTuple):
    options: InterceptorOptions
    interceptor: Interceptor


@dataclass(slots=True)
class Passed:
    """What came out of one block, what was counted, and what went wrong."""

    blocks: list[Block]
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)  # name -> what it said


class Chain:
    """Not thread-safe: the blocks of a source come one after the other. `size_max` are raw bytes
    that may become of a block at most, unless it came in larger."""

    def __init__(self, links: Sequence[ChainLink], size_max: int) -> None:
        self._links = links
        self._size_max = size_max
        self._headers = HeaderCheck()

    def __bool__(self) -> bool:
        return bool(self._links)

    def apply(self, block: Block) -> Passed:
        """Never raises."""
        passed = Passed([block] if len(block.data) else [])
        for link in self._links:
            blocks: list[Block] = []
            for each in passed.blocks:
                blocks += [each] if each.dead else self._apply(link, each, passed)
            passed.blocks = blocks
        return passed

    def _apply(self, link: ChainLink, block: Block, passed: Passed) -> Sequence[Block]:
        name = link.options.name
        try:
            found = [each for each in link.interceptor.apply(block) if len(each.data)]
            self._check(found, max(self._size_max, len(block.data)))
        except Exception as error:  # whatever a third party's code raises
            passed.counts[f"failed_{name}"] += block.count
            said = printable_text(f"{type(error).__name__}: {error}"[:_SAID_CHARS_MAX])
            passed.failures[name] = said
            if link.options.on_error == "pass":
                return [block]
            if link.options.on_error == "dead":
                return [replace(block, dead=f"interceptor {name!r}: {said}")]
            found = []
        events = block.count - sum(each.count for each in found)
        if events > 0:
            passed.counts[f"dropped_{name}"] += events
            size = len(block.data) - sum(len(each.data) for each in found)
            passed.counts[f"dropped_{name}_bytes"] += max(size, 0)
        return found

    def _check(self, blocks: Sequence[Block], size_max: int) -> None:
        for block in blocks:
            block.check()
            self._headers.check(block.headers)
        if (size := sum(len(block.data) for block in blocks)) > size_max:
            raise BatchError(f"{size} bytes became of a block; at most {size_max}")
