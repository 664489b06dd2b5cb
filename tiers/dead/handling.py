"""What a person does with dead letters: looks at them, lets them be delivered after all, or drops
them for good.

One thing at a time: what is looked at is then still there when it is changed. A call does a bounded
part, and says what it has left; each of its changes is atomic, so one that dies in between has
done some and none twice.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

from tiers.channel import meters
from tiers.core import batch
from tiers.core.batch import BatchId, Buffer, Unnumbered
from tiers.core.change import NO_OUTPUT, Change, LetterHead, Put
from tiers.core.entry.routes import Route, Routed
from tiers.core.meters import Sample
from tiers.errors import BatchError
from tiers.units import show_size

log = logging.getLogger("tiers")

LETTERS_PER_CALL: Final = 256  # that are retried or dropped
LETTERS_PER_PAGE: Final = 1000  # that are told
PAGE_BYTES_MAX: Final = 1 << 20  # of their reasons
CHANGE_BYTES_MAX: Final = 8 << 20  # of records that one change puts back, or one batch
CALL_BYTES_MAX: Final = 64 << 20  # that one call puts back
_LAST_OUTPUT: Final = (1 << 16) - 2  # greater than the id of any
Key = tuple[int, str]  # position and output


class LettersReading(Protocol):
    """Of a channel, from any thread."""

    def letters(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[LetterHead]: ...

    def record(self, position: int) -> bytes: ...

    def stored(self, position: int) -> bytes: ...


class LettersChannel(LettersReading, Protocol):
    """One that is open for work, on its loop."""

    origin: bytes

    def next_seq(self) -> int: ...

    def free_bytes(self) -> int: ...

    def submit(self, change: Change) -> "asyncio.Future[tuple[int, ...]]": ...


class Refused(NamedTuple):
    """One that stays a dead letter."""

    position: int
    output: str
    why: str


@dataclass(slots=True)
class Done:
    """What became of the letters of one call."""

    letters: int = 0
    events: int = 0
    size_bytes: int = 0
    refused: list[Refused] = field(default_factory=list)
    left: list[Key] = field(default_factory=list)  # not looked at: for the next call

    def count(self, heads: Iterable[LetterHead]) -> None:
        for head in heads:
            self.letters += 1
            self.events += head.count
            self.size_bytes += head.size

    def refuse(self, heads: Iterable[LetterHead], why: str) -> None:
        self.refused += [Refused(head.position, head.output, why) for head in heads]


class _Ready(NamedTuple):
    """A batch that may go back to the queues of its letters."""

    heads: list[LetterHead]
    record: Buffer
    routed: Routed
    anew: Unnumbered | None  # where it wants an id of its own


def page(reader: LettersReading, after: tuple[int, int], limit: int) -> list[LetterHead]:
    """The next letters behind `after`, at least one if there is any. From any thread."""
    found = reader.letters(after, max(1, min(limit, LETTERS_PER_PAGE)))
    size = 0
    for number, head in enumerate(found):
        size += len(head.reason)
        if size > PAGE_BYTES_MAX and number:
            return found[:number]
    return found


class Handling:
    """Of the dead letters of an open channel. `route` has the outputs by the topology: a letter of
    none of them goes where it says now."""

    def __init__(self, channel: LettersChannel, route: Route) -> None:
        self.reader: LettersReading = channel
        self.route = route
        self._channel = channel
        self._lock = asyncio.Lock()
        self._dropped = Done()
        self._retried = Done()

    def meters(self) -> Iterator[Sample]:
        yield meters.DROPPED.of(self._dropped.letters)
        yield meters.DROPPED_EVENTS.of(self._dropped.events)
        yield meters.RETRIED.of(self._retried.letters)

    async def drop(self, keys: Sequence[Key]) -> Done:
        """These are gone for good when this returns."""
        done = Done(left=list(keys[LETTERS_PER_CALL:]))
        async with self._lock:
            found = await asyncio.to_thread(self._find, keys[:LETTERS_PER_CALL], done)
            heads = [head for of_one in found for head in of_one]
            if heads:
                drops = [(head.output, head.position) for head in heads]
                await self._channel.submit(Change(drops=drops))
        done.count(heads)
        self._dropped.count(heads)
        _say("dropped for good", done)
        return done

    async def retry(self, keys: Sequence[Key]) -> Done:
        """These are in the queues of their outputs when this returns, flagged; what another batch
        has the id of is a new one."""
        done = Done(left=list(keys[LETTERS_PER_CALL:]))
        async with self._lock:
            found = await asyncio.to_thread(self._find, keys[:LETTERS_PER_CALL], done)
            ready: list[_Ready] = []
            size = total = 0
            for heads in found:
                if total >= CALL_BYTES_MAX:
                    done.left += [(head.position, head.output) for head in heads]
                    continue
                one = await asyncio.to_thread(self._prepare, heads, done)
                if one is None:
                    continue
                if ready and size + len(one.record) > CHANGE_BYTES_MAX:
                    await self._put_back(ready, done)
                    ready, size = [], 0
                ready.append(one)
                size += len(one.record)
                total += len(one.record)
            await self._put_back(ready, done)
        _say("queued again", done)
        return done

    def _find(self, keys: Iterable[Key], done: Done) -> list[list[LetterHead]]:
        """Those that are there, by position."""
        found: dict[int, list[LetterHead]] = {}
        for position, output in dict.fromkeys(keys):
            head = next((one for one in self._at(position) if one.output == output), None)
            if head is None:
                why = f"there is no dead letter {position} of {output!r} (any more)"
                done.refused.append(Refused(position, output, why))
            else:
                found.setdefault(position, []).append(head)
        return list(found.values())

    def _at(self, position: int) -> Iterator[LetterHead]:
        after = (position - 1, _LAST_OUTPUT)
        while heads := self.reader.letters(after, 1):
            if heads[0].position != position:
                return
            yield heads[0]
            after = heads[0].after

    def _prepare(self, heads: list[LetterHead], done: Done) -> _Ready | None:
        """Those of one batch; None where it cannot be delivered."""
        outputs = {NO_OUTPUT, *(branch.output for branch in self.route.branches)}
        for head in heads:
            if head.output not in outputs:
                why = f"output {head.output!r} is configured no more: put it back, or drop these"
                done.refuse([head], why)
        heads = [head for head in heads if head.output in outputs]
        if not heads:
            return None
        try:
            record = self.reader.record(heads[0].position)
            envelope = batch.open_envelope(record)
            anew = None
            if heads[0].twice_given:
                own = replace(envelope, origin=self._channel.origin)
                anew = Unnumbered(own, batch.split(record)[1])
        except BatchError as error:
            done.refuse(heads, f"damaged: {error}")
            return None
        routed = Routed(tuple(head.output for head in heads))
        if heads[0].output == NO_OUTPUT:
            routed = self.route.of(envelope.headers)
            if not routed.outputs:
                done.refuse(heads, "no output wants it: change the topology, or drop these")
                return None
        return _Ready(heads, record, routed, anew)

    async def _put_back(self, ready: Sequence[_Ready], done: Done) -> None:
        """On disk when this returns, all of it, unless there is no room."""
        if not ready:
            return
        if self._channel.free_bytes() < sum(len(one.record) for one in ready):
            for one in ready:
                done.refuse(one.heads, "the channel has no room now: try again when it has")
            return
        positions = await self._channel.submit(Change(puts=[self._put(one) for one in ready]))
        for one, position in zip(ready, positions, strict=True):
            assert position, "a letter was gone while it was put back"
            done.count(one.heads)
            self._retried.count(one.heads)

    def _put(self, one: _Ready) -> Put:
        head, record = one.heads[0], one.record
        key = head.id
        if one.anew is not None:
            key = BatchId(self._channel.origin, self._channel.next_seq())
            record = one.anew.seal(key.seq)
        return Put(
            key,
            record,
            head.count,
            one.routed.outputs,
            flagged=True,
            hops=head.hops,
            letter=head.position,
            skipped=one.routed.skipped,
        )


def _say(what: str, done: Done) -> None:
    if done.letters:
        log.warning(
            "a person had %d dead letter%s %s: %d events, %s",
            done.letters,
            "" if done.letters == 1 else "s",
            what,
            done.events,
            show_size(done.size_bytes),
        )
