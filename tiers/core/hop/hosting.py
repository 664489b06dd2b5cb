"""The senders that a receiver has sessions with, and what each of them may send.

Credit is told as a limit of bytes per session, which only grows: a share of the channel's free
room, and of the memory for what is not on disk yet (core/hop/credit.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tiers.core.hop.credit import Credits
from tiers.core.hop.messages import Ack, Message
from tiers.core.hop.questions import Questions
from tiers.core.hop.sessions import Sessions
from tiers.core.hop.upstream import SENDERS_MAX, Upstream
from tiers.core.quota import may_take


@dataclass(frozen=True, slots=True)
class ReceiverLimits:
    """From `[delivery]` of the topology."""

    window_bytes_max: int = 16 << 20  # credit of one sender
    message_size_max: int = 32 << 20
    memory_bytes_max: int = 64 << 20  # what all senders may have sent that is not on disk
    senders_max: int = SENDERS_MAX
    batch_size_max: int = 1 << 20  # told in WELCOME


class Hosting:
    """What an agent's receiver promises to its senders. `now` is monotonic seconds."""

    def __init__(self, limits: ReceiverLimits) -> None:
        self.sessions = Sessions()
        self.questions = Questions()
        self.credits = Credits(limits.memory_bytes_max, limits.window_bytes_max)
        self.draining = False  # no credit for anybody
        # What the channel tells: room for batches of a first agent, and who has none.
        self.room_of: Callable[[str], int] = self._room_of_any
        self.over: tuple[str, ...] = ()
        self.free = 0  # bytes in the channel

    def _room_of_any(self, _agent: str) -> int:
        return may_take(self.free, 0)

    def begin(self, sender: Upstream, old: Upstream | None, now: float) -> None:
        """Its session, in place of the one that its agent had."""
        if old is not None:
            self.forget(old)
            sender.succeed(old)
        self.sessions.begin(sender)
        if not self.draining:
            self.credits.begin(sender.balance, self._room(sender.agent), now)

    def forget(self, sender: Upstream) -> None:
        """Its session is over."""
        self.sessions.end(sender)
        self.questions.forget(sender.agent)
        self.credits.closed(sender.balance)

    def grant(self, sender: Upstream, now: float, wanted: int = 0) -> int:
        """A sender's limit, raised where it may have more. `wanted` bytes wait there; 0: it does
        not say."""
        if not self.draining:
            self.credits.grant(sender.balance, self._room(sender.agent), now, wanted)
        return sender.balance.limit

    def give_back(self, sender: Upstream, now: float) -> Iterator[tuple[bytes, Message]]:
        """What of it was not kept took credit and no room, and no ack will come for it."""
        before = sender.balance.limit
        if not sender.balance.credit and self.grant(sender, now) > before:
            yield sender.route, self._told(sender)

    def turns(self, now: float) -> Iterator[tuple[bytes, Message]]:
        """Credit for those that wait for it."""
        if self.draining:
            return
        for balance in self.credits.turns(self._room, now):
            sender = self.sessions.senders[balance.agent]
            yield sender.route, self._told(sender)

    def _told(self, sender: Upstream) -> Ack:
        return Ack(sender.session, (), (), sender.balance.limit, over=self.over_of(sender))

    def over_of(self, sender: Upstream) -> tuple[str, ...]:
        """Whose batches a sender should keep for now. Its own are held back by its credit."""
        return self.over if sender.carries else ()

    def _room(self, agent: str) -> int:
        # Of all the room, also what was promised to others: idle senders that hold credit must
        # not starve the rest. Who overshoots waits in TCP.
        share = may_take(self.free, 0) // max(1, len(self.sessions.senders))
        return min(share, self.room_of(agent))
