"""All states of the sending side that were met, and what comes of each step of each."""

from typing import NamedTuple

from tests.search.edge import ORIGIN, RECEIVERS, Edge
from tests.search.shapes import DRAWN, FRESH, Messages, Outcome, Parts
from tests.search.wire import CURRENT, NEW, SAME, Change, Links, Sent
from tiers.core.batch import BatchId
from tiers.core.hop.messages import Guarantee
from tiers.core.hop.peers import PeerState


class PeerFacts(NamedTuple):
    """What matters of the sender's peer for what may happen."""

    in_session: bool
    down: bool
    has_handed: bool


class Facts(NamedTuple):
    """What matters of the sending side for what may happen."""

    runs: bool
    commit: str  # what is to be on disk next, for people; empty: nothing
    empty: bool  # nothing is in its channel any more
    peers: tuple[PeerFacts, ...]
    kept: int  # the change of a link when the sender does nothing


class Step(NamedTuple):
    """What comes of a step: the sending side then, what it does to each link, what it released."""

    edge: int
    changes: tuple[int, ...]
    released: tuple[int, ...]


class Edges:
    """The sending side; sessions are as the links have them."""

    def __init__(self, messages: Messages, links: Links) -> None:
        self._parts: Parts[Edge] = Parts(messages)
        self._links = links
        self._facts: dict[int, Facts] = {}
        self._mirrored: dict[int, int] = {}
        self._steps: dict[tuple[int, str, int, Sent | None], Step] = {}

    def __len__(self) -> int:
        return len(self._parts.shapes)

    def start(self, guarantee: Guarantee, batches: int) -> int:
        """An edge with these in its channel, that does not run yet."""
        queue = {at: BatchId(ORIGIN, at) for at in range(1, batches + 1)}
        return self._parts.shapes.number(Edge(guarantee, queue))[0]

    def facts(self, number: int) -> Facts:
        known = self._facts.get(number)
        if known is None:
            known = self._facts[number] = self._all_facts(self._parts.shapes.value(number))
        return known

    def _all_facts(self, edge: Edge) -> Facts:
        peers = []
        if edge.sender is not None:
            for peer in [edge.sender.peers[name] for name in RECEIVERS]:
                down = peer.state is PeerState.DOWN
                peers.append(PeerFacts(peer.in_session, down, bool(peer.handed)))
        commit = f"edge commits {edge.commits[0]}" if edge.commits else ""
        kept = self._links.change(Change(edge.waiting()))
        return Facts(edge.sender is not None, commit, not edge.queue, tuple(peers), kept)

    def mirrored(self, number: int) -> int:
        """The sending side as it would be if each receiver were the other."""
        known = self._mirrored.get(number)
        if known is None:
            known = self._mirrored[number] = self._parts.step(number, "mirror").after
        return known

    def unlike(self) -> list[tuple[int, str, int, Sent | None]]:
        """Steps that were met and that, mirrored, are not the same step of the mirrored side."""
        found = []
        for key, step in list(self._steps.items()):
            number, what, at, sent = key
            other = self.step(self.mirrored(number), what, 1 - at if at >= 0 else at, sent)
            changes = step.changes[::-1]
            if other != Step(self.mirrored(step.edge), changes, step.released):
                found.append(key)
        return found

    def step(self, number: int, what: str, at: int = -1, sent: Sent | None = None) -> Step:
        """The edge's method `what`; about peer `at`, where it is about one; with the message that
        it hears from that peer."""
        key = number, what, at, sent
        known = self._steps.get(key)
        if known is None:
            known = self._steps[key] = self._step(number, what, at, sent)
        return known

    def _step(self, number: int, what: str, at: int, sent: Sent | None) -> Step:
        args = (RECEIVERS[at],) if at >= 0 else ()
        heard = None
        if sent is not None:
            # The names of an edge are its sessions, in the order of its peers.
            refs = [at if name == CURRENT else FRESH + n for n, name in enumerate(sent[1])]
            heard = sent[0], tuple(refs)
        outcome = self._parts.step(number, what, *args, heard=heard)
        waiting = self._parts.shapes.value(outcome.after).waiting()
        changes = []
        for peer in range(len(RECEIVERS)):
            change = _change(outcome, peer, waiting)
            changes.append(
                self._links.change(
                    change._replace(noticed=what == "lose" and at == peer, hung_up=what == "crash")
                )
            )
        return Step(outcome.after, tuple(changes), outcome.told)


def _change(outcome: Outcome, peer: int, waiting: frozenset[int] | None) -> Change:
    if waiting is None:
        return Change(None, NEW)  # what its next life begins is no session that was
    session = outcome.names[peer]
    said = []
    for whom, shape, refs in outcome.said:
        if whom == RECEIVERS[peer]:
            assert refs == (session,), "it names the session that it has"
            said.append(shape)
    if session == peer:
        return Change(waiting, SAME, tuple(said))
    drawn = session >= DRAWN
    return Change(waiting, NEW if drawn else session - FRESH, tuple(said))
