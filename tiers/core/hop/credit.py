"""What all senders together may have sent that is not on disk: one memory, by shares and turns.

Credit that was told cannot be taken back, so it counts as memory held, as what came and is not on
disk does. A sender begins with a turn's worth, and is given more as it uses it, up to its share
among those that send. Where less is left than a turn, senders wait in line, and each gets a whole
turn: many small credits would each be overshot by a batch. One that holds credit, does not use it,
and keeps others waiting by that loses its session, the one thing that ends a promise; its next
HELLO begins another.

Of very many that send most send little: a turn each would be more than the memory, and those that
have theirs would hold it unused. So in a *crowd* credit is for what waits at a sender, as its PING
says, or a little where that is less: none begins with any, nor gets any by an ack. Of one that is
fresh nobody knows whether that is true: no more of them have credit than if each had a turn.

Names cost nothing, so there are two lines. Agents of whom nothing was stored yet are *fresh*: all
those together hold half of the memory at most, and however many of them wait, each of the others
waits for one of them at most.

Sizes are bytes, times seconds of a monotonic clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

TURN_BYTES: Final = 1 << 20  # what a turn gives, at least: some batches of the usual size
SLACK_BYTES: Final = TURN_BYTES  # beyond credit, and the batch that overshot it: no mistake
_AGENTS_MAX: Final = 10_000  # agents
_CROWD: Final = 32  # that send or wait, and no more: no crowd
_LITTLE_BYTES: Final = 16 << 10  # in a crowd a turn's least
IDLE_S: Final = 1.0  # who sent nothing for so long takes no share; its credit may be wanted back
TURNS_MAX: Final = 64  # given in one go


@dataclass(slots=True, eq=False)
class Balance:
    """Of one sender in one session."""

    agent: str
    received: int = 0  # of records
    limit: int = 0  # told: what may be received in all
    pending: int = 0  # received, and not on disk
    used: int = 0  # stored in this session
    debt: int = 0  # beyond the credit of earlier sessions, since when it has had none
    raised_s: float = 0.0  # when `limit` was last raised
    fresh: bool = True  # nothing of its agent was stored yet, as far as is known

    @property
    def credit(self) -> int:
        return max(0, self.limit - self.received)

    @property
    def held(self) -> int:
        return self.credit + self.pending


class Credits:
    """Of all senders of a receiver."""

    def __init__(self, memory_bytes_max: int, window_bytes_max: int) -> None:
        self.memory_bytes_max = memory_bytes_max
        self.window_bytes_max = window_bytes_max
        self.held = 0
        self.pending = 0
        self._debts: dict[str, int] = {}  # by agent: else a new session would be worth the slack
        self._holders: dict[Balance, None] = {}  # whose limit was not raised for longest, first
        self._active: dict[Balance, float] = {}  # when they sent last; who is silent longest, first
        self._known: dict[str, None] = {}  # agents of whom something was stored
        self._fresh_held = 0  # credit
        self._fresh_holders: dict[Balance, None] = {}
        self._fresh: dict[Balance, int] = {}  # in line for a turn: the bytes that wait there
        self._waiting: dict[Balance, int] = {}  # the others
        self._fresh_first = False  # whose turn is next where somebody waits in both lines
        self._stalled: dict[Balance, int] = {}  # not even in line: the channel has no room

    @property
    def free(self) -> int:
        return max(0, self.memory_bytes_max - self.held)

    def waiting(self) -> int:
        """Senders in line for a turn."""
        return len(self._waiting) + len(self._fresh)

    def came(self, balance: Balance, size: int, now: float) -> None:
        """Records were received."""
        self._active.pop(balance, None)
        self._active[balance] = now
        before = balance.credit
        balance.received += size
        self._told(balance, before)
        if not balance.credit:
            self._holders.pop(balance, None)
            self._fresh_holders.pop(balance, None)

    def _told(self, balance: Balance, before: int) -> None:
        """Its credit was so much before."""
        self.held += balance.credit - before
        if balance.fresh:
            self._fresh_held += balance.credit - before

    def kept(self, balance: Balance, size: int) -> None:
        """Some of that is on its way to disk."""
        balance.pending += size
        self.pending += size
        self.held += size

    def stored(self, balance: Balance, size: int) -> None:
        """That is on disk."""
        balance.pending -= size
        balance.used += size
        self.pending -= size
        self.held -= size
        if balance.fresh:
            self._prove(balance)

    def _prove(self, balance: Balance) -> None:
        """It is no more fresh, nor is a later session of its agent."""
        self._fresh_held -= balance.credit
        balance.fresh = False
        self._known[balance.agent] = None
        if len(self._known) > _AGENTS_MAX:
            del self._known[next(iter(self._known))]
        if balance in self._fresh_holders:
            del self._fresh_holders[balance]
            self._holders[balance] = None
        if balance in self._fresh:
            self._waiting[balance] = self._fresh.pop(balance)

    def is_beyond(self, balance: Balance, slack: int) -> bool:
        """Whether it sent what no honest sender sends. Limits only grow, so that one that hears of
        them late has less, and overshoots its credit by no more than a batch."""
        return balance.received + balance.debt > balance.limit + min(slack, SLACK_BYTES)

    def closed(self, balance: Balance) -> None:
        """Its session is over: its credit is void."""
        if debt := balance.debt + max(0, balance.received - balance.limit):
            self._debts[balance.agent] = debt
            if len(self._debts) > _AGENTS_MAX:
                del self._debts[next(iter(self._debts))]
        before = balance.credit
        balance.limit = balance.received
        self._told(balance, before)
        for among in (self._holders, self._fresh_holders, self._active):
            among.pop(balance, None)
        for line in (self._fresh, self._waiting, self._stalled):
            line.pop(balance, None)

    def begin(self, balance: Balance, room: int, now: float) -> None:
        """The first credit of a session; none in a crowd, or where half of the memory is held: it
        may ask."""
        balance.fresh = balance.agent not in self._known
        debt = self._debts.pop(balance.agent, 0)
        if not room:
            balance.debt = debt
        waits = balance.fresh and self._fresh_waits()
        crowd = self._is_crowd(fresh=balance.fresh)
        if self.held <= self.memory_bytes_max // 2 and not (waits or crowd):
            self._raise(balance, min(self._turn_most(), room), now)

    def grant(self, balance: Balance, room: int, now: float, wanted: int = 0) -> None:
        """More credit for one that uses it, where the channel has `room` for it; or its place in
        line, behind those that wait already. `wanted` waits at the sender; 0: it does not say."""
        crowd = self._is_crowd(fresh=balance.fresh)
        if crowd and not wanted:
            return
        turn = self._turn(balance, wanted)
        most = turn + balance.pending if crowd else self._target(balance)
        credit = min(room, min(most, balance.held + self.free) - balance.pending)
        if balance.fresh:
            credit = min(credit, turn)
            line, waits = self._fresh, self._fresh_waits()
        else:
            line, waits = self._waiting, bool(self._waiting) or bool(self._next_fresh())
        if balance.credit:
            if not waits:
                self._raise(balance, credit, now)
        elif balance in line:
            line[balance] = wanted  # it has its place
        elif balance in self._stalled or not room:
            self._stalled[balance] = wanted
        elif credit < min(turn, room) and balance.pending and not crowd:
            pass  # once that is on disk
        elif waits or credit < min(turn, room):
            line[balance] = wanted
        else:
            self._raise(balance, credit, now)

    def _target(self, balance: Balance) -> int:
        """What a sender should hold."""
        share = self.memory_bytes_max // max(1, len(self._active) + len(self._waiting))
        return min(self.window_bytes_max, max(self._turn_most(), min(share, 2 * balance.used)))

    def _is_crowd(self, *, fresh: bool) -> bool:
        """Whether a turn for each would be more than half of the memory."""
        return self._count(fresh=fresh) > max(
            _CROWD, self.memory_bytes_max // (2 * self._turn_most())
        )

    def _count(self, *, fresh: bool) -> int:
        """How many send, or wait for a turn. Of fresh ones that wait only fresh ones take note."""
        waiting = len(self._waiting) + (len(self._fresh) if fresh else 0)
        return max(len(self._active), waiting)

    def _turn_most(self) -> int:
        return min(TURN_BYTES, self.window_bytes_max, self.memory_bytes_max)

    def _turn(self, balance: Balance, wanted: int) -> int:
        """Of one at whom so many bytes wait."""
        most = self._turn_most()
        if self._is_crowd(fresh=balance.fresh):
            count = self._count(fresh=balance.fresh)
            little = min(_LITTLE_BYTES, self.memory_bytes_max // (4 * count))
            most = min(most, max(little, wanted))
        return min(most, self._fresh_turn()) if balance.fresh else most

    def _fresh_most(self) -> int:
        return max(self._turn_most(), self.memory_bytes_max // 2)

    def _fresh_turn(self) -> int:
        """Of many that wait each gets less."""
        share = self._fresh_most() // max(1, len(self._fresh))
        return min(self._turn_most(), max(share, self._turn_most() // 4))

    def _fresh_part(self) -> int:
        """What they hold; in a crowd, as if each that has credit had a turn."""
        crowd = self._is_crowd(fresh=True)
        part = len(self._fresh_holders) * self._fresh_turn() if crowd else 0
        return max(part, self._fresh_held)

    def _fresh_room(self) -> bool:
        """Whether a fresh one may be given a turn."""
        return self._fresh_part() + self._fresh_turn() <= self._fresh_most()

    def _fresh_waits(self) -> bool:
        """Whether one that is not in line yet has to go there."""
        return bool(self._fresh) or not self._fresh_room()

    def _next_fresh(self) -> Balance | None:
        return next(iter(self._fresh)) if self._fresh and self._fresh_room() else None

    def _raise(self, balance: Balance, credit: int, now: float) -> None:
        """To so much, if that is more."""
        before = balance.credit
        if credit <= before:
            return
        balance.limit, balance.debt = balance.received + credit, 0
        self._told(balance, before)
        holders = self._fresh_holders if balance.fresh else self._holders
        if 2 * before <= credit:  # it was used, and not only by a trickle
            balance.raised_s = now
            holders.pop(balance, None)
        holders[balance] = None

    def turns(self, room: Callable[[str], int], now: float) -> Iterator[Balance]:
        """Those whose turn has come, their limits raised. Call often."""
        for balance in list(islice(self._active, TURNS_MAX)):
            if now - self._active[balance] < IDLE_S:
                break
            del self._active[balance]
        for balance in list(islice(self._stalled, TURNS_MAX)):
            wanted = self._stalled.pop(balance)
            into = self._stalled if not room(balance.agent) else self._line(balance)
            into[balance] = wanted
        for _ in range(TURNS_MAX):
            fresh, other = self._next_fresh(), next(iter(self._waiting), None)
            next_ = (fresh or other) if self._fresh_first else (other or fresh)
            if next_ is None:
                return
            there = room(next_.agent)
            line = self._line(next_)
            turn = self._turn(next_, line[next_])
            if self.free < min(turn, there):
                return
            self._fresh_first = not next_.fresh
            wanted = line.pop(next_)
            if there:
                crowd = next_.fresh or self._is_crowd(fresh=False)
                most = turn if crowd else self._target(next_)
                self._raise(next_, min(most, self.free, there), now)
                yield next_
            else:
                self._stalled[next_] = wanted

    def _line(self, balance: Balance) -> dict[Balance, int]:
        return self._fresh if balance.fresh else self._waiting

    def rests(self) -> bool:
        """Whether nobody sends or waits, so that there is nothing to be given or taken back."""
        return not (self._active or self._waiting or self._fresh or self._stalled)

    def idle(self, now: float) -> Iterator[Balance]:
        """Those whose credit others wait for, and who have not used it for long: to be closed."""
        fresh_room = max(0, self._fresh_most() - self._fresh_part())
        fresh = min(len(self._fresh), TURNS_MAX) * self._fresh_turn()
        waiting = islice(self._waiting.items(), TURNS_MAX)
        few = not self._is_crowd(fresh=False)
        wanted = sum(self._target(one) if few else self._turn(one, want) for one, want in waiting)
        wanted += min(fresh, fresh_room) - self.free
        fresh -= min(self.free, fresh_room)
        for balance in _idle_of(self._fresh_holders, now):
            if max(wanted, fresh) <= 0:
                break
            wanted -= balance.credit
            fresh -= balance.credit
            yield balance
        for balance in _idle_of(self._holders, now):
            if wanted <= 0:
                break
            wanted -= balance.credit
            yield balance


def _idle_of(holders: dict[Balance, None], now: float) -> Iterator[Balance]:
    for balance in list(islice(holders, TURNS_MAX)):
        if now - balance.raised_s < IDLE_S:
            return
        yield balance
