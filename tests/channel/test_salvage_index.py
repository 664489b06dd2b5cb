"""What an index of a damaged channel believes, and what it mends."""

import io
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from tests.channel.making import LIMITS, opened, put
from tests.channel.test_salvage import SOURCE, change, live, make, read
from tiers.channel.layout import STATE, ChannelState, Letter, QueueItem, Totals, guard, pack_hops
from tiers.channel.salvage import salvage
from tiers.channel.salvage.index import (
    SOURCE_POSITIONS,
    Index,
    RecordPlace,
    _compare,
    _mended,
    committed_groups,
    read_index,
    read_record,
)
from tiers.channel.salvage.pages import PAGE_BYTES, Node, PageFile, databases
from tiers.channel.salvage.salvage import Batch, SalvageEnd, SalvageHead, Told, _Known, _Reading
from tiers.channel.trees import file_end, misplaced, taken_for_trees, tree_entries
from tiers.core.batch import BatchId, Envelope, Hop, seal
from tiers.core.change import Change
from tiers.core.codecs import compressor

KEY = SOURCE + b"8-15"
VALUE = msgpack.packb([6000, 60])


@pytest.mark.parametrize("seed", range(3))
def test_a_single_flipped_bit_of_a_position_is_turned_back(seed: int) -> None:
    rng = random.Random(seed)
    value = rng.randbytes(rng.choice([1, 40, 400]))
    stored = guard(KEY, value)
    assert _mended(KEY, stored) == (KEY, stored)
    whole = stored[:4] + KEY + stored[4:]
    ends = (0, 7, 8 * 4, 8 * 4 + 8 * len(KEY) - 1, 8 * len(whole) - 1)
    for bit in (*ends, *rng.sample(range(8 * len(whole)), 10)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        key, behind = bytes(flipped[4:][: len(KEY)]), bytes(flipped[:4] + flipped[4 + len(KEY) :])
        assert _mended(key, behind) == (KEY, stored), bit
    flipped = bytearray(stored)
    flipped[-1] ^= 3
    assert _mended(KEY, bytes(flipped)) == (KEY, bytes(flipped)), "two are not"


def test_what_is_too_long_to_be_mended_soon_is_left() -> None:
    for size, is_mended in ((16384 - 4 - len(KEY), True), (16385 - 4 - len(KEY), False)):
        stored = guard(KEY, bytes(size))
        flipped = bytearray(stored)
        flipped[0] ^= 0x80  # the eighth that would be tried
        found = _mended(KEY, bytes(flipped))
        assert found == (KEY, stored if is_mended else bytes(flipped))


def position_in(directory: Path) -> Node:
    """Where the position of a source lies in the file of a channel that `make` made."""
    file = PageFile(directory / "channel" / "data.mdb")
    try:
        [records] = [node for node in file.walk(file.metas()[0].main) if node.key == b"records"]
        tree = file.tree(records)
        assert tree is not None
        [node] = [node for node in file.walk(tree) if node.key == KEY]
        return node
    finally:
        file.close()


@pytest.mark.parametrize("where", ["key", "value"])
async def test_a_position_with_a_flipped_bit_is_whole(tmp_path: Path, where: str) -> None:
    await make(tmp_path)
    node = position_in(tmp_path)
    at = node.offset - 1 if where == "key" else node.offset + 5

    def flip(data: bytearray) -> None:
        data[at] ^= 0x10

    change(tmp_path, flip)
    head, _, _ = read(tmp_path)
    assert head.positions == {KEY: VALUE}
    assert head.positions_whole


async def test_what_a_page_was_before_is_no_entry_of_it(tmp_path: Path) -> None:
    """A pointer with a flipped bit may lead below the page's nodes, to another that is whole."""
    await make(tmp_path)
    position = position_in(tmp_path)
    page = position.offset // PAGE_BYTES * PAGE_BYTES

    def to_what_was_before(data: bytearray) -> None:
        header, lower, upper = page + 16, *struct.unpack_from("<HH", data, page + 12)
        begins = position.offset - page - len(KEY) - 8
        older = bytearray(data[page + begins : page + PAGE_BYTES])
        size = 8 + len(KEY) + position.size
        older[8 + len(KEY) : size] = guard(KEY, msgpack.packb([5000, 50]))
        stale = (upper - size - 64) & ~1
        data[page + stale : page + stale + size] = older[:size]
        slots = struct.unpack_from(f"<{(lower - 16) // 2}H", data, header)
        struct.pack_into("<H", data, header + 2 * slots.index(begins), stale)

    change(tmp_path, to_what_was_before)
    head, _, _ = read(tmp_path)
    assert head.positions == {KEY: VALUE}, "the newest that is anywhere, and not what was before"
    assert not head.positions_whole


def an_index() -> Index:
    """Two batches that wait, one of them for two outputs, and a dead letter."""
    index = Index(state=ChannelState(batches=3, dead=1), walked=True)
    assert index.state is not None
    index.state.outputs = {"a": Totals(1, 2), "b": Totals(2, 1)}
    index.places = {number: RecordPlace(4096 * number, 100) for number in (1, 2, 3)}
    index.items = {1: {1: None, 2: None}, 2: {1: None}}  # type: ignore[dict-item]
    index.letters = {3: [None]}  # type: ignore[list-item]
    index.whole = {"batches", "queue", "dead"}
    return index


def test_a_tree_is_whole_if_the_state_says_so_too() -> None:
    def more_places(index: Index) -> None:
        index.places[4] = index.places[1]

    def fewer_items(index: Index) -> None:
        del index.items[1][2]

    def more_letters(index: Index) -> None:
        index.letters[2] = index.letters[3]

    cases: list[tuple[Callable[[Index], None], str, list[int] | None]] = [
        (lambda _: None, "", [1, 2, 3]),
        (more_places, "batches", [1, 2, 3]),
        (fewer_items, "queue", [1, 2, 3]),
        (more_letters, "dead", [1, 2, 3]),
    ]
    for how, named, alive in cases:
        index = an_index()
        how(index)
        _compare(index)
        assert {"batches", "queue", "dead"} - index.whole == ({named} if named else set())
        assert index.live() == alive


@pytest.mark.parametrize(
    ("whole", "alive"),
    [
        ({"batches"}, [1, 2, 3]),
        ({"queue", "dead"}, [1, 2, 3]),
        ({"queue"}, None),
        ({"dead", "records"}, None),
        (set[str](), None),
    ],
)
def test_what_is_alive_is_told_by_the_batches_or_by_all_that_waits(
    whole: set[str], alive: list[int] | None
) -> None:
    index = an_index()
    index.whole = whole
    assert index.live() == alive


@pytest.mark.parametrize("codec", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("size", [1, 100, 3000, 4100, 20_000])
def test_a_record_of_which_only_the_beginning_is_known_is_measured(
    tmp_path: Path, codec: str, size: int
) -> None:
    raw = random.Random(size).randbytes(size)
    envelope = Envelope(b"o" * 16, 7, 1, size, {"a": "b"}, 1, 1, "lines", codec)
    record = seal(envelope, compressor(codec, 1)(raw))
    file = holding(tmp_path, record)
    assert read_record(file, RecordPlace(2 * PAGE_BYTES + 16, 0), set()) == record
    file.close()


def holding(tmp_path: Path, record: bytes) -> PageFile:
    """A file with one record, in its third page."""
    pages = -(-(16 + len(record)) // PAGE_BYTES)
    data = bytes(2 * PAGE_BYTES) + struct.pack("=QHHI", 2, 0, 4, pages) + record
    (tmp_path / "data.mdb").write_bytes(data.ljust((2 + pages) * PAGE_BYTES, b"\0") + bytes(9000))
    return PageFile(tmp_path / "data.mdb")


def test_a_record_that_tells_its_id_itself_has_the_hops_that_a_scan_found(tmp_path: Path) -> None:
    envelope = Envelope(OWN, 7, 1, 2, {}, 1, 1, "lines", "none")
    file = holding(tmp_path, seal(envelope, b"a\n"))
    hops = pack_hops([Hop("edge-1", 5)])
    index = Index(places={3: RecordPlace(2 * PAGE_BYTES + 16, 0)}, scanned=True)
    for stray, found in (({}, pack_hops(())), ({envelope.id: item(7, hops)}, hops)):
        index.stray_items = {id: (9, {2: one}) for id, one in stray.items()}
        batch = _Reading(file, index, 0).read(_Known(3, None, {}))
        assert (batch.origin, batch.seq, batch.hops) == (OWN, 7, found)
    file.close()


def reading(tmp_path: Path, index: Index) -> _Reading:
    """Of a file in which there is nothing, and nothing more is found."""
    (tmp_path / "data.mdb").touch()
    index.scanned = True
    return _Reading(PageFile(tmp_path / "data.mdb"), index, 0)


OWN, OTHER = b"a" * 16, b"b" * 16


def item(seq: int, hops: bytes = b"") -> QueueItem:
    return QueueItem(False, False, False, 1, 1, 1, BatchId(OWN, seq), 0, hops)


COUNTS = ChannelState(origin=OWN, next_seq=5)


@pytest.mark.parametrize(
    ("state", "walked", "own"),
    [
        (COUNTS, True, [4]),  # the others were written by a commit that never was
        (COUNTS, False, [4, 5, 6]),  # another commit's state does not tell
        (None, False, [4, 5, 6]),
    ],
)
def test_what_a_scan_finds_counts_but_what_the_last_commit_knows_nothing_of(
    tmp_path: Path, state: ChannelState | None, walked: bool, own: list[int]
) -> None:
    index = Index(state=state, walked=walked)
    for origin in (OTHER, OWN):
        index.strays |= {BatchId(origin, seq): [] for seq in (6, 5, 4)}
    found = [one.id for one in reading(tmp_path, index).batches()]
    assert found == [BatchId(OWN, seq) for seq in own] + [BatchId(OTHER, s) for s in (4, 5, 6)]


def test_of_what_is_found_by_a_scan_the_trees_tell_what_they_can(tmp_path: Path) -> None:
    """Its place in the order and who waits for it; an entry alone is no batch."""

    index = Index()
    index.items = {9: {1: item(2)}, 8: {1: item(3), 2: item(3)}}
    index.letters = {7: [Letter("out", "why", 1, item(4))], 8: [Letter("out", "why", 1, item(3))]}
    index.stray_items = {
        BatchId(OWN, 5): (6, {2: item(5)}),
        BatchId(OWN, 6): (5, {2: item(6)}),
        BatchId(OWN, 2): (4, {2: item(2)}),
    }
    index.strays = {BatchId(OWN, 1): [], BatchId(OWN, 5): []}
    found = [
        (one.position, one.id and one.id.seq, sorted(one.items))
        for one in reading(tmp_path, index).batches()
    ]
    assert found == [(0, 1, []), (6, 5, [2]), (7, 4, []), (8, 3, [1, 2]), (9, 2, [1])]


async def test_pages_are_scanned_only_where_positions_might_be_missing(tmp_path: Path) -> None:
    await make(tmp_path, 20)
    file = PageFile(tmp_path / "channel" / "data.mdb")
    index = read_index(file)
    assert (index.walked, index.scanned) == (True, False)
    assert index.whole >= {"batches", "queue", "dead", "records", "meta", "notes"}
    assert read_index(file, trees=False).scanned
    file.close()


async def test_of_positions_that_only_a_scan_finds_the_furthest_counts(tmp_path: Path) -> None:
    async with opened(tmp_path, LIMITS) as channel:
        for offset in (5, 200, 70_000, 3):
            position = msgpack.packb([offset, 1])
            note = msgpack.packb([SOURCE, {b"8-15": position, b"gone": None}])
            records = {KEY: position, b"another/record": position}
            await channel.submit(Change(puts=[put(channel, note=note)], records=records))
    file = PageFile(tmp_path / "channel" / "data.mdb")
    index = read_index(file, trees=False)
    assert index.positions == {KEY: msgpack.packb([70_000, 1])}
    assert all(key.startswith(SOURCE_POSITIONS) for key in index.positions)
    file.close()


def told(directory: Path, retention_s: str, *options: str) -> list[Told]:
    out = io.BytesIO()
    salvage.main([str(directory / "channel"), retention_s, *options], out)
    out.seek(0)
    found = []
    while length := out.read(salvage.FRAME_LENGTH_BYTES):
        found.append(salvage.unpack(out.read(int.from_bytes(length, "big"))))
    return found


async def test_what_the_process_tells_begins_where_it_is_asked_to(tmp_path: Path) -> None:
    await make(tmp_path)
    head, *all_of_them, end = told(tmp_path, "1")
    assert (type(head), end) == (SalvageHead, SalvageEnd(exact=True, old=0))
    assert [one.seq for one in all_of_them if isinstance(one, Batch)] == live()
    assert told(tmp_path, "1", "--after", "13") == [head, *all_of_them[13:], end]
    _, *found, end = told(tmp_path, "1e10", "--scan")
    assert len(found) >= len(live())
    assert end == SalvageEnd(exact=False, old=0)
    # All were sealed in 1970, of which nobody knows the ids any more.
    _, *found, end = told(tmp_path, "1", "--scan")
    assert isinstance(end, SalvageEnd)
    assert not end.exact
    assert end.old > 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"batches": 41}, "batches"), ({"dead": 7}, "dead"), ({}, "")],
)
async def test_a_state_of_other_numbers_takes_the_trees_their_word(
    tmp_path: Path, changed: dict[str, int], named: str
) -> None:
    await make(tmp_path)
    path = tmp_path / "channel" / "data.mdb"
    file = PageFile(path)
    state = read_index(file).state
    file.close()
    assert state is not None
    other = replace(state, **changed)  # type: ignore[arg-type]

    def put_in_place(data: bytearray) -> None:
        old, new = guard(STATE, state.pack()), guard(STATE, other.pack())
        assert len(old) == len(new)
        data[:] = data.replace(old, new)

    change(tmp_path, put_in_place)
    file = PageFile(path)
    assert {"batches", "queue", "dead"} - read_index(file).whole == ({named} if named else set())
    file.close()


