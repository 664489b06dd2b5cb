"""What was set aside comes back: the agent's side of `tiers.channel.salvage.salvage`.

    channel.damaged-* --reader, a child--> head, batches, end --> Channel.submit, flagged

Positions of sources are in the new channel before a source begins; batches follow while the agent
works, in groups, as there is room. Each counts as arrived, so its id is known from then on: what
comes again, from a sender or from a reading that began anew after a restart, is not put twice. A
mark in the old directory says that all is done; a person may then take it away.

A reader that dies, by a signal or otherwise, costs the batch that it had come to and is followed
by another, a few times. Then this is given up until the next start, and said.
"""

import asyncio
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgpack

from tiers.agent.salvaged import Salvaged, outcome_of
from tiers.channel import withheld
from tiers.channel.layout import unpack_hops
from tiers.channel.letters import every_letter
from tiers.channel.living import ORIGIN, Origin
from tiers.channel.opening import SET_ASIDE_STEM
from tiers.channel.salvage.index import SOURCE_POSITIONS
from tiers.channel.salvage.salvage import (
    FRAME_LENGTH_BYTES,
    MARK,
    Batch,
    SalvageEnd,
    SalvageHead,
    read_mark,
    unpack,
)
from tiers.contracts import Channel
from tiers.core.batch import BatchId, open_envelope
from tiers.core.change import NO_OUTPUT, Change, Put
from tiers.core.entry.routes import Route, Routed
from tiers.errors import ChannelDamaged
from tiers.host.durable import write_durably
from tiers.sources.tail.door import RealFiles
from tiers.sources.tail.following import STARTED
from tiers.sources.tail.generation import unpack as unpack_position
from tiers.sources.tail.walk import Walk, absolute
from tiers.units import show_size

log = logging.getLogger("tiers.salvage")

READER: Final[Sequence[str]] = ("-m", "tiers.channel.salvage.salvage")
TRIES_MAX: Final = 6  # readers of one directory that may die
GROUP_BATCHES_MAX: Final = 500
GROUP_BYTES_MAX: Final = 4 << 20
_NAMED_MAX: Final = 20  # lost batches that the log names


@dataclass(slots=True)
class _Old:
    """A channel that was set aside."""

    directory: Path
    outcome: Salvaged = field(default_factory=Salvaged)
    head: SalvageHead | None = None
    reader: Process | None = None
    told: int = 0  # batches that readers have told of, or died over
    tries: int = 0


