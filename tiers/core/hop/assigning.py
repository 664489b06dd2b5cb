"""Which batch goes to which peer now: round robin by bundle over peers that are up, with credit."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tiers.core.hop.messages import HEAD_BYTES_MAX, Message, index_bytes
from tiers.core.hop.outbox import ALL_MAY, Barred, Outbox
from tiers.core.hop.peers import Peer, PeerState, Pending
from tiers.core.life import Life, Point

_HEAD_BYTES: Final = HEAD_BYTES_MAX - 1024  # of a bundle, for its index
BATCHES_AT_ONCE: Final = 256  # in a bundle: its receiver takes it in one turn of its loop


@dataclass(frozen=True, slots=True)
class Sending:
    """One bundle to leave: read the records, send them in this order."""

    peer: str
    session: bytes
    receiver: bytes  # the peer's channel id
    number: int  # of the bundle in its session
    batches: tuple[Pending, ...]
    point: Point | None = None  # where our channel is


@dataclass(slots=True)
class SenderEffects:
    """Perform in the order of the fields. `raise_mark` is to be put on disk, then `marked` said;
    what comes behind it rides in any later commit. After `renew` nothing more is to be done."""

    renew: str = ""  # our disk went back, or is there twice: why that is known
    say: list[tuple[str, Message]] = field(default_factory=list)
    send: list[Sending] = field(default_factory=list)
    raise_mark: int | None = None
    dead: list[tuple[int, str]] = field(default_factory=list)  # position, reason
    damaged: list[tuple[int, str]] = field(default_factory=list)  # dead, as they cannot be read
    handed: list[Pending] = field(default_factory=list)  # to be kept: who has them, and flags
    release: list[int] = field(default_factory=list)  # positions
    gone: list[str] = field(default_factory=list)  # peers that can be disconnected for good


class Assigning:
    """Between the outbox of a sender and its peers."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Mapping[str, Peer],
        bundle_bytes: int,
        old_upto: int,
        life: Life,
    ) -> None:
        self._old_upto = old_upto  # queued before this start: waits for the word of all peers
        self._life = life
        self._outbox = outbox
        self._peers = peers
        self._bundle_bytes = bundle_bytes
        self._turn = 0

    def assign(self, upto: int, now: float, effects: SenderEffects) -> None:
        """All that may be sent of the queue up to a position, and what no peer can take."""
        self._fail_over(now)
        if self._waits_for_word():
            return
        self._outbox.reunite(now)
        for barred in (*self._outbox.apart(), ALL_MAY):
            self._assign(barred, upto, now, effects)
        for barred in self._outbox.apart():  # of the last queue, too
            self._assign(barred, upto, now, effects)

    def _assign(self, barred: Barred, upto: int, now: float, effects: SenderEffects) -> None:
        while self._outbox.next(upto, barred) is not None:
            peer = self._next_peer(barred)
            if peer is None:
                return
            batches = tuple(self._fill(peer, barred, upto, now, effects))
            if batches:
                peer.bundles += 1
                to = (peer.name, peer.session, peer.channel, peer.bundles)
                effects.send.append(Sending(*to, batches, self._life.point()))

    def _waits_for_word(self) -> bool:
        """Whether what was queued before this start is next, and a peer that can be reached has
        still to say where it met this channel."""
        if not self._old_upto or self._outbox.next(self._old_upto) is None:
            return False
        if all(peer.state is not PeerState.CONNECTING for peer in self._peers.values()):
            self._old_upto = 0
        return bool(self._old_upto)

    def _fail_over(self, now: float) -> None:
        """What a down peer may hold, and a lost one holds, goes to the others, flagged; while there
        are none that take it, it rather waits: the peer itself may be the first to come back."""
        for peer in self._peers.values():
            if peer.state is not PeerState.DOWN or not (peer.ambiguous or peer.handed):
                continue
            if any(other.room() for other in self._peers.values() if other is not peer):
                self._outbox.requeue(peer.ambiguous.values(), flagged=True)
                peer.ambiguous.clear()
                if peer.is_lost(now):
                    self._outbox.requeue(peer.handed.values(), flagged=True)
                    peer.handed.clear()

    def _next_peer(self, barred: Barred) -> Peer | None:
        names = [name for name in self._peers if name not in barred]
        for step in range(len(names)):
            peer = self._peers[names[(self._turn + step) % len(names)]]
            if peer.room():
                self._turn = (self._turn + step + 1) % len(names)
                return peer
        return None

    def _fill(
        self, peer: Peer, barred: Barred, upto: int, now: float, effects: SenderEffects
    ) -> Iterator[Pending]:
        size = head = count = 0
        most = peer.message_size_max - HEAD_BYTES_MAX
        size_max = min(self._bundle_bytes, most)
        while pending := self._outbox.next(upto, barred):
            if peer.refusal(pending, now) is not None:
                self._refused(pending, now, effects)
                continue
            index = index_bytes(pending.hops)
            full = size + pending.size > size_max or head + index > _HEAD_BYTES
            if count and (full or count == BATCHES_AT_ONCE or not peer.room()):
                return
            self._outbox.send(pending, peer, now, count)
            size, head, count = size + pending.size, head + index, count + 1
            yield pending

    def _refused(self, pending: Pending, now: float, effects: SenderEffects) -> None:
        """One peer at least does not take it: it waits for those that may. Dead is only what none
        of the peers takes, those included that are not there now: their limits may be others."""
        peers = [peer for peer in self._peers.values() if not peer.leaving]
        said = {peer.name: why for peer in peers if (why := peer.refusal(pending, now))}
        until_s = min((why.until_s for why in said.values()), default=now)
        if len(said) == len(peers) and until_s == math.inf:
            self._outbox.drop(pending.id)
            reason = "; ".join(why.reason for why in said.values())
            effects.dead.append((pending.position, reason))
        else:
            self._outbox.set_apart(pending, frozenset(said), until_s)
