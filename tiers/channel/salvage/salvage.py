"""Reads a channel that was set aside and says what it still holds, in a process of its own.

    python -m tiers.channel.salvage.salvage DIR RETENTION_S [--after N] [--scan]

on its output, each behind its length (u32): a head, then every batch in the order in which the
channel took them, then an end; see `SalvageHead`, `Batch` and `SalvageEnd`, packed by msgpack. The
order is the same in every run, so one that was broken off is taken up again beyond the first N
batches. With `--scan` the trees are not walked: for a file on which walking them has failed.

Nothing is written. An agent that dies takes the reader of its output with it, and so this.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgpack

from tiers.channel.layout import ChannelState, Letter, QueueItem, pack_hops, unguard
from tiers.channel.living import Origin, origins_of
from tiers.channel.salvage.index import (
    Index,
    RecordPlace,
    read_index,
    read_record,
    scan,
)
from tiers.channel.salvage.pages import PageFile
from tiers.channel.withheld import SINCE, since_ms
from tiers.core import batch
from tiers.core.batch import BatchId
from tiers.errors import ChannelDamaged

FRAME_LENGTH_BYTES: Final = 4
MARK: Final = "salvaged"  # the file that says: all that could be read is in the new channel


class SalvageHead(NamedTuple):
    """What comes first. `positions_whole`: none of the sources' positions can be missing."""

    channel_id: bytes  # empty where it could not be read
    origins: dict[bytes, Sequence[int]]  # all that could be read: see living.Origin
    batches: int  # that the channel held, -1 where that cannot be told
    positions: dict[bytes, bytes]
    positions_whole: bool
    withheld: dict[bytes, bytes]  # records of what outputs were not to have
    withheld_since_ms: int  # since when all of that is here; 0 where some may be missing


class Batch(NamedTuple):
    """One batch. Without a record it is lost: `reason` says why."""

    origin: bytes
    seq: int
    events: int
    record: bytes
    outputs: list[str] | None  # that waited for it; None: that cannot be told
    letters: list[tuple[str, str]]  # (output, reason) of its dead letters
    hops: bytes
    note: bytes
    reason: str = ""


class SalvageEnd(NamedTuple):
    """What comes last. `old`: batches left out, since they were sealed longer ago than ids are
    known, and nothing tells that anybody still waits for them."""

    exact: bool  # what the channel held is known, so what was lost is known too
    old: int


_KINDS: Final = (SalvageHead, Batch, SalvageEnd)
Told = SalvageHead | Batch | SalvageEnd


def pack(told: Told) -> bytes:
    data = bytes(msgpack.packb([_KINDS.index(type(told)), *told]))
    return len(data).to_bytes(FRAME_LENGTH_BYTES, "big") + data


def unpack(data: bytes) -> Told:
    """What a frame says, without its length."""
    kind, *values = msgpack.unpackb(data)
    return _KINDS[kind](*values)


def salvage(
    directory: Path, oldest_ms: int, *, after: int = 0, trees: bool = True
) -> Iterator[Told]:
    """All that the channel in `directory` still holds. `oldest_ms`: batches sealed before are left
    out where only a scan has found them."""
    file = PageFile(directory / "data.mdb")
    try:
        index = read_index(file, trees=trees)
        yield _head(index)
        reading = _Reading(file, index, oldest_ms)
        for number, one in enumerate(reading.batches()):
            if number >= after:
                yield reading.read(one)
        yield SalvageEnd(index.live() is not None, reading.old)
    finally:
        file.close()


def _head(index: Index) -> SalvageHead:
    state = index.state
    return SalvageHead(
        channel_id=index.identity.channel_id if index.identity else b"",
        origins={origin: tuple(one) for origin, one in _origins(index).items()},
        batches=state.batches if state and index.walked else -1,
        positions=index.positions,
        positions_whole="records" in index.whole,
        withheld=index.withheld,
        withheld_since_ms=_since_ms(index),
    )


def _since_ms(index: Index) -> int:
    if index.identity is None or "records" not in index.whole:
        return 0
    records = {} if index.since is None else {SINCE: index.since}
    return since_ms(records, index.identity.begun_ms)


def _origins(index: Index) -> dict[bytes, Origin]:
    found = origins_of(index.origins, index.state or ChannelState())
    return {origin: one for origin, one in found.items() if one.last}


class _Known(NamedTuple):
    """A batch that is to be read."""

    position: int  # 0 where it is not known
    id: BatchId | None  # None where only its record can tell
    items: dict[int, QueueItem]


