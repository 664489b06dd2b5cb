"""The hop as a model to search: one shipped Sender, shipped Receivers, and a network that keeps
every message for as long as it likes and delivers in any order.

Time is left out: a timer may fire whenever it could be running. What goes wrong by itself costs
one of a bounded number of *troubles*: a connection lost, a crash, a lost disk, a HELLO that comes
twice. Everything else may happen at any moment: each message, each commit, each failover.
"""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from tiers.core.assigning import Effects as SenderEffects
from tiers.core.batch import BatchId, Envelope, seal
from tiers.core.messages import (
    Ack,
    Bundle,
    Carried,
    Guarantee,
    Hello,
    Identity,
    Message,
    Welcome,
)
from tiers.core.outbox import Outbox
from tiers.core.peers import HandedTo, PeerLimits, PeerState, Pending
from tiers.core.receiver import Effects as ReceiverEffects
from tiers.core.receiver import Receiver, ReceiverLimits
from tiers.core.sender import Sender

ORIGIN = b"edge's channel.."
NEVER = 1e9
LONG_AGO = -1e6
FREE_BYTES = 1 << 20
RECORDS = {
    seq: seal(Envelope(ORIGIN, seq, 1, 1, {}, 1, 1, "lines", "none"), b"x") for seq in (1, 2, 3)
}
LIMITS = PeerLimits()


def half() -> float:
    """Jitter: there is no time here."""
    return 0.5


@dataclass
class Names:
    """Sessions in order. They are told apart, and nothing else: see `frozen`."""

    last: int = 0

    def draw(self) -> bytes:
        self.last += 1
        return self.last.to_bytes(8, "big")


@dataclass
class Disk:
    """What survives a crash of the sender."""

    queue: dict[int, BatchId]
    mark: int = 0
    handed: dict[int, HandedTo] = field(default_factory=dict)
    flagged: set[int] = field(default_factory=set)


@dataclass
class Below:
    """A receiver with its disk, and the messages between it and the sender."""

    name: str
    channel: bytes
    receiver: Receiver
    seen: dict[BatchId, bool] = field(default_factory=dict)  # on disk: whether it is published
    commits: list[list[tuple[BatchId, bool]]] = field(default_factory=list)
    broken: bool = False  # the sender has not noticed yet that it crashed
    inbox: list[Any] = field(default_factory=list)
    outbox: list[Any] = field(default_factory=list)

    def look(self, ids: Iterable[BatchId]) -> Mapping[BatchId, bool]:
        return {key: self.seen[key] for key in ids if key in self.seen}


