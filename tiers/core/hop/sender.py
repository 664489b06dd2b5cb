"""The sending half of a hop: which batch goes to which peer, and when it may be forgotten.

The theory (delivery.md): a batch is with one peer at a time. When a peer's session ends, what it
had unacked is *ambiguous* and waits for it. If the peer comes back with the same channel it is
ASKed: what it holds is released, what it does not know may go to any peer as if never sent. If
the peer is down, or comes back with another channel, the batch goes to another peer *flagged*:
from then on two copies may exist, and the sinks settle it. A flag is for ever.

A restarted sender does not know what it had sent. So nothing is sent beyond the *mark*, a queue
position that is on disk; after a restart everything up to the mark is flagged.

With `guarantee = "end"` a batch that a peer has stored is *handed* to it, and kept until that peer
says that it is published. It waits for that very channel, over restarts too, and is offered again,
flagged, only where that channel does not know it any more or the peer is lost.

Disks go back in time, and exist twice (life.py). So a peer's word counts for the start of its
channel to which a batch was sent: what it does not know in another start goes on flagged. It
counts for this very content: checksums are compared. And what was queued before this start waits
until each peer has told where it met this channel: one of them may know that it is to be renewed.

Pure: time, jitter and session ids are arguments; every method returns what is to be done.
"""

import math
from collections.abc import Callable, Iterable, Sequence

from tiers.core.batch import BatchId
from tiers.core.hop.assigning import Assigning, SenderEffects
from tiers.core.hop.holding import Holding
from tiers.core.hop.messages import (
    PROTOCOL,
    PROTOCOL_MIN,
    Ack,
    Answer,
    Goodbye,
    Guarantee,
    Hello,
    Identity,
    Later,
    Message,
    Ping,
    Pong,
    Refuse,
    Reject,
    Welcome,
)
from tiers.core.hop.outbox import Outbox
from tiers.core.hop.peers import Peer, PeerLimits, PeerState, Pending

MARK_AHEAD = 512  # positions that the mark is kept ahead of what has been sent
QUEUE_BATCHES_MAX = 1024  # batches held ready in memory, besides those in flight
_FLOWS_S = 5.0  # who had something to send so long ago wants credit of every peer