class _Reading:
    def __init__(self, file: PageFile, index: Index, oldest_ms: int) -> None:
        self._file = file
        self._index = index
        self._oldest_ms = oldest_ms
        self._names: dict[int, str] = {}
        self._doubtful: list[str] = []  # outputs of whose queues entries are missing
        self.old = 0

    def batches(self) -> Iterator[_Known]:
        """What is to be read, in order; nothing of it is read before it is asked for."""
        index = self._index
        live = index.live()
        if live is None or "queue" not in index.whole:
            scan(self._file, index)
        self._name_outputs()
        if live is None:
            yield from self._strays()
            return
        for position in live:
            items = index.items.get(position, {})
            letters = index.letters.get(position, [])
            known = next(iter(items.values()), letters[0].item if letters else None)
            yield _Known(position, known.id if known else None, items)

    def _name_outputs(self) -> None:
        state = self._index.state
        if state is None:
            return
        self._names = {totals.id: name for name, totals in state.outputs.items()}
        if "queue" not in self._index.whole:
            there = [output for items in self._index.items.values() for output in items]
            self._doubtful = [
                name
                for name, totals in state.outputs.items()
                if not self._index.walked or there.count(totals.id) != totals.batches
            ]

    def _strays(self) -> Iterator[_Known]:
        """What the trees show and a scan has found, when nothing tells what is live."""
        index = self._index
        known: dict[BatchId, tuple[int, dict[int, QueueItem]]] = dict(index.stray_items)
        for position, items in index.items.items():
            for item in items.values():
                known[item.id] = (position, items)
        for position, letters in index.letters.items():
            known[letters[0].item.id] = (position, index.items.get(position, {}))
        state = index.state if index.walked else None
        for one in index.strays:
            # Else it was written by a commit that never was.
            if state is None or one.origin != state.origin or one.seq < state.next_seq:
                known.setdefault(one, (0, {}))
        order = sorted(known.items(), key=lambda entry: (entry[1][0], entry[0]))
        live = {*index.items, *index.letters}
        for one, (position, items) in order:
            if position in live or one in index.strays:
                if position not in live and self._is_old(one):
                    self.old += 1
                else:
                    yield _Known(position, one, items)

    def _is_old(self, one: BatchId) -> bool:
        sealed = [
            batch.open_envelope(record).sealed
            for place in self._index.strays[one]
            if (record := self._record_at(place, one))
        ]
        return bool(sealed) and max(sealed) < self._oldest_ms

    def read(self, one: _Known) -> Batch:
        """The batch with all that is known of it."""
        index = self._index
        letters = [(letter.output, letter.reason) for letter in index.letters.get(one.position, [])]
        record = self._record(one)
        item = next(iter(one.items.values()), None) or _item_of(index.letters.get(one.position))
        if record is None:
            origin, seq = one.id or BatchId(b"", 0)
            return Batch(
                origin,
                seq,
                item.count if item else 0,
                b"",
                self._outputs(one, letters),
                letters,
                item.hops if item else pack_hops(()),
                b"",
                reason="its record is damaged",
            )
        envelope = batch.open_envelope(record)
        if item is None and envelope.id in index.stray_items:
            item = next(iter(index.stray_items[envelope.id][1].values()))
        return Batch(
            envelope.origin,
            envelope.seq,
            envelope.count,
            record,
            self._outputs(one, letters),
            letters,
            item.hops if item else pack_hops(()),
            self._note(one.position),
        )

    def _record(self, one: _Known) -> bytes | None:
        """Where the tree says, else wherever a scan finds it; of several the latest sealed."""
        place = self._index.places.get(one.position)
        record = self._record_at(place, one.id) if place else None
        if record is not None or one.id is None:
            return record
        scan(self._file, self._index)
        found = [
            record
            for place in self._index.strays.get(one.id, [])
            if (record := self._record_at(place, one.id, one.items)) is not None
        ]
        return max(found, key=lambda record: batch.open_envelope(record).sealed, default=None)

    def _record_at(
        self, place: RecordPlace, one: BatchId | None, items: dict[int, QueueItem] | None = None
    ) -> bytes | None:
        sizes = {item.size for item in items.values()} if items else set()
        record = read_record(self._file, place, sizes)
        if record is None or (one is not None and batch.open_envelope(record).id != one):
            return None
        return record

    def _outputs(self, one: _Known, letters: Sequence[tuple[str, str]]) -> list[str] | None:
        """That waited for it, or may have; None where that cannot be told."""
        if not self._names:
            return None
        outputs = [self._names[number] for number in one.items if number in self._names]
        dead = {output for output, _ in letters}
        outputs += [name for name in self._doubtful if name not in dead.union(outputs)]
        return outputs if outputs or letters else None

    def _note(self, position: int) -> bytes:
        node = self._index.notes.get(position)
        if node is None:
            return b""
        try:
            return unguard("notes", node.key, self._file.read(node.offset, node.size))
        except ChannelDamaged:
            return b""


def _item_of(letters: list[Letter] | None) -> QueueItem | None:
    return letters[0].item if letters else None


def main(arguments: Sequence[str], out: BinaryIO) -> None:
    directory, retention_s, *options = arguments
    after = int(options[options.index("--after") + 1]) if "--after" in options else 0
    oldest_ms = int((time.time() - float(retention_s)) * 1000)
    try:
        for told in salvage(Path(directory), oldest_ms, after=after, trees="--scan" not in options):
            out.write(pack(told))
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.exit(f"cannot read {error.filename or directory}: {error.strerror}")


def read_mark(directory: Path) -> dict[str, Any] | None:
    """What was salvaged of the channel set aside in `directory`; None while that is not done."""
    try:
        data = msgpack.unpackb((directory / MARK).read_bytes())
    except (OSError, ValueError, msgpack.UnpackException):
        return None
    return data if isinstance(data, dict) else None


if __name__ == "__main__":
    try:
        main(sys.argv[1:], sys.stdout.buffer)
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more
