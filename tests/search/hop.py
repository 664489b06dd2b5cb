"""The hop as a model to search: one shipped Sender, two shipped Receivers, and wires that keep
every message for as long as they like and deliver in any order.

Time is left out: a timer may fire whenever it could be running. What goes wrong by itself costs
one of a bounded number of *troubles*: a connection lost, a crash, a lost disk, a HELLO that comes
twice. Everything else may happen at any moment: each message, each commit, each failover.

A world is five numbers, since each of its parts is kept once (shapes.py, wire.py): what a step
does to a part is worked out once, too.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.search.below import Told
from tests.search.edge import RECEIVERS
from tests.search.edges import Edges, Facts
from tests.search.shapes import Messages
from tests.search.wire import Links, Sent
from tiers.core.hop.messages import Guarantee

World = tuple[int, int, int, int, int]  # troubles, sending side, two links, past


class Past(NamedTuple):
    """What has been, in sequence numbers of batches."""

    unflagged: tuple[int, ...] = ()  # one for each copy that was stored so
    lost: frozenset[int] = frozenset()  # with a disk
    published: frozenset[int] = frozenset()
    wrong: str = ""


class Hop:
    """One sender, two receivers, `batches`; `disks`: whether receivers' disks may be lost.

    `alike`: worlds in which each receiver is as the other is in another world are one. The
    receivers have the same code and no say in whom the sender picks, and `unlike` finds steps of
    the sender in which they would not be the same. (Traces then mix their names.)
    """

    def __init__(
        self,
        *,
        batches: int = 2,
        troubles: int = 1,
        disks: bool = False,
        guarantee: Guarantee = "hop",
        prune: bool = True,
        alike: bool = True,
    ) -> None:
        self._alike = alike
        self._batches = batches
        self._troubles = troubles
        self._guarantee: Guarantee = guarantee
        messages = Messages()
        self._links = Links(messages, disks=disks, prune=prune)
        self._edges = Edges(messages, self._links)
        self._pasts: list[Past] = []
        self._past_numbers: dict[Past, int] = {}

    def starts(self) -> Iterable[World]:
        edge = self._edges.start(self._guarantee, self._batches)
        link = self._links.start(self._guarantee)
        world = (self._troubles, edge, link, link, self._past(Past()))
        for at in (0, 1):
            yield self._stepped(world, "boot", at)

    def wrong(self, world: World) -> str:
        return self._pasts[world[4]].wrong

    def finished(self, world: World) -> bool:
        return self._edges.facts(world[1]).empty

    # -- what may happen -------------------------------------------------------------------

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        edge = self._edges.facts(world[1])
        if edge.commit:
            yield edge.commit, self._stepped(world, "commit")
        if not edge.runs:
            for at in (0, 1):
                yield f"edge starts, {RECEIVERS[at]} first", self._stepped(world, "boot", at)
        elif world[0]:
            yield "edge crashes", self._stepped(_trouble(world), "crash")
        for at in (0, 1):
            yield from self._receiver_steps(world, edge, at)
            if edge.runs:
                yield from self._peer_steps(world, edge, at)

    def _receiver_steps(self, world: World, edge: Facts, at: int) -> Iterator[tuple[str, World]]:
        troubles, sending, first, second, past = world
        for label, trouble, link, told in self._links.deeds(world[2 + at]):
            if trouble and not troubles:
                continue
            link = self._links.changed(link, edge.kept)
            links = (first, link) if at else (link, second)
            then = self._remembered(past, told) if told else past
            after = self._world(troubles - trouble, sending, *links, then)
            yield f"{RECEIVERS[at]} {label}", after

    def _peer_steps(self, world: World, edge: Facts, at: int) -> Iterator[tuple[str, World]]:
        name, peer = RECEIVERS[at], edge.peers[at]
        link = self._links.facts(world[2 + at])
        for place, shown, sent in link.outbox:
            yield f"edge hears {name}: {shown}", self._stepped(world, "heard", at, sent, place)
        if peer.in_session:
            if link.gone or not link.knows:
                yield f"edge notices that {name} is not there", self._stepped(world, "lose", at)
            elif world[0]:
                yield f"edge loses {name}", self._stepped(_trouble(world), "lose", at)
            return
        if not link.greeted:
            yield f"edge says hello to {name}", self._stepped(world, "hello", at)
        if not peer.down:
            yield f"{name} is down", self._stepped(world, "fire", at)
        elif peer.has_handed:
            yield f"{name} is lost", self._stepped(world, "fire", at)

    def _stepped(
        self, world: World, what: str, at: int = -1, sent: Sent | None = None, place: int = -1
    ) -> World:
        """The world after a step of the sending side; what it hears has a place in its outbox."""
        troubles, edge, first, second, past = world
        edge, changes, released = self._edges.step(edge, what, at, sent)
        first = self._links.changed(first, changes[0], place if at == 0 else -1)
        second = self._links.changed(second, changes[1], place if at == 1 else -1)
        if released:
            past = self._released(past, released, first, second)
        return self._world(troubles, edge, first, second, past)

    def _world(self, troubles: int, edge: int, first: int, second: int, past: int) -> World:
        """One for all worlds that have the same future."""
        if not troubles and self._edges.facts(edge).runs:
            edge, _, released = self._edges.step(edge, "end_of_troubles")
            if released:
                past = self._released(past, released, first, second)
        if self._alike:
            mirrored = self._edges.mirrored(edge)
            if (second, first, mirrored) < (first, second, edge):
                return troubles, mirrored, second, first, past
        return troubles, edge, first, second, past

    def unlike(self) -> int:
        """How many steps of the sender are not the same for either receiver."""
        return len(self._edges.unlike())

    # -- what has been ---------------------------------------------------------------------

    def _remembered(self, number: int, told: Told) -> int:
        past = self._pasts[number]
        unflagged = tuple(sorted((*past.unflagged, *told.unflagged)))
        twice = len(set(unflagged)) < len(unflagged)
        return self._past(
            Past(
                unflagged,
                past.lost.union(told.lost),
                past.published.union(told.published),
                f"two unflagged copies: {unflagged}" if twice else "",
            )
        )

    def _released(self, number: int, seqs: tuple[int, ...], *links: int) -> int:
        past = self._pasts[number]
        safe = past.published
        if self._guarantee == "hop":
            safe = past.lost.union(*[self._links.facts(link).seen for link in links])
        if nowhere := set(seqs) - safe:
            return self._past(past._replace(wrong=f"{nowhere} released, and nowhere"))
        return number

    def _past(self, past: Past) -> int:
        number = self._past_numbers.setdefault(past, len(self._pasts))
        if number == len(self._pasts):
            self._pasts.append(past)
        return number


def _trouble(world: World) -> World:
    return (world[0] - 1, *world[1:])
