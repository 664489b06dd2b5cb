"""One hop on a virtual clock: real core senders and receivers, a network and disks made of a seed.

Worse than the world: control messages and bundles are lost, doubled, late and out of order;
senders and receivers crash (what was not on disk is gone), disks are lost, connections drop. What a
receiver has stored is published after a while, if its disk lives so long.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from tiers.core.batch import BatchId, Envelope, seal
from tiers.core.dedupe import Content, Known
from tiers.core.hop.assigning import SenderEffects
from tiers.core.hop.handshake import ReceiverEffects
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import (
    Bundle,
    Carried,
    Guarantee,
    Identity,
    Message,
    decode,
    decode_bundle,
    encode,
    encode_bundle,
)
from tiers.core.hop.peers import HandedTo, PeerLimits, Pending
from tiers.core.hop.receiver import Receiver
from tiers.core.hop.sender import Sender
from tiers.core.life import Life

LIMITS = PeerLimits(
    window_bytes_max=4000,
    window_start_bytes=1000,
    ack_timeout_s=3.0,
    lost_after_s=5.0,
    ask_again_s=2.0,
)


class Violation(AssertionError):
    """An invariant of delivery.md does not hold."""


@dataclass
class SenderDisk:
    """What survives a sender's crash."""

    channel: bytes
    queue: dict[int, tuple[BatchId, bytes]] = field(default_factory=dict)
    handed: dict[int, HandedTo] = field(default_factory=dict)
    flagged: set[int] = field(default_factory=set)
    mark: int = 0
    position: int = 0


@dataclass
class ReceiverDisk:
    channel: bytes
    seen: dict[BatchId, bool] = field(default_factory=dict)  # whether it was passed on since


