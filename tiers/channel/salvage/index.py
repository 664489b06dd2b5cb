"""What a damaged channel still holds: its trees as far as they can be walked, and what a scan of
every page finds where they cannot.

Nothing is believed for where it lies: a small value counts when its checksum is right, a record
when its own is. The trees tell what is live. Where a tree has not all the entries that it should
have, and only then, pages are scanned, among them free ones with what has long left the channel.
So what a scan finds may have been passed on: that it enters the new channel flagged settles it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgpack
from isal.isal_zlib import crc32

from tiers.channel import withheld
from tiers.channel.layout import (
    DEAD_KEY,
    IDENTITY,
    POSITION,
    QUEUE_KEY,
    STATE,
    ChannelIdentity,
    ChannelState,
    Letter,
    QueueItem,
    unguard,
    unpack_identity,
    unpack_item,
    unpack_letter,
    unpack_state,
)
from tiers.channel.living import ORIGIN
from tiers.channel.salvage.pages import HEADER_BYTES, Meta, Node, PageFile, Tree, databases
from tiers.channel.withheld import PREFIX, SINCE
from tiers.core import batch
from tiers.core.batch import BatchId
from tiers.core.withheld import encode
from tiers.errors import BatchError, ChannelDamaged

SOURCE_POSITIONS: Final = b"position/"
_LENGTH_BYTES: Final = 4
_VALUE_BYTES_MAX: Final = 64 << 20  # of what is no record; plans are the largest
_MENDED_BYTES_MAX: Final = 16 << 10  # 2 ms for 300 bytes, and more than twice for twice as many
_ORIGIN: Final = b"\xa6origin"  # an envelope's first key
_CRC_ENTRY_BYTES: Final = 9  # the last entry of an envelope (core/batch.py)


class RecordPlace(NamedTuple):
    """Where a record may lie; size 0 where nothing tells it."""

    offset: int
    size: int


@dataclass(slots=True)
class Index:
    """Live values by position in the channel, and what a scan found by batch."""

    identity: ChannelIdentity | None = None
    state: ChannelState | None = None
    walked: bool = False  # the state is that of the last commit
    items: dict[int, dict[int, QueueItem]] = field(default_factory=dict)  # by output id
    letters: dict[int, list[Letter]] = field(default_factory=dict)
    notes: dict[int, Node] = field(default_factory=dict)
    places: dict[int, RecordPlace] = field(default_factory=dict)
    positions: dict[bytes, bytes] = field(default_factory=dict)  # of sources
    origins: dict[bytes, bytes] = field(default_factory=dict)  # that have ended: records
    withheld: dict[bytes, bytes] = field(default_factory=dict)  # from outputs: records
    since: bytes | None = None  # when that began to be known, where it is not the channel's begin
    whole: set[str] = field(default_factory=set)  # trees that had all their entries
    scanned: bool = False
    strays: dict[BatchId, list[RecordPlace]] = field(default_factory=dict)
    stray_items: dict[BatchId, tuple[int, dict[int, QueueItem]]] = field(default_factory=dict)
    sizes: dict[int, set[int]] = field(default_factory=dict)  # of what begins at that offset

    def live(self) -> list[int] | None:
        """Positions of all batches that the channel held; None when that cannot be told."""
        if "batches" in self.whole:
            return sorted(self.places)
        if {"queue", "dead"} <= self.whole:
            return sorted({*self.items, *self.letters})
        return None


def read_index(file: PageFile, *, trees: bool = True) -> Index:
    """The index of a file. Pages are scanned where positions of sources might be missing."""
    index = Index()
    last, before = _commits(file, trees=trees)
    for name, tree in last.items():
        if _walk(file, index, name, tree) == tree.entries:
            index.whole.add(name)
    index.walked = index.state is not None
    if index.walked:
        _compare(index)
    for name in before:
        # Older by one commit: nearly what is missing, and known not to be all.
        if name not in last or (name == "meta" and not index.walked):
            _walk(file, index, name, before[name])
    if "records" not in index.whole or index.state is None:
        scan(file, index)
    return index


def committed_groups(file: Path) -> list[int | None]:
    """`State.groups` of the trees that the two meta pages show, of the newer one first; None
    where it cannot be read. LMDB keeps the tree before the last whole."""
    pages = PageFile(file)
    try:
        return [_groups(pages, meta) for meta in pages.metas()]
    finally:
        pages.close()


def _compare(index: Index) -> None:
    """The state counts as well: a tree put in place of another has all its entries too."""
    assert index.state is not None
    queued = sum(len(items) for items in index.items.values())
    if index.state.batches != len(index.places):
        index.whole.discard("batches")
    if sum(totals.batches for totals in index.state.outputs.values()) != queued:
        index.whole.discard("queue")
    if index.state.dead != sum(len(letters) for letters in index.letters.values()):
        index.whole.discard("dead")


def _commits(file: PageFile, *, trees: bool) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """The trees of the last commit, and of the one before; none without `trees`. The numbers in
    the meta pages have no checksum: where the states inside say otherwise, they are right."""
    metas = file.metas() if trees else []
    match [_groups(file, meta) for meta in metas]:
        case [int(newer), int(older)] if newer < older:
            metas.reverse()
    found: list[dict[str, Tree]] = [*(databases(file, meta) for meta in metas), {}, {}]
    return found[0], found[1]


def _groups(file: PageFile, meta: Meta) -> int | None:
    index = Index()
    tree = databases(file, meta).get("meta")
    if tree is not None:
        _walk(file, index, "meta", tree)
    return index.state.groups if index.state else None


def _walk(file: PageFile, index: Index, name: str, tree: Tree) -> int:
    """Takes what a tree has; how many of its entries were sound."""
    good = 0
    for node in file.walk(tree):
        try:
            good += _take(file, index, name, node)
        except (ChannelDamaged, ValueError):
            continue
    return good


def _take(file: PageFile, index: Index, name: str, node: Node) -> bool:
    """Whether the node is one of that database, and sound."""
    key = node.key
    if name == "batches":
        if len(key) != POSITION.size:
            return False
        index.places[POSITION.unpack(key)[0]] = RecordPlace(node.offset, node.size)
        return True
    if name in ("seen", "sums"):
        return True  # who sent them may send again, flagged
    if name == "records" and node.stale:
        return False  # where a position is missing, all pages are looked through for it
    stored = file.read(node.offset, min(node.size, _VALUE_BYTES_MAX))
    if name == "records" and key.startswith(SOURCE_POSITIONS[:3]):
        key, stored = _mended(key, stored)
    value = unguard(name, key, stored)
    if name == "queue":
        output_id, position = QUEUE_KEY.unpack(_sized(key, QUEUE_KEY.size))
        index.items.setdefault(position, {})[output_id] = unpack_item(value)
    elif name == "dead":
        position, _ = DEAD_KEY.unpack(_sized(key, DEAD_KEY.size))
        index.letters.setdefault(position, []).append(unpack_letter(value))
    elif name == "notes":
        index.notes[POSITION.unpack(_sized(key, POSITION.size))[0]] = node
    elif name == "records" and key.startswith(SOURCE_POSITIONS):
        index.positions[key] = value
    elif name == "records" and key.startswith(ORIGIN):
        index.origins[key] = value
    elif name == "records" and key.startswith(PREFIX):
        _take_withheld(index, key, value)
    elif name == "records" and key == SINCE:
        index.since = value
    elif key == IDENTITY:
        index.identity = unpack_identity(value)
    elif key == STATE:
        index.state = unpack_state(value)
    return True


def _take_withheld(index: Index, key: bytes, value: bytes) -> None:
    """What is older is less, and none of it wrong."""
    known = withheld.unpack(value).joined(withheld.unpack(index.withheld.get(key, value)))
    index.withheld[key] = encode(known)


def _mended(key: bytes, stored: bytes) -> tuple[bytes, bytes]:
    """The position of a source with a single flipped bit turned back. Unlike all else it exists
    once, and one that is behind doubles lines. That a checksum fits by chance is one in a million
    for a value that is damaged otherwise, and such a position would fit no file."""
    data = bytearray(stored[:4] + key + stored[4:])
    bits = range(8 * len(data)) if len(data) <= _MENDED_BYTES_MAX else ()
    if _fits(data):
        return key, stored
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
        if _fits(data):
            end = 4 + len(key)
            return bytes(data[4:end]), bytes(data[:4] + data[end:])
        data[bit // 8] ^= 1 << bit % 8
    return key, stored


def _fits(data: bytearray) -> bool:
    return crc32(memoryview(data)[4:]) == int.from_bytes(data[:4], "big")


def _sized(key: bytes, size: int) -> bytes:
    if len(key) != size:
        raise ChannelDamaged(f"key {key!r} has a wrong length")
    return key


def scan(file: PageFile, index: Index) -> None:
    """Looks at every page for what the trees did not show. A second call does nothing."""
    if index.scanned:
        return
    index.scanned = True
    found: dict[bytes, bytes] = {}  # positions of sources, as far as ever seen
    for number in range(2, file.pages):
        page = file.read(number * file.page_bytes, file.page_bytes)
        if _begins_record(page):
            _stray(file, index, number * file.page_bytes + HEADER_BYTES)
        elif len(page) == file.page_bytes:
            for node in file.stray_leaf(number, page):
                _take_stray(file, index, found, node)
    for key, value in found.items():
        index.positions.setdefault(key, value)


def _begins_record(page: bytes) -> bool:
    at = HEADER_BYTES + _LENGTH_BYTES
    return page[at + 1 : at + 8] == _ORIGIN or page[at + 3 : at + 10] == _ORIGIN


def _take_stray(file: PageFile, index: Index, found: dict[bytes, bytes], node: Node) -> None:
    """A node of a page that may be a leaf, of whatever database it fits."""
    key = node.key
    if len(key) not in (POSITION.size, QUEUE_KEY.size) and not key.startswith(
        (SOURCE_POSITIONS, IDENTITY, STATE, ORIGIN, PREFIX)
    ):
        return
    data = file.read(node.offset, min(node.size, _VALUE_BYTES_MAX))
    try:
        if len(key) == POSITION.size and _begins_record(bytes(HEADER_BYTES) + data[:64]):
            index.sizes.setdefault(node.offset, set()).add(node.size)
            _stray(file, index, node.offset)
            return
        value = unguard("a stray page", key, data)
        if len(key) == QUEUE_KEY.size:
            _take_stray_item(index, key, value)
        elif key == IDENTITY:
            index.identity = index.identity or unpack_identity(value)
        elif key == STATE:
            _take_stray_state(index, unpack_state(value))
        elif key.startswith(ORIGIN):
            index.origins.setdefault(key, value)
        elif key.startswith(PREFIX):
            _take_withheld(index, key, value)
        else:
            for name, position in _positions(key, value):
                # msgpack's whole numbers sort as their bytes do: the furthest wins.
                found[name] = max(position, found.get(name, b""))
    except (ChannelDamaged, ValueError, msgpack.UnpackException):
        return


def _take_stray_item(index: Index, key: bytes, value: bytes) -> None:
    try:
        unpack_letter(value)
    except ChannelDamaged:
        output_id, position = QUEUE_KEY.unpack(key)
        item = unpack_item(value)
        index.stray_items.setdefault(item.id, (position, {}))[1][output_id] = item


def _take_stray_state(index: Index, state: ChannelState) -> None:
    if not index.walked and (index.state is None or index.state.groups < state.groups):
        index.state = state


def _positions(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Positions of sources in a record, or in the note beside a batch (see entry/intake.py)."""
    if key.startswith(SOURCE_POSITIONS):
        yield key, value
    elif len(key) == POSITION.size:
        prefix, positions = msgpack.unpackb(value)
        for name, position in positions.items():
            if position is not None:
                yield prefix + name, position


