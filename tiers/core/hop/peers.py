"""One next-hop peer as a sender sees it: health, session, credit and what it may hold.

    state        what it means                              leaves it by
    connecting   no WELCOME yet                             welcome -> up, refused/late -> down
    up           in a session; may be sent batches          lost, silent, restarted -> suspect
    suspect      may come back; its batches wait for it     welcome -> up, failover_after -> down
    down         its batches may go to other peers          welcome -> up
    draining     up, but wants no more batches              all acked -> down, lost -> suspect

`_MOVES` is that table. A session lives from HELLO to the next HELLO; leaving `up` or `draining`
ends it, and everything unacked of it becomes ambiguous: the peer may have it or not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice, takewhile
from typing import Final, NamedTuple

from tiers.core.batch import BatchId, Hop
from tiers.core.hop.messages import (
    HEAD_BYTES_MAX,
    IDS_MAX,
    PROTOCOL,
    PROTOCOL_MIN,
    Later,
    Reject,
    Welcome,
    protocols,
)
from tiers.core.names import NAME_CHARS_MAX
from tiers.core.printable import printable

PEERS_MAX: Final = 1000  # of one agent, all its outputs together


class PeerState(StrEnum):
    """See the table above."""

    CONNECTING = "connecting"
    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    DRAINING = "draining"


_MOVES: Final = {
    ("welcome", PeerState.CONNECTING): PeerState.UP,
    ("welcome", PeerState.SUSPECT): PeerState.UP,
    ("welcome", PeerState.DOWN): PeerState.UP,
    ("goodbye", PeerState.UP): PeerState.DRAINING,
    ("left", PeerState.DRAINING): PeerState.DOWN,
    ("lost", PeerState.UP): PeerState.SUSPECT,
    ("lost", PeerState.DRAINING): PeerState.SUSPECT,
    ("late", PeerState.CONNECTING): PeerState.DOWN,
    ("late", PeerState.SUSPECT): PeerState.DOWN,
    ("refused", PeerState.CONNECTING): PeerState.DOWN,
    ("refused", PeerState.SUSPECT): PeerState.DOWN,
}


_OVER_S: Final = 0.5  # so long a batch of one that has its share waits, and is offered again
_LATER_FIRST_S: Final = 5.0  # after "not yet" a batch is offered again, then after twice as long
_LATER_MAX_S: Final = 600.0
_REASON_CHARS_MAX: Final = 400  # kept of what a peer says of a batch


class HandedTo(NamedTuple):
    """Who has on disk a batch that is not published yet, with `guarantee = "end"`."""

    agent: str
    channel: bytes  # its channel id


class Refusal(NamedTuple):
    """Why a peer does not take a batch."""

    reason: str
    until_s: float = math.inf  # inf: it never will
    wait_s: float = 0.0  # that there were until then


@dataclass(slots=True)
class Pending:
    """A batch that an output has not let go of."""

    id: BatchId
    position: int
    size: int  # bytes of the record
    count: int  # events
    hops: tuple[Hop, ...] = ()
    flagged: bool = False
    handed_to: HandedTo | None = None
    asked_s: float = -math.inf  # when its peer was last asked for it, or said to have it
    refusals: dict[str, Refusal] = field(default_factory=dict)  # by peer, as it said
    crc: int | None = None  # of the record; None: not known, so not compared
    agent: str = ""  # that stored it first
    start: bytes = b""  # of its peer's channel when it was sent there


class Sent(NamedTuple):
    """A batch in flight: when it left, and its place, by which a receiver may reject it."""

    pending: Pending
    at_s: float
    bundle: int  # number in the session
    place: int  # in the bundle


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Times in seconds, sizes in bytes; from `[delivery]` of the topology."""

    window_bytes_max: int = 16 << 20  # in flight to one peer
    window_batches_max: int = 4096
    window_start_bytes: int = 2 << 20  # slow start: grows by what is acked
    failover_after_s: float = 2.0  # suspect -> down
    heartbeat_s: float = 0.5
    silence_s: float = 1.5  # nothing heard for so long -> suspect
    ack_timeout_s: float = 10.0  # an ack or an answer later than this is late
    retry_first_s: float = 0.1
    retry_max_s: float = 10.0
    lost_after_s: float = 600.0  # down for so long -> what it had stored goes to others, flagged
    ask_again_s: float = 30.0  # what was handed on and is not published is asked for so often
    message_size_max: int = 32 << 20  # our own, as `batch_size_max`: a peer's may be others
    batch_size_max: int = 1 << 20