@dataclass
class World:
    """Everything, as plain values."""

    guarantee: Guarantee
    troubles: int
    names: Names
    disk: Disk
    below: list[Below]
    sender: Sender | None = None
    commits: list[tuple[Any, ...]] = field(default_factory=list)
    unflagged: dict[BatchId, int] = field(default_factory=dict)  # copies that were stored
    lost: set[BatchId] = field(default_factory=set)  # with a disk
    published: set[BatchId] = field(default_factory=set)
    wrong: str = ""

    # -- the sender ------------------------------------------------------------------------

    def boot(self) -> None:
        disk = self.disk
        self.sender = Sender(
            Identity("t", "edge", ORIGIN),
            LIMITS,
            bundle_bytes=1,
            mark=disk.mark,
            jitter=half,
            new_session=self.names.draw,
            guarantee=self.guarantee,
        )
        self.did(self.sender.set_peers([one.name for one in self.below], 0.0))
        batches = [
            Pending(
                key,
                at,
                len(RECORDS[key.seq]),
                1,
                flagged=at <= disk.mark or at in disk.flagged,
                handed_to=disk.handed.get(at),
            )
            for at, key in sorted(disk.queue.items())
        ]
        self.did(self.sender.offer(batches, 0.0))

    def did(self, effects: SenderEffects) -> None:
        by_name = {one.name: one for one in self.below}
        for name, message in effects.say:
            if not isinstance(message, Hello):  # those are said when the model wants it
                by_name[name].inbox.append(message)
        for sending in effects.send:
            carried = [Carried(RECORDS[p.id.seq], p.flagged, ()) for p in sending.batches]
            bundle = Bundle(sending.session, ORIGIN, sending.receiver, sending.number, carried)
            by_name[sending.peer].inbox.append(bundle)
        assert not effects.dead and not effects.damaged, "a dead letter"
        if effects.raise_mark is not None:
            self.commits.append(("mark", effects.raise_mark))
        for one in effects.handed:
            self.commits.append(("handed", one.position, one.handed_to, one.flagged))
        for position in effects.release:
            self.commits.append(("release", position))

    def commit(self) -> None:
        what, *values = self.commits.pop(0)
        disk = self.disk
        match what:
            case "mark":
                disk.mark = max(disk.mark, values[0])
                if self.sender is not None:
                    self.did(self.sender.marked(values[0], 0.0))
            case "handed" if values[0] in disk.queue:
                disk.handed[values[0]] = values[1]
                if values[2]:
                    disk.flagged.add(values[0])
            case "release":
                key = disk.queue.pop(values[0])
                there = any(key in one.seen for one in self.below) or key in self.lost
                if not (key in self.published if self.guarantee == "end" else there):
                    self.wrong = f"{key.seq} is released, and nowhere"

    def hello(self, one: Below) -> None:
        assert self.sender is not None
        peer = self.sender.peers[one.name]
        peer.hello_s = LONG_AGO
        effects = self.sender.tick(0.0)
        one.inbox += [message for _, message in effects.say if isinstance(message, Hello)]
        self.did(effects)

    def fire(self, one: Below) -> None:
        """The peer has been down, or suspect, for as long as it takes."""
        assert self.sender is not None
        self.sender.peers[one.name].since_s = LONG_AGO
        self.did(self.sender.tick(0.0))

    # -- receivers -------------------------------------------------------------------------

    def receiver(self, name: str, channel: bytes) -> Receiver:
        made = Receiver(
            Identity("t", name, channel),
            ReceiverLimits(),
            new_session=self.names.draw,
            guarantee=self.guarantee,
        )
        made.tick(FREE_BYTES, 0.0)
        return made

    def heard(self, one: Below, message: Any) -> None:
        if isinstance(message, Bundle):
            effects = one.receiver.received(message, one.look, 0.0)
        else:
            effects = one.receiver.heard(b"edge", message, one.look, 0.0, 0)
        self.told(one, effects)

    def told(self, one: Below, effects: ReceiverEffects) -> None:
        if effects.append:
            one.commits.append([(batch.id, batch.flagged) for batch in effects.append])
        one.outbox += [message for _, message in effects.say]

    def store(self, one: Below) -> None:
        batches = one.commits.pop(0)
        for key, flagged in batches:
            if key not in one.seen:
                one.seen[key] = False
                self.unflagged[key] = self.unflagged.get(key, 0) + (not flagged)
        self.told(one, one.receiver.stored([key for key, _ in batches], one.look))

    def publish(self, one: Below, key: BatchId) -> None:
        one.seen[key] = True
        self.published.add(key)
        self.told(one, one.receiver.passed_on([key]))

    def crash(self, one: Below, *, disk_lost: bool) -> None:
        if disk_lost:
            self.lost |= one.seen.keys()
            one.seen = {}
            one.channel = one.channel[:1] + self.names.draw() + b"channel"
        one.commits = []
        one.broken = True
        one.receiver = self.receiver(one.name, one.channel)

    # -- the rest --------------------------------------------------------------------------

    def answered(self, one: Below, message: Message) -> None:
        if self.sender is not None:
            self.did(self.sender.heard(one.name, message, 0.0))

    def settle(self) -> None:
        """Time is left out, and so is credit, of which there is enough."""
        for peer in self.sender.peers.values() if self.sender is not None else ():
            peer.since_s = peer.heard_s = 0.0
            peer.hello_s = peer.ping_s = NEVER
            peer.retry_s = LIMITS.retry_first_s
            peer.batches = peer.events = peer.bundles = peer.sent = 0
            peer.window = LIMITS.window_start_bytes
        for one in self.below:
            one.receiver.discarded = one.receiver.duplicates = 0
            for upstream in one.receiver.senders.values():
                upstream.received = upstream.batches = upstream.events = 0

    def prune(self) -> None:
        """Leave out messages that will change nothing, whenever they come: a session that is
        over never comes back. (Searches that prune rely on sessions being compared.)"""
        for one in self.below:
            known = {upstream.session for upstream in one.receiver.senders.values()}
            one.inbox = [m for m in one.inbox if isinstance(m, Hello) or m.session in known]
            if self.sender is not None:
                session, waiting = self.sender.peers[one.name].session, self.sender._outbox
                one.outbox = [m for m in one.outbox if _matters(m, session, waiting)]


