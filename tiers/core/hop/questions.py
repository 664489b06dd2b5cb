"""What senders ask, and in what order they are answered: one question of each in its turn.

A question waits while a batch that it names is on its way to disk. An id takes up to 150 bytes, so
there are only so many; and since names cost nothing, those of whom nothing was stored yet (*fresh*,
as in credit.py) take no place that is another's.
"""

from collections.abc import Callable, Iterator
from typing import Final

from tiers.core.batch import BatchId
from tiers.core.hop.messages import IDS_MAX, Ask

_ASKS_MAX: Final = 8  # waiting questions of one sender: one that is honest has three
_FRESH_IDS_MAX: Final = 200_000  # in questions of all fresh ones
_OTHER_IDS_MAX: Final = 600_000  # in those of all others, but for the first of each
_LOOKED_UP_MAX: Final = 4 * IDS_MAX  # ids of questions in one turn, some 10 ms; the rest waits


class Questions:
    """Those that wait, by the agent that asks."""

    def __init__(self) -> None:
        # Those who have waited longest come first; and whether each was fresh as it asked.
        self._of: dict[str, list[tuple[Ask, bool]]] = {}
        self._ids = {True: 0, False: 0}  # of fresh ones, of others

    def __len__(self) -> int:
        """Agents that wait for an answer."""
        return len(self._of)

    def ask(self, agent: str, ask: Ask, *, fresh: bool = False) -> bool:
        """Whether it is kept: else too many wait, and who asks, asks again."""
        asks = self._of.get(agent, [])
        first = not asks and not fresh
        most = _FRESH_IDS_MAX if fresh else _OTHER_IDS_MAX
        full = self._ids[fresh] + len(ask.ids) > most
        if len(asks) >= _ASKS_MAX or (full and not first):
            return False
        self._of.setdefault(agent, asks).append((ask, fresh))
        self._ids[fresh] += len(ask.ids)
        return True

    def forget(self, agent: str) -> None:
        """Nobody waits for the answers any more."""
        for ask, fresh in self._of.pop(agent, ()):
            self._ids[fresh] -= len(ask.ids)

    def due(self, is_on_its_way: Callable[[BatchId], bool]) -> Iterator[tuple[str, Ask]]:
        """One question of each that asks, and who that is. Each waits on until the next is wanted,
        so that one whose answer fails is not lost."""
        left = _LOOKED_UP_MAX
        for agent in list(self._of):
            if left <= 0:
                return
            asks = self._of[agent]
            for place, (ask, fresh) in enumerate(asks):
                left -= len(ask.ids)
                if not any(is_on_its_way(key) for key in ask.ids):
                    yield agent, ask
                    del asks[place]
                    self._ids[fresh] -= len(ask.ids)
                    break
            del self._of[agent]
            if asks:
                self._of[agent] = asks
