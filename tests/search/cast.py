"""Who plays in a search of lives (lives.py): the parts of worlds, kept once, and what matters."""

import itertools
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from tests.search.aged_below import AgedBelow
from tests.search.aged_edge import AgedEdge
from tests.search.aging import ChannelPoint
from tests.search.edge import RECEIVERS
from tests.search.shapes import Messages, Parts
from tiers.core.batch import BatchId
from tiers.core.hop.messages import Guarantee
from tiers.core.hop.peers import PeerState
from tiers.core.life import Life, Point

Fault = Literal[
    "none",
    "sender back",
    "sender cloned",
    "sender resumed",
    "receiver back",
    "receiver cloned",
]
NOBODY: Final = -1
SENDERS: Final = ("edge", "edge's clone")
BELOWS: Final = ("r0", "r1", "r0's clone")
ADDRESS: Final = (0, 1, 0)  # of each receiver, as the senders have it


class Part(NamedTuple):
    """A machine: its shape, and numbers for the names in it."""

    shape: int
    names: tuple[int, ...]


class Meta(NamedTuple):
    """What is counted, and what has been."""

    troubles: int
    idle: int  # commits of nothing that matters here
    accepted: int = 0  # lines
    starts: int = 0  # of all machines
    channels: tuple[int, int] = (0, 0)  # renewals of senders, receivers
    image: Part | None = None
    used: bool = False  # the image
    unflagged: tuple[int, ...] = ()  # lines: one for each copy that was stored so
    stored: frozenset[int] = frozenset()  # lines, ever
    published: frozenset[int] = frozenset()
    released: frozenset[int] = frozenset()
    noticed: bool = False  # by a receiver, that its disk went back or is there twice
    wrong: str = ""


class Flying(NamedTuple):
    """A message under way: between a sender and an address."""

    bundle: bool  # to the address, else from there
    sender: int
    address: int
    shape: int
    session: int


@dataclass
class Now:
    """A world that is being stepped."""

    meta: Meta
    edges: list[Part | None]
    belows: list[Part | None]
    flying: list[Flying]
    names: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1000))

    def copy(self) -> "Now":
        return Now(self.meta, list(self.edges), list(self.belows), list(self.flying))


World = tuple[int, ...]  # numbers of: meta, two senders, three receivers, what is under way


class EdgeFacts(NamedTuple):
    """What matters of a sender for what may happen."""

    commit: str  # what is to be on disk next, for people; empty: nothing
    empty: bool  # nothing is in its channel any more
    unread: bool  # something is, that it has not read
    life: Life
    sessions: tuple[int, ...]  # with each peer: the place among the names; NOBODY: none
    channels: tuple[bytes, ...]  # of each peer, as far as known
    connecting: tuple[bool, ...]
    down: tuple[bool, ...]
    handed: tuple[bool, ...]
    asks: bool  # a HELLO of it has no answer
    points: frozenset[ChannelPoint]  # that it knows
    lines: frozenset[int]  # in its channel


class BelowFacts(NamedTuple):
    """What matters of a receiver for what may happen."""

    sessions: tuple[int, ...]  # of each sender; NOBODY: none
    waiting: bool  # a HELLO waits for what another session says
    lines: frozenset[int]  # on its disk
    unpublished: tuple[BatchId, ...]
    life: Life
    points: frozenset[ChannelPoint]  # that it knows


class Cast:
    """All parts that were met."""

    def __init__(self, fault: Fault, guarantee: Guarantee) -> None:
        self.fault = fault
        self.guarantee: Guarantee = guarantee
        self.of_senders = fault.startswith("sender")  # whose disk goes back, or is there twice
        self._messages = Messages()
        self.kinds = self._messages.kinds
        self.edge_parts: Parts[AgedEdge] = Parts(self._messages)
        self.below_parts: Parts[AgedBelow] = Parts(self._messages)
        self._edges: dict[int, EdgeFacts] = {}
        self._belows: dict[int, BelowFacts] = {}
        self._lives: dict[int, Life] = {}
        self._pointing: dict[tuple[int, Point | None], int] = {}

    def session(self, now: Now, i: int, address: int) -> int:
        part = now.edges[i]
        assert part is not None
        return part.names[self.edge(part).sessions[address]]

    def who_knows(self, now: Now, address: int, session: int) -> int | None:
        """The receiver at an address that has that session."""
        for r, part in enumerate(now.belows):
            if part is not None and ADDRESS[r] == address and session in self.knows(part):
                return r
        return None

    def knows(self, part: Part) -> list[int]:
        """Sessions that a receiver has."""
        return [part.names[place] for place in self.below(part).sessions if place != NOBODY]

    def edge(self, part: Part) -> EdgeFacts:
        known = self._edges.get(part.shape)
        if known is None:
            edge = self.edge_parts.shapes.value(part.shape)
            names = self.edge_parts.shapes.names[part.shape]
            assert edge.sender is not None
            peers = [edge.sender.peers[name] for name in RECEIVERS]
            known = self._edges[part.shape] = EdgeFacts(
                str(edge.commits[0]) if edge.commits else "",
                not edge.queue,
                edge.unread(),
                edge.sender.me.life,
                tuple([names.index(p.session) if p.in_session else NOBODY for p in peers]),
                tuple([peer.channel for peer in peers]),
                tuple([peer.state is PeerState.CONNECTING for peer in peers]),
                tuple([peer.state is PeerState.DOWN for peer in peers]),
                tuple([bool(peer.handed) for peer in peers]),
                any(peer.session and not peer.in_session for peer in peers),
                frozenset(edge.points()),
                frozenset(edge.lines.values()),
            )
        return known

    def below(self, part: Part) -> BelowFacts:
        known = self._belows.get(part.shape)
        if known is None:
            below = self.below_parts.shapes.value(part.shape)
            names = self.below_parts.shapes.names[part.shape]
            sessions = [NOBODY, NOBODY]
            for one in below.receiver.senders.values():
                sessions[AgedBelow.ROUTES.index(one.route)] = names.index(one.session)
            known = self._belows[part.shape] = BelowFacts(
                tuple(sessions),
                below.receiver.handshake.waits(),
                below.lines(),
                tuple([key for key, published in below.seen.items() if not published]),
                below.receiver.me.life,
                frozenset(below.points()),
            )
        return known

    def image_life(self, part: Part) -> Life:
        """What a start of that image would find."""
        life = self._lives.get(part.shape)
        if life is None:
            parts: Any = self.edge_parts if self.of_senders else self.below_parts
            found = parts.shapes.value(part.shape).lifeline
            life = self._lives[part.shape] = Life(found.id(), found.starts, found.number)
        return life

    def image_lines(self, part: Part) -> frozenset[int]:
        """In the channel of a sender's image."""
        return frozenset(self.edge_parts.shapes.value(part.shape).lines.values())

    def pointing(self, shape: int, point: Point | None) -> int:
        """That message, where its sender is at that point."""
        known = self._pointing.get((shape, point))
        if known is None:
            message = replace(self.kinds[shape], point=point)
            known = self._pointing[shape, point] = self._messages.number(message)[0]
        return known
