"""Who is connected to a receiver's two ports, and who is shown the door when it becomes too much.

    stranger   has no session: cannot be told from an attack   proved -> guest
    guest      its session is on                               session over -> stranger

Strangers are bounded in number, in the bytes that came from them and were not taken yet (frames
that are never finished), and in silence. Of too many bytes, those go that have stalled longest. A
guest holds no more than its session lets it send.

Of too many connections one of the address that has most goes: the one that came first, as an agent
has its session soon after it has connected. For that it is given time. Where all are within it, and
the newcomer is of a crowd as large, the newcomer goes: else of many agents that come at once, as to
a receiver that was started again, each would be pushed out by the next before it has its session,
and come again, for ever. An agent needs both of its connections for a session, so the bound is
meant to hold those of many.

Bytes on the wire are not bytes in memory: a message of no byte takes two there and 80 here, and so
does each part of a message of which the last never comes. So the memory that has grown beyond what
bytes explain is laid at the door of strangers that hold any, else of the guests that hold most.

Pure: time, memory, what came from whom, and which sessions are on are arguments.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

_GUESTS_AT_ONCE: Final = 512  # looked at in one go: the others have their turn in the next
_GUESTS_AT_REST: Final = 32  # likewise, while memory does not grow
_GROWN_BYTES: Final = 8 << 20
_STRANGERS_AT_ONCE: Final = 512  # likewise
_FEW: Final = 8  # strangers of one address: not a crowd
_CONNECTION_BYTES: Final = 28 << 10  # of one that has shaken hands: 26.5 KiB were measured
_GUEST_BYTES: Final = 44 << 10  # of a guest's, its part of the session included: 41 were measured
_HELD_MIN: Final = 4096  # of one visitor: less is not what memory grows by
_USUAL_AFTER_S: Final = 10.0
_TIMES_MAX: Final = 40  # so many bytes of memory for one that came, at most
# Of a guest whose last messages wait: libzmq keeps the buffer of 19 KiB in which a small one came.
_BUFFERS_BYTES: Final = 64 << 10
SWOLLEN: Final = "what it sends takes many times its bytes of memory"


class Allowed(NamedTuple):
    """How many bytes of a session may be under way on a port."""

    usual: int  # beyond that they count for all sessions together
    most: int


Room = Callable[[str, bytes], Allowed | None]  # by port and session; None where there is none
# How many bytes those may send whose session is on and whose data connection is not known yet.
Awaited = Callable[[], int]


@dataclass(frozen=True, slots=True)
class VisitorLimits:
    strangers_max: int = 2048  # as 1,000 agents have them
    greeting_s: float = 2.0  # so long one is not pushed out: it is about to have its session
    bytes_max: int = 40 << 20  # of all strangers: one message of the largest, and a little
    together_bytes_max: int = 64 << 20  # the same with what libzmq takes for their connections
    silence_s: float = 60.0
    swollen_bytes_max: int = 64 << 20  # of memory, beyond twice what is held
    beyond_bytes_max: int = 64 << 20  # of all guests, beyond what is usual
    words_bytes_max: int = 32 << 20  # said to guests or by them on the control port, and not read

    @property
    def address_max(self) -> int:
        """Strangers of one address: some places are always there for others."""
        return self.strangers_max - self.strangers_max // 64

    def stranger_bytes(self, strangers: int) -> int:
        """What so many may hold that was not taken."""
        return max(0, min(self.bytes_max, self.together_bytes_max - _CONNECTION_BYTES * strangers))


@dataclass(slots=True)
class Visitor:
    """One connection."""

    port: str  # "data" or "control"
    address: str
    since_s: float
    moved_s: float  # when bytes came last
    came: int = 0  # bytes in all
    taken: int = 0  # of these, in messages that were taken
    session: bytes = b""
    told: int = 0  # bytes that were said to it
    beyond: int = 0  # bytes more than usual that it held when it was last looked at
    words: int = 0  # bytes said to it or by it that waited when it was last looked at

    @property
    def held(self) -> int:
        return max(0, self.came - self.taken)


class BytesMoved(NamedTuple):
    """Bytes that moved over a connection in all."""

    came: int
    read: int = 0  # by the other end's host


class Gone(NamedTuple):
    """A connection to close."""

    key: int
    why: str


def _explained(guest: Visitor) -> int:
    """Bytes of memory that an honest guest may take, with so much of it waiting."""
    return max(2 * guest.held, min(_TIMES_MAX * guest.held, _BUFFERS_BYTES))


class Visitors:
    """By a key that names a connection while it is open. `now` is monotonic seconds."""

    def __init__(
        self,
        limits: VisitorLimits,
        room: Room,
        awaited: Awaited = lambda: 0,
        pending: Awaited = lambda: 0,
    ) -> None:
        self.limits = limits
        self.patient = False  # nothing is taken for now: silence is not theirs, and held is held
        self._room = room
        self._awaited = awaited
        self._pending = pending  # bytes that were taken and are not on disk yet
        self._strangers: OrderedDict[int, Visitor] = OrderedDict()  # those first that came first
        self._addresses: dict[str, OrderedDict[int, None]] = {}  # of strangers
        self._turn: deque[int] = deque()  # strangers that are still to be looked at in this round
        self._guests: OrderedDict[int, Visitor] = OrderedDict()  # longest not looked at first
        self._sessions: dict[tuple[str, bytes], int] = {}  # the newest connection of each
        self._beyond = 0  # of all guests
        self._words = 0
        self.over: deque[tuple[str, bytes]] = deque()  # ports, and sessions that left them
        self._calm: float = math.inf  # memory as it usually is
        self._least: float = math.inf  # memory since it grew last
        self._hurry = 0  # looks until all guests were looked at since then
        self._told: float = math.inf  # when it was last laid at somebody's door
        self._high_s = 0.0  # since when it is more than usual, and no stranger's

    def __len__(self) -> int:
        return len(self._strangers) + len(self._guests)

    @property
    def strangers(self) -> int:
        return len(self._strangers)

    @property
    def looks(self) -> int:
        """How many looks it takes to see all guests."""
        return 1 + len(self._guests) // self._at_once()

    def _at_once(self) -> int:
        hurry = self._hurry or self._beyond or math.isinf(self._least)
        return _GUESTS_AT_ONCE if hurry else _GUESTS_AT_REST

    def notice(self, memory: int) -> None:
        """What the process has of its own now. Who holds more than it may takes memory: while that
        does not grow, guests are looked at a few at a time."""
        if memory - self._least > _GROWN_BYTES:
            self._least = memory
            self._hurry = 1 + len(self._guests) // _GUESTS_AT_ONCE
        self._least = min(self._least, memory)

    def is_calm(self) -> bool:
        """Whether nothing is to be looked at closely."""
        return not (self._strangers or self._beyond)

    def has(self, port: str, session: bytes) -> bool:
        """Whether a session's connection to that port is known."""
        return (port, session) in self._sessions

    def get(self, key: int) -> Visitor | None:
        return self._strangers.get(key) or self._guests.get(key)

    def came(self, key: int, port: str, address: str, now: float) -> Iterator[Gone]:
        """A connection was accepted."""
        self.left(key)  # its end was not told
        self._welcome_stranger(key, Visitor(port, address, now, now))
        if len(self._addresses[address]) > self.limits.address_max:
            crowded = address
        elif len(self._strangers) > self.limits.strangers_max:
            crowded = max(self._addresses, key=lambda one: len(self._addresses[one]))
        else:
            return
        count = len(self._addresses[crowded])
        first = next(iter(self._addresses[crowded] if count > _FEW else self._strangers))
        had_time = now - self._strangers[first].since_s >= self.limits.greeting_s
        if had_time or count > max(_FEW, len(self._addresses[address])):
            yield self._show_out(first, f"too many, most of them from {crowded}")
        else:
            yield self._show_out(key, f"too many at once, most of them from {crowded}")

    def left(self, key: int) -> None:
        """A connection is over. Fine when it is not known."""
        guest = self._guests.get(key)
        self._forget(key)
        if guest is not None and not self.has(guest.port, guest.session):
            self.over.append((guest.port, guest.session))

    def _forget(self, key: int) -> None:
        visitor = self._strangers.pop(key, None)
        if visitor is not None:
            at_address = self._addresses[visitor.address]
            del at_address[key]
            if not at_address:
                del self._addresses[visitor.address]
        guest = self._guests.pop(key, None)
        if guest is not None:
            self._note(guest, 0, 0)
        if guest is not None and self._sessions.get((guest.port, guest.session)) == key:
            del self._sessions[guest.port, guest.session]

    def proved(self, key: int, session: bytes) -> None:
        """A message of a session came over this connection. The session's connection before is
        a stranger's again."""
        visitor = self.get(key)
        if visitor is None or (visitor.session == session and key in self._guests):
            return
        self._forget(key)
        before = self._sessions.get((visitor.port, session))
        if before is not None:
            self._demote(before, visitor.moved_s)
        visitor.session = session
        self._guests[key] = visitor
        self._sessions[visitor.port, session] = key

    def to_look_at(self, memory: int = 0) -> list[int]:
        """Whose bytes `look` wants to know; `memory` as there."""
        if memory and self.is_swollen(memory):
            return [*self._strangers, *self._guests]
        if not self._turn:
            self._turn.extend(self._strangers)
        strangers = [self._turn.popleft() for _ in range(min(_STRANGERS_AT_ONCE, len(self._turn)))]
        return [*strangers, *islice(self._guests, self._at_once())]

    def tell(self, session: bytes, count: int) -> None:
        """So many bytes were said to a session."""
        guest = self._guests.get(self._sessions.get(("control", session), -1))
        if guest is not None:
            guest.told += count

    def look(self, came: Mapping[int, BytesMoved], now: float, memory: int = 0) -> Iterator[Gone]:
        """`came`: what moved over a connection in all, of those to look at. `memory`: what the
        process has of its own, and has not freed; 0 where that is not known."""
        for key, moved in came.items():
            visitor = self.get(key)
            if visitor is None:
                continue
            if moved.came != visitor.came:
                visitor.came, visitor.moved_s = moved.came, now
            if key in self._guests and visitor.port == "control":
                words = max(0, visitor.told - moved.read) + visitor.held
                self._note(visitor, visitor.beyond, words)
        yield from self._look_at_guests(now)
        self._hurry = max(0, self._hurry - 1)
        yield from self._look_at_all_guests()
        if not self.patient:
            for key, one in list(self._strangers.items()):
                if now - one.moved_s > self.limits.silence_s:
                    yield self._show_out(key, "silent, without a session")
        yield from self._look_at_bytes()
        if memory:
            yield from self._look_at_memory(memory, now)

    def is_swollen(self, memory: int) -> bool:
        """Whether the process has much more memory of its own than usual."""
        memory = self._beside(memory)
        self._calm = min(self._calm, memory)
        self._told = min(self._told, memory)
        return memory - self._calm > self.limits.swollen_bytes_max

    def _beside(self, memory: int) -> int:
        """What of it is not for the connections themselves: who is many has not sent much."""
        return memory - _CONNECTION_BYTES * len(self._strangers) - _GUEST_BYTES * len(self._guests)

    def _look_at_memory(self, memory: int, now: float) -> Iterator[Gone]:
        if not self.is_swollen(memory):
            self._high_s = now
            return
        memory = self._beside(memory)
        most = self.limits.swollen_bytes_max
        strangers = [key for key, one in self._strangers.items() if one.held >= _HELD_MIN]
        guests = [key for key, one in self._guests.items() if one.held >= _HELD_MIN]
        held = {key: one.held for key in (*strangers, *guests) if (one := self.get(key))}
        explained = 2 * (sum(held[key] for key in strangers) + self._pending())
        explained += sum(map(_explained, self._guests.values()))
        if strangers and memory - self._calm - explained > most:
            self._high_s, self._told = now, memory
            for key in strangers:
                yield self._show_out(key, SWOLLEN)
        elif (beyond := memory - self._told - explained) > most:
            self._told = memory
            for key in sorted(guests, key=lambda one: -held[one]):
                if beyond > 0:
                    yield self._show_out(key, SWOLLEN)
                beyond -= _TIMES_MAX * held[key]
        elif now - self._high_s > _USUAL_AFTER_S:
            self._calm = memory  # nobody's here: it is what the agent needs now

    def _look_at_guests(self, now: float) -> Iterator[Gone]:
        for key in list(islice(self._guests, self._at_once())):
            guest = self._guests[key]
            self._guests.move_to_end(key)
            room = self._room(guest.port, guest.session)
            if room is None:
                self._demote(key, now)
            elif guest.held > room.most:
                yield self._show_out(key, "more is under way than its session allows")
            else:
                self._note(guest, max(0, guest.held - room.usual), guest.words)

    def _note(self, guest: Visitor, beyond: int, words: int) -> None:
        self._beyond += beyond - guest.beyond
        self._words += words - guest.words
        guest.beyond, guest.words = beyond, words

    def _look_at_all_guests(self) -> Iterator[Gone]:
        while self._beyond > self.limits.beyond_bytes_max:
            most = max(self._guests, key=lambda key: self._guests[key].beyond)
            yield self._show_out(most, "more is under way than all sessions together may have")
        while self._words > self.limits.words_bytes_max:
            most = max(self._guests, key=lambda key: self._guests[key].words)
            yield self._show_out(
                most, "it says more than is read, or does not read what it is told"
            )

    def _look_at_bytes(self) -> Iterator[Gone]:
        # What waits unread may be small messages, which take many times their bytes.
        most = self.limits.stranger_bytes(len(self._strangers))
        if self.patient:
            most //= 16
        held = sum(one.held for one in self._strangers.values())
        # A sender may send all it has credit for before its first bundle was taken.
        if held <= most or held <= (most := most + self._awaited()):
            return
        stalled = sorted(self._strangers.items(), key=lambda one: (one[1].moved_s, -one[1].held))
        for key, one in stalled:
            if held <= most:
                return
            if one.held:
                held -= one.held
                yield self._show_out(key, "messages begun and not finished")

    def _demote(self, key: int, now: float) -> None:
        guest = self._guests[key]
        self._forget(key)
        guest.session, guest.since_s, guest.moved_s = b"", now, now
        self._welcome_stranger(key, guest)

    def _welcome_stranger(self, key: int, visitor: Visitor) -> None:
        self._strangers[key] = visitor
        self._addresses.setdefault(visitor.address, OrderedDict())[key] = None

    def _show_out(self, key: int, why: str) -> Gone:
        self.left(key)
        return Gone(key, why)
