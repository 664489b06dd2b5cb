"""The receiving half of a hop: what is stored, what is acked, and how much may come.

The theory (delivery.md): only bundles of a sender's newest session are taken, and only if they
name this very channel; a receiver that has restarted knows no session and takes nothing until a
HELLO. So after a HELLO the old pipes are dead, and *unknown* is final. A HELLO that the network
brings twice revives none of them, since the receiver names each session anew. A batch is acked
once it is on disk, however often and by whomever it came; an answer waits for what is on its way.

With `guarantee = "end"` senders keep what they sent until it is published: who has sent a batch, or
asked for it, is told when no output here waits for it any more.

Credit is the channel's free room shared among the senders, told as a limit of bytes per session.

Pure: time and the look-up of seen ids are arguments; every method returns what is to be done.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tiers.core.batch import BatchId, Buffer, Envelope, Hop, verify
from tiers.core.messages import (
    NAME_CHARS_MAX,
    PROTOCOL,
    Ack,
    Answer,
    Ask,
    Bundle,
    Goodbye,
    Guarantee,
    Hello,
    Identity,
    Message,
    Ping,
    Pong,
    Refuse,
    Reject,
    Welcome,
    in_pieces,
)
from tiers.errors import BatchError

SENDERS_MAX: Final = 10_000
FORGET_AFTER_S: Final = 60.0  # a sender that says nothing for so long is forgotten
_ASKS_MAX: Final = 64  # waiting questions of one sender
OWED_MAX: Final = 1 << 18  # batches whose senders are told when they are published; others ask

# Which of these were stored here once, and whether every output has let go of them since.
Seen = Callable[[Iterable[BatchId]], Mapping[BatchId, bool]]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch to be stored."""

    id: BatchId
    record: Buffer
    envelope: Envelope
    flagged: bool
    hops: tuple[Hop, ...]


