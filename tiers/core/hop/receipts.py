"""With `guarantee = "end"` senders keep what they sent until it is published: who has sent a batch,
or asked for it, is told when no output here waits for it any more."""

from collections.abc import Iterable, Mapping
from typing import Final

from tiers.core.batch import BatchId
from tiers.core.dedupe import Known
from tiers.core.hop.messages import Guarantee

OWED_MAX: Final = 1 << 18  # batches whose senders are told when they are published; others ask


class Receipts:
    """Batches whose senders wait for the receipt; with `guarantee = "hop"` there are none."""

    def __init__(self, guarantee: Guarantee) -> None:
        self._guarantee: Guarantee = guarantee
        self._owed: dict[BatchId, tuple[str, ...]] = {}  # agents that wait for the receipt

    def __len__(self) -> int:
        return len(self._owed)

    def is_published(self, key: BatchId, here: Mapping[BatchId, Known]) -> bool:
        """Whether its receipt can be given now. `here` is what was stored here once."""
        return self._guarantee == "end" and key in here and here[key].passed_on

    def owe(self, key: BatchId, agent: str) -> None:
        if self._guarantee == "hop":
            return
        agents = self._owed.get(key, ())
        if agent not in agents and (agents or len(self._owed) < OWED_MAX):
            self._owed[key] = (*agents, agent)

    def due(self, ids: Iterable[BatchId]) -> dict[str, list[BatchId]]:
        """These are published: whom to tell of which. They are owed no longer."""
        due: dict[str, list[BatchId]] = {}
        for key in ids:
            for agent in self._owed.pop(key, ()):
                due.setdefault(agent, []).append(key)
        return due
