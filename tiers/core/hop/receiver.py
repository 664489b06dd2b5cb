"""The receiving half of a hop: what is stored, what is acked, and how much may come.

The theory (delivery.md): only bundles of a sender's newest session are taken, and only if they
name this very channel; a receiver that has restarted knows no session and takes nothing until a
HELLO. So after a HELLO the old pipes are dead, and *unknown* is final. A batch is acked once it is
on disk, however often and by whomever it came; an answer waits for what is on its way.

A batch is known by its id and its checksum: another content under a known id goes to disk, too,
where the channel keeps it apart. One whose number was given here cannot come from elsewhere.

Disks go back in time, and exist twice (life.py). Bundles say where their sender's channel is; it is
remembered in the transaction that stores what they bring.

Who gets a session is told by handshake.py, what each may send by hosting.py, who waits for an ack
by arriving.py, for an answer by questions.py, for a receipt by receipts.py.

Pure: time and the look-up of seen ids are arguments; every method returns what is to be done.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from tiers.core.batch import BatchId, verify
from tiers.core.dedupe import Content, Known
from tiers.core.hop.arriving import Arrived, Arriving
from tiers.core.hop.credit import Credits
from tiers.core.hop.handshake import Handshake, ReceiverEffects
from tiers.core.hop.hosting import Hosting, ReceiverLimits
from tiers.core.hop.messages import (
    Ack,
    Answer,
    Ask,
    Bundle,
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
    in_pieces,
)
from tiers.core.hop.receipts import Receipts
from tiers.core.hop.sessions import TURNS_MAX
from tiers.core.hop.upstream import Upstream
from tiers.core.paths import day_name
from tiers.errors import BatchError

FORGET_AFTER_S: Final = 60.0  # a sender that says nothing for so long is forgotten
AHEAD_MS_MAX: Final = 86_400_000  # sealed later than in a day from now: it waits at its sender

Seen = Callable[[Iterable[BatchId]], Mapping[BatchId, Known]]  # those stored here once


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
        self.hosting = Hosting(limits)
        self.handshake = Handshake(
            me, limits, self.hosting, new_session=new_session, guarantee=guarantee
        )
        self.rejected = 0  # batches
        self.duplicates = 0  # batches that were here already
        self.discarded = 0  # bundles of old sessions
        self._renewing = False
        self._arriving = Arriving()
        self._receipts = Receipts(guarantee)
        self._now = 0.0
        self._effects = ReceiverEffects()

    @property
    def senders(self) -> Mapping[str, Upstream]:
        """Those that have a session, by agent."""
        return self.hosting.sessions.senders

    @property
    def credits(self) -> Credits:
        return self.hosting.credits

    # -- control ---------------------------------------------------------------------------

    def heard(
        self,
        route: bytes,
        message: Message,
        seen: Seen,
        now: float,
        now_ms: int,
    ) -> ReceiverEffects:
        """A control message from the socket identity `route`."""
        if self._renewing:
            return self._done()
        self._now = now
        match message:
            case Hello():
                self.handshake.hello(route, message, now, self._effects)
                self._renewing = bool(self._effects.renew)
            case Pong():
                self._of(message.session, route, now)
                self.handshake.answered(message, self._effects)
            case Ping():
                sender = self._of(message.session, route, now)
                if sender is None:
                    pong = Pong(b"", message.sent_ms, now_ms, 0)
                else:
                    if message.wanted:
                        self.hosting.grant(sender, now, message.wanted)
                    limit = sender.balance.limit
                    over = self.hosting.over_of(sender)
                    pong = Pong(sender.session, message.sent_ms, now_ms, limit, over)
                self._effects.say.append((route, pong))
            case Ask():
                sender = self._of(message.session, route, now)
                if sender is not None:
                    fresh = sender.balance.fresh
                    if self.hosting.questions.ask(sender.agent, message, fresh=fresh):
                        self._answer(seen)
            case Goodbye():
                sender = self._of(message.session, route, now)
                if sender is not None:
                    self.hosting.forget(sender)
            case _:
                pass  # what only receivers say: nothing to do, and nothing to harm
        return self._done()

    def of_session(self, session: bytes) -> Upstream | None:
        """The sender whose session is on."""
        return self.hosting.sessions.of(session)

    def session_of(self, route: bytes) -> bytes:
        """The session that is spoken from there; empty when there is none."""
        sender = self.hosting.sessions.at(route)
        return sender.session if sender is not None else b""

    def _of(self, session: bytes, route: bytes, now: float) -> Upstream | None:
        sender = self.of_session(session)
        if sender is not None:
            sender.heard_s = now
            self.hosting.sessions.came_from(sender, route)
            # It has judged our WELCOME: else this place would be forgotten with a WELCOME that is
            # lost, and a sender that went back would never know.
            self.me.life.meet(sender.channel, sender.agent, sender.point)
        return sender

    def hung_up(self, session: bytes) -> None:
        """Its connection is over, and with it the session, as its sender sees it: it holds nothing
        that others wait for. Who has an error is shown for as long as any other that is silent."""
        sender = self.of_session(session)
        if sender is not None and sender.error:
            self.credits.closed(sender.balance)
        elif sender is not None:
            self.hosting.forget(sender)

    # -- data ------------------------------------------------------------------------------

    def received(
        self,
        bundle: Bundle,
        seen: Seen,
        now: float,
        now_ms: int,
    ) -> ReceiverEffects:
        """A bundle came. What is new is to be appended; what is here is acked at once."""
        sender = self.of_session(bundle.session)
        if (
            self._renewing
            or sender is None
            or (bundle.sender, bundle.receiver) != (sender.channel, self.me.channel)
        ):
            self.discarded += 1
            return self._done()
        self.me.life.meet(sender.channel, sender.agent, bundle.point)
        self._now = sender.heard_s = now
        if self.credits.is_beyond(sender.balance, self.limits.message_size_max):
            self._expel(sender, "it sends beyond its credit")
            return self._done()
        arrived = self._opened(sender, bundle, now_ms)
        here = seen([batch.id for batch in arrived])
        for batch in arrived:
            content = batch.content
            if not self._receipts.is_published(batch.id, here):
                self._receipts.owe(batch.id, sender.agent)
            if _is_here(content, here) or self._arriving.again(content, sender.agent):
                self.duplicates += 1
            else:
                self._arriving.begin(batch, sender.agent, sender.balance)
                self.credits.kept(sender.balance, len(batch.record))
                self._effects.append.append(batch)
        again = [batch.content for batch in arrived if _is_here(batch.content, here)]
        published = {one.id for one in again if self._receipts.is_published(one.id, here)}
        self._ack(sender, [one for one in again if one.id not in published], sorted(published))
        if len(self._effects.append) < len(bundle.carried):
            self._effects.say += self.hosting.give_back(sender, now)
        return self._done()

    def passed_on(self, ids: Iterable[BatchId]) -> ReceiverEffects:
        """No output waits for these any more, and that is on disk: receipts are due."""
        for agent, keys in self._receipts.due(ids).items():
            if (sender := self.senders.get(agent)) is not None:
                self._ack(sender, (), keys)
        return self._done()

    def owed(self) -> int:
        """Batches whose senders wait for the receipt."""
        return len(self._receipts)

    def _expel(self, sender: Upstream, reason: str) -> None:
        self.discarded += 1
        self._effects.say.append((sender.route, Refuse(sender.session, reason)))
        self.hosting.forget(sender)

    def _opened(self, sender: Upstream, bundle: Bundle, now_ms: int) -> list[Arrived]:
        """The batches of a bundle that can be taken now; of the others it is said why not."""
        arrived = []
        for place, (record, flagged, hops) in enumerate(bundle.carried):
            self.credits.came(sender.balance, len(record), self._now)
            try:
                envelope = verify(record)
                if envelope.origin in self.me.life.origins:
                    raise BatchError(f"batch {envelope.id} was given its number at this very agent")
            except BatchError as error:
                self.rejected += 1
                sender.error = str(error)
                reject = Reject(sender.session, bundle.number, place, sender.error)
                self._effects.say.append((sender.route, reject))
                continue
            if (early_ms := envelope.sealed - now_ms - AHEAD_MS_MAX) > 0:
                sender.error = (
                    f"batch {envelope.id} is sealed on {day_name(envelope.sealed)}, more than a "
                    f"day ahead of {self.me.agent}: one of the clocks is wrong"
                )
                later = Later(sender.session, bundle.number, place, sender.error, early_ms)
                self._effects.say.append((sender.route, later))
            else:
                hops = sender.answered_for(envelope, hops)
                content = Content(envelope.id, envelope.crc)
                arrived.append(Arrived(content, record, envelope, flagged, hops))
        return arrived

    def stored(self, contents: Iterable[Content], seen: Seen) -> ReceiverEffects:
        """These are on disk: ack them to everyone who sent them."""
        acks: dict[str, list[Content]] = {}
        for content in contents:
            one = self._arriving.end(content)
            if one is None:
                continue
            self.credits.stored(one.balance, one.size)
            for agent, events in one.events.items():
                acks.setdefault(agent, []).append(content)
                sender = self.senders.get(agent)
                if sender is not None and events:
                    sender.batches += 1
                    sender.events += events
        for agent, keys in acks.items():
            if (sender := self.senders.get(agent)) is not None:
                self._ack(sender, keys)
        self._answer(seen)
        self._effects.say += self.hosting.turns(self._now)
        return self._done()

    def _ack(
        self, sender: Upstream, stored: Iterable[Content], published: Iterable[BatchId] = ()
    ) -> None:
        over = self.hosting.over_of(sender)
        for some in in_pieces(sorted(stored)):
            ids, sums = zip(*some, strict=True)
            point = self.me.life.point()
            limit = self.hosting.grant(sender, self._now)
            ack = Ack(sender.session, ids, (), limit, sums, point, over)
            self._effects.say.append((sender.route, ack))
        for piece in in_pieces(published):
            limit = self.hosting.grant(sender, self._now)
            ack = Ack(sender.session, (), piece, limit, over=over)
            self._effects.say.append((sender.route, ack))

    def _answer(self, seen: Seen) -> None:
        for agent, ask in self.hosting.questions.due(self._arriving.__contains__):
            sender = self.senders[agent]
            if (ask.sender, ask.receiver) == (sender.channel, self.me.channel):
                answer = self._answer_to(ask, sender, seen)
                self._effects.say.append((sender.route, answer))

    def _answer_to(self, ask: Ask, sender: Upstream, seen: Seen) -> Answer:
        here = seen(ask.ids)
        published = [key for key in here if self._receipts.is_published(key, here)]
        held = sorted(key for key in here if not self._receipts.is_published(key, here))
        for key in held:
            self._receipts.owe(key, sender.agent)
        told = [(key, crc) for key in held for crc in here[key].sums or (0,)]
        return Answer(
            session=ask.session,
            sender=ask.sender,
            receiver=ask.receiver,
            held=tuple(key for key, _ in told),
            published=tuple(published),
            unknown=tuple(key for key in ask.ids if key not in here),
            sums=tuple(crc for _, crc in told),
            point=self.me.life.point(),
        )

    # -- credit, time, leaving -------------------------------------------------------------

    def tick(self, free_bytes: int, seen: Seen, now: float) -> ReceiverEffects:
        """Call often, with the channel's free room: grants credit that has become free, and
        answers what was asked and had to wait."""
        self.hosting.free, self._now = free_bytes, now
        if self._renewing:
            return self._done()
        self.handshake.tick(now, self._effects)
        self._answer(seen)
        for sender in self.hosting.sessions.turn():
            if now - sender.heard_s > FORGET_AFTER_S:
                self.hosting.forget(sender)
        self._effects.say += self.hosting.turns(self._now)
        for balance in self.credits.idle(now):
            # It finds out with its next PING, and says HELLO.
            if (idle := self.senders.get(balance.agent)) and idle.balance is balance:
                self.hosting.forget(idle)
        return self._done()

    def rests(self) -> bool:
        """Whether a tick now would do nothing but forget who has been silent for long."""
        waits = self.handshake.waits() or self.hosting.questions or self._arriving
        return not waits and self.credits.rests() and len(self.senders) <= TURNS_MAX

    def drain(self) -> ReceiverEffects:
        """Take nothing new: every sender is told."""
        self.hosting.draining = True
        for sender in self.senders.values():
            self._effects.say.append((sender.route, Goodbye(sender.session)))
        return self._done()

    def pending_bytes(self) -> int:
        """Of batches on their way to disk."""
        return self.credits.pending

    def pending(self) -> int:
        """Batches on their way to disk."""
        return len(self._arriving)

    def _done(self) -> ReceiverEffects:
        effects, self._effects = self._effects, ReceiverEffects()
        return effects


def _is_here(content: Content, here: Mapping[BatchId, Known]) -> bool:
    """Whether this very batch was stored. Whose checksum is not known any more counts as it."""
    known = here.get(content.id)
    return known is not None and (not known.sums or content.crc in known.sums)
