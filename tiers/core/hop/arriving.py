"""Batches on their way to a receiver's disk, and who is to be told once they are on it."""

from dataclasses import dataclass
from typing import NamedTuple

from tiers.core.batch import BatchId, Buffer, Envelope, Hop
from tiers.core.dedupe import Content
from tiers.core.hop.credit import Balance


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch to be stored."""

    content: Content
    record: Buffer
    envelope: Envelope
    flagged: bool
    hops: tuple[Hop, ...]

    @property
    def id(self) -> BatchId:
        return self.content.id


class OnItsWay(NamedTuple):
    """A batch on its way to disk."""

    events: dict[str, int]  # by the agents that sent it; of all but the first, 0
    balance: Balance  # of who brought it first
    size: int


class Arriving:
    """All of them. Under one id there may be several, of different checksums."""

    def __init__(self) -> None:
        self._by_id: dict[BatchId, dict[int, OnItsWay]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, key: BatchId) -> bool:
        return key in self._by_id

    def begin(self, batch: Arrived, agent: str, balance: Balance) -> None:
        """An agent brought it, which has that balance."""
        one = OnItsWay({agent: batch.envelope.count}, balance, len(batch.record))
        self._by_id.setdefault(batch.id, {})[batch.envelope.crc] = one

    def again(self, content: Content, agent: str) -> bool:
        """Whether it is on its way: then the agent, which brought it again, is told too."""
        one = self._by_id.get(content.id, {}).get(content.crc)
        if one is None:
            return False
        one.events.setdefault(agent, 0)
        return True

    def end(self, content: Content) -> OnItsWay | None:
        """It is on disk. None where nobody brought it."""
        by_sum = self._by_id.get(content.id, {})
        one = by_sum.pop(content.crc, None)
        if not by_sum:
            self._by_id.pop(content.id, None)
        return one
