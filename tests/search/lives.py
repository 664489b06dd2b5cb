"""The hop where disks go back in time, or exist twice (delivery.md): one sender, two receivers, and
for one of these three machines an *image*, what was on its disk at any moment, which is put back
later, or is started beside it as another machine of the same name and address.

As in hop.py, the shipped Sender and Receiver are stepped, and time is left out. Bundles and ACKs
are under way for as long as they like. What else agents say to each other is answered at once, or
lost: that it may be late, too, is searched by hop.py.

A world is a few numbers: parts (aged_edge.py, aged_below.py) are kept once, with the names of the
sessions in them, and what a step does to a part is worked out once.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final, Literal, get_args

from tests.search.aged_below import AgedBelow
from tests.search.aged_edge import AgedEdge
from tests.search.aging import line_in
from tests.search.alike import Alike
from tests.search.cast import (
    ADDRESS,
    BELOWS,
    NOBODY,
    SENDERS,
    BelowFacts,
    Cast,
    EdgeFacts,
    Fault,
    Flying,
    Meta,
    Now,
    Part,
    World,
)
from tests.search.edge import RECEIVERS
from tests.search.talk import Talk
from tiers.core.hop.messages import Ack, Bundle, Guarantee

Trouble = Literal["crash", "connection lost", "WELCOME lost", "slow twin"]
TROUBLES: Final[tuple[Trouble, ...]] = get_args(Trouble)


class Lives:
    """See `explorer.Model`. `troubles`: how many in all, of these `kinds`. `idle`: commits of other
    things, in all. `receivers`: those that are ever reached."""

    def __init__(
        self,
        fault: Fault,
        *,
        batches: int = 2,
        troubles: int = 1,
        kinds: Collection[Trouble] = TROUBLES,
        idle: int = 0,
        receivers: int = 2,
        guarantee: Guarantee = "hop",
    ) -> None:
        self._batches = batches
        self._receivers = receivers
        self._start = Meta(troubles, idle)
        self._kinds = frozenset(kinds)
        self._cast = Cast(fault, guarantee)
        self._alike = Alike(self._cast)

    # -- the model -------------------------------------------------------------------------

    def starts(self) -> Iterator[World]:
        first = AgedEdge(self._cast.guarantee, {}, judges=self._cast.of_senders)
        edge = self._cast.edge_parts.shapes.number(first)[0]
        belows = [
            self._cast.below_parts.shapes.number(
                AgedBelow(self._cast.guarantee, judges=judges, start=start)
            )
            for start, judges in ((1, not self._cast.of_senders), (2, False))
        ]
        parts = [Part(shape, ()) for shape, _ in belows]
        # Receivers are alike where none of them has a disk that goes back.
        for name in RECEIVERS[:1] if self._cast.of_senders else RECEIVERS:
            meta = self._start._replace(starts=2)
            now = Now(meta, [Part(edge, ()), None], [*parts, None], [])
            self._begin(now, 0, name)
            yield self._alike.number(now)

    def wrong(self, world: World) -> str:
        return str(self._alike.value(world[0]).wrong)

    def finished(self, world: World) -> bool:
        edges = [self._alike.value(number) for number in world[1:3]]
        return all(part is None or self._cast.edge(part).empty for part in edges)

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        now = self._alike.now(world)
        for i, part in enumerate(now.edges):
            if part is not None:
                for label, after in self._edge_steps(now, i, self._cast.edge(part)):
                    yield f"{SENDERS[i]} {label}", self._alike.number(after)
        for r, part in enumerate(now.belows):
            if part is not None:
                for label, after in self._below_steps(now, r, self._cast.below(part)):
                    yield f"{BELOWS[r]} {label}", self._alike.number(after)
        for place, one in enumerate(now.flying):
            for label, after in self._arrivals(now, place, one):
                yield label, self._alike.number(after)
        for label, after in self._fault_steps(now):
            yield label, self._alike.number(after)

    # -- what a sender may do --------------------------------------------------------------

    def _edge_steps(self, now: Now, i: int, facts: EdgeFacts) -> Iterator[tuple[str, Now]]:
        meta = now.meta
        if meta.accepted < self._batches:
            after = self._with(now, accepted=meta.accepted + 1)
            yield f"accepts line {meta.accepted}", self._does(after, i, "accept", meta.accepted)
        if facts.commit:
            yield f"commits {facts.commit}", self._does(now.copy(), i, "commit")
        if facts.unread:
            yield "reads", self._does(now.copy(), i, "reads")
        if meta.idle and self._cast.of_senders:
            after = self._with(now, idle=meta.idle - 1)
            yield "commits something", self._does(after, i, "idle")
        if self._may(now, "crash"):
            for name in RECEIVERS:
                after = self._troubled(now)
                self._begin(after, i, name)
                yield f"crashes and starts, {name} first", after
        for address, name in enumerate(RECEIVERS):
            yield from self._peer_steps(now, i, address, name, facts)

    def _peer_steps(
        self, now: Now, i: int, address: int, name: str, facts: EdgeFacts
    ) -> Iterator[tuple[str, Now]]:
        if facts.sessions[address] != NOBODY:
            r = self._cast.who_knows(now, address, self._cast.session(now, i, address))
            if r is None:
                yield f"loses {name}", self._does(now.copy(), i, "lose", name)
                return
            # What a resumed machine had in flight was acked to another: its acks are late.
            resumed = self._cast.fault == "sender resumed" and now.meta.used
            if resumed or self._may(now, "connection lost"):
                after = now.copy() if resumed else self._troubled(now)
                self._does(after, i, "lose", name)
                yield f"loses {name}, which is there", after
            yield f"pings {name}", self._does(now.copy(), i, "ping", name)
            return
        for r, below in enumerate(now.belows):
            if ADDRESS[r] == address < self._receivers and below is not None:
                yield from self._greetings(now, i, r)
        if not facts.down[address]:
            if self._may_fire(now, i, address, facts):
                yield f"finds {name} down", self._does(now.copy(), i, "fire", name)
        elif facts.handed[address]:
            yield f"takes {name} for lost", self._does(now.copy(), i, "fire", name)

    def _greetings(self, now: Now, i: int, r: int) -> Iterator[tuple[str, Now]]:
        """A HELLO, and all that is said at once after that."""
        label = f"says hello to {BELOWS[r]}"
        for first in RECEIVERS:
            talk = Talk(self._cast, now.copy(), first)
            talk.hello(i, r)
            yield label + talk.label, talk.now
            if not talk.renewed:
                break
        if talk.welcomed and self._may(now, "WELCOME lost"):
            lost = Talk(self._cast, self._troubled(now), loses_welcome=True)
            lost.hello(i, r)
            yield f"{label}, WELCOME lost", lost.now
        if talk.answered and self._may(now, "slow twin"):
            slow = Talk(self._cast, self._troubled(now), silent=True)
            slow.hello(i, r)
            yield f"{label}, the twin is slow{slow.label}", slow.now

    def _may_fire(self, now: Now, i: int, address: int, facts: EdgeFacts) -> bool:
        """README's limit: a sender that was set back, or cloned, reaches who has met its other life
        before who has not."""
        if not facts.connecting[address] or not self._cast.of_senders or not now.meta.used:
            return True
        life = facts.life
        others = [self._cast.edge(part).life for n, part in enumerate(now.edges) if part and n != i]
        if any(other.channel == life.channel for other in others):
            return False
        belows = [part for r, part in enumerate(now.belows) if part and ADDRESS[r] == address]
        if any(not life.has(self._cast.below(part).life.met_of(life.channel)) for part in belows):
            return False
        bundles = [one for one in now.flying if one.bundle and one.address == address]
        points = [self._cast.kinds[one.shape].point for one in bundles]
        return all(life.has(point) for point in points)

    # -- what receivers and messages may do ------------------------------------------------

    def _below_steps(self, now: Now, r: int, facts: BelowFacts) -> Iterator[tuple[str, Now]]:
        if self._may(now, "crash"):
            after = self._troubled(now)
            self._begin_below(after, r)
            yield "crashes and starts", after
        if now.meta.idle and ADDRESS[r] == 0 and not self._cast.of_senders:
            after = self._with(now, idle=now.meta.idle - 1)
            self._below_does(after, r, "idle")
            yield "commits something", after
        if self._cast.guarantee == "end":
            for key in facts.unpublished:
                talk = Talk(self._cast, now.copy())
                talk.below(r, "publish_all", key)
                yield f"publishes {key.seq} of {key.origin.decode()}", talk.now

    def _arrivals(self, now: Now, place: int, one: Flying) -> Iterator[tuple[str, Now]]:
        if place and now.flying[place - 1] == one:
            return
        what = shown(self._cast.kinds[one.shape])
        message = Part(one.shape, (one.session,))
        after = now.copy()
        del after.flying[place]
        talk = Talk(self._cast, after)
        if one.bundle:
            r = self._cast.who_knows(now, one.address, one.session)
            if r is not None:
                talk.below(r, "hears", f"e{one.sender}", heard=message)
                yield f"{BELOWS[r]} takes {what} of {SENDERS[one.sender]}", talk.now
        else:
            name = RECEIVERS[one.address]
            talk.edge(one.sender, "heard", name, heard=message)
            yield f"{SENDERS[one.sender]} hears of {name}: {what}", talk.now

    # -- the fault -------------------------------------------------------------------------

    def _fault_steps(self, now: Now) -> Iterator[tuple[str, Now]]:
        meta, fault = now.meta, self._cast.fault
        if meta.used or fault == "none":
            return
        if meta.image is None:
            part = now.edges[0] if self._cast.of_senders else now.belows[0]
            assert part is not None
            if fault == "sender resumed":
                image = part
            else:
                parts: Any = (
                    self._cast.edge_parts if self._cast.of_senders else self._cast.below_parts
                )
                image = Part(parts.step(part.shape, "image").after, ())
            yield "IMAGE", self._with(now, image=image)
            return
        for first in RECEIVERS if fault in ("sender back", "sender cloned") else RECEIVERS[:1]:
            after = self._with(now, image=None, used=True)
            image = meta.image
            if fault == "sender resumed":
                after.edges[0] = image
            elif self._cast.of_senders:
                at = 1 if fault == "sender cloned" else 0
                after.edges[at] = image
                self._begin(after, at, first)
            else:
                at = 2 if fault == "receiver cloned" else 0
                after.belows[at] = image
                self._begin_below(after, at)
            yield f"{fault.upper()}, {first} first", after

    # -- steps of parts --------------------------------------------------------------------

    def _with(self, now: Now, **changes: Any) -> Now:
        after = now.copy()
        after.meta = after.meta._replace(**changes)
        return after

    def _may(self, now: Now, kind: Trouble) -> bool:
        return bool(now.meta.troubles) and kind in self._kinds

    def _troubled(self, now: Now) -> Now:
        return self._with(now, troubles=now.meta.troubles - 1)

    def _begin(self, now: Now, i: int, first: str) -> None:
        now.meta = now.meta._replace(starts=now.meta.starts + 1)
        self._does(now, i, "begin", first, now.meta.starts)

    def _begin_below(self, now: Now, r: int) -> None:
        if not self._cast.of_senders and ADDRESS[r] == 0:
            now.meta = now.meta._replace(starts=now.meta.starts + 1)
        self._below_does(now, r, "begin", now.meta.starts)

    def _does(self, now: Now, i: int, what: str, *args: Any) -> Now:
        Talk(self._cast, now).edge(i, what, *args)
        return now

    def _below_does(self, now: Now, r: int, what: str, *args: Any) -> None:
        Talk(self._cast, now).below(r, what, *args)


def shown(message: Any) -> str:
    """For people."""
    if isinstance(message, Bundle):
        lines = ["flagged" if one.flagged else "unflagged" for one in message.carried]
        found = [line_in(one.record) for one in message.carried]
        return f"a bundle of {found}, {lines}"
    assert isinstance(message, Ack)
    stored = [key.seq for key in message.stored]
    return f"ACK stored {stored} published {[key.seq for key in message.published]}"