class Salvage:
    """`begin`, then `run`. `directory` is the agent's, `sources` the options of its sources."""

    def __init__(
        self,
        directory: Path,
        channel: Channel,
        route: Route,
        sources: Iterable[Any],
        retention_s: float,
    ) -> None:
        self._channel = channel
        self.route = route  # of what comes back
        self._sources = list(sources)
        self._retention_s = retention_s
        # The newest first: where there are several, its positions are those that hold.
        found = sorted(directory.glob(f"{SET_ASIDE_STEM}*"), reverse=True)
        self._all = [_Old(old) for old in found]
        for old in self._all:
            if (mark := read_mark(old.directory)) is not None:
                old.outcome = outcome_of(mark)
        self._dead: set[tuple[str, BatchId]] = set()

    @property
    def _outputs(self) -> tuple[str, ...]:
        return tuple(branch.output for branch in self.route.branches)

    @property
    def _open(self) -> list[_Old]:
        return [old for old in self._all if old.outcome.state == "reading"]

    def settled(self) -> bool:
        """Nothing more will come."""
        return not self._open

    def whole(self) -> bool:
        """Everything that was set aside is back."""
        return all(old.outcome.whole for old in self._all)

    def text(self) -> str:
        return "; ".join(f"{old.directory.name}: {old.outcome.text()}" for old in self._all)

    def status(self) -> list[dict[str, object]]:
        return [
            {"directory": old.directory.name, "whole": old.outcome.whole, **asdict(old.outcome)}
            for old in self._all
        ]

    async def begin(self) -> None:
        """Returning means that origins, what outputs were not to have, and positions of sources are
        in the new channel, as far as they can be read: sources may begin."""
        for old in self._open:
            log.info("reading what %s still holds", old.directory.name)
            if await self._read_head(old):
                await self._restore_origins(old)
                await self._restore_withheld(old)
                await self._restore_positions(old)

    async def run(self) -> None:
        """Until everything that can be read is in the new channel."""
        self._dead = await asyncio.to_thread(self._dead_ids) if self._open else set()
        for old in self._open:
            try:
                await self._carry(old)
            finally:
                await _end(old)

    # -- readers -----------------------------------------------------------------------------

    async def _read_head(self, old: _Old) -> bool:
        """Whether there is a reader that has told its head."""
        while old.tries < TRIES_MAX:
            try:
                await self._start(old)
                told = await _next(old)
            except (OSError, EOFError) as error:
                await self._died(old, error)
                continue
            assert isinstance(told, SalvageHead)
            old.head = told
            return True
        old.outcome.state = "failed"
        old.outcome.trouble = f"reading it failed {TRIES_MAX} times"
        self._note_positions(old, whole=False)
        log.error("%s: %s", old.directory.name, old.outcome.text())
        return False

    async def _start(self, old: _Old) -> None:
        # A walk that has killed two readers before their first word is not tried a third time.
        scan = ["--scan"] if old.tries >= 2 and old.head is None else []
        arguments = [str(old.directory), str(self._retention_s), "--after", str(old.told), *scan]
        old.reader = await asyncio.create_subprocess_exec(
            sys.executable,
            *READER,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            limit=1 << 20,
        )

    def _dead_ids(self) -> set[tuple[str, BatchId]]:
        return {(one.output, one.id) for one in every_letter(self._channel)}

    async def _died(self, old: _Old, error: Exception) -> None:
        old.tries += 1
        # Its output has ended, so it has, or will at once.
        how = await old.reader.wait() if old.reader else error
        log.warning("the reader of %s ended before its time (%s)", old.directory.name, how)

    async def _carry(self, old: _Old) -> None:
        group: list[Batch] = []
        size = 0
        while True:
            try:
                told = await _next(old)
            except (OSError, EOFError) as error:
                await self._put(old, group)
                group, size = [], 0
                await self._died(old, error)
                old.told += 1  # the one that it had come to
                old.outcome.missing += 1
                if not await self._read_head(old):
                    return
                continue
            if isinstance(told, SalvageEnd):
                await self._put(old, group)
                await self._finish(old, told)
                return
            assert isinstance(told, Batch)
            old.told += 1
            group.append(told)
            size += len(told.record)
            if len(group) >= GROUP_BATCHES_MAX or size >= GROUP_BYTES_MAX:
                await self._put(old, group)
                group, size = [], 0

    # -- the new channel ---------------------------------------------------------------------

    async def _put(self, old: _Old, group: list[Batch]) -> None:
        """One group, on disk when this returns."""
        if not group:
            return
        await self._channel.wait_room()
        puts: list[Put] = []
        told: list[Batch] = []
        dead: list[tuple[str, int, str]] = []
        first = self._channel.last_position() + 1
        for one in group:
            put, letters = self._put_of(old, one)
            if put is not None:
                dead += [(output, first + len(puts), why) for output, why in letters]
                puts.append(put)
                told.append(one)
        positions = await self._channel.submit(Change(puts=puts, dead=dead))
        for one, position in zip(told, positions, strict=True):
            if not one.record:
                continue
            old.outcome.salvaged += bool(position)
            old.outcome.known += not position
            old.outcome.events += one.events
            old.outcome.dead += bool(one.letters)

    def _put_of(self, old: _Old, one: Batch) -> tuple[Put | None, list[tuple[str, str]]]:
        """What is put for a batch, and its dead letters. Where nothing tells who waited for it, it
        is routed anew."""
        key = BatchId(one.origin, one.seq)
        letters = [(output, why) for output, why in one.letters if output in self._outputs]
        unrouted = dict(one.letters).get(NO_OUTPUT, "")
        routed = Routed(tuple(one.outputs or ()), (), unrouted)
        if one.outputs is None:
            routed = self._routed(one)
        outputs = [output for output in routed.outputs if output in self._outputs]
        if not one.record:
            self._lose(old, one, key)
            letters += [(output, f"{old.directory.name}: {one.reason}") for output in outputs]
            letters = [(output, why) for output, why in letters if (output, key) not in self._dead]
            outputs = []
            if (NO_OUTPUT, key) in self._dead:
                return None, []
        outputs += [output for output, _ in letters if output not in outputs]
        if not (outputs or unrouted or routed.skipped) or not key.origin:
            old.outcome.stranded += bool(one.record)
            return None, []
        return Put(
            key,
            one.record,
            one.events,
            outputs,
            flagged=True,
            hops=_hops(one.hops),
            arrived=bool(one.record),  # what is lost here may come from elsewhere
            note=one.note,
            dead=routed.dead,
            skipped=routed.skipped,
        ), letters

    def _routed(self, one: Batch) -> Routed:
        if not one.record:
            return Routed(self._outputs)
        return self.route.of(open_envelope(one.record).headers)

    def _lose(self, old: _Old, one: Batch, key: BatchId) -> None:
        old.outcome.lost += 1
        old.outcome.lost_events += one.events
        if old.outcome.lost <= _NAMED_MAX:
            name = str(key) if key.origin else "a batch"
            log.error(
                "%s: %s (%d events) is lost: %s", old.directory.name, name, one.events, one.reason
            )

    async def _restore_origins(self, old: _Old) -> None:
        """What gave numbers there gave them here: for the audit, and so that none of its batches
        is taken from elsewhere."""
        assert old.head is not None
        own = {origin: Origin(*numbers) for origin, numbers in old.head.origins.items()}
        if own:
            records = {ORIGIN + origin: one.pack() for origin, one in own.items()}
            await self._channel.submit(Change(records=records))
            self._channel.life.origins.update(own)

    async def _restore_withheld(self, old: _Old) -> None:
        """What outputs were not to have. Where all of it is there, and of the channel before this
        one, that is known for as long as it was."""
        assert old.head is not None
        records: dict[bytes, bytes | None] = {}
        if old is self._all[0] and old.head.withheld_since_ms:
            records[withheld.SINCE] = b"%d" % old.head.withheld_since_ms
        more = []
        for key, value in old.head.withheld.items():
            place = withheld.place_of(key)
            if place.output in self._outputs:
                more.append((place.output, place.first(), withheld.unpack(value)))
        await self._channel.submit(Change(records=records, withheld=more))

    async def _restore_positions(self, old: _Old) -> None:
        assert old.head is not None
        there = {_source(key) for key in self._channel.records(SOURCE_POSITIONS)}
        wanted = {k: v for k, v in old.head.positions.items() if _source(k) not in there}
        if wanted:
            await self._channel.submit(Change(records=wanted))
        if not there:
            self._note_positions(old, whole=old.head.positions_whole)

    def _note_positions(self, old: _Old, *, whole: bool) -> None:
        """Says which sources read their files from the beginning, and how much that is."""
        if whole:
            return
        known = self._channel.records(SOURCE_POSITIONS)
        parts = []
        for options in self._sources:
            prefix = SOURCE_POSITIONS + options.name.encode() + b"/"
            size = _unknown_bytes(getattr(options, "paths", ()), known, prefix)
            if size:
                parts.append(f"source {options.name} reads {show_size(size)} from the beginning")
        if known and self._sources:
            parts.append("positions may be behind, and lines that were read after them come twice")
        old.outcome.again = ", ".join(parts)
        if parts:
            log.warning("%s: %s", old.directory.name, old.outcome.again)

    async def _finish(self, old: _Old, end: SalvageEnd) -> None:
        assert old.head is not None
        outcome = old.outcome
        outcome.exact, outcome.old = end.exact, end.old
        if end.exact and old.head.batches >= 0:
            outcome.missing = max(outcome.missing, old.head.batches - old.told)
        outcome.state = "failed" if outcome.stranded else "done"
        if outcome.state == "done":
            data = bytes(msgpack.packb(asdict(outcome)))
            try:
                await asyncio.to_thread(write_durably, old.directory / MARK, data)
            except OSError as error:
                outcome.trouble = f"cannot be noted as salvaged: {error}"
        log.log(
            logging.INFO if outcome.whole else logging.ERROR,
            "%s: %s",
            old.directory.name,
            outcome.text(),
        )


