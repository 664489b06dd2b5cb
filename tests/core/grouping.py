"""A sender group on a clock of its own, for tests."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.core.batches import ORIGIN
from tiers.core.batch import BatchId, Hop
from tiers.core.hop.assigning import SenderEffects
from tiers.core.hop.messages import (
    PROTOCOL,
    Ack,
    Answer,
    Guarantee,
    Identity,
    Message,
    Welcome,
)
from tiers.core.hop.peers import HandedTo, PeerLimits, PeerState, Pending
from tiers.core.hop.sender import Sender
from tiers.core.life import Life

ME = Identity("web-logs", "edge-1", Life(b"e" * 16))
LIMITS = PeerLimits(window_bytes_max=100_000, window_start_bytes=100_000)
CHANNELS = {"a": b"a" * 16, "b": b"b" * 16, "c": b"c" * 16}
MESSAGE_MAX = 1 << 20


def batches(*seqs: int, size: int = 100, hops: tuple[Hop, ...] = ()) -> list[Pending]:
    return [Pending(BatchId(ORIGIN, seq), seq, size, 10, hops) for seq in seqs]


def ids(*seqs: int) -> tuple[BatchId, ...]:
    return tuple(BatchId(ORIGIN, seq) for seq in seqs)


@dataclass
class Group:
    """A sender on a clock of its own, and all that it wanted done."""

    names: Sequence[str] = "ab"
    mark: int = 1_000_000
    bundle_bytes: int = 1000
    limits: PeerLimits = LIMITS
    now: float = 0.0
    said: list[tuple[str, Message]] = field(default_factory=list)
    sent: dict[str, list[list[int]]] = field(default_factory=dict)  # by peer: seqs by bundle
    flags: dict[int, bool] = field(default_factory=dict)  # by seq, as last sent
    guarantee: Guarantee = "hop"
    released: list[int] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)
    handed: list[tuple[int, HandedTo | None, bool]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    old_upto: int = 0
    renewed: str = ""  # why

    def __post_init__(self) -> None:
        numbers = itertools.count(1)
        self.sender = Sender(
            ME,
            self.limits,
            bundle_bytes=self.bundle_bytes,
            mark=self.mark,
            old_upto=self.old_upto,
            jitter=lambda: 0.5,
            new_session=lambda: next(numbers).to_bytes(8, "big"),
            guarantee=self.guarantee,
        )
        self.do(self.sender.set_peers(self.names, self.now))

    def do(self, effects: SenderEffects) -> None:
        self.renewed = self.renewed or effects.renew
        self.said += effects.say
        for sending in effects.send:
            peer = self.sender.peers[sending.peer]
            assert (sending.session, sending.receiver) == (peer.session, peer.channel)
            bundle = [pending.id.seq for pending in sending.batches]
            self.sent.setdefault(sending.peer, []).append(bundle)
            self.flags |= {pending.id.seq: pending.flagged for pending in sending.batches}
        if effects.raise_mark is not None:
            self.marks.append(effects.raise_mark)
        self.dead += effects.dead + effects.damaged
        self.handed += [(one.position, one.handed_to, one.flagged) for one in effects.handed]
        self.released += effects.release
        self.gone += effects.gone

    def wait(self, seconds: float) -> None:
        self.now += seconds
        rests = self.sender.rests(self.now)
        effects = self.sender.tick(self.now)
        assert not rests or effects == SenderEffects(), "where it rests, a tick would do nothing"
        self.do(effects)

    def hear(self, name: str, message: Message) -> None:
        self.do(self.sender.heard(name, message, self.now))

    def welcome(
        self,
        name: str,
        *,
        channel: bytes = b"",
        limit: int = 100_000,
        stores: dict[str, str] | None = None,
        most: int = MESSAGE_MAX,
        token: bytes = b"",
        guarantee: Guarantee = "hop",
        protocol: int = PROTOCOL,
    ) -> None:
        channel = channel or CHANNELS[name]
        self.hear(
            name,
            Welcome(self.session(name), token or self.session(name), protocol, ME.topology, name,
                    channel, stores or {}, most, limit, guarantee),
        )  # fmt: skip

    def offer(self, *seqs: int, size: int = 100) -> None:
        self.do(self.sender.offer(batches(*seqs, size=size), self.now))

    def ack(self, name: str, *seqs: int, limit: int = 0) -> None:
        self.hear(name, Ack(self.session(name), ids(*seqs), (), limit))

    def answer(self, name: str, **lists: tuple[BatchId, ...]) -> None:
        told: dict[str, tuple[BatchId, ...]] = {
            kind: lists.get(kind, ()) for kind in ("held", "published", "unknown")
        }
        channel = self.sender.peers[name].channel
        answer = Answer(self.session(name), ME.channel, channel, **told)  # type: ignore[arg-type]
        self.hear(name, answer)

    def session(self, name: str) -> bytes:
        return self.sender.peers[name].session

    def state(self, name: str) -> PeerState:
        return self.sender.peers[name].state

    def seqs(self, name: str) -> list[int]:
        """All sent to a peer since this was asked last."""
        return [seq for bundle in self.sent.pop(name, []) for seq in bundle]

    def heard(self, kind: type) -> list[tuple[str, Message]]:
        """What was said of a kind since this was asked last."""
        found = [(name, message) for name, message in self.said if isinstance(message, kind)]
        self.said = [item for item in self.said if item not in found]
        return found


def up(names: str = "ab", **options: object) -> Group:
    group = Group(names, **options)  # type: ignore[arg-type]
    for name in names:
        group.welcome(name)
    group.said.clear()
    return group
