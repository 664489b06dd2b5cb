"""The sending side of a hop with the life of its disk: what a start, a commit and a renewal do, and
what is kept of a disk that is set back, or cloned.

As `Edge`, and more: lines are accepted one by one, under ids of the present start, and read from
the disk at any time after that.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.search.aging import Changes, ChannelPoint, Lifeline, content_of, record, settle
from tests.search.edge import LONG_AGO, Edge
from tiers.core.batch import BatchId
from tiers.core.hop.assigning import SenderEffects
from tiers.core.hop.messages import Bundle, Carried
from tiers.core.hop.peers import PeerState, Pending
from tiers.core.hop.sender import Sender


class EdgeTold(NamedTuple):
    """What the world has to know of a step."""

    released: tuple[int, ...] = ()  # lines
    renews: bool = False


@dataclass
class AgedEdge(Edge):
    """The sending side. Positions and flags are as in `Edge`; `lines` are what batches hold."""

    judges: bool = True
    lifeline: Lifeline = field(init=False)
    lines: dict[int, int] = field(default_factory=dict)  # by position
    origin: int = 0  # of the present start
    given: int = 0  # the last number of it
    last: int = 0  # position
    read: int = 0  # the last one that was read
    old_upto: int = 0  # a mark flags what was here before this start
    renews: bool = False

    def __post_init__(self) -> None:
        self.lifeline = Lifeline("edge", self.judges)

    def taken(self) -> tuple[list[tuple[str, Any]], Any]:
        said, released = super().taken()
        renews, self.renews = self.renews, False
        return said, EdgeTold(released, renews)

    def begin(self, first: str, start: int) -> None:
        """A start of this number: the batches that wait get no other ids."""
        self.crash()
        self.origin, self.given = self.new_origin(start), 0
        self.old_upto = min(self.mark, self.last)
        self._start(first, self.lifeline.begin(start), self.last)
        self.read = 0

    def reads(self) -> None:
        """What waits on disk, and is not read yet."""
        assert self.sender is not None
        unread = [self._pending(at) for at in sorted(self.queue) if at > self.read]
        self.read = self.last
        self._did(self.sender.offer(unread, 0.0))

    def unread(self) -> bool:
        return any(at > self.read for at in self.queue)

    def new_origin(self, start: int) -> int:
        return start

    def _pending(self, at: int) -> Pending:
        key = self.queue[at]
        size = len(record(self.lines[at], key))
        flagged, crc = self._is_flagged(at), content_of(self.lines[at], key).crc
        return Pending(key, at, size, 1, (), flagged, self.handed.get(at), crc=crc)

    def _is_flagged(self, at: int) -> bool:
        return at <= self.old_upto or at in self.flagged

    def renew(self, first: str, start: int, channel: int) -> None:
        """What was submitted is on disk by the end of that run; the next start renews."""
        while self.commits:
            self.commit()
        self.flag_all()
        self.lifeline.renew(channel)
        self.begin(first, start)

    def flag_all(self) -> None:
        self.flagged = set(self.queue)

    def accept(self, line: int) -> None:
        """A batch is on disk."""
        assert self.sender is not None
        self.given += 1
        self.last += 1
        self.queue[self.last] = BatchId(b"origin %9d" % self.origin, self.given)
        self.lines[self.last] = line
        self.lifeline.commit(self.sender.me.life)

    def commit(self) -> None:
        assert self.sender is not None
        self.lifeline.commit(self.sender.me.life)
        super().commit()
        for at in set(self.lines) - set(self.queue):
            self._let_go(at)

    def _let_go(self, at: int) -> None:
        """`Edge` tells numbers of batches: here it is lines."""
        self.released[-1] = self.lines.pop(at)
        self.handed.pop(at, None)
        self.flagged.discard(at)

    def image(self) -> None:
        """The disk alone."""
        self.crash()

    def idle(self) -> None:
        assert self.sender is not None
        self.lifeline.commit(self.sender.me.life)

    def ping(self, name: str) -> None:
        """With what was handed on and is not published, which is asked for in time."""
        assert self.sender is not None
        peer = self.sender.peers[name]
        peer.ping_s = LONG_AGO
        for pending in peer.handed.values():
            pending.asked_s = LONG_AGO
        self._did(self.sender.tick(0.0))

    def _did(self, effects: SenderEffects, *, hellos: bool = False) -> None:
        assert self.sender is not None
        self.renews = self.renews or bool(effects.renew)
        sends, effects.send = effects.send, []
        super()._did(effects, hellos=hellos)
        for one in sends:
            carried = [
                Carried(record(self.lines[p.position], p.id), p.flagged, ()) for p in one.batches
            ]
            to = (one.session, self.sender.me.channel, one.receiver, one.number)
            self.said.append((one.peer, Bundle(*to, tuple(carried), one.point)))

    def rebase(self) -> None:
        assert self.sender is not None
        self.lifeline.rebase(self.sender.me.life)

    def ground(self, changes: Changes) -> None:
        assert self.sender is not None
        self.lifeline.ground(self.sender.me.life, changes)

    def count(self, number: int) -> None:
        assert self.sender is not None
        self.lifeline.count(self.sender.me.life, number)

    def points(self) -> set[ChannelPoint]:
        assert self.sender is not None
        return self.lifeline.points(self.sender.me.life)

    def quiet(self) -> None:
        """A HELLO that has no answer yet gets none."""
        assert self.sender is not None
        for peer in self.sender.peers.values():
            if not peer.in_session:
                peer.session = b""

    def settle(self) -> None:
        super().settle()
        if self.sender is None:
            return
        settle(self.sender.me.life)
        self._settle_states(self.sender)
        for peer in self.sender.peers.values():
            peer.limit = 1 << 20
            if not peer.in_session:
                # As its next WELCOME says it.
                peer.start, peer.guarantee = b"", ""
                peer.message_size_max = peer.batch_size_max = 0
                if not peer.ambiguous and not peer.handed:
                    peer.channel = b""

    def _settle_states(self, sender: Sender) -> None:
        """Why a peer is not up matters to what it may have, and to what waits for its word."""
        assigning, peers = sender._assigning, sender.peers.values()
        old = any(at <= assigning._old_upto for at in self.queue)
        if not old or all(peer.state is not PeerState.CONNECTING for peer in peers):
            assigning._old_upto = 0
        for peer in peers:
            waits = peer.state is PeerState.CONNECTING and assigning._old_upto
            if not (peer.in_session or peer.ambiguous or peer.handed or waits):
                peer.state = PeerState.DOWN
                peer.refused = False
