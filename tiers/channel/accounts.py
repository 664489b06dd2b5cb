"""What each first agent has in a channel: the agent that stored a batch first answers for the room
that it takes, however many agents it came through.

Counted in memory, anew at each open, but for what is remembered of ids: that is counted from the
start on, and fades as it is forgotten. Dead letters have a part of the channel of their own, since
nothing removes them but a person: who has filled its part of that keeps what else is undeliverable
in the queue, in the room of its other batches.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import (
    DEAD_KEY,
    QUEUE_KEY,
    first_agent,
    unguard,
    unpack_item,
    unpack_letter,
)
from tiers.core.quota import may_take

WINDOW_BYTES: Final = 256  # of a window of ids, with its checksums: a new origin costs one at least
DEAD_PART: Final = 4  # dead letters take at most one fourth of a channel's size


class AccountChange(NamedTuple):
    """What a first agent has more (or less) of, in bytes of records."""

    queued: int = 0  # waits for an output
    dead: int = 0  # in dead letters alone
    kept: int = 0  # batches that were to be dead letters, and had no room as such
    seen: int = 0  # what is remembered of the ids of those that have left, about

    def __add__(self, other: tuple[object, ...]) -> "AccountChange":
        assert isinstance(other, AccountChange)
        queued, dead, kept, seen = other
        return AccountChange(
            self.queued + queued, self.dead + dead, self.kept + kept, self.seen + seen
        )

    @property
    def room(self) -> int:
        """What it takes of the room for batches."""
        return self.queued + self.seen


Moves = Mapping[str, AccountChange]


@dataclass(slots=True)
class Accounts:
    """By the name of the first agent."""

    dead_bytes_max: int
    dead_bytes: int = 0
    by_agent: dict[str, AccountChange] = field(default_factory=dict)

    def take(self, moves: Moves) -> None:
        """Changes that are on disk."""
        for agent, move in moves.items():
            now = self.by_agent.get(agent, AccountChange()) + move
            self.dead_bytes += move.dead
            if any(now):
                self.by_agent[agent] = now
            else:
                self.by_agent.pop(agent, None)

    def fade(self, part: float) -> None:
        """A part of what is remembered was forgotten, in time: whose it was is not known."""
        for agent, move in list(self.by_agent.items()):
            if move.seen:
                self.take({agent: AccountChange(seen=-math.ceil(move.seen * min(1.0, part)))})

    def may_bury(self, agent: str, size: int, moves: Moves) -> bool:
        """Whether a dead letter of so many bytes has room, beside what `moves` bring."""
        total = self.dead_bytes + sum(move.dead for move in moves.values())
        held = (
            self.by_agent.get(agent, AccountChange()).dead + moves.get(agent, AccountChange()).dead
        )
        return size <= may_take(self.dead_bytes_max - total, held)

    def kept(self) -> dict[str, int]:
        """How many undeliverable batches of each agent wait in the queues, as far as met."""
        return {agent: move.kept for agent, move in self.by_agent.items() if move.kept}


def dead_bytes_max(size_bytes_max: int) -> int:
    """What dead letters may take of a channel of that size."""
    return size_bytes_max // DEAD_PART


def counted(environment: Environment, txn: Transaction, size_bytes_max: int) -> Accounts:
    """The accounts of what is in a channel now."""
    accounts = Accounts(dead_bytes_max(size_bytes_max))
    moves: dict[str, AccountChange] = {}
    seen: set[int] = set()
    with txn.cursor(environment.db["queue"]) as cursor:
        for key, stored in cursor:
            position = QUEUE_KEY.unpack(key)[1]
            if position not in seen:
                seen.add(position)
                item = unpack_item(unguard("queue", key, stored))
                agent = first_agent(item.hops)
                moves[agent] = moves.get(agent, AccountChange()) + AccountChange(queued=item.size)
    with txn.cursor(environment.db["dead"]) as cursor:
        for key, stored in cursor:
            position = DEAD_KEY.unpack(key)[0]
            if position not in seen:
                seen.add(position)
                item = unpack_letter(unguard("dead", key, stored)).item
                agent = first_agent(item.hops)
                moves[agent] = moves.get(agent, AccountChange()) + AccountChange(dead=item.size)
    accounts.take(moves)
    return accounts