@dataclass(slots=True)
class Effects:
    """`append` is to be put on disk, then `stored` said; `say` goes to routes at once."""

    append: list[Arrived] = field(default_factory=list)
    say: list[tuple[bytes, Message]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReceiverLimits:
    """From `[delivery]` of the topology."""

    window_bytes_max: int = 16 << 20  # credit of one sender
    message_size_max: int = 32 << 20


@dataclass(slots=True)
class Upstream:
    """A sender as the receiver sees it."""

    agent: str
    channel: bytes
    hello: bytes  # the session that its HELLO named
    session: bytes  # our name for it
    route: bytes  # where its control messages come from
    heard_s: float
    before: bytes = b""  # the channel that this agent had before, as far as known
    received: int = 0  # bytes of records in this session
    limit: int = 0  # told
    batches: int = 0  # stored, in all
    events: int = 0
    error: str = ""
    asks: list[Ask] = field(default_factory=list)

    @property
    def credit(self) -> int:
        return max(0, self.limit - self.received)


class Receiver:
    """What an agent's receiver decides. `now` is monotonic seconds throughout."""

    def __init__(
        self,
        me: Identity,
        limits: ReceiverLimits,
        *,
        new_session: Callable[[], bytes],
        guarantee: Guarantee = "hop",
    ) -> None:
        self.me = me
        self.limits = limits
        self.guarantee: Guarantee = guarantee
        self._new_session = new_session
        self.stores: Mapping[str, str] = {}  # told in WELCOME
        self.draining = False
        self.senders: dict[str, Upstream] = {}
        self.rejected = 0  # batches
        self.duplicates = 0  # batches that were here already
        self.discarded = 0  # bundles of old sessions
        self._by_session: dict[bytes, str] = {}
        self._pending: dict[BatchId, dict[str, int]] = {}  # on their way to disk; sender -> events
        self._owed: dict[BatchId, tuple[str, ...]] = {}  # agents that wait for the receipt
        self._free = 0
        self._effects = Effects()

    # -- control ---------------------------------------------------------------------------

    def heard(
        self,
        route: bytes,
        message: Message,
        seen: Seen,
        now: float,
        now_ms: int,
    ) -> Effects:
        """A control message from the socket identity `route`."""
        match message:
            case Hello():
                self._hello(route, message, now)
            case Ping():
                sender = self._of(message.session, route, now)
                if sender is None:
                    pong = Pong(b"", message.sent_ms, now_ms, 0)
                else:
                    pong = Pong(sender.session, message.sent_ms, now_ms, self._grant(sender))
                self._effects.say.append((route, pong))
            case Ask():
                sender = self._of(message.session, route, now)
                if sender is not None and len(sender.asks) < _ASKS_MAX:
                    sender.asks.append(message)
                    self._answer(seen)
            case Goodbye():
                sender = self._of(message.session, route, now)
                if sender is not None:
                    self._forget(sender)
            case _:
                pass  # what only receivers say: nothing to do, and nothing to harm
        return self._done()

    def _hello(self, route: bytes, hello: Hello, now: float) -> None:
        reason = self._refusal(hello)
        if reason:
            self._effects.say.append((route, Refuse(hello.session, reason)))
            return
        old = self.senders.get(hello.agent)
        if old is not None and (old.hello, old.channel) == (hello.session, hello.channel):
            sender = old  # the same once more: its session is on
            sender.route, sender.heard_s = route, now
        else:
            session = self._new_session()
            sender = Upstream(hello.agent, hello.channel, hello.session, session, route, now)
            if old is not None:
                self._forget(old)
                self._succeed(old, sender)
            self.senders[hello.agent] = sender
            self._by_session[session] = hello.agent
        me = self.me
        welcome = Welcome(
            session=hello.session,
            token=sender.session,
            protocol=PROTOCOL,
            topology=me.topology,
            agent=me.agent,
            channel=me.channel,
            stores=self.stores,
            message_size_max=self.limits.message_size_max,
            limit=self._grant(sender),
            guarantee=self.guarantee,
        )
        self._effects.say.append((route, welcome))
        if self.draining:
            self._effects.say.append((route, Goodbye(sender.session)))

    def _succeed(self, old: Upstream, new: Upstream) -> None:
        new.batches, new.events = old.batches, old.events
        new.before = old.before if new.channel == old.channel else old.channel
        if new.channel == old.before != old.channel:
            ids = " and ".join(channel.hex() for channel in (old.channel, new.channel))
            new.error = f"two agents run under this name, and take turns: channels {ids}"

    def _refusal(self, hello: Hello) -> str:
        if hello.protocol != PROTOCOL:
            return f"protocol version {hello.protocol}; {self.me.agent} speaks {PROTOCOL}"
        if hello.topology != self.me.topology:
            return (
                f"topology {hello.topology!r:.80}; {self.me.agent} belongs to {self.me.topology!r}"
            )
        if len(hello.session) != 8:
            return "a HELLO without a session"
        if not 0 < len(hello.agent) <= NAME_CHARS_MAX:
            return f"an agent's name of {len(hello.agent)} characters"
        if hello.agent == self.me.agent:
            return f"{hello.agent} would send to itself"
        if hello.agent not in self.senders and len(self.senders) >= SENDERS_MAX:
            return f"{self.me.agent} has {SENDERS_MAX} senders already"
        return ""

    def _of(self, session: bytes, route: bytes, now: float) -> Upstream | None:
        sender = self.senders.get(self._by_session.get(session, ""))
        if sender is not None:
            sender.heard_s = now
            # A DEALER that reconnects may come under another identity.
            sender.route = route
        return sender

    def _forget(self, sender: Upstream) -> None:
        self._by_session.pop(sender.session, None)
        del self.senders[sender.agent]

    # -- data ------------------------------------------------------------------------------

    def received(
        self,
        bundle: Bundle,
        seen: Seen,
        now: float,
    ) -> Effects:
        """A bundle came. What is new is to be appended; what is here is acked at once."""
        sender = self.senders.get(self._by_session.get(bundle.session, ""))
        if sender is None or bundle.sender != sender.channel or bundle.receiver != self.me.channel:
            self.discarded += 1
            return self._done()
        sender.heard_s = now
        if sender.received > sender.limit + self.limits.message_size_max:
            self._expel(sender, "it sends beyond its credit")
            return self._done()
        arrived = self._opened(sender, bundle)
        here = seen([batch.id for batch in arrived])
        for batch in arrived:
            if not self._is_published(batch.id, here):
                self._owe(batch.id, sender)
            if batch.id in here:
                self.duplicates += 1
            elif batch.id in self._pending:
                self.duplicates += 1
                self._pending[batch.id].setdefault(sender.agent, 0)
            else:
                self._pending[batch.id] = {sender.agent: batch.envelope.count}
                self._effects.append.append(batch)
        again = [batch.id for batch in arrived if batch.id in here]
        published = {key for key in again if self._is_published(key, here)}
        self._ack(sender, [key for key in again if key not in published], published)
        return self._done()

    def _is_published(self, key: BatchId, here: Mapping[BatchId, bool]) -> bool:
        return self.guarantee == "end" and here.get(key, False)

    def _owe(self, key: BatchId, sender: Upstream) -> None:
        if self.guarantee == "hop":
            return
        agents = self._owed.get(key, ())
        if sender.agent not in agents and (agents or len(self._owed) < OWED_MAX):
            self._owed[key] = (*agents, sender.agent)

    def passed_on(self, ids: Iterable[BatchId]) -> Effects:
        """No output waits for these any more, and that is on disk: receipts are due."""
        receipts: dict[str, list[BatchId]] = {}
        for key in ids:
            for agent in self._owed.pop(key, ()):
                receipts.setdefault(agent, []).append(key)
        for agent, keys in receipts.items():
            if (sender := self.senders.get(agent)) is not None:
                self._ack(sender, (), keys)
        return self._done()

    def owed(self) -> int:
        """Batches whose senders wait for the receipt."""
        return len(self._owed)

    def _expel(self, sender: Upstream, reason: str) -> None:
        self.discarded += 1
        self._effects.say.append((sender.route, Refuse(sender.session, reason)))
        self._forget(sender)

    def _opened(self, sender: Upstream, bundle: Bundle) -> list[Arrived]:
        """The batches of a bundle that can be taken; the others are rejected with the reason."""
        arrived = []
        for place, (record, flagged, hops) in enumerate(bundle.carried):
            sender.received += len(record)
            try:
                envelope = verify(record)
            except BatchError as error:
                self.rejected += 1
                sender.error = str(error)
                reject = Reject(sender.session, bundle.number, place, sender.error)
                self._effects.say.append((sender.route, reject))
            else:
                arrived.append(Arrived(envelope.id, record, envelope, flagged, hops))
        return arrived

    def stored(self, ids: Iterable[BatchId], seen: Seen) -> Effects:
        """These are on disk: ack them to everyone who sent them."""
        acks: dict[str, list[BatchId]] = {}
        for key in ids:
            for agent, events in self._pending.pop(key, {}).items():
                acks.setdefault(agent, []).append(key)
                sender = self.senders.get(agent)
                if sender is not None and events:
                    sender.batches += 1
                    sender.events += events
        for agent, keys in acks.items():
            if (sender := self.senders.get(agent)) is not None:
                self._ack(sender, keys)
        self._answer(seen)
        return self._done()

    def _ack(
        self, sender: Upstream, stored: Iterable[BatchId], published: Iterable[BatchId] = ()
    ) -> None:
        for piece in in_pieces(stored):
            ack = Ack(sender.session, piece, (), self._grant(sender))
            self._effects.say.append((sender.route, ack))
        for piece in in_pieces(published):
            ack = Ack(sender.session, (), piece, self._grant(sender))
            self._effects.say.append((sender.route, ack))

    def _answer(self, seen: Seen) -> None:
        for sender in self.senders.values():
            waiting = []
            for ask in sender.asks:
                if any(key in self._pending for key in ask.ids):
                    waiting.append(ask)
                elif (ask.sender, ask.receiver) == (sender.channel, self.me.channel):
                    self._effects.say.append((sender.route, self._answer_to(ask, sender, seen)))
            sender.asks = waiting

    def _answer_to(self, ask: Ask, sender: Upstream, seen: Seen) -> Answer:
        here = seen(ask.ids)
        published = [key for key in here if self._is_published(key, here)]
        held = [key for key in here if not self._is_published(key, here)]
        for key in held:
            self._owe(key, sender)
        return Answer(
            session=ask.session,
            sender=ask.sender,
            receiver=ask.receiver,
            held=tuple(held),
            published=tuple(published),
            unknown=tuple(key for key in ask.ids if key not in here),
        )

    # -- credit, time, leaving -------------------------------------------------------------

    def tick(self, free_bytes: int, now: float) -> Effects:
        """Call often, with the channel's free room: grants credit that has become free."""
        self._free = free_bytes
        for sender in list(self.senders.values()):
            if now - sender.heard_s > FORGET_AFTER_S:
                self._forget(sender)
                continue
            before = sender.limit
            # Worth a message of its own only where the sender may soon run out.
            if sender.credit < self._share() // 2 and self._grant(sender) > before:
                ack = Ack(sender.session, (), (), sender.limit)
                self._effects.say.append((sender.route, ack))
        return self._done()

    def drain(self) -> Effects:
        """Take nothing new: every sender is told."""
        self.draining = True
        for sender in self.senders.values():
            self._effects.say.append((sender.route, Goodbye(sender.session)))
        return self._done()

    def _share(self) -> int:
        # Of all the room, also what was promised to others: credit is never taken back, and idle
        # senders that hold it must not starve the rest. Who overshoots waits in TCP.
        return min(self.limits.window_bytes_max, self._free // max(1, len(self.senders)))

    def _grant(self, sender: Upstream) -> int:
        """A sender's limit: it only grows."""
        share = 0 if self.draining else self._share()
        sender.limit = max(sender.limit, sender.received + share)
        return sender.limit

    def pending(self) -> int:
        """Batches on their way to disk."""
        return len(self._pending)

    def _done(self) -> Effects:
        effects, self._effects = self._effects, Effects()
        return effects
