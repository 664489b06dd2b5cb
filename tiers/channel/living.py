"""A channel's life as it is written down, and what a start does to it (core/life.py).

    meta     "starts"             C | msgpack [[id, opened, at_ms], ...], the present one last
             "home"               C | msgpack [machine, inode, born_ns]
    records  "origin/" origin     C | msgpack [last, begun_ms, left_ms]: an origin that has ended
             "met/" channel id    C | msgpack [agent, start, number, at_ms]
             "life/renew"         C | why the next start is to renew this channel
             "life/news"          C | msgpack [text, at_ms]: what the last start had to say

A start is one transaction, before anything else is done with the channel. It draws a start and an
origin; where it finds another home than the last start had, it flags all that is queued; where it
is to renew the channel, it does so too, and gives it a new id.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import msgpack

from tiers.channel.environment import Environment, Transaction
from tiers.channel.home import Home
from tiers.channel.layout import (
    IDENTITY,
    STATE,
    ChannelIdentity,
    ChannelState,
    decoding,
    guard,
    unguard,
    unpack_item,
    unpack_letter,
)
from tiers.contracts import Clock
from tiers.core.batch import BatchId
from tiers.core.life import START_BYTES, Life, Met, Point, Start
from tiers.errors import ChannelDamaged, ChannelUnavailable

RETENTIONS: Final = 3  # so many of the topology's, starts and origins that ended are known
STARTS_MAX: Final = 4096
STARTS: Final = b"starts"
HOME: Final = b"home"
ORIGIN: Final = b"origin/"
MET: Final = b"met/"
RENEW: Final = b"life/renew"
NEWS: Final = b"life/news"


class Origin(NamedTuple):
    """One that has ended, or is the present one."""

    last: int  # the greatest number that it gave
    begun_ms: int
    left_ms: int = 0  # when none of its batches was found here; 0: they may be here

    def pack(self) -> bytes:
        return bytes(msgpack.packb(list(self)))


def unpack_origin(value: bytes) -> Origin:
    with decoding("an origin"):
        return Origin(*(int(number) for number in msgpack.unpackb(value)))


def origins_of(records: dict[bytes, bytes], state: ChannelState) -> dict[bytes, Origin]:
    """All that gave numbers here; the present one is among them. `records` are those of ORIGIN."""
    found = {key[len(ORIGIN) :]: unpack_origin(value) for key, value in records.items()}
    return found | {state.origin: Origin(state.next_seq - 1, state.origin_ms)}


class ChannelLife(Life):
    """Of an open channel. What is met is written down by the writer's next commit."""

    def __init__(self, environment: Environment, channel: bytes) -> None:
        super().__init__(channel)
        self._environment = environment
        self._lock = threading.Lock()

    def point(self) -> Point | None:
        """What can be read now is on disk: that much is told, or more than what was seen."""
        try:
            with self._environment.reading() as txn:
                self.number = max(self.number, txn.id())
        except (ChannelUnavailable, ChannelDamaged):
            pass  # the channel says so itself; what was told before stays true
        return super().point()

    def meet(self, channel: bytes, agent: str, point: Point | None) -> None:
        with self._lock:
            super().meet(channel, agent, point)

    def take_unsaved(self) -> dict[bytes, Met]:
        """What a commit has to write down. On the writer's thread."""
        with self._lock:
            found = {channel: self.met[channel] for channel in self.unsaved}
            self.unsaved.clear()
            return found

    def put_back(self, channels: Iterable[bytes]) -> None:
        """That commit failed."""
        with self._lock:
            self.unsaved.update(channels)

    def write(self, txn: Transaction, met: dict[bytes, Met], at_ms: int) -> None:
        """What was met, in the writer's transaction."""
        for channel, (agent, point) in met.items():
            value = bytes(msgpack.packb([agent, *point, at_ms]))
            txn.put(MET + channel, guard(MET + channel, value), db=self._environment.db["records"])


@dataclass(slots=True)
class Begun:
    """What a start found and did."""

    identity: ChannelIdentity
    state: ChannelState
    life: ChannelLife
    news: str = ""  # for a person: what happened to the disk, and what that means


