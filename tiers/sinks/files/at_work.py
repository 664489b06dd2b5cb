"""How many files a sink is at work on, and how many wait for a person.

A refusal of the store takes until a person has acted. The directory of one service that may not be
written must not hold up the others: such a file gives its place up meanwhile. Those that wait are
bounded, in all and by who stored their batches first.
"""

from collections import Counter
from collections.abc import Callable, Collection
from random import Random
from typing import Final

from tiers.core.quota import may_take
from tiers.sinks.asking import back_off

# Files that may wait for a person before no further one is begun; of one first agent no more than
# its share.
REFUSED_MAX: Final = 64


class Hands:
    """`free` is called when one may be begun."""

    def __init__(self, writers: int, random: Random, free: Callable[[], None]) -> None:
        self.busy = 0  # files at work
        self._writers = writers
        self._random = random
        self._free = free
        self._waiting = 0  # others, after a refusal
        self._waiting_of: Counter[str] = Counter()  # by first agent

    def take(self) -> None:
        """One more is at work. Said before its task begins."""
        self.busy += 1

    def give(self) -> None:
        """It has ended."""
        self.busy -= 1
        self._free()

    def are_full(self) -> bool:
        """Whether no further file may be begun for now."""
        most = self._writers
        return self.busy >= most or self.busy + self._waiting >= most + REFUSED_MAX

    def refused(self) -> list[str]:
        """First agents for whom enough files wait for a person."""
        left = REFUSED_MAX - self._waiting
        return [agent for agent, held in self._waiting_of.items() if not may_take(left, held)]

    async def wait_for_person(self, refusals: int, agents: Collection[str]) -> None:
        """After so many refusals in a row of a file with batches of these first agents."""
        self._waiting += 1
        self._waiting_of.update(agents)
        self.give()
        try:
            await back_off(refusals, self._random, refused=True)
        finally:
            self.busy += 1
            self._waiting -= 1
            self._waiting_of.subtract(agents)
            self._waiting_of += Counter()  # without those that have none
