"""The receiving side of a hop with the life of its disk, as aged_edge.py is the sending one. What
it hears is on disk at once: what may come in between is searched by hop.py."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from tests.search.aging import Changes, ChannelPoint, Lifeline, line_of, settle
from tests.search.below import FREE_BYTES, Below
from tests.search.shapes import draw
from tiers.core.batch import BatchId
from tiers.core.dedupe import Content, Known
from tiers.core.hop.handshake import ReceiverEffects
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import Ack, Bundle, Goodbye, Identity, Message
from tiers.core.hop.receiver import Receiver

LATER: Final = 1.0  # a twin that was asked has not answered by then


class BelowTold(NamedTuple):
    """What the world has to know of a step: lines."""

    unflagged: tuple[int, ...] = ()  # stored so
    stored: tuple[int, ...] = ()
    published: tuple[int, ...] = ()
    renews: bool = False


NOTHING_TOLD: Final = BelowTold()


@dataclass
class AgedBelow(Below):
    """The receiving side. `sums`: of all that came under an id; but for the first, it is kept in
    the dead letters."""

    judges: bool = True
    start: int = 0
    lifeline: Lifeline = field(init=False)
    sums: dict[BatchId, tuple[int, ...]] = field(default_factory=dict)
    tells: BelowTold = NOTHING_TOLD

    ROUTES: ClassVar = (b"e0", b"e1")  # to senders

    def __post_init__(self) -> None:
        self.lifeline = Lifeline("below", self.judges)
        self.begin(self.start)

    def taken(self) -> tuple[list[tuple[str, Message]], Any]:
        said, _ = super().taken()
        told, self.tells = self.tells, NOTHING_TOLD
        return said, told

    def begin(self, start: int) -> None:
        self.start = 0  # only the first start is made of it
        self.receiver = Receiver(
            Identity("t", "below", self.lifeline.begin(start)),
            ReceiverLimits(),
            new_session=draw,
            guarantee=self.guarantee,
        )
        self.receiver.tick(FREE_BYTES, self.look, 0.0)

    def renew(self, start: int, channel: int) -> None:
        self.lifeline.renew(channel)
        self.begin(start)

    def image(self) -> None:
        """The disk alone: of the rest nothing is read before the next start."""
        self.lifeline.met = dict(self.lifeline.met)
        self.commits = []
        self.lifeline, kept = Lifeline("below", self.judges), self.lifeline
        self.begin(0)
        self.lifeline = kept

    def lines(self) -> frozenset[int]:
        """On its disk."""
        contents = [Content(key, crc) for key, sums in self.sums.items() for crc in sums]
        return frozenset(line_of(content) for content in contents)

    def rebase(self) -> None:
        self.lifeline.rebase(self.receiver.me.life)

    def ground(self, changes: Changes) -> None:
        self.lifeline.ground(self.receiver.me.life, changes)
        for one in self.receiver.senders.values():
            if one.point is not None:
                one.point = changes.after((one.channel, one.point))

    def count(self, number: int) -> None:
        self.lifeline.count(self.receiver.me.life, number)

    def points(self) -> set[ChannelPoint]:
        told = self.receiver.senders.values()
        said = {(one.channel, one.point) for one in told if one.point}
        return said | self.lifeline.points(self.receiver.me.life)

    def idle(self) -> None:
        self.lifeline.commit(self.receiver.me.life)

    def look(self, ids: Iterable[BatchId]) -> Mapping[BatchId, Known]:
        return {key: Known(self.seen[key], self.sums[key]) for key in ids if key in self.seen}

    def hears(self, route: str, message: Any) -> None:
        """From a sender; what comes of a bundle is on disk when this returns."""
        if not isinstance(message, Bundle):
            self._did(self.receiver.heard(route.encode(), message, self.look, 0.0, 0))
            return
        self._did(self.receiver.received(message, self.look, 0.0, 0))
        while self.commits:
            self.store()

    def waited(self) -> None:
        """A session that was asked has not answered in time."""
        self._did(self.receiver.tick(FREE_BYTES, self.look, LATER))

    def store(self) -> None:
        self.lifeline.commit(self.receiver.me.life)
        batches = self.commits.pop(0)
        for content, flagged in batches:
            known = self.sums.get(content.id, ())
            if content.crc not in known:
                self.sums[content.id] = (*known, content.crc)
                self.seen.setdefault(content.id, False)
                line = line_of(content)
                unflagged = () if flagged else (line,)
                told = self.tells
                self.tells = told._replace(
                    unflagged=(*told.unflagged, *unflagged), stored=(*told.stored, line)
                )
        self._did(self.receiver.stored([content for content, _ in batches], self.look))

    def publish_all(self, key: BatchId) -> None:
        """What came under an id is published, or dead, as far as this receiver knows."""
        self.lifeline.commit(self.receiver.me.life)
        self.seen[key] = True
        lines = tuple([line_of(Content(key, crc)) for crc in self.sums[key]])
        self.tells = self.tells._replace(published=lines)
        self._did(self.receiver.passed_on([key]))

    def _did(self, effects: ReceiverEffects) -> None:
        self.tells = self.tells._replace(renews=self.tells.renews or bool(effects.renew))
        if effects.append:
            self.commits.append([(batch.content, batch.flagged) for batch in effects.append])
        for route, message in effects.say:
            if isinstance(message, Ack):
                message = replace(message, limit=0)  # of credit there is enough
            if not isinstance(message, Goodbye):
                self.said.append((route.decode(), message))

    def settle(self) -> None:
        self.sums = dict(sorted(self.sums.items()))
        super().settle()
        settle(self.receiver.me.life)
        self.receiver._now = 0.0
        self.receiver.handshake._twins._numbers = 0
        for upstream in self.receiver.senders.values():
            upstream.hello = upstream.before = b""
            upstream.error = ""
            upstream.heard_s = 0.0