@dataclass(slots=True)
class Starting:
    """One start: `begin` within its transaction."""

    environment: Environment
    txn: Transaction
    home: Home
    opened: int  # the number of the last commit that was found
    retention_ms: int
    clock: Clock
    now_ms: int = field(init=False)

    def begin(self, identity: ChannelIdentity, state: ChannelState) -> Begun:
        """Writes all of it, identity and state too."""
        self.now_ms = self.clock.now_ms()
        news, renewed = "", self._take(RENEW)
        if renewed is not None:
            identity = replace(identity, channel_id=self.clock.token(16))
            flagged = self._flag_all()
            news = _renewed(renewed.decode(errors="replace"), flagged)
        elif self._has_moved():
            news = _moved(self._flag_all())
        life = ChannelLife(self.environment, identity.channel_id)
        life.origins = self._begin_origin(state)
        life.renewed = renewed is not None
        life.starts = self._begin_start(anew=life.renewed)
        life.met = self._met()
        life.number = self.opened
        self._put("meta", HOME, msgpack.packb(list(self.home)))
        self._put("meta", IDENTITY, identity.pack())
        self._put("meta", STATE, state.pack())
        if news:
            self._put("records", NEWS, msgpack.packb([news, self.now_ms]))
        return Begun(identity, state, life, news or self._recent_news())

    def _begin_origin(self, state: ChannelState) -> set[bytes]:
        """All origins of this channel, the new one among them."""
        if state.next_seq > 1:
            ended = Origin(state.next_seq - 1, state.origin_ms)
            self._put("records", ORIGIN + state.origin, ended.pack())
        state.origin, state.origin_ms, state.next_seq = self.clock.token(16), self.now_ms, 1
        known = {state.origin}
        there: set[bytes] | None = None  # looked up when it is needed
        old_ms = self.now_ms - RETENTIONS * self.retention_ms
        for key, value in self._records(ORIGIN):
            origin, ended = key[len(ORIGIN) :], unpack_origin(value)
            if not ended.left_ms:
                there = self._held() if there is None else there
                if origin not in there:
                    self._put("records", key, ended._replace(left_ms=self.now_ms).pack())
            elif ended.left_ms < old_ms:
                self.txn.delete(key, db=self.environment.db["records"])
                continue
            known.add(origin)
        return known

    def _held(self) -> set[bytes]:
        """Origins of which a queue or a dead letter has a batch."""
        database = self.environment.db
        found = {item.origin for _, item in self._items()}
        for key, stored in self.txn.cursor(database["dead"]):
            found.add(unpack_letter(unguard("dead", key, stored)).item.id.origin)
        return found

    def _items(self) -> Iterable[tuple[bytes, BatchId]]:
        for key, stored in self.txn.cursor(self.environment.db["queue"]):
            yield key, unpack_item(unguard("queue", key, stored)).id

    def _begin_start(self, *, anew: bool) -> list[Start]:
        """The list of starts: a renewed channel begins a new line."""
        stored = self.txn.get(STARTS, db=self.environment.db["meta"])
        known: list[tuple[bytes, int, int]] = []
        if stored is not None and not anew:
            with decoding("starts"):
                told = msgpack.unpackb(unguard("meta", STARTS, stored))
                known = [(bytes(start), int(opened), int(at)) for start, opened, at in told]
        known.append((self.clock.token(START_BYTES), self.opened, self.now_ms))
        # One ends when the next begins: a point of it is known for so long after that.
        old_ms = self.now_ms - RETENTIONS * self.retention_ms
        ends = [at for _, _, at in known[1:]]
        kept = [one for one, end in zip(known, ends, strict=False) if end >= old_ms]
        kept = [*kept, known[-1]][-STARTS_MAX:]
        self._put("meta", STARTS, msgpack.packb(kept))
        return [Start(s, n) for s, n, _ in kept]

    def _met(self) -> dict[bytes, Met]:
        """Where others were met, but for those long ago: they would not know that start."""
        found: list[tuple[int, bytes, Met]] = []
        for key, value in self._records(MET):
            with decoding("a point that was met"):
                agent, start, number, at_ms = msgpack.unpackb(value)
                met = Met(str(agent), Point(bytes(start), int(number)))
            if at_ms < self.now_ms - self.retention_ms:
                self.txn.delete(key, db=self.environment.db["records"])
            else:
                found.append((at_ms, key[len(MET) :], met))
        return {channel: met for _, channel, met in sorted(found)}

    def _has_moved(self) -> bool:
        stored = self.txn.get(HOME, db=self.environment.db["meta"])
        if stored is None:
            return False  # it begins here
        with decoding("home"):
            return Home(*msgpack.unpackb(unguard("meta", HOME, stored))) != self.home

    def _flag_all(self) -> int:
        """Flags all that waits, in whatever queue; how many were not flagged before."""
        queue = self.environment.db["queue"]
        fresh = [
            (key, item)
            for key, stored in self.txn.cursor(queue)
            if not (item := unpack_item(unguard("queue", key, stored))).flagged
        ]
        for key, item in fresh:
            self.txn.put(key, guard(key, replace(item, flagged=True).pack()), db=queue)
        return len(fresh)

    def _recent_news(self) -> str:
        stored = self.txn.get(NEWS, db=self.environment.db["records"])
        if stored is None:
            return ""
        with decoding("news"):
            text, at_ms = msgpack.unpackb(unguard("records", NEWS, stored))
        return str(text) if at_ms > self.now_ms - self.retention_ms else ""

    # -- values ------------------------------------------------------------------------------

    def _records(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        found = []
        with self.txn.cursor(self.environment.db["records"]) as cursor:
            more = cursor.set_range(prefix)
            while more and cursor.key().startswith(prefix):
                key, stored = cursor.item()
                found.append((key, unguard("records", key, stored)))
                more = cursor.next()
        return found

    def _put(self, database: str, key: bytes, value: bytes) -> None:
        self.txn.put(key, guard(key, value), db=self.environment.db[database])

    def _take(self, key: bytes) -> bytes | None:
        stored = self.txn.pop(key, db=self.environment.db["records"])
        return None if stored is None else unguard("records", key, stored)


def _renewed(why: str, flagged: int) -> str:
    return (
        f"the disk went back in time, or is there twice ({why}): the channel was renewed, and "
        f"{flagged} batches that waited are flagged. What was passed on since then may be read "
        "again, and what others had let go of may be gone: tiers audit shows a gap then"
    )


def _moved(flagged: int) -> str:
    return (
        "this channel was last used on another machine, or as another file: a clone, or a copy "
        f"put back. {flagged} batches that waited are flagged, since both may have them"
    )
