"""From HELLO to WELCOME: who gets a session.

A HELLO that the network brings twice revives no old session, since the receiver names each anew.

Disks go back in time, and exist twice (life.py). A HELLO says where its sender met this channel,
the WELCOME where this channel met the sender's. A sender whose channel has a session already, of
another start that still answers, is told that it is there twice (twins.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tiers.core.hop.arriving import Arrived
from tiers.core.hop.credit import Balance
from tiers.core.hop.hosting import Hosting, ReceiverLimits
from tiers.core.hop.messages import (
    Goodbye,
    Guarantee,
    Hello,
    Identity,
    Message,
    Pong,
    Refuse,
    Welcome,
    common_protocol,
)
from tiers.core.hop.twins import LATELY_S, Twins
from tiers.core.hop.upstream import Upstream, refusal
from tiers.core.life import Point


@dataclass(slots=True)
class ReceiverEffects:
    """`append` is to be put on disk, then `stored` said; `say` goes to routes at once. After
    `renew` nothing more is to be done."""

    renew: str = ""  # our disk went back, or is there twice: why that is known
    append: list[Arrived] = field(default_factory=list)
    say: list[tuple[bytes, Message]] = field(default_factory=list)


class Handshake:
    """Between a receiver and those that say HELLO. `now` is monotonic seconds."""

    def __init__(
        self,
        me: Identity,
        limits: ReceiverLimits,
        hosting: Hosting,
        *,
        new_session: Callable[[], bytes],
        guarantee: Guarantee,
    ) -> None:
        self._me = me
        self.limits = limits
        self._hosting = hosting
        self._new_session = new_session
        self._guarantee: Guarantee = guarantee
        self._twins = Twins()
        self.stores: Mapping[str, str] = {}  # told in WELCOME
        self.carries: Callable[[str], bool] = _may_carry

    def hello(self, route: bytes, hello: Hello, now: float, effects: ReceiverEffects) -> None:
        """It is answered at once, but where another life of its channel may be here."""
        known = self._hosting.sessions.senders
        reason = refusal(hello, self._me, known, len(known), self.limits.senders_max)
        if reason:
            effects.say.append((route, Refuse(hello.session, reason)))
            return
        for channel, point in hello.met:
            if channel == self._me.channel and not self._me.life.has(point):
                self._unknown(route, hello, point, now, effects)
                return
        if (other := self._other_life(hello, now)) is not None:
            if (ping := self._twins.ask(other.session, route, hello, now)) is not None:
                effects.say.append((other.route, ping))
            return
        self._greet(route, hello, now, effects)

    def waits(self) -> bool:
        """Whether a HELLO does, for what another life says."""
        return bool(self._twins)

    def answered(self, pong: Pong, effects: ReceiverEffects) -> None:
        """A session did: a HELLO that waited for that is of another life of its channel."""
        if twin := self._twins.answered(pong.session, pong.sent_ms):
            why = "another agent with this very channel is here, and answers"
            effects.say.append((twin.route, Refuse(twin.hello.session, why, twin=True)))

    def tick(self, now: float, effects: ReceiverEffects) -> None:
        """HELLOs have waited long enough."""
        for waited, hello, _, _ in self._twins.due(now):
            self._greet(waited, hello, now, effects)

    def _unknown(
        self, route: bytes, hello: Hello, point: Point, now: float, effects: ReceiverEffects
    ) -> None:
        """A point of our own channel that is not on its line."""
        why = f"{hello.agent} met it at {point}, which it does not know"
        if self._me.life.may_renew(now):
            effects.renew = why
        else:
            why = f"{self._me.agent} has just begun anew, and not again for that: {why}"
            effects.say.append((route, Refuse(hello.session, why)))

    def _other_life(self, hello: Hello, now: float) -> Upstream | None:
        """Whose session may be that of another life of this channel."""
        other = self._hosting.sessions.of_channel(hello.channel)
        if other is None or hello.point is None:
            return None
        same = other.point is None or other.point.start == hello.point.start
        silent = now - other.heard_s > LATELY_S
        return None if same or silent or self._twins.is_full() else other

    def _greet(self, route: bytes, hello: Hello, now: float, effects: ReceiverEffects) -> None:
        sessions = self._hosting.sessions
        other = sessions.at(route)
        if other is not None and other.agent != hello.agent:
            # A connection is one agent's, so names are as dear as connections.
            self._hosting.forget(other)
        old = sessions.senders.get(hello.agent)
        if old is not None and (old.hello, old.channel) == (hello.session, hello.channel):
            sender = old  # the same once more: its session is on
            sender.heard_s = now
        else:
            sender = self._upstream(route, hello, now)
            self._hosting.begin(sender, old, now)
        sessions.came_from(sender, route)
        effects.say.append((route, self._welcome(sender, hello)))
        if self._hosting.draining:
            effects.say.append((route, Goodbye(sender.session)))

    def _upstream(self, route: bytes, hello: Hello, now: float) -> Upstream:
        name, session = hello.agent, self._new_session()
        balance = Balance(name)
        sender = Upstream(name, hello.channel, hello.session, session, route, now, balance)
        sender.point = hello.point
        sender.carries = self.carries(name)
        return sender

    def _welcome(self, sender: Upstream, hello: Hello) -> Welcome:
        me = self._me
        return Welcome(
            session=hello.session,
            token=sender.session,
            protocol=common_protocol(hello),
            topology=me.topology,
            agent=me.agent,
            channel=me.channel,
            stores=self.stores,
            message_size_max=self.limits.message_size_max,
            limit=sender.balance.limit,
            guarantee=self._guarantee,
            batch_size_max=self.limits.batch_size_max,
            point=me.life.point(),
            met=me.life.met_of(hello.channel),  # and still is, until the sender has heard that
        )


def _may_carry(_agent: str) -> bool:
    return True