def _stray(file: PageFile, index: Index, offset: int) -> None:
    """A record seems to begin here."""
    head = file.read(offset, _LENGTH_BYTES + batch.ENVELOPE_BYTES_MAX)
    try:
        envelope = batch.open_envelope(head[: _LENGTH_BYTES + int.from_bytes(head[:4], "big")])
    except BatchError:
        return
    sizes = index.sizes.get(offset, set())
    places = index.strays.setdefault(envelope.id, [])
    # A size that a damaged node tells is none: last, without it.
    places.extend(
        place for size in (*sizes, 0) if (place := RecordPlace(offset, size)) not in places
    )


def read_record(file: PageFile, place: RecordPlace, sizes: set[int]) -> bytes | None:
    """The record at that place, its checksum compared; None when there is none. Where nothing
    tells its size, one of `sizes`, or else the one at which its checksum is right."""
    for size in {place.size} if place.size else sizes:
        record = file.read(place.offset, size)
        if len(record) == size and _is_sound(record):
            return record
    return None if place.size else _measured(file, place.offset)


def _is_sound(record: bytes) -> bool:
    try:
        batch.verify(record)
    except BatchError:
        return False
    return True


def _measured(file: PageFile, offset: int) -> bytes | None:
    """A record of which only the beginning is known. A compressed body ends where the checksum is
    right, somewhere on the last of the pages whose number the first one's header has."""
    head = file.read(offset, _LENGTH_BYTES + batch.ENVELOPE_BYTES_MAX)
    length = _LENGTH_BYTES + int.from_bytes(head[:_LENGTH_BYTES], "big")
    envelope = batch.open_envelope(head[:length])
    if envelope.codec == "none":
        record = file.read(offset, length + envelope.size)
        return record if _is_sound(record) else None
    header = file.read(offset - HEADER_BYTES, HEADER_BYTES)
    pages = int.from_bytes(header[12:16], sys.byteorder)
    size_max = length + envelope.size + envelope.size // 64 + 4096  # what no codec outgrows
    data = file.read(offset, min(pages * file.page_bytes - HEADER_BYTES, size_max))
    covered = data[_LENGTH_BYTES : length - _CRC_ENTRY_BYTES]
    end = max(length, len(data) - file.page_bytes)
    crc = crc32(memoryview(data)[length:end])
    for size in range(end, len(data) + 1):
        if crc32(covered, crc) == envelope.crc:
            return data[:size] if _is_sound(data[:size]) else None
        crc = crc32(data[size : size + 1], crc)
    return None
