"""The sending half of a hop: which batch goes to which peer, and when it may be forgotten.

The theory (delivery.md): a batch is with one peer at a time. When a peer's session ends, what it
had unacked is *ambiguous* and waits for it. If the peer comes back with the same channel it is
ASKed: what it holds is released, what it does not know may go to any peer as if never sent. If
the peer is down, or comes back with another channel, the batch goes to another peer *flagged*:
from then on two copies may exist, and the sinks settle it. A flag is for ever.

A restarted sender does not know what it had sent. So nothing is sent beyond the *mark*, a queue
position that is on disk; after a restart everything up to the mark is flagged.

Pure: time, jitter and session ids are arguments; every method returns what is to be done.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tiers.core.batch import BatchId
from tiers.core.messages import (
    BUNDLE_BATCHES_MAX,
    HEAD_BYTES_MAX,
    PROTOCOL,
    Ack,
    Answer,
    Ask,
    Goodbye,
    Hello,
    Identity,
    Message,
    Ping,
    Pong,
    Refuse,
    Reject,
    Welcome,
    in_pieces,
    index_bytes,
)
from tiers.core.peers import Peer, PeerLimits, PeerState, Pending

MARK_AHEAD = 512  # positions that the mark is kept ahead of what has been sent
QUEUE_BATCHES_MAX = 1024  # batches held ready in memory, besides those in flight
_HEAD_BYTES = HEAD_BYTES_MAX - 1024  # of a bundle, for its index


@dataclass(frozen=True, slots=True)
class Sending:
    """One bundle to leave: read the records, send them in this order."""

    peer: str
    session: bytes
    receiver: bytes  # the peer's channel id
    number: int  # of the bundle in its session
    batches: tuple[Pending, ...]


@dataclass(slots=True)
class Effects:
    """Perform in the order of the fields. `raise_mark` is to be put on disk, then `marked` said;
    `dead` and `release` ride in any later commit."""

    say: list[tuple[str, Message]] = field(default_factory=list)
    send: list[Sending] = field(default_factory=list)
    raise_mark: int | None = None
    dead: list[tuple[int, str]] = field(default_factory=list)  # position, reason
    release: list[int] = field(default_factory=list)  # positions
    gone: list[str] = field(default_factory=list)  # peers that can be disconnected for good


class Sender:
    """The sender group of one output. `now` is monotonic seconds throughout."""

    def __init__(
        self,
        me: Identity,
        limits: PeerLimits,
        *,
        bundle_bytes: int,
        mark: int,
        jitter: Callable[[], float],
        new_session: Callable[[], bytes],
    ) -> None:
        self.me = me
        self.limits = limits
        self.bundle_bytes = bundle_bytes
        self.peers: dict[str, Peer] = {}
        self.flagged = 0  # batches flagged since the start
        self._mark = mark  # durable
        self._mark_asked = mark
        self._jitter = jitter
        self._new_session = new_session
        self._queue: deque[Pending] = deque()
        self._where: dict[BatchId, Peer | None] = {}  # of every batch not released; None: queued
        self._turn = 0
        self._effects = Effects()

    # -- peers -----------------------------------------------------------------------------

    def set_peers(self, names: Iterable[str], now: float) -> Effects:
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
        return self.tick(now)

    def connected(self, name: str, now: float) -> Effects:
        """The control connection is there: say HELLO now rather than at the next retry."""
        peer = self.peers.get(name)
        if peer is not None and not peer.in_session:
            peer.retry_s = self.limits.retry_first_s
            self._hello(peer, now)
        return self._done()

    def lost(self, name: str, now: float) -> Effects:
        """A connection to the peer dropped."""
        peer = self.peers.get(name)
        if peer is not None:
            self._lost(peer, now, "connection lost")
        return self._done()

    # -- batches ---------------------------------------------------------------------------

    def wants(self) -> int:
        """How many more batches `offer` may bring."""
        return QUEUE_BATCHES_MAX - len(self._queue)

    def offer(self, batches: Sequence[Pending], now: float) -> Effects:
        """New batches of the output's queue, in its order."""
        for pending in batches:
            assert pending.id not in self._where, "a batch is offered once"
            self._where[pending.id] = None
            self._queue.append(pending)
        if batches:
            self._want_mark(batches[-1].position)
        return self._flow(now)

    def marked(self, mark: int, now: float) -> Effects:
        """`raise_mark` is on disk."""
        self._mark = max(self._mark, mark)
        return self._flow(now)

    def unreadable(self, pending: Pending, reason: str) -> Effects:
        """The record of a batch could not be read when its bundle left: to the dead letters."""
        peer = self._where.get(pending.id)
        if peer is not None and pending.id in peer.in_flight:
            peer.skip(pending.id)
            del self._where[pending.id]
        else:
            self._drop(pending.id)
        self._effects.dead.append((pending.position, reason))
        return self._done()

    def outstanding(self) -> int:
        """Batches not released."""
        return len(self._where)

    def in_flight(self) -> int:
        """Batches that a peer may have and has not acked."""
        return sum(len(peer.in_flight) + len(peer.ambiguous) for peer in self.peers.values())

    def _want_mark(self, position: int) -> None:
        if position + MARK_AHEAD // 4 > self._mark_asked:
            self._mark_asked = position + MARK_AHEAD
            self._effects.raise_mark = self._mark_asked

    def _drop(self, key: BatchId) -> Pending:
        """Forget a batch that is not released, wherever it is."""
        peer = self._where.pop(key)
        if peer is None:
            pending = next(item for item in self._queue if item.id == key)
            self._queue.remove(pending)
            return pending
        held = peer.forget(key)
        assert held is not None, "a batch is queued or with a peer"
        return held

    def _requeue(self, batches: Iterable[Pending], *, flagged: bool) -> None:
        """Back to the head of the queue, in order."""
        for pending in sorted(batches, key=lambda item: item.position, reverse=True):
            if flagged and not pending.flagged:
                pending.flagged = True
                self.flagged += 1
            self._where[pending.id] = None
            self._queue.appendleft(pending)

    # -- messages --------------------------------------------------------------------------

    def heard(self, name: str, message: Message, now: float) -> Effects:
        """A message from a peer. Those of other sessions are discarded, but for acks: that a
        batch was stored stays true."""
        peer = self.peers.get(name)
        if peer is None:
            return self._done()
        current = message.session == peer.session
        match message:
            case Ack():
                self._acked(peer, message.stored)
                if current:
                    peer.limit = max(peer.limit, message.limit)
            case Pong() if peer.in_session and not current:
                # It has restarted, or an old HELLO came late: it discards what we send.
                self._lost(peer, now, "it does not know our session")
            case Welcome() if current and not peer.in_session:
                self._welcome(peer, message, now)
            case Refuse() if current or not (message.session or peer.in_session):
                # Without a session: it could not even read our HELLO.
                peer.move("refused", now)
                peer.error = f"refused: {message.reason}"
            case Pong() if current:
                peer.limit = max(peer.limit, message.limit)
            case Answer() if current and peer.in_session:
                self._answer(peer, message)
            case Reject() if current and (key := peer.at(message.bundle, message.place)):
                reason = f"rejected by {name}: {message.reason}"
                self._effects.dead.append((self._drop(key).position, reason))
            case Goodbye() if current:
                peer.move("goodbye", now)
            case _:
                return self._done()
        if current:
            peer.heard_s = now
        return self._flow(now)

    def _acked(self, peer: Peer, ids: Iterable[BatchId]) -> None:
        for key in ids:
            if key not in self._where:
                continue
            # Not with it any more: stored by an earlier session's bundle, given to another since.
            with_it = self._where[key] is peer
            pending = self._drop(key)
            if with_it:
                peer.acked(pending)
            self._effects.release.append(pending.position)

    def _welcome(self, peer: Peer, message: Welcome, now: float) -> None:
        if why := self._unfit(peer, message):
            peer.move("refused", now)
            peer.error = why
            return
        peer.session = message.token
        peer.stores = message.stores
        other_channel = peer.channel not in (b"", message.channel)
        peer.channel = message.channel
        peer.limit = message.limit
        peer.message_size_max = message.message_size_max
        peer.move("welcome", now)
        peer.welcomed(now)
        if other_channel:
            # Its disk is gone, and perhaps what it had stored of ours had gone on before.
            self._requeue(peer.ambiguous.values(), flagged=True)
            peer.ambiguous.clear()
        self._ask(peer, now)

    def _unfit(self, peer: Peer, message: Welcome) -> str:
        """Why a peer that would take our batches must not have them; empty when it may."""
        if message.message_size_max <= HEAD_BYTES_MAX:
            return f"takes messages of at most {message.message_size_max} bytes: too short for ours"
        stores = self.stores(besides=peer)
        for output, store in message.stores.items():
            if stores.get(output, store) != store:
                return (
                    f"writes {output} to store {store}, other peers to {stores[output]}: "
                    "all agents of a tier must write an output to the same store"
                )
        return ""

    def stores(self, besides: Peer | None = None) -> dict[str, str]:
        """Store ids below this output ("tier/output" -> id), as the peers in session said."""
        told: dict[str, str] = {}
        for peer in self.peers.values():
            if peer.in_session and peer is not besides:
                told |= peer.stores
        return told

    def _ask(self, peer: Peer, now: float) -> None:
        if not peer.ambiguous:
            return
        peer.asked_s = now
        for ids in in_pieces(peer.ambiguous):
            ask = Ask(peer.session, self.me.channel, peer.channel, ids)
            self._effects.say.append((peer.name, ask))

    def _answer(self, peer: Peer, answer: Answer) -> None:
        if (answer.sender, answer.receiver) != (self.me.channel, peer.channel):
            return
        self._acked(peer, (*answer.held, *answer.published, *answer.dead))
        unknown = [peer.ambiguous.pop(key) for key in answer.unknown if key in peer.ambiguous]
        self._requeue(unknown, flagged=False)
        if not peer.ambiguous:
            peer.asked_s = None

    # -- time ------------------------------------------------------------------------------

    def tick(self, now: float) -> Effects:
        """Call every 50 ms or so, and after a wait of any length."""
        for peer in list(self.peers.values()):
            settled = not peer.in_flight and not peer.ambiguous
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
        elif now >= peer.ping_s:
            peer.ping_s = now + self.limits.heartbeat_s
            self._effects.say.append((peer.name, Ping(peer.session, int(now * 1000))))

    def _hello(self, peer: Peer, now: float) -> None:
        peer.begin(self._new_session(), now, self._jitter)
        me = self.me
        hello = Hello(PROTOCOL, me.topology, me.agent, me.channel, peer.session)
        self._effects.say.append((peer.name, hello))

    def _lost(self, peer: Peer, now: float, why: str) -> None:
        if peer.move("lost", now):
            peer.error = why

    # -- flow ------------------------------------------------------------------------------

    def _flow(self, now: float) -> Effects:
        """Assign what may be sent: round robin by bundle over peers that are up, with credit."""
        self._fail_over()
        while self._queue and self._queue[0].position <= self._mark:
            peer = self._next_peer()
            if peer is None:
                break
            batches = tuple(self._fill(peer, now))
            if batches:
                peer.bundles += 1
                sending = Sending(peer.name, peer.session, peer.channel, peer.bundles, batches)
                self._effects.send.append(sending)
        return self._done()

    def _fail_over(self) -> None:
        """What a down peer may hold goes to the others, flagged; while there are none that take
        it, it rather waits: the peer itself may be the first to come back."""
        for peer in self.peers.values():
            if (
                peer.state is PeerState.DOWN
                and peer.ambiguous
                and any(other.room() for other in self.peers.values() if other is not peer)
            ):
                self._requeue(peer.ambiguous.values(), flagged=True)
                peer.ambiguous.clear()

    def _next_peer(self) -> Peer | None:
        names = list(self.peers)
        for step in range(len(names)):
            peer = self.peers[names[(self._turn + step) % len(names)]]
            if peer.room():
                self._turn = (self._turn + step + 1) % len(names)
                return peer
        return None

    def _fill(self, peer: Peer, now: float) -> Iterator[Pending]:
        size = head = count = 0
        most = peer.message_size_max - HEAD_BYTES_MAX
        while self._queue and self._queue[0].position <= self._mark:
            pending = self._queue[0]
            if pending.size > most:
                reason = f"record of {pending.size} bytes; {peer.name} takes at most {most}"
                self._drop(pending.id)
                self._effects.dead.append((pending.position, reason))
                continue
            index = index_bytes(pending.hops)
            full = size + pending.size > min(self.bundle_bytes, most) or head + index > _HEAD_BYTES
            if count and (full or count == BUNDLE_BATCHES_MAX or not peer.room()):
                return
            self._queue.popleft()
            self._where[pending.id] = peer
            peer.sending(pending, now, count)
            size, head, count = size + pending.size, head + index, count + 1
            yield pending

    def _done(self) -> Effects:
        effects, self._effects = self._effects, Effects()
        return effects