def _matters(message: Any, session: bytes, waiting: Outbox) -> bool:
    if isinstance(message, Ack):
        return any(key in waiting for key in (*message.stored, *message.published))
    return bool(message.session == session)


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """A world, and what tells it from others."""

    key: object
    packed: bytes

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.key == other.key

    def world(self) -> World:
        world: World = pickle.loads(self.packed)
        return world


def state_of(world: World, prune: bool = True) -> State:
    """Worlds that differ in the names of sessions alone are one."""
    world.settle()
    if prune:
        world.prune()
    names: dict[bytes, int] = {}
    key = [_frozen(one, names) for one in _parts(world)]
    for one in world.below:
        for messages in (one.inbox, one.outbox):
            messages.sort(key=lambda message: repr(_frozen(message, dict(names))))
            key.append(_frozen(messages, names))
    return State(hash(tuple(key)), pickle.dumps(world))


def _parts(world: World) -> Iterator[Any]:
    """All but the messages."""
    yield from (world.troubles, world.disk, world.sender, world.commits, world.unflagged)
    yield from (world.lost, world.published, world.wrong)
    for one in world.below:
        yield from (one.channel, one.receiver, one.seen, one.commits, one.broken)


def _frozen(value: Any, names: dict[bytes, int]) -> object:
    """Hashable, with sessions numbered as they come."""
    if isinstance(value, bytes) and len(value) == 8:
        return names.setdefault(value, len(names))
    if isinstance(value, bytes | str | int | float | None):
        return value
    if isinstance(value, dict):
        return tuple((_frozen(key, names), _frozen(one, names)) for key, one in value.items())
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, list | tuple | deque):
        return tuple(_frozen(one, names) for one in value)
    if isinstance(value, Names | PeerLimits) or callable(value):
        return ()
    if is_dataclass(value):
        return tuple(_frozen(getattr(value, one.name), names) for one in fields(value))
    return tuple(_frozen(one, names) for one in vars(value).values())


Deed = tuple[str, Callable[[World], None]]