@pytest.mark.parametrize(
    "asked", [committed_groups, tree_entries, misplaced, taken_for_trees, file_end]
)
async def test_who_asks_of_a_file_leaves_no_descriptor(
    tmp_path: Path, asked: Callable[[Path], object]
) -> None:
    await make(tmp_path, 3)
    assert asked(tmp_path / "channel" / "data.mdb") is not None
    (tmp_path / "none").write_bytes(b"")
    asked(tmp_path / "none")  # what is none is no error
    opened = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    assert not [path for path in opened if path.is_relative_to(tmp_path)]


async def test_where_a_file_ends_and_its_values_do(tmp_path: Path) -> None:
    await make(tmp_path)
    path = tmp_path / "channel" / "data.mdb"
    assert tree_entries(path)["batches"] == 40, "of the newer commit"
    file = PageFile(path)
    end = file.metas()[0].end
    trees = databases(file, file.metas()[0]).values()
    needed = max(node.offset + node.size for tree in trees for node in file.walk(tree))
    file.close()
    assert 0 < needed <= end
    data = path.read_bytes()
    path.write_bytes(data[:end])
    assert file_end(path) == (end, False, 0)
    path.write_bytes(data[: end - 1])
    assert file_end(path).is_short
    assert file_end(path).needed == needed
    assert (misplaced(path), taken_for_trees(path)) == ([], [])


async def test_where_neither_batches_nor_queues_can_be_told_pages_are_scanned(
    tmp_path: Path,
) -> None:
    await make(tmp_path)
    file = PageFile(tmp_path / "channel" / "data.mdb")
    trees = databases(file, file.metas()[0])
    file.close()

    def wipe(data: bytearray) -> None:
        for name in ("batches", "queue"):
            at = trees[name].root * 4096
            data[at : at + 16] = b"\xff" * 16

    change(tmp_path, wipe)
    head, batches, end = read(tmp_path)
    assert (head.positions_whole, end.exact) == (True, False)
    assert {one.seq for one in batches if one.record} >= set(live())