class Sender:
    """The sender group of one output. `now` is monotonic seconds throughout."""

    def __init__(
        self,
        me: Identity,
        limits: PeerLimits,
        *,
        bundle_bytes: int,
        mark: int,
        old_upto: int = 0,
        jitter: Callable[[], float],
        new_session: Callable[[], bytes],
        guarantee: Guarantee = "hop",
    ) -> None:
        self.me = me
        self.limits = limits
        self.guarantee = guarantee
        self.peers: dict[str, Peer] = {}
        self._mark = mark  # durable
        self._renewing = False
        self._mark_asked = mark
        self._jitter = jitter
        self._new_session = new_session
        self._outbox = Outbox()
        self._assigning = Assigning(self._outbox, self.peers, bundle_bytes, old_upto, me.life)
        self._holding = Holding(me, self._outbox, self.peers, guarantee)
        self._stopping = False
        self._offered_s = -math.inf  # when batches came last
        self._effects = SenderEffects()

    # -- peers -----------------------------------------------------------------------------

    def set_peers(self, names: Iterable[str], now: float) -> SenderEffects:
        """The peers of the topology file as it is now. One that left gets no more batches, and
        is given up once what it may hold is settled."""
        wanted = list(names)
        for name in wanted:
            peer = self.peers.get(name)
            if peer is None:
                self.peers[name] = Peer(name, self.limits, since_s=now)
            else:
                peer.leaving = False
        for name, peer in self.peers.items():
            peer.leaving = peer.leaving or name not in wanted
        self._outbox.reunite_all()
        return self.tick(now)

    def stop(self, now: float) -> SenderEffects:
        """Every peer is left, once what is in flight to it is settled. What was handed on waits
        on disk."""
        self._stopping = True
        return self.set_peers((), now)

    def connected(self, name: str, now: float) -> SenderEffects:
        """The control connection is there: say HELLO now rather than at the next retry."""
        peer = self.peers.get(name)
        if peer is not None and not peer.in_session:
            peer.retry_s = self.limits.retry_first_s
            self._hello(peer, now)
        return self._done()

    def lost(self, name: str, now: float) -> SenderEffects:
        """A connection to the peer dropped."""
        peer = self.peers.get(name)
        if peer is not None:
            self._lost(peer, now, "connection lost")
        return self._done()

    # -- batches ---------------------------------------------------------------------------

    def wants(self) -> int:
        """How many more batches `offer` may bring."""
        return max(0, QUEUE_BATCHES_MAX - self._outbox.queued())

    def is_closed_to(self, agent: str) -> bool:
        """Whether no peer takes any of a first agent's now, so that no more are to be brought."""
        peers = [peer for peer in self.peers.values() if peer.in_session]
        return bool(peers) and all(agent in peer.over for peer in peers)

    def is_with(self, name: str, key: BatchId) -> bool:
        """Whether a batch is in flight to a peer."""
        peer = self.peers.get(name)
        return peer is not None and key in peer.in_flight

    def offer(self, batches: Sequence[Pending], now: float) -> SenderEffects:
        """New batches of the output's queue, in its order."""
        for pending in batches:
            if pending.handed_to is None:
                self._outbox.put(pending)
            else:
                self._holding.offer(pending)
        if batches:
            self._offered_s = now
            self._want_mark(batches[-1].position)
        return self._flow(now)

    def marked(self, mark: int, now: float) -> SenderEffects:
        """`raise_mark` is on disk."""
        self._mark = max(self._mark, mark)
        return self._flow(now)

    def unreadable(self, pending: Pending, reason: str) -> SenderEffects:
        """The record of a batch could not be read when its bundle left: to the dead letters."""
        self._outbox.skip(pending.id)
        self._effects.damaged.append((pending.position, reason))
        return self._done()

    def outstanding(self) -> int:
        """Batches not released."""
        return len(self._outbox)

    @property
    def flagged(self) -> int:
        """Batches flagged since the start."""
        return self._outbox.flagged

    def apart(self, now: float) -> list[tuple[int, str]]:
        """Batches that wait for other peers than those that have answered: how many, and why the
        first of them does."""
        found = []
        for queue in self._outbox.apart().values():
            first = next(iter(queue.values()))
            said = (peer.held(first, now) for peer in self.peers.values() if not peer.leaving)
            found.append((len(queue), "; ".join(filter(None, said))))
        return found

    def in_flight(self) -> int:
        """Batches that a peer may have and has not acked."""
        return sum(len(peer.in_flight) + len(peer.ambiguous) for peer in self.peers.values())

    def _want_mark(self, position: int) -> None:
        if position + MARK_AHEAD // 4 > self._mark_asked:
            self._mark_asked = position + MARK_AHEAD
            self._effects.raise_mark = self._mark_asked

    # -- messages --------------------------------------------------------------------------

    def heard(self, name: str, message: Message, now: float) -> SenderEffects:
        """A message from a peer. Those of other sessions are discarded: since then its disk may
        have gone back."""
        peer = self.peers.get(name)
        if peer is None or self._renewing:
            return self._done()
        current = message.session == peer.session
        match message:
            case Ack() if current:
                self.me.life.meet(peer.channel, name, message.point)
                self._holding.acked(peer, message, now, self._effects)
                peer.limit = max(peer.limit, message.limit)
                peer.over = frozenset(message.over)
            case Pong() if peer.in_session and not current:
                # It has restarted, or an old HELLO came late: it discards what we send.
                self._lost(peer, now, "it does not know our session")
            case Welcome() if current and not peer.in_session:
                self._welcome(peer, message, now)
            case Refuse() if current or not (message.session or peer.in_session):
                # Without a session: it could not even read our HELLO.
                self._refused(peer, message, now)
            case Pong() if current:
                peer.limit = max(peer.limit, message.limit)
                peer.over = frozenset(message.over)
            case Answer() if current and peer.in_session:
                self._holding.answered(peer, message, now, self._effects)
            case Reject() | Later() if current and (key := peer.at(message.bundle, message.place)):
                pending = self._outbox.drop(key)
                peer.refused_it(pending, message, now)
                # It is not there: another may take it, as if it was never sent.
                self._outbox.requeue([pending], flagged=False)
            case Goodbye() if current:
                peer.move("goodbye", now)
            case Ping() if current and peer.in_session:
                pong = Pong(peer.session, message.sent_ms, int(now * 1000), 0)
                self._effects.say.append((name, pong))
            case _:
                return self._done()
        if current:
            peer.heard_s = now
        return self._flow(now)

    def _refused(self, peer: Peer, message: Refuse, now: float) -> None:
        peer.error = f"refused: {message.reason}"
        if message.twin and self.me.life.may_renew(now):
            self._renew(f"another agent with this very channel answers at {peer.name}")
        peer.move("refused", now)

    def _renew(self, why: str) -> None:
        self._renewing = True
        self._effects.renew = why

    def _welcome(self, peer: Peer, message: Welcome, now: float) -> None:
        life = self.me.life
        if why := peer.another(message, self.me.topology):
            peer.move("refused", now)
            peer.error = why
            return
        if not life.has(message.met):
            why = f"{peer.name} met it at {message.met}, which it does not know"
            if not life.may_renew(now):
                peer.move("refused", now)
                peer.error = f"this agent has just begun anew, and not again for that: {why}"
            else:
                self._renew(why)
            return
        if why := peer.unfit(message, self.guarantee, self.stores(besides=peer)):
            peer.move("refused", now)
            peer.error = why
            return
        peer.session = message.token
        peer.stores = message.stores
        other_channel = peer.channel not in (b"", message.channel)
        peer.channel = message.channel
        peer.start = message.point.start if message.point else b""
        life.meet(message.channel, peer.name, message.point)
        peer.guarantee = message.guarantee
        peer.limit = message.limit
        if peer.message_size_max != message.message_size_max:
            peer.message_size_max = message.message_size_max
            self._outbox.reunite_all()
        peer.batch_size_max = message.batch_size_max
        peer.move("welcome", now)
        peer.welcomed(now)
        if other_channel:
            # Its disk is gone, and perhaps what it had stored of ours had gone on before.
            self._outbox.requeue(peer.ambiguous.values(), flagged=True)
            peer.ambiguous.clear()
        self._outbox.requeue(peer.taken_back(), flagged=True)
        self._holding.ask(peer, now, self._effects)

    def stores(self, besides: Peer | None = None) -> dict[str, str]:
        """Store ids below this output ("tier/output" -> id), as the peers in session said."""
        told: dict[str, str] = {}
        for peer in self.peers.values():
            if peer.in_session and peer is not besides:
                told |= peer.stores
        return told

    # -- time ------------------------------------------------------------------------------

    def tick(self, now: float) -> SenderEffects:
        """Call every 50 ms or so, and after a wait of any length."""
        if self._renewing:
            return self._done()
        for peer in list(self.peers.values()):
            handed = peer.handed and not self._stopping
            settled = not peer.in_flight and not peer.ambiguous and not handed
            if peer.state is PeerState.DRAINING and settled:
                self._part(peer, now)
            elif peer.in_session:
                self._tick_session(peer, now)
            elif now - peer.since_s > self.limits.failover_after_s:
                peer.move("late", now)
            if not peer.in_session and now >= peer.hello_s:
                self._hello(peer, now)
            if peer.leaving and settled:
                del self.peers[peer.name]
                self._effects.say.append((peer.name, Goodbye(peer.session)))
                self._effects.gone.append(peer.name)
        return self._flow(now)

    def rests(self, now: float) -> bool:
        """Whether a tick now would do nothing."""
        if self._outbox.queued() or self._outbox.apart():
            return False
        wants = self._wants_credit(now)
        return all(
            peer.rests(now) and not (wants and peer.is_starving()) for peer in self.peers.values()
        )

    def _part(self, peer: Peer, now: float) -> None:
        """It drains, and has acked everything: it need not wait for us."""
        self._effects.say.append((peer.name, Goodbye(peer.session)))
        peer.move("left", now)
        peer.error = "draining: it takes no more"
        peer.hello_s = now + self.limits.retry_max_s

    def _tick_session(self, peer: Peer, now: float) -> None:
        late_answer = peer.asked_s is not None and now - peer.asked_s > self.limits.ack_timeout_s
        if late_answer or peer.is_late(now):
            self._lost(peer, now, "no answer" if late_answer else "silent, or its acks are late")
            if late_answer:
                # It is there and cannot say: let others have the batches (flagged).
                peer.move("late", now)
        elif now >= peer.ping_s or (self._wants_credit(now) and peer.is_starving()):
            peer.ping_s = now + self.limits.heartbeat_s
            peer.asked_limit = peer.limit
            wanted = self._outbox.queued_bytes(peer.name) or int(self._wants_credit(now))
            ping = Ping(peer.session, int(now * 1000), wanted)
            self._effects.say.append((peer.name, ping))
            self._holding.ask_due(peer, now, self._effects)

    def _wants_credit(self, now: float) -> bool:
        """Also of a peer that is without while others have some: it is to have its part."""
        return bool(self._outbox.queued()) or now - self._offered_s < _FLOWS_S

    def _hello(self, peer: Peer, now: float) -> None:
        peer.begin(self._new_session(), now, self._jitter)
        me, life = self.me, self.me.life
        met = life.told_to(peer.name, self.peers)
        words = (PROTOCOL, me.topology, me.agent, me.channel, peer.session)
        self._effects.say.append((peer.name, Hello(*words, life.point(), met, PROTOCOL_MIN)))

    def _lost(self, peer: Peer, now: float, why: str) -> None:
        if peer.move("lost", now):
            peer.error = why

    def _flow(self, now: float) -> SenderEffects:
        if not self._renewing:
            self._assigning.assign(self._mark, now, self._effects)
        return self._done()

    def _done(self) -> SenderEffects:
        effects, self._effects = self._effects, SenderEffects()
        return effects
