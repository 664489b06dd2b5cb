"""The sending side of the hop: a shipped Sender with its disk, and what may happen to it."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.search.shapes import draw
from tiers.core.batch import BatchId, Envelope, seal
from tiers.core.hop.assigning import SenderEffects
from tiers.core.hop.messages import Bundle, Carried, Guarantee, Hello, Identity, Message, Welcome
from tiers.core.hop.peers import HandedTo, PeerLimits, Pending
from tiers.core.hop.sender import Sender
from tiers.core.life import Life

ORIGIN: Final = b"edge's channel.."
RECORDS: Final = {
    seq: seal(Envelope(ORIGIN, seq, 1, 1, {}, 1, 1, "lines", "none"), b"x") for seq in (1, 2, 3)
}
RECEIVERS: Final = ("r0", "r1")
LIMITS: Final = PeerLimits()
NEVER: Final = 1e9
LONG_AGO: Final = -1e6


def half() -> float:
    """Jitter: there is no time here."""
    return 0.5


@dataclass
class Edge:
    """What is on disk, the sender, and what it asked to have on disk."""

    guarantee: Guarantee
    queue: dict[int, BatchId]
    mark: int = 0
    handed: dict[int, HandedTo] = field(default_factory=dict)
    flagged: set[int] = field(default_factory=set)
    sender: Sender | None = None
    commits: list[tuple[Any, ...]] = field(default_factory=list)
    # What came of a step, until it is taken.
    said: list[tuple[str, Message | Bundle]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)

    def taken(self) -> tuple[list[tuple[str, Message | Bundle]], tuple[int, ...]]:
        said, released = self.said, tuple(self.released)
        self.said, self.released = [], []
        return said, released

    def waiting(self) -> frozenset[int] | None:
        """Batches that the sender has not let go of; None where none runs."""
        if self.sender is None:
            return None
        return frozenset(key.seq for key in self.sender._outbox._where)

    def boot(self, first: str) -> None:
        """Starts. Whose turn is first is left open, so that receivers are alike."""
        sender = self._start(first, Life(ORIGIN))
        batches = [
            Pending(
                key,
                at,
                len(RECORDS[key.seq]),
                1,
                flagged=self._is_flagged(at),
                handed_to=self.handed.get(at),
            )
            for at, key in sorted(self.queue.items())
        ]
        self._did(sender.offer(batches, 0.0))

    def _start(self, first: str, life: Life, old_upto: int = 0) -> Sender:
        self.sender = Sender(
            Identity("t", "edge", life),
            LIMITS,
            bundle_bytes=1,
            mark=self.mark,
            old_upto=old_upto,
            jitter=half,
            new_session=draw,
            guarantee=self.guarantee,
        )
        self._did(self.sender.set_peers(RECEIVERS, 0.0))
        self.sender._assigning._turn = RECEIVERS.index(first)
        return self.sender

    def _is_flagged(self, at: int) -> bool:
        """As the agent does: an earlier run may have sent what is up to the mark."""
        return at <= self.mark or at in self.flagged

    def crash(self) -> None:
        self.sender = None
        self.commits = []

    def commit(self) -> None:
        """The first of what it asked for is on disk."""
        what, *values = self.commits.pop(0)
        match what:
            case "mark":
                self.mark = max(self.mark, values[0])
                assert self.sender is not None
                self._did(self.sender.marked(values[0], 0.0))
            case "handed" if values[0] in self.queue:
                self.handed[values[0]] = values[1]
                if values[2]:
                    self.flagged.add(values[0])
            case "release":
                if (key := self.queue.pop(values[0], None)) is not None:
                    self.released.append(key.seq)

    def hello(self, name: str) -> None:
        assert self.sender is not None
        self.sender.peers[name].hello_s = LONG_AGO
        self._did(self.sender.tick(0.0), hellos=True)

    def fire(self, name: str) -> None:
        """The peer has been down, or suspect, for as long as it takes."""
        assert self.sender is not None
        self.sender.peers[name].since_s = LONG_AGO
        self._did(self.sender.tick(0.0))

    def lose(self, name: str) -> None:
        assert self.sender is not None
        self._did(self.sender.lost(name, 0.0))

    def heard(self, name: str, message: Message) -> None:
        assert self.sender is not None
        if isinstance(message, Welcome):  # receivers are alike in the model, but for their place
            message = replace(message, agent=name)
        self._did(self.sender.heard(name, message, 0.0))

    def _did(self, effects: SenderEffects, *, hellos: bool = False) -> None:
        for name, message in effects.say:
            if hellos or not isinstance(message, Hello):  # those are said when the model wants it
                self.said.append((name, message))
        for sending in effects.send:
            carried = tuple([Carried(RECORDS[p.id.seq], p.flagged, ()) for p in sending.batches])
            bundle = Bundle(sending.session, ORIGIN, sending.receiver, sending.number, carried)
            self.said.append((sending.peer, bundle))
        assert not effects.dead and not effects.damaged, "a dead letter"
        if effects.raise_mark is not None:
            self.commits.append(("mark", effects.raise_mark))
        for one in effects.handed:
            self.commits.append(("handed", one.position, one.handed_to, one.flagged))
        for position in effects.release:
            self.commits.append(("release", position))

    def end_of_troubles(self) -> None:
        """It will not crash any more, so what is on disk for a next life is forgotten, and what
        only such a life would read is committed at once: nothing else that may happen depends on
        when. What was released must be safe then; if it were only later, this is how it is lost."""
        while self.commits and self.commits[0][0] != "mark":
            self.commit()
        self.mark, self.handed, self.flagged = 0, {}, set()

    def mirror(self) -> None:
        """As it would be if each receiver were the other."""
        self.handed = {at: _mirrored(handed_to) for at, handed_to in self.handed.items()}
        self.commits = [
            tuple([_mirrored(one) if isinstance(one, HandedTo) else one for one in commit])
            for commit in self.commits
        ]
        if self.sender is None:
            return
        peers = self.sender.peers
        first, second = (peers.pop(name) for name in RECEIVERS)
        first.name, second.name = second.name, first.name
        peers |= {second.name: second, first.name: first}
        self.sender._assigning._turn = (1 - self.sender._assigning._turn) % 2
        held = [one for peer in peers.values() for one in peer.handed.values()]
        for pending in held:
            assert pending.handed_to is not None
            pending.handed_to = _mirrored(pending.handed_to)

    def settle(self) -> None:
        """Time is left out, and so is credit, of which there is enough."""
        if self.sender is None:
            return
        for peer in self.sender.peers.values():
            peer.since_s = peer.heard_s = 0.0
            peer.hello_s = peer.ping_s = NEVER
            peer.retry_s = LIMITS.retry_first_s
            peer.batches = peer.events = peer.bundles = peer.sent = 0
            peer.window = LIMITS.window_start_bytes
            peer.error = ""
            peer.asked_s = None  # no answer is late
            for pending in (*peer.ambiguous.values(), *peer.handed.values()):
                pending.asked_s = 0.0
        self.sender._outbox.flagged = 0


def _mirrored(handed_to: HandedTo) -> HandedTo:
    other = RECEIVERS[1 - RECEIVERS.index(handed_to.agent)]
    return handed_to._replace(agent=other)