@dataclass(slots=True)
class Peer:
    """One peer. The sender drives it; nothing here sends."""

    name: str
    limits: PeerLimits
    state: PeerState = PeerState.CONNECTING
    since_s: float = 0.0  # of the state
    leaving: bool = False  # taken out of the topology: gone once nothing is ambiguous
    error: str = ""
    refused: bool = False  # down because it, or we, will not: a person has to act
    session: bytes = b""  # the newest one we began
    channel: bytes = b""  # the peer's channel id at its last WELCOME
    start: bytes = b""  # of that channel, as said there; empty: it says none
    guarantee: str = ""  # of the peer's tier, as said there
    message_size_max: int = 0  # as said at its last WELCOME; 0 before
    batch_size_max: int = 0
    limit: int = 0  # bytes of records we may send in all in this session
    sent: int = 0  # bytes of records sent in this session
    window: int = 0
    over: frozenset[str] = frozenset()  # first agents of whom it takes nothing now
    stores: Mapping[str, str] = field(default_factory=dict)  # "tier/output" -> store id, below it
    bundles: int = 0  # sent in this session
    in_flight: dict[BatchId, Sent] = field(default_factory=dict)
    in_flight_bytes: int = 0
    ambiguous: dict[BatchId, Pending] = field(default_factory=dict)
    # Stored there, not published: with `guarantee = "end"`. Who was not asked for longest, first.
    handed: dict[BatchId, Pending] = field(default_factory=dict)
    asked_s: float | None = None  # an ASK is out since
    asked_limit: int = -1  # the limit at which credit was asked for
    heard_s: float = 0.0
    ping_s: float = 0.0  # next PING
    hello_s: float = 0.0  # next HELLO
    retry_s: float = 0.0  # the wait after that
    batches: int = 0  # acked, in all
    events: int = 0
    newest_ms: int = 0  # of these: when the first agent had stored it

    def move(self, event: str, now: float) -> bool:
        """Take the step of the table; False where it has none."""
        state = _MOVES.get((event, self.state))
        if state is None:
            return False
        if event == "lost":
            self._retire()
        self.state, self.since_s = state, now
        self.refused = event == "refused"
        return True

    def _retire(self) -> None:
        """The session is over: what it had in flight may be there or not."""
        self.ambiguous.update((key, sent.pending) for key, sent in self.in_flight.items())
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self.asked_s = None
        self.hello_s = 0.0
        self.retry_s = self.limits.retry_first_s

    def another(self, answer: Welcome, topology: str) -> str:
        """Why who answers is not this peer; empty where it is. One agent under two names would end
        the session under the one name with that under the other, for ever."""
        if answer.agent != self.name:
            told = printable(answer.agent, NAME_CHARS_MAX)
            return f"at its address answers '{told}': the topology must name each agent's own"
        if answer.topology != topology:
            told = printable(answer.topology, NAME_CHARS_MAX)
            return f"belongs to topology '{told}', not to {topology!r}"
        return ""

    def unfit(self, answer: Welcome, guarantee: str, stores: Mapping[str, str]) -> str:
        """Why it must not have our batches, though it would take them; empty when it may. `stores`
        are those below the other peers, as in `stores`."""
        if guarantee == "end" and answer.guarantee != "end":
            return f"has guarantee {answer.guarantee!r:.20}: all tiers must have 'end', as here"
        if not PROTOCOL_MIN <= answer.protocol <= PROTOCOL:
            return f"speaks protocol {answer.protocol}; this agent {protocols()}"
        if answer.message_size_max <= HEAD_BYTES_MAX:
            return f"takes messages of at most {answer.message_size_max} bytes: too short for ours"
        for output, store in answer.stores.items():
            if stores.get(output, store) != store:
                return (
                    f"writes {output} to store {store}, other peers to {stores[output]}: "
                    "all agents of a tier must write an output to the same store"
                )
        return ""

    def begin(self, session: bytes, now: float, jitter: Callable[[], float]) -> None:
        """A HELLO is about to leave. Waits for the next grow, jittered, up to their limit."""
        assert not self.in_flight, "a session ends before the next begins"
        self.session = session
        self.limit = self.sent = self.bundles = 0
        self.asked_s = None
        self.asked_limit = -1
        self.over = frozenset()
        wait = self.retry_s or self.limits.retry_first_s
        self.hello_s = now + wait * (0.5 + jitter())
        self.retry_s = min(2 * wait, self.limits.retry_max_s)

    def welcomed(self, now: float) -> None:
        """The session is on."""
        self.window = self.limits.window_start_bytes
        self.ping_s = now + self.limits.heartbeat_s
        self.retry_s = self.limits.retry_first_s
        self.error = ""

    @property
    def in_session(self) -> bool:
        return self.state in (PeerState.UP, PeerState.DRAINING)

    def room(self) -> int:
        """Bytes that may be sent now. A batch may overshoot it once, so that a small credit
        moves a large batch."""
        if self.state is not PeerState.UP or self.leaving:
            return 0
        if len(self.in_flight) >= self.limits.window_batches_max:
            return 0
        return max(0, min(self.limit - self.sent, self.window - self.in_flight_bytes))

    def is_spent(self) -> bool:
        """Whether all of its credit was used."""
        return self.limit <= self.sent

    def is_starving(self) -> bool:
        """Without credit, for which it was not asked yet."""
        return self.is_spent() and self.limit != self.asked_limit

    def sending(self, pending: Pending, now: float, place: int) -> None:
        """A batch leaves for this peer, at `place` of its next bundle."""
        pending.start = self.start
        self.in_flight[pending.id] = Sent(pending, now, self.bundles + 1, place)
        self.in_flight_bytes += pending.size
        self.sent += pending.size

    def acked(self, pending: Pending) -> None:
        """The peer has it, and was let go of it."""
        self.batches += 1
        self.events += pending.count
        if pending.hops:
            self.newest_ms = max(self.newest_ms, pending.hops[0].stored_ms)
        self.window = min(self.window + pending.size, self.limits.window_bytes_max)

    def pending(self, key: BatchId) -> Pending:
        """A batch that is with this peer."""
        if key in self.in_flight:
            return self.in_flight[key].pending
        return self.ambiguous[key] if key in self.ambiguous else self.handed[key]

    def forget(self, key: BatchId) -> Pending | None:
        """Let go of a batch, wherever it is with this peer."""
        if key in self.in_flight:
            pending = self.in_flight.pop(key).pending
            self.in_flight_bytes -= pending.size
            return pending
        return self.ambiguous.pop(key, None) or self.handed.pop(key, None)

    def skip(self, key: BatchId) -> None:
        """A batch did not leave with its bundle after all: those behind it moved up."""
        gone = self.in_flight[key]
        self.forget(key)
        for other, sent in self.in_flight.items():
            if sent.bundle == gone.bundle and sent.place > gone.place:
                self.in_flight[other] = sent._replace(place=sent.place - 1)

    def at(self, bundle: int, place: int) -> BatchId | None:
        """Which batch in flight has that place; None where none has."""
        for key, sent in self.in_flight.items():
            if (sent.bundle, sent.place) == (bundle, place):
                return key
        return None

    def other_limits(self) -> str:
        """Those of the peer's limits, as it said, that are not ours; empty where all are."""
        return "; ".join(
            f"its {name} is {theirs} bytes, here {ours}"
            for name, theirs, ours in (
                ("message_size", self.message_size_max, self.limits.message_size_max),
                ("batch.size", self.batch_size_max, self.limits.batch_size_max),
            )
            if theirs not in (0, ours)
        )

    def refusal(self, pending: Pending, now: float) -> Refusal | None:
        """Why the peer does not take a batch now, as far as is known; None where it may."""
        most = self.message_size_max - HEAD_BYTES_MAX
        if self.message_size_max and pending.size > most:
            return Refusal(f"record of {pending.size} bytes; {self.name} takes at most {most}")
        if pending.agent in self.over:
            why = f"{self.name} has no more room for batches of {pending.agent} now"
            return Refusal(why, now + _OVER_S)
        said = pending.refusals.get(self.name)
        return said if said is not None and now < said.until_s else None

    def held(self, pending: Pending, now: float) -> str:
        """Why the peer gets no batch now, in words; empty where it may, or where it is down."""
        if refused := self.refusal(pending, now):
            return refused.reason
        spent = self.state is PeerState.UP and self.is_spent()
        return f"{self.name}: no credit" if spent else ""

    def refused_it(self, pending: Pending, message: Reject | Later, now: float) -> None:
        """The peer has said that it never takes a batch, or not yet."""
        reason = message.reason[:_REASON_CHARS_MAX]
        if isinstance(message, Later):
            before = pending.refusals.get(self.name, Refusal("", wait_s=_LATER_FIRST_S / 2))
            wait_s = min(2 * before.wait_s, _LATER_MAX_S, message.wait_ms / 1000 + 1)
            refusal = Refusal(f"{self.name} does not take it yet: {reason}", now + wait_s, wait_s)
        else:
            refusal = Refusal(f"rejected by {self.name}: {reason}")
        pending.refusals[self.name] = refusal

    def has(self, pending: Pending) -> bool:
        """Whether the batch was handed to the very channel that the peer has."""
        return pending.handed_to == HandedTo(self.name, self.channel)

    def due(self, now: float) -> list[BatchId]:
        """What was handed on long ago: a receipt may be lost, or the batch. No more than fit one
        message: the peer has to look each of them up, and is to answer pings meanwhile. They count
        as asked for from now on."""
        long_ago = now - self.limits.ask_again_s
        waiting = takewhile(lambda one: one.asked_s < long_ago, self.handed.values())
        due = list(islice(waiting, IDS_MAX))
        for pending in due:
            pending.asked_s = now
            self.handed[pending.id] = self.handed.pop(pending.id)
        return [pending.id for pending in due]

    def taken_back(self) -> list[Pending]:
        """What was handed to another channel than the peer has now: that disk is gone."""
        lost = [pending for pending in self.handed.values() if not self.has(pending)]
        for pending in lost:
            del self.handed[pending.id]
        return lost

    def is_lost(self, now: float) -> bool:
        """Not to be waited for any more, even by what it had stored."""
        long_down = now - self.since_s > self.limits.lost_after_s
        return self.state is PeerState.DOWN and (self.leaving or long_down)

    def status(self) -> dict[str, object]:
        """For the status page."""
        return {
            "agent": self.name,
            "state": self.state.value,
            "leaving": self.leaving,
            "in_flight": len(self.in_flight),
            "ambiguous": len(self.ambiguous),
            "handed": len(self.handed),
            "error": self.error,
            "other_limits": self.other_limits(),
        }

    def rests(self, now: float) -> bool:
        """Whether time alone changes nothing yet: nothing is open, and nothing is due."""
        if self.leaving or self.in_flight or self.ambiguous or self.asked_s is not None:
            return False
        if self.state is PeerState.UP:
            return now < self.ping_s and now - self.heard_s <= self.limits.silence_s
        return self.state is PeerState.DOWN and not self.handed and now < self.hello_s

    def is_late(self, now: float) -> bool:
        """Silent, or an ack that should long be here."""
        if now - self.heard_s > self.limits.silence_s:
            return True
        # Insertion order is sending order, so the first is the oldest.
        oldest = next(iter(self.in_flight.values()), None)
        return oldest is not None and now - oldest.at_s > self.limits.ack_timeout_s
