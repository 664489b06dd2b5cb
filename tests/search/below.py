"""The receiving side of the hop: a shipped Receiver with its disk, and what may happen to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.search.shapes import draw
from tiers.core.batch import BatchId
from tiers.core.dedupe import Content, Known
from tiers.core.hop.credit import Credits
from tiers.core.hop.handshake import ReceiverEffects
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import Bundle, Guarantee, Identity, Message
from tiers.core.hop.receiver import Receiver
from tiers.core.life import Life

FREE_BYTES: Final = 1 << 20


class Told(NamedTuple):
    """What the world has to know of a step: sequence numbers of batches."""

    unflagged: tuple[int, ...] = ()  # stored so
    lost: tuple[int, ...] = ()  # with the disk
    published: tuple[int, ...] = ()


NOTHING: Final = Told()


@dataclass
class Below:
    """A receiver, what is on its disk, and what it asked to have there.

    Both receivers have the same name and channel ids here, so that they share their shapes: each
    has a wire of its own to the sender, which tells them apart by it.
    """

    guarantee: Guarantee
    disks: int = 1  # how many it has had
    seen: dict[BatchId, bool] = field(default_factory=dict)  # on disk: whether it is published
    commits: list[list[tuple[Content, bool]]] = field(default_factory=list)
    receiver: Receiver = field(init=False)
    # What came of a step, until it is taken.
    said: list[tuple[str, Message]] = field(default_factory=list)
    told: Told = NOTHING

    def __post_init__(self) -> None:
        self._start()

    def taken(self) -> tuple[list[tuple[str, Message]], Told]:
        said, told = self.said, self.told
        self.said, self.told = [], NOTHING
        return said, told

    def _start(self) -> None:
        self.receiver = Receiver(
            Identity("t", "below", Life(b"channel %8d" % self.disks)),
            ReceiverLimits(),
            new_session=draw,
            guarantee=self.guarantee,
        )
        self.receiver.tick(FREE_BYTES, self.look, 0.0)

    def look(self, ids: Iterable[BatchId]) -> Mapping[BatchId, Known]:
        return {key: Known(self.seen[key]) for key in ids if key in self.seen}

    def heard(self, message: Any) -> None:
        if isinstance(message, Bundle):
            self._did(self.receiver.received(message, self.look, 0.0, 0))
        else:
            self._did(self.receiver.heard(b"edge", message, self.look, 0.0, 0))

    def store(self) -> None:
        """The first of what it asked for is on disk."""
        batches = self.commits.pop(0)
        for (key, _), flagged in batches:
            if not self._has(key):
                self.seen[key] = False
                if not flagged:
                    self.told = Told(unflagged=(*self.told.unflagged, key.seq))
        self._did(self.receiver.stored([content for content, _ in batches], self.look))

    def _has(self, key: BatchId) -> bool:
        """The channel puts a batch once."""
        return key in self.seen

    def publish(self, seq: int) -> None:
        (key,) = [key for key in self.seen if key.seq == seq]
        self.seen[key] = True
        self.told = Told(published=(seq,))
        self._did(self.receiver.passed_on([key]))

    def crash(self) -> None:
        self.commits = []
        self._start()

    def lose_disk(self) -> None:
        self.told = Told(lost=tuple([key.seq for key in self.seen]))
        self.seen = {}
        self.disks += 1
        self.crash()

    def _did(self, effects: ReceiverEffects) -> None:
        if effects.append:
            self.commits.append([(batch.content, batch.flagged) for batch in effects.append])
        self.said += [("edge", message) for _, message in effects.say]

    def settle(self) -> None:
        """Counters, and credit, of which there is enough; the order in which batches came."""
        self.seen = dict(sorted(self.seen.items()))
        self.receiver.discarded = self.receiver.duplicates = 0
        credits = self.receiver.hosting.credits = Credits(1 << 40, 1 << 30)
        for upstream in self.receiver.senders.values():
            upstream.batches = upstream.events = 0
            balance = upstream.balance
            balance.received = balance.used = balance.pending = balance.limit = 0
            credits.begin(balance, FREE_BYTES, 0.0)
        by_id = self.receiver._arriving._by_id
        pending = [one for by_sum in by_id.values() for one in by_sum.values()]
        for arriving in pending:
            arriving.balance.pending = 0
            credits.kept(arriving.balance, arriving.size)
