"""A sender group: one output of an agent whose batches go to the peers of the next tier.

Takes what waits from its outlet a little ahead, lets the core decide (core/hop/sender.py), and
performs what it says. Records are read when they leave (departures.py).
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import zmq

from tiers.contracts import Channel, Link, Outlet, World
from tiers.core.change import Bad, Change, Entry, Handed
from tiers.core.hop.assigning import SenderEffects
from tiers.core.hop.messages import (
    Bundle,
    Guarantee,
    Hello,
    Identity,
    Message,
    Welcome,
    decode,
    encode,
    encode_bundle,
)
from tiers.core.hop.peers import PeerLimits, PeerState, Pending
from tiers.core.hop.sender import QUEUE_BATCHES_MAX, Sender
from tiers.core.meters import Sample
from tiers.core.progress import Work
from tiers.core.reading import HELD_MAX
from tiers.core.repeats import Repeats
from tiers.errors import PeerError
from tiers.topology import Address
from tiers.transport import meters
from tiers.transport.beat import Beat
from tiers.transport.departures import Departures
from tiers.transport.stir import Stir
from tiers.transport.wires import Wires, wires_to

log = logging.getLogger("tiers")
_WIRES_AT_ONCE = 64  # looked at in one tick
_OVER_SHOWN = 8  # first agents, in a line for a person
_MARK = struct.Struct(">Q")


class SenderGroup:
    """`run` runs until cancelled. Batches are released from the channel as they are acked."""

    def __init__(
        self,
        world: World,
        me: Identity,
        outlet: Outlet,
        channel: Channel,
        limits: PeerLimits,
        *,
        bundle_bytes: int,
        guarantee: Guarantee = "hop",
        event: Callable[[str], None],
        renew: Callable[[str], None],
    ) -> None:
        self._renew = renew
        self._mute = False
        self.output = outlet.output
        self._outlet = outlet
        self._world = world
        self._channel = channel
        self._event = event
        self._unread = Repeats()
        self._wires: dict[str, Wires] = {}
        self._route = f"{me.agent}/{self.output}/".encode() + world.token(8)
        self._mark_key = b"mark/" + self.output.encode()
        mark = _read_mark(channel.records(self._mark_key).get(self._mark_key))
        # Positions handed out after this start may lie below the mark as well; only those that
        # were here before may have been sent.
        before = channel.last_position()
        self._flagged_upto = min(mark, before)
        self._flagged_here = 0  # batches, for that reason
        self._flagged_told = 0
        self._stir = Stir()
        self._beat = Beat(self._rests, world.tick_s)
        self.sender = Sender(
            me,
            limits,
            bundle_bytes=bundle_bytes,
            mark=mark,
            old_upto=before,
            jitter=world.random.random,
            new_session=partial(world.token, 8),
            guarantee=guarantee,
        )
        self._departures = Departures(outlet, self.sender, self._wires, self._perform, world.now_s)

    # -- peers -----------------------------------------------------------------------------

    def set_peers(self, peers: Mapping[str, Address]) -> None:
        """Connect to the peers of the topology as it is now; let go of the others gently."""
        now = self._world.now_s()
        for name, address in peers.items():
            wires = self._wires.get(name)
            if wires is not None and wires.address != address:
                self._disconnect(name)
                self._perform(self.sender.lost(name, now))
                wires = None
            if wires is None:
                self._connect(name, address)
        self._perform(self.sender.set_peers(peers, now))

    def _connect(self, name: str, address: Address) -> None:
        def data_link(change: Link) -> None:
            if name in self._wires:
                self._wires[name].data_up = change is Link.UP
                self._linked(name, change)

        def control_link(change: Link) -> None:
            if name in self._wires:
                self._wires[name].control_up = change is Link.UP
                self._control_linked(name, change)

        wires = self._wires[name] = wires_to(
            self._world,
            address,
            self.sender.limits,
            self._route,
            receive=partial(self._received, name),
            data_link=data_link,
            control_link=control_link,
        )
        wires.connect()

    def _disconnect(self, name: str) -> None:
        if name in self._wires:
            self._wires.pop(name).close()

    def _control_linked(self, name: str, change: Link) -> None:
        wires = self._wires[name]
        if change is Link.LOST:
            # The host may be gone without a word; TCP would find that out for data much later.
            wires.push.reconnect(wires.address.data)
            wires.data_up = False
        self._linked(name, change)

    def _linked(self, name: str, change: Link) -> None:
        now = self._world.now_s()
        if change is Link.LOST:
            self._perform(self.sender.lost(name, now))
        elif self._wires[name].up:
            self._perform(self.sender.connected(name, now))

    def _received(self, name: str, parts: list[zmq.Frame]) -> None:
        wires = self._wires.get(name)
        if wires is not None:
            wires.backlog.took(parts[-1])
        try:
            if len(parts) != 1:
                raise PeerError("a message of several parts")
            message = decode(parts[0].buffer)
        except PeerError as error:
            self._unread.note(f"{name} sent what cannot be read: {error}")
            return
        self._perform(self.sender.heard(name, message, self._world.now_s()))
        if isinstance(message, Welcome):
            self._show_face(name)

    def _look_at_wires(self) -> None:
        """Leave those that say more than is read, some in each tick."""
        for _ in range(min(_WIRES_AT_ONCE, len(self._wires))):
            name, wires = next(iter(self._wires.items()))
            self._wires[name] = self._wires.pop(name)
            if wires.says_too_much():
                self._unread.note(f"{name} says more than anybody reads")
                wires.dealer.reconnect(wires.address.control)
                self._control_linked(name, Link.LOST)

    def _show_face(self, name: str) -> None:
        """An empty bundle, so that the data connection is known to be the session's: those that
        nothing is known of are the first to be closed when there are too many."""
        peer, wires = self.sender.peers.get(name), self._wires.get(name)
        if peer is not None and wires is not None and peer.in_session:
            me = self.sender.me
            bundle = Bundle(peer.session, me.channel, peer.channel, 0)
            wires.push.send(encode_bundle(bundle))

    # -- flow ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed())
            tasks.create_task(self._departures.run())
            await self._turn()

    async def _turn(self) -> None:
        """Every tick, and not at rest."""
        while True:
            if not self._outlet.rests():  # peers may take more of some, and of others
                self._outlet.wake()
            self._look_at_wires()
            self._perform(self.sender.tick(self._world.now_s()))
            self._tell_flagged()
            if text := self._unread.due(self._world.now_s()):
                self._event(text)
            await self._beat.next()

    def _rests(self) -> bool:
        if self._stir.is_new():
            self._look_at_wires()
        return self._outlet.rests() and self.sender.rests(self._world.now_s())

    @property
    def flagged(self) -> int:
        return self.sender.flagged + self._flagged_here

    def _tell_flagged(self) -> None:
        if more := self.flagged - self._flagged_told:
            log.warning(
                "%s: flagged %d batches: other peers may have copies; sinks publish one of each",
                self.output,
                more,
            )
            self._flagged_told += more

    async def _feed(self) -> None:
        """Bring the next batches of the queue to the core, many at a time."""
        while True:
            wanted = self.sender.wants()
            entries: Sequence[Entry] = ()
            if wanted >= QUEUE_BATCHES_MAX // 4:
                entries = await self._outlet.take(wanted, self.sender.is_closed_to)
            if entries:
                batches = [self._pending(entry) for entry in entries]
                self._perform(self.sender.offer(batches, self._world.now_s()))
                # Of very many that an earlier run had handed on the loop is not held up.
                await asyncio.sleep(0)
            else:
                await self._outlet.more()

    def _pending(self, entry: Entry) -> Pending:
        flagged = entry.flagged or entry.position <= self._flagged_upto
        if flagged and not entry.flagged and entry.handed_to is None:
            self._flagged_here += 1
        return Pending(
            entry.id,
            entry.position,
            entry.size,
            entry.count,
            entry.hops,
            flagged,
            entry.handed_to,
            crc=entry.crc,
            agent=entry.agent,
        )

    def _let_go(self, effects: SenderEffects) -> None:
        if effects.dead:
            self._outlet.bury([Bad(*one, whole=True) for one in effects.dead])
        if effects.damaged:
            self._outlet.bury([Bad(*one, whole=False) for one in effects.damaged])
        handed = [
            Handed(self.output, one.position, one.handed_to, one.flagged)
            for one in effects.handed
            if one.handed_to is not None
        ]
        if effects.release or handed:
            self._outlet.release(effects.release, Change(handed=handed))

    def go_on(self, before: "SenderGroup") -> None:
        """It counts on from another, which has ended."""
        self._outlet.counts = before._outlet.counts

    def mute(self) -> None:
        """From now on nothing is said, and nothing let go of: this channel is to be renewed."""
        self._mute = True
        self._departures.mute()

    def _perform(self, effects: SenderEffects) -> None:
        if effects.renew:
            self._renew(effects.renew)
        if self._mute:
            return
        self._beat.stir()
        for name, message in effects.say:
            self._say(name, message)
        for sending in effects.send:
            self._departures.send(sending)
        if effects.raise_mark is not None:
            self._raise_mark(effects.raise_mark)
        self._let_go(effects)
        for name in effects.gone:
            self._disconnect(name)

    def _raise_mark(self, mark: int) -> None:
        done = self._channel.submit(Change(records={self._mark_key: _MARK.pack(mark)}))

        def marked(future: "asyncio.Future[tuple[int, ...]]") -> None:
            if not future.cancelled() and future.exception() is None:
                self._perform(self.sender.marked(mark, self._world.now_s()))

        done.add_done_callback(marked)

    def _say(self, name: str, message: Message) -> None:
        wires = self._wires.get(name)
        if wires is None or (isinstance(message, Hello) and not wires.up):
            # Without its data connection a session would only bounce batches back and forth.
            return
        # What cannot leave now is lost on purpose: the core says it again in time.
        wires.dealer.send(encode(message))

    def stop(self) -> None:
        """Let go of every peer, gently."""
        self._perform(self.sender.stop(self._world.now_s()))

    async def settled(self) -> None:
        """After `stop`: until nothing is under way to any peer."""
        while self.sender.peers:  # noqa: ASYNC110 the core has no events to wait for
            await asyncio.sleep(self._world.tick_s)

    def close(self) -> None:
        """Close every socket. What is not acked stays in the channel."""
        self._mute = True
        for name in list(self._wires):
            self._disconnect(name)
        self._outlet.close()

    def work(self) -> Mapping[str, Work]:
        """What no peer has on disk yet."""
        peers = self.sender.peers.values()
        handed = sum(len(peer.handed) for peer in peers)
        up = [peer for peer in peers if peer.state is PeerState.UP]
        waiting, held = self.sender.outstanding() - handed, ""
        apart = self.sender.apart(self._world.now_s())
        passed = self._outlet.passed()
        if waiting <= 0 and passed:  # all that is left was passed over
            waiting = self._channel.stats().queues[self.output].batches - handed
            over = [agent for agent in passed if all(agent in p.over for p in up)]
            if up and over:
                names = ", ".join(peer.name for peer in up)
                held = f"{names}: no more room for batches of {', '.join(over[:_OVER_SHOWN])}"
        elif sum(count for count, _ in apart) == waiting:
            held = "; ".join(why for _, why in apart)
        elif up and all(peer.is_spent() or peer.over for peer in up):
            # Some are on their way to who lets them wait, some are kept for who has no room.
            held = "; ".join(
                f"{peer.name}: no {'credit' if peer.is_spent() else 'more room for some batches'}"
                for peer in up
            )
        if waiting <= 0:
            return {}
        done = sum(peer.batches for peer in peers)
        return {"": Work(f"{waiting:,} batches wait for a peer's ack", done, held)}

    def meters(self) -> Iterable[Sample]:
        return meters.of_group(self, self._outlet.counts)

    def status(self) -> dict[str, Any]:
        """For the status page: peers, and how they are."""
        peers = []
        for peer in self.sender.peers.values():
            wires = self._wires.get(peer.name)
            peers.append({"address": str(wires.address) if wires else "", **peer.status()})
        apart = self.sender.apart(self._world.now_s())
        return {
            "apart": [{"what": f"{count:,} batches", "why": why} for count, why in apart],
            "handed_max": HELD_MAX,
            "peers": peers,
        }


def _read_mark(value: bytes | None) -> int:
    return _MARK.unpack(value)[0] if value is not None and len(value) == _MARK.size else 0
