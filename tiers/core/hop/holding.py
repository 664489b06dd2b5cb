"""What peers say of batches that they were sent: stored, published, or unknown to them."""

import math
from collections.abc import Iterable, Mapping

from tiers.core.batch import BatchId
from tiers.core.hop.assigning import SenderEffects
from tiers.core.hop.messages import Ack, Answer, Ask, Guarantee, Identity, in_pieces
from tiers.core.hop.outbox import Outbox
from tiers.core.hop.peers import HandedTo, Peer, Pending


class Holding:
    """Between the outbox of a sender and the words of its peers."""

    def __init__(
        self,
        me: Identity,
        outbox: Outbox,
        peers: Mapping[str, Peer],
        guarantee: Guarantee,
    ) -> None:
        self._me = me
        self._outbox = outbox
        self._peers = peers
        self._guarantee = guarantee

    def offer(self, pending: Pending) -> None:
        """One that an earlier run had handed on. It had promised more than "hop", so that also
        with "hop" its peer is asked whether its disk is still there."""
        assert pending.handed_to is not None, "it was handed on"
        peer = self._peers.get(pending.handed_to.agent)
        if peer is None or (peer.in_session and not peer.has(pending)):
            # Taken out of the topology, or its disk is gone: nobody tells what became of it.
            pending.handed_to, pending.flagged = None, True
            self._outbox.put(pending)
        else:
            self._outbox.hand(pending, peer)

    def acked(self, peer: Peer, ack: Ack, now: float, effects: SenderEffects) -> None:
        """It has them on disk, or no output below waits for them."""
        same, _ = self._outbox.compared(ack.stored, ack.sums)
        self._stored(peer, same, now, effects)
        for published in ack.published:
            self._release(peer, published, effects)

    def _stored(
        self, peer: Peer, ids: Iterable[BatchId], now: float, effects: SenderEffects
    ) -> None:
        """The peer has these on disk, in the channel of this session."""
        for key in ids:
            holder = self._outbox.holder(key)
            if self._guarantee == "hop":
                self._release(peer, key, effects)
            elif holder is None or (holder is peer and key not in peer.handed):
                pending = self._let_go(peer, key)
                pending.handed_to = HandedTo(peer.name, peer.channel)
                pending.asked_s = now
                self._outbox.hand(pending, peer)
                effects.handed.append(pending)

    def _release(self, peer: Peer, key: BatchId, effects: SenderEffects) -> None:
        if key in self._outbox:
            effects.release.append(self._let_go(peer, key).position)

    def _let_go(self, peer: Peer, key: BatchId) -> Pending:
        # Not with it any more: stored by an earlier session's bundle, given to another since.
        with_it = self._outbox.holder(key) is peer and key not in peer.handed
        pending = self._outbox.drop(key)
        if with_it:
            peer.acked(pending)
        return pending

    def ask(self, peer: Peer, now: float, effects: SenderEffects) -> None:
        """In a new session: at once for what it may have, since that waits to be sent, and in time
        for all that it was handed."""
        if peer.ambiguous:
            peer.asked_s = now
        for pending in peer.handed.values():
            pending.asked_s = -math.inf
        self._say(peer, (*peer.ambiguous, *peer.due(now)), effects)

    def ask_due(self, peer: Peer, now: float, effects: SenderEffects) -> None:
        """For what it was handed so long ago that it may have forgotten to say."""
        self._say(peer, peer.due(now), effects)

    def _say(self, peer: Peer, ids: Iterable[BatchId], effects: SenderEffects) -> None:
        for piece in in_pieces(ids):
            ask = Ask(peer.session, self._me.channel, peer.channel, piece)
            effects.say.append((peer.name, ask))

    def answered(self, peer: Peer, answer: Answer, now: float, effects: SenderEffects) -> None:
        """What became of what it was asked for."""
        if (answer.sender, answer.receiver) != (self._me.channel, peer.channel):
            return
        self._me.life.meet(peer.channel, peer.name, answer.point)
        for key in answer.published:
            self._release(peer, key, effects)
        same, other = self._outbox.compared(answer.held, answer.sums)
        self._stored(peer, same, now, effects)
        for with_it in (peer.ambiguous, peer.handed):
            unknown = [with_it.pop(key) for key in (*answer.unknown, *other) if key in with_it]
            # With "end" it may have been there, and have gone on before its copy was damaged; in
            # another start it may have gone on before the disk went back.
            kept = peer.guarantee == "end" or with_it is peer.handed
            for flagged in (False, True):
                some = [p for p in unknown if (kept or p.start != peer.start) is flagged]
                self._outbox.requeue(some, flagged=flagged)
        if not peer.ambiguous:
            peer.asked_s = None
