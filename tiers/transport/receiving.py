"""An agent's receiving end: PULL for bundles on its port, ROUTER for words on the next.

Lets the core decide (core/hop/receiver.py) and performs what it says. A batch is acked after the
commit that stores it, not after its arrival: the sender deletes on ack.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from heapq import nlargest
from typing import Any

import zmq

from tiers.contracts import Channel, World
from tiers.core.batch import BatchId, Hop
from tiers.core.change import Change, Put
from tiers.core.dedupe import Content
from tiers.core.entry.routes import Route
from tiers.core.hop.arriving import Arrived
from tiers.core.hop.handshake import ReceiverEffects
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import (
    CONTROL_BYTES_MAX,
    GREETING_BYTES_MAX,
    Guarantee,
    Identity,
    Refuse,
    Welcome,
    decode,
    decode_bundle,
    encode,
    protocols,
)
from tiers.core.hop.purses import IN_SESSION, STRANGER, Purses
from tiers.core.hop.receipts import OWED_MAX
from tiers.core.hop.receiver import Receiver
from tiers.core.hop.visitors import Allowed, VisitorLimits
from tiers.core.meters import Histogram, Sample
from tiers.core.repeats import Repeats
from tiers.errors import ChannelUnavailable, PeerError
from tiers.topology import Address
from tiers.transport import meters
from tiers.transport.beat import Beat
from tiers.transport.gate import Gate
from tiers.transport.sockets import KEEPALIVE, source_of

OVER_EVERY_S = 0.5  # of ten thousand agents it takes as long as fifty ticks
SENDERS_SHOWN_MAX = 256
PARTING_S = 10.0  # how long a draining agent waits for its senders to leave
_ANSWERS_WAITING_MAX = 128  # for one who does not read: the others are lost, and asked for again
_ASKED_BYTES_MAX = 4 << 20  # control messages of one session that were not read yet
_OVERSHOOT_BYTES = (1 << 20) + (256 << 10)  # a batch of the usual size, and heads
_NOTHING_BYTES = 64 << 10
_ACKED_AT_ONCE = 256  # batches
# A full pipe stops the reading of a connection, and libzmq 4.3.5 aborts the process where a PING
# lies behind it and the connection breaks (see KEEPALIVE): so pipes are never full, and what waits
# in them is bounded by the gate.
BOUNDED_BY_GATE: dict[int, int | bytes] = {zmq.RCVHWM: 0, zmq.HANDSHAKE_IVL: 5000}
BOUND: dict[int, int | bytes] = {**BOUNDED_BY_GATE, zmq.IPV6: 1, **KEEPALIVE}
CONTROL: dict[int, int | bytes] = {
    zmq.ROUTER_HANDOVER: 1,
    zmq.ROUTER_MANDATORY: 1,  # else nobody would tell that a message has no taker
    zmq.MAXMSGSIZE: CONTROL_BYTES_MAX,
    zmq.SNDHWM: _ANSWERS_WAITING_MAX,
}


class ReceiverEnd:
    """`run` runs until cancelled."""

    def __init__(
        self,
        world: World,
        me: Identity,
        address: Address,
        channel: Channel,
        limits: ReceiverLimits,
        route: Route,
        stores: Callable[[], Mapping[str, str]],
        *,
        guarantee: Guarantee = "hop",
        carries: Callable[[str], bool] = lambda agent: True,
        visitors: VisitorLimits | None = None,
        trouble: Callable[[str], None],
        renew: Callable[[str], None],
    ) -> None:
        self._renew = renew
        self._world = world
        self._mute = False
        self.address = address
        self.route = route  # of what is stored from now on
        session = partial(world.token, 8)
        self.receiver = Receiver(me, limits, new_session=session, guarantee=guarantee)
        self.receiver.hosting.room_of = channel.room_of
        self.receiver.handshake.carries = carries
        self.malformed = 0  # messages that could not be read
        self.ages = Histogram(meters.AGE)
        self.purses = Purses()
        pending = self.receiver.pending_bytes
        self.gate = Gate(visitors or VisitorLimits(), self._room, self._awaited, pending)
        self._unread = Repeats()
        self.events_in = self.bytes_in = 0  # bytes of records
        self._channel = channel
        self._stores = stores
        self._over_s = 0.0  # when it is looked up next who is over its share
        self._on_disk: deque[Content] = deque()  # and not acked yet
        self._parting_s: float | None = None  # since when senders are asked to go
        self._trouble = trouble
        self._beat = Beat(self._rests, world.tick_s)
        self._pull = world.socket(
            zmq.PULL, BOUND | {zmq.MAXMSGSIZE: limits.message_size_max}, self._bundle
        )
        self._router = world.socket(zmq.ROUTER, BOUND | CONTROL, self._control, parts_max=2)

    def bind(self) -> None:
        """Raises TransportError when an address is taken."""
        self._router.bind(self.address.control, "control", self.gate)
        self._pull.bind(self.address.data, "data", self.gate)
        self.gate.start()

    async def run(self) -> None:
        """Until cancelled."""
        unsubscribe = self._channel.subscribe(self._tick)
        tell_no_more = self._channel.tell_passed_on(self._passed_on)
        try:
            while True:
                self._tick()
                await self._beat.next()
        finally:
            unsubscribe()
            tell_no_more()

    def _rests(self) -> bool:
        if self._mute:
            return True
        self._look()
        return self.receiver.rests() and self._world.now_s() < self._over_s

    def _look(self) -> None:
        self.receiver.handshake.stores = self._stores()
        self._pause()
        for session in self.gate.over():
            self.receiver.hung_up(session)

    def _tick(self) -> None:
        if self._mute:
            return
        now = self._world.now_s()
        self._look()
        if now >= self._over_s:
            self._over_s = now + OVER_EVERY_S
            self.receiver.hosting.over = tuple(self._channel.over())
        for repeats in (self._unread, self.gate.repeats):
            if text := repeats.due(now):
                self._trouble(text)
        with suppress(ChannelUnavailable):  # what was asked is looked up with the next tick
            tick = self.receiver.tick
            self._perform(tick(self._channel.free_bytes(), self._channel.seen, now))

    def _pause(self) -> None:
        memory_full = self.receiver.pending_bytes() >= self.receiver.limits.memory_bytes_max
        paused = memory_full or self._channel.overfull()
        self._pull.pause(paused)
        self.gate.be_patient(paused)

    def _room(self, port: str, session: bytes) -> Allowed | None:
        """How much of a session may be under way; from the gate's thread."""
        sender = self.receiver.of_session(session)
        if sender is None:
            return None
        # The heads of bundles come on top; of very small batches they take a third.
        credit = sender.credit
        if port == "control":
            return Allowed(_ASKED_BYTES_MAX, _ASKED_BYTES_MAX)
        usual = 2 * credit + (_OVERSHOOT_BYTES if credit else _NOTHING_BYTES)
        return Allowed(usual, 2 * credit + self.receiver.limits.message_size_max)

    def _awaited(self) -> int:
        """Credit of the sessions whose data connection is not known yet; from the gate's thread."""
        senders = list(self.receiver.senders.values())
        return sum(s.credit for s in senders if not self.gate.has("data", s.session))

    def _control(self, parts: list[zmq.Frame]) -> None:
        route = parts[0].bytes
        now = self._world.now_s()
        known = bool(self.receiver.session_of(route))
        length = sum(len(part) for part in parts[1:])
        connection = source_of(parts[-1])
        self.gate.took(connection, length)
        if not self.purses.pays(route, length, IN_SESSION if known else STRANGER, now):
            if not known:
                self.gate.expel(connection, "it says more than anybody has to")
            return
        if len(parts) != 2:
            why = f"a control message of {len(parts) - 1} parts or more"
            self._malformed(connection, f"{route!r:.80}: {why}", why)
            return
        try:
            if not known and len(parts[1]) > GREETING_BYTES_MAX:
                raise PeerError(f"a message of {len(parts[1])} bytes from who has no session")
            message = decode(parts[1].buffer)
        except PeerError as error:
            self._malformed(connection, f"{route!r:.80}: {error}")
            refusal = Refuse(b"", f"{error} (this agent speaks protocol {protocols()})")
            self._router.send(route, encode(refusal))
            return
        now_ms = self._world.now_ms()
        with suppress(ChannelUnavailable):  # who asks, asks again
            heard = self.receiver.heard
            self._perform(heard(route, message, self._channel.seen, now, now_ms))
        if session := self.receiver.session_of(route):
            self.gate.proved(connection, "control", session)

    def _bundle(self, parts: list[zmq.Frame]) -> None:
        connection = source_of(parts[-1])
        self.gate.took(connection, sum(len(part) for part in parts))
        try:
            if len(parts) != 1:
                raise PeerError(f"a bundle of {len(parts)} parts")
            bundle = decode_bundle(parts[0].buffer)
        except PeerError as error:
            self._malformed(connection, str(error), "what it sends is no bundle")
            return
        if self.receiver.of_session(bundle.session) is not None:
            self.gate.proved(connection, "data", bundle.session)
        now, now_ms = self._world.now_s(), self._world.now_ms()
        with suppress(ChannelUnavailable):  # the channel says so; what is not acked comes again
            self._perform(self.receiver.received(bundle, self._channel.seen, now, now_ms))

    def _malformed(self, connection: int, what: str, why_to_go: str = "") -> None:
        """Counted; of a connection that is closed for it, only the first is told."""
        self.malformed += 1
        if why_to_go and not self.gate.expel(connection, why_to_go):
            return
        # Who sends garbage must not fill the log's disk with it.
        self._unread.note(f"a message that cannot be read was dropped: {what}")
        if text := self._unread.due(self._world.now_s()):
            self._trouble(text)

    def mute(self) -> None:
        """From now on nothing is taken, and nothing said: this channel is to be renewed."""
        self._mute = True

    def _perform(self, effects: ReceiverEffects) -> None:
        if effects.renew:
            self._renew(effects.renew)
        if self._mute:
            return
        self._beat.stir()
        if effects.append:
            self._append(effects.append)
        for route, message in effects.say:
            # What has no route any more is lost; the sender asks again.
            data = encode(message)
            if self._router.send(route, data):
                self.gate.told(self.receiver.session_of(route), len(data))
            elif isinstance(message, Welcome):
                self.receiver.hung_up(message.token)  # its HELLO was read after it had left

    def _append(self, arrived: list[Arrived]) -> None:
        own = Hop(self.receiver.me.agent, self._world.now_ms())
        for batch in arrived:
            if batch.hops:
                age_ms = own.stored_ms - batch.hops[0].stored_ms
                self.ages.note(max(0.0, age_ms / 1000))  # clocks differ
        puts = [self._put(batch, own) for batch in arrived]
        contents = [batch.content for batch in arrived]
        events = sum(batch.envelope.count for batch in arrived)
        size = sum(len(batch.record) for batch in arrived)
        done = self._channel.submit(Change(puts=puts))
        self._pause()

        def stored(future: "asyncio.Future[tuple[int, ...]]") -> None:
            if not future.cancelled() and future.exception() is None:
                self.events_in += events
                self.bytes_in += size
                if not self._on_disk:
                    asyncio.get_running_loop().call_soon(self._tell_stored)
                self._on_disk.extend(contents)

        done.add_done_callback(stored)

    def _put(self, batch: Arrived, own: Hop) -> Put:
        routed = self.route.of(batch.envelope.headers)
        return Put(
            batch.id,
            batch.record,
            batch.envelope.count,
            routed.outputs,
            batch.flagged,
            (*batch.hops, own),
            arrived=True,
            dead=routed.dead,
            skipped=routed.skipped,
        )

    def _tell_stored(self) -> None:
        """Of all that one commit took, which may be many bundles, together; part by part, so that
        no turn of the loop is long."""
        count = min(len(self._on_disk), _ACKED_AT_ONCE)
        contents = [self._on_disk.popleft() for _ in range(count)]
        if self._on_disk:
            asyncio.get_running_loop().call_soon(self._tell_stored)
        self._stored(contents)

    def _stored(self, contents: Iterable[Content]) -> None:
        with suppress(ChannelUnavailable):  # acks go out with what is done next
            self._perform(self.receiver.stored(contents, self._channel.seen))
            self._pause()

    def _passed_on(self, ids: Sequence[BatchId]) -> None:
        if self._parting_s is not None:
            self._parting_s = self._world.now_s()  # who waits for receipts stays for the last
        self._perform(self.receiver.passed_on(ids))

    def drain(self) -> None:
        """Tell the senders to send no more."""
        self._parting_s = self._world.now_s()
        self._perform(self.receiver.drain())

    def settled(self, patience_s: float = PARTING_S) -> bool:
        """After `drain`: every sender has had its acks and left, or was waited for long enough,
        and nothing is on its way to disk."""
        assert self._parting_s is not None
        waited_s = self._world.now_s() - self._parting_s
        gone = not self.receiver.senders or waited_s > patience_s
        return gone and not self.receiver.pending()

    def close(self) -> None:
        """Close both sockets. Nothing is taken, and nothing said, from then on."""
        self._mute = True
        self._pull.close()
        self._router.close()
        self.gate.close()

    def meters(self) -> Iterable[Sample]:
        return meters.of_receiver(self)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        receiver = self.receiver
        # Not of thousands: who asks for the status must not hold up what flows.
        shown = nlargest(
            SENDERS_SHOWN_MAX,
            receiver.senders.values(),
            key=lambda sender: (bool(sender.error), sender.events),
        )
        return {
            "address": str(self.address),
            "senders": [
                {
                    "agent": sender.agent,
                    "credit_bytes": sender.credit,
                    "events": sender.events,
                    "batches": sender.batches,
                    "error": sender.error,
                }
                for sender in shown
            ],
            "memory_bytes_max": receiver.credits.memory_bytes_max,
            "over_share": list(receiver.hosting.over),
            "owed_max": OWED_MAX,
            "gate": {"strangers_max": self.gate.status()["strangers_max"]},
        }