class Hop:
    """One sender, `receivers`, `batches`; `disks`: whether receivers' disks may be lost."""

    def __init__(
        self,
        *,
        receivers: int = 2,
        batches: int = 2,
        troubles: int = 1,
        disks: bool = False,
        guarantee: Guarantee = "hop",
        prune: bool = True,
    ) -> None:
        self._prune = prune
        self._last: tuple[State, World]
        self._receivers = receivers
        self._batches = batches
        self._troubles = troubles
        self._disks = disks
        self._guarantee: Guarantee = guarantee

    def starts(self) -> Iterable[State]:
        queue = {at: BatchId(ORIGIN, at) for at in range(1, self._batches + 1)}
        world = World(self._guarantee, self._troubles, Names(), Disk(queue), [])
        for number in range(self._receivers):
            name, channel = f"r{number}", b"%d's first channel" % number
            below = Below(name, channel[:16], world.receiver(name, channel[:16]))
            world.below.append(below)
        world.boot()
        state = state_of(world, self._prune)
        self._last = (state, world)
        yield state

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Every deed that is possible here, each in a copy of the world."""
        for label, deed in list(self._deeds(self._world(state))):
            world = state.world()
            deed(world)
            yield label, state_of(world, self._prune)

    def wrong(self, state: State) -> str:
        world = self._world(state)
        if world.wrong:
            return world.wrong
        twice = [key.seq for key, count in world.unflagged.items() if count > 1]
        return f"two unflagged copies of {twice}" if twice else ""

    def finished(self, state: State) -> bool:
        return not self._world(state).disk.queue

    def _world(self, state: State) -> World:
        """Only to be looked at."""
        if self._last[0] is not state:
            self._last = (state, state.world())
        return self._last[1]

    def _deeds(self, world: World) -> Iterator[Deed]:
        if world.commits:
            yield f"edge commits {world.commits[0]}", World.commit
        if world.sender is None:
            yield "edge starts", World.boot
        elif world.troubles:
            yield "edge crashes", _trouble(_kill_sender)
        for at, one in enumerate(world.below):
            yield from self._deeds_at(world, at, one)

    def _deeds_at(self, world: World, at: int, one: Below) -> Iterator[Deed]:
        if world.sender is not None:
            yield from _peer_deeds(world, world.sender, at, one)
        if one.commits:
            yield f"{one.name} commits {one.commits[0]}", lambda w: w.store(w.below[at])
        if world.troubles:
            yield f"{one.name} crashes", _trouble(lambda w: w.crash(w.below[at], disk_lost=False))
            if self._disks:
                lose = _trouble(lambda w: w.crash(w.below[at], disk_lost=True))
                yield f"{one.name} loses its disk", lose
        if self._guarantee == "end":
            for key in [key for key, published in one.seen.items() if not published]:
                publish = _with_key(at, key)
                yield f"{one.name} publishes {key.seq}", publish
        for place, message in _distinct(one.inbox):
            shown = _shown(message)
            yield f"{one.name} hears {shown}", _deliver(at, place)
            if isinstance(message, Hello) and world.troubles:
                yield f"{one.name} hears {shown}, not the last time", _trouble(_again(at, place))
        for place, message in _distinct(one.outbox):
            yield f"edge hears {one.name}: {_shown(message)}", _answer(at, place)


def _peer_deeds(world: World, sender: Sender, at: int, one: Below) -> Iterator[Deed]:
    peer = sender.peers[one.name]
    if peer.in_session:
        lose = _lose(at)
        known = any(up.session == peer.session for up in one.receiver.senders.values())
        if one.broken or not known:
            yield f"edge notices that {one.name} is not there", lose
        elif world.troubles:
            yield f"edge loses {one.name}", _trouble(lose)
        return
    under_way = any(
        isinstance(message, Hello | Welcome) and message.session == peer.session
        for message in (*one.inbox, *one.outbox)
    )
    if not under_way:
        yield f"edge says hello to {one.name}", lambda w: w.hello(w.below[at])
    if peer.state is not PeerState.DOWN:
        yield f"{one.name} is down", lambda w: w.fire(w.below[at])
    elif peer.handed:
        yield f"{one.name} is lost", lambda w: w.fire(w.below[at])


def _trouble(deed: Callable[[World], None]) -> Callable[[World], None]:
    def costly(world: World) -> None:
        world.troubles -= 1
        deed(world)

    return costly


def _kill_sender(world: World) -> None:
    world.sender = None
    world.commits = []
    for one in world.below:
        one.outbox = []  # its next life has another route


def _lose(at: int) -> Callable[[World], None]:
    def lose(world: World) -> None:
        assert world.sender is not None
        world.below[at].broken = False
        world.did(world.sender.lost(world.below[at].name, 0.0))

    return lose


def _with_key(at: int, key: BatchId) -> Callable[[World], None]:
    return lambda world: world.publish(world.below[at], key)


def _deliver(at: int, place: int) -> Callable[[World], None]:
    return lambda world: world.heard(world.below[at], world.below[at].inbox.pop(place))


def _again(at: int, place: int) -> Callable[[World], None]:
    return lambda world: world.heard(world.below[at], world.below[at].inbox[place])


def _answer(at: int, place: int) -> Callable[[World], None]:
    return lambda world: world.answered(world.below[at], world.below[at].outbox.pop(place))


def _distinct(messages: list[Any]) -> Iterator[tuple[int, Any]]:
    for place, message in enumerate(messages):
        if message not in messages[:place]:
            yield place, message


def _shown(message: Any) -> str:
    if isinstance(message, Bundle):
        seqs = [
            seq for seq, record in RECORDS.items() for c in message.carried if c.record == record
        ]
        return f"a bundle of {seqs}, flagged {[c.flagged for c in message.carried]}"
    return f"{message!r:.120}"