class World:
    """`senders` x `receivers`, `batches` each. `run` plays faults for a while, then heals."""

    def __init__(
        self,
        seed: int,
        *,
        senders: int = 2,
        receivers: int = 3,
        batches: int = 60,
        disk_loss: bool = False,
        guarantee: Guarantee = "hop",
    ) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.faulty = True
        self.disk_loss = disk_loss
        self.guarantee: Guarantee = guarantee
        self.published: set[BatchId] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.copies: dict[BatchId, Counter[bool]] = {}  # stored copies by flag
        self.accepted: set[BatchId] = set()
        self.lost_with_disk: set[BatchId] = set()
        self.load: Counter[str] = Counter()
        self.receivers = {f"r{n}": ReceiverNode(self, f"r{n}") for n in range(receivers)}
        self.senders = {f"s{n}": SenderNode(self, f"s{n}", batches) for n in range(senders)}

    def later(self, wait: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + wait, next(self._order), what))

    def chance(self, probability: float) -> bool:
        return self.faulty and self.random.random() < probability

    def carry(self, what: Callable[[], None]) -> None:
        """The network: lose, double, delay."""
        if self.chance(0.03):
            return
        slow = self.chance(0.05)
        self.later(self.random.uniform(0.0, 4.0 if slow else 0.01), what)
        if self.chance(0.02):
            self.later(self.random.uniform(0.0, 4.0), what)

    def run(self, faults_s: float = 40.0, heal_s: float = 60.0) -> None:
        for receiver in self.receivers.values():
            receiver.start()
        for sender in self.senders.values():
            sender.start()
        self._play(faults_s)
        self.faulty = False
        self._play(self.now + heal_s)
        for node in self.senders.values():
            if node.disk.queue:
                raise Violation(f"{node.name} does not drain: {len(node.disk.queue)} left")
        there = self.published if self.guarantee == "end" else set(self.copies)
        missing = self.accepted - there - self.lost_with_disk
        if missing:
            raise Violation(f"lost: {missing}")

    def _play(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until

    def stored(self, receiver: str, key: BatchId, flagged: bool) -> None:
        copies = self.copies.setdefault(key, Counter())
        copies[flagged] += 1
        self.load[receiver] += 1
        if copies[False] > 1:
            raise Violation(f"two unflagged copies of {key}")


class SenderNode:
    """A sender with its disk; batches come in over time."""

    def __init__(self, world: World, name: str, batches: int) -> None:
        self.world = world
        self.name = name
        self.left = batches
        self.disk = SenderDisk(name.encode().ljust(16, b"."))
        self.seq = 0
        self.boot = 0

    def start(self) -> None:
        world = self.world
        self.boot += 1
        self.flagged_upto = min(self.disk.mark, self.disk.position)
        self.read_upto = 0
        self.sender = Sender(
            Identity("t", self.name, Life(self.disk.channel)),
            LIMITS,
            bundle_bytes=600,
            mark=self.disk.mark,
            jitter=world.random.random,
            new_session=lambda: world.random.randbytes(8),
            guarantee=world.guarantee,
        )
        self.perform(self.sender.set_peers(world.receivers, world.now))
        self._loop(self.boot)

    def _loop(self, boot: int) -> None:
        if boot != self.boot:
            return
        world = self.world
        if self.left and world.random.random() < 0.5:
            self._accept()
        self.load()
        rests = self.sender.rests(world.now)
        effects = self.sender.tick(world.now)
        assert not rests or effects == SenderEffects(), "where it rests, a tick would do nothing"
        self.perform(effects)
        if world.chance(0.002):
            self.crash()
            return
        for name in world.receivers:
            if world.chance(0.003):
                self.perform(self.sender.lost(name, world.now))
            if world.chance(0.003):
                self.perform(self.sender.connected(name, world.now))
        world.later(0.05, lambda: self._loop(boot))

    def _accept(self) -> None:
        self.left -= 1
        self.seq += 1
        self.disk.position += 1
        key = BatchId(self.disk.channel, self.seq)
        envelope = Envelope(*key, 1, 100, {}, 1, 1, "lines", "none")
        self.disk.queue[self.disk.position] = (key, seal(envelope, b"x" * 100))
        self.world.accepted.add(key)

    def load(self) -> None:
        batches: list[Pending] = []
        for position, (key, record) in sorted(self.disk.queue.items()):
            if position > self.read_upto and len(batches) < self.sender.wants():
                flagged = position <= self.flagged_upto or position in self.disk.flagged
                to = self.disk.handed.get(position)
                batches.append(Pending(key, position, len(record), 1, (), flagged, to))
        if batches:
            self.read_upto = batches[-1].position
            self.perform(self.sender.offer(batches, self.world.now))

    def crash(self) -> None:
        self.boot += 1
        self.world.later(self.world.random.uniform(0, 5), self.start)

    def perform(self, effects: SenderEffects) -> None:
        world, boot = self.world, self.boot
        for peer, message in effects.say:
            self._to(peer, message)
        for sending in effects.send:
            carried = [
                Carried(self.disk.queue[p.position][1], p.flagged, p.hops) for p in sending.batches
            ]
            bundle = Bundle(
                sending.session, self.disk.channel, sending.receiver, sending.number, carried
            )
            frame = encode_bundle(bundle)
            node = world.receivers[sending.peer]
            world.carry(partial(node.bundle, frame))
        if effects.raise_mark is not None:
            wait = world.random.uniform(0, 0.2)
            world.later(wait, partial(self._marked, boot, effects.raise_mark))
        for handed in effects.handed:
            assert handed.handed_to is not None
            kept = partial(self._kept, boot, handed.position, handed.handed_to, handed.flagged)
            world.later(world.random.uniform(0, 0.2), kept)
        for position, reason in (*effects.dead, *effects.damaged):
            raise Violation(f"dead letter {position}: {reason}")
        if effects.release:
            positions = tuple(effects.release)
            world.later(world.random.uniform(0, 0.2), lambda: self._released(boot, positions))

    def _to(self, peer: str, message: Message) -> None:
        node = self.world.receivers[peer]
        data, route = encode(message), self.name.encode()
        self.world.carry(lambda: node.control(route, data))

    def _marked(self, boot: int, mark: int) -> None:
        if boot == self.boot:  # else the commit did not happen
            self.disk.mark = max(self.disk.mark, mark)
            self.perform(self.sender.marked(mark, self.world.now))

    def _kept(self, boot: int, position: int, to: HandedTo, flagged: bool) -> None:
        if boot == self.boot and position in self.disk.queue:
            self.disk.handed[position] = to
            if flagged:
                self.disk.flagged.add(position)

    def _released(self, boot: int, positions: Iterable[int]) -> None:
        if boot != self.boot:
            return
        for position in positions:
            key, _ = self.disk.queue.pop(position)
            if self.world.guarantee == "end" and key not in self.world.published:
                raise Violation(f"{key} released and not published")
            if key not in self.world.copies and key not in self.world.lost_with_disk:
                raise Violation(f"{key} released and stored nowhere")

    def heard(self, boot_of: str, data: bytes) -> None:
        self.perform(self.sender.heard(boot_of, decode(data), self.world.now))


class ReceiverNode:
    """A receiver with its disk; what it stored goes on downstream at once."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.boot = 0
        self.up = False
        self.disk = ReceiverDisk(world.random.randbytes(16))

    def start(self) -> None:
        self.boot += 1
        self.up = True
        me = Identity("t", self.name, Life(self.disk.channel))
        world = self.world
        self.receiver = Receiver(
            me,
            ReceiverLimits(4000, 1 << 20),
            new_session=lambda: world.random.randbytes(8),
            guarantee=world.guarantee,
        )
        self._loop(self.boot)

    def _loop(self, boot: int) -> None:
        if boot != self.boot:
            return
        world = self.world
        free = 0 if world.chance(0.1) else 20_000
        rests = self.receiver.rests()
        effects = self.receiver.tick(free, self.seen, world.now)
        assert not rests or effects == ReceiverEffects(), "where it rests, a tick would do nothing"
        self.perform(effects)
        if world.chance(0.003):
            self.crash()
            return
        world.later(0.05, lambda: self._loop(boot))

    def crash(self) -> None:
        self.boot += 1
        self.up = False
        if self.world.disk_loss and self.world.chance(0.5):
            # What it held may have gone on before, or be lost: both are allowed.
            if self.world.guarantee == "hop":
                self.world.lost_with_disk |= self.disk.seen.keys()
            self.disk = ReceiverDisk(self.world.random.randbytes(16))
        self.world.later(self.world.random.uniform(0, 6), self.start)

    def seen(self, ids: Iterable[BatchId]) -> dict[BatchId, Known]:
        return {key: Known(self.disk.seen[key]) for key in ids if key in self.disk.seen}

    def control(self, route: bytes, data: bytes) -> None:
        if self.up:
            now = self.world.now
            self.perform(self.receiver.heard(route, decode(data), self.seen, now, int(now * 1000)))

    def bundle(self, frame: bytes) -> None:
        if self.up:
            self.perform(self.receiver.received(decode_bundle(frame), self.seen, self.world.now, 0))

    def perform(self, effects: ReceiverEffects) -> None:
        world, boot = self.world, self.boot
        if effects.append:
            batches = [(b.content, b.flagged) for b in effects.append]
            world.later(world.random.uniform(0, 0.5), lambda: self._stored(boot, batches))
        for route, message in effects.say:
            node = world.senders[route.decode()]
            data = encode(message)
            world.carry(partial(node.heard, self.name, data))

    def _stored(self, boot: int, batches: list[tuple[Content, bool]]) -> None:
        if boot != self.boot:
            return  # the crash came first: not on disk
        for (key, _), flagged in batches:
            if key in self.disk.seen:
                raise Violation(f"{self.name} stores {key} twice")
            self.disk.seen[key] = False
            self._publish_later(key)
            self.world.stored(self.name, key, flagged)
        contents = [content for content, _ in batches]
        self.perform(self.receiver.stored(contents, self.seen))

    def _publish_later(self, key: BatchId) -> None:
        world, disk = self.world, self.disk

        def publish() -> None:
            if self.disk is disk:  # else it was lost with it
                disk.seen[key] = True
                world.published.add(key)
                if self.up:
                    self.perform(self.receiver.passed_on([key]))

        world.later(world.random.uniform(0, 6), publish)


__all__ = ["Violation", "World"]