async def _next(old: _Old) -> SalvageHead | Batch | SalvageEnd:
    """What the reader tells next; the head of a further reader is passed over. EOFError (also as
    IncompleteReadError) when it has ended."""
    assert old.reader is not None
    assert old.reader.stdout is not None
    stream = old.reader.stdout
    length = int.from_bytes(await stream.readexactly(FRAME_LENGTH_BYTES), "big")
    return unpack(await stream.readexactly(length))


async def _end(old: _Old) -> None:
    if old.reader is not None and old.reader.returncode is None:
        old.reader.kill()
        await old.reader.wait()


def _hops(data: bytes) -> tuple[Any, ...]:
    try:
        return unpack_hops(data)
    except ChannelDamaged:
        return ()


def _source(key: bytes) -> bytes:
    """The name of the source that a position belongs to (see entry/intake.py)."""
    return key.removeprefix(SOURCE_POSITIONS).partition(b"/")[0]


def _unknown_bytes(patterns: Sequence[str], known: Mapping[bytes, bytes], prefix: bytes) -> int:
    """Sizes of the files at these globs of which no position is known."""
    files = set()
    for record, value in known.items():
        if record.startswith(prefix) and record != prefix + STARTED:
            position = unpack_position(record, value)
            files.add((position.inode, position.birth_ns))
    globs = [absolute(pattern) for pattern in patterns]
    walked = Walk(RealFiles(), globs, None, time.perf_counter, lambda: None).run()
    found = [at.status for at in walked.files.values()]
    return sum(status.size for status in found if (status.inode, status.birth_ns) not in files)
