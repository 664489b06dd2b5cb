"""Pages made by hand, sound and damaged, and what is read of them."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tiers.channel.salvage.pages import Node, PageFile, Tree, _branches, databases

SIZE = 512  # of a page, the least that LMDB has
BRANCH, LEAF, META = 1, 2, 8
BIG, SUB = 1, 2
MAGIC = 0xBEEFC0DE
VERSION = 1


class Entry(NamedTuple):
    """A node to be: in a branch `data` is empty and `number` the child."""

    key: bytes
    data: bytes = b""
    flags: int = 0
    number: int | None = None  # instead of the length of `data`

    def pack(self) -> bytes:
        size = len(self.data) if self.number is None else self.number
        low, high = size & 0xFFFF, size >> 16 & 0xFFFF
        node = struct.pack("=HHHH", low, high, self.flags, len(self.key)) + self.key + self.data
        return node + bytes(len(node) % 2)


def page(number: int, kind: int, entries: Sequence[Entry], size: int = SIZE) -> bytes:
    """With its nodes packed to its end, the first one last."""
    offsets: list[int] = []
    nodes = b""
    for node in (entry.pack() for entry in entries):
        nodes = node + nodes
        offsets.append(size - len(nodes))
    lower, upper = 16 + 2 * len(offsets), size - len(nodes)
    head = struct.pack("=QHHHH", number, 0, kind, lower, upper)
    head += struct.pack(f"={len(offsets)}H", *offsets)
    return head + bytes(size - len(head) - len(nodes)) + nodes


def tree(depth: int, entries: int, root: int) -> bytes:
    return struct.pack("=IHHQQQQQ", 0, 0, depth, 0, 0, 0, entries, root)


def meta(
    number: int,
    *,
    txn: int = 1,
    main: bytes | None = None,
    last: int = 1,
    magic: int = MAGIC,
    kind: int = META,
    own: int | None = None,
    size: int = SIZE,
) -> bytes:
    """A meta page; LMDB keeps the size of pages in the tree of free ones."""
    head = struct.pack("=QHHHH", number if own is None else own, 0, kind, 0, 0)
    free = struct.pack("=I44x", size)
    words = struct.pack("=IIQQ", magic, VERSION, 0, 0) + free + (main or tree(0, 0, 0))
    return (head + words + struct.pack("=QQ", last, txn)).ljust(size, b"\0")


@contextmanager
def made(directory: Path, *pages: bytes, metas: Sequence[bytes] = ()) -> Iterator[PageFile]:
    """A file of two meta pages and these."""
    path = directory / "data.mdb"
    path.write_bytes(b"".join((*(metas or (meta(0), meta(1))), *pages)))
    file = PageFile(path)
    try:
        yield file
    finally:
        file.close()


def keys(nodes: Iterator[Node]) -> list[bytes]:
    return [node.key for node in nodes]


def test_what_is_beyond_the_end_is_not_there(tmp_path: Path) -> None:
    with made(tmp_path, b"x" * SIZE, b"y" * 5) as file:
        end = 3 * SIZE + 5
        assert (file.size, file.page_bytes, file.pages) == (end, SIZE, 4)
        assert file.read(2 * SIZE, 3) == b"xxx"
        assert file.read(end - 3, 99) == b"yyy"
        assert len(file.read(0, 9)) == 9
        for offset in (-1, end, end + 1):
            assert file.read(offset, 1) == b""
        assert file.page(2) == b"x" * SIZE
        assert file.page(3) is None
        assert file.page(-1) is None


@pytest.mark.parametrize(("size", "pages"), [(0, 0), (1, 1), (4096, 1), (4097, 2), (8192, 2)])
def test_the_last_page_counts_in_part(tmp_path: Path, size: int, pages: int) -> None:
    (tmp_path / "data.mdb").write_bytes(bytes(size))
    file = PageFile(tmp_path / "data.mdb")
    assert (file.page_bytes, file.pages) == (4096, pages)
    file.close()


@pytest.mark.parametrize(
    ("size", "second", "believed"),
    [
        (512, MAGIC, True),
        (4096, MAGIC, True),
        (65_536, MAGIC, True),
        (256, MAGIC, False),
        (131_072, MAGIC, False),
        (1536, MAGIC, False),
        (512, MAGIC + 1, False),
    ],
)
def test_the_size_of_pages_is_believed_where_the_second_begins(
    tmp_path: Path, size: int, second: int, believed: bool
) -> None:
    metas = [meta(0, size=size), meta(1, size=size, magic=second)]
    with made(tmp_path, bytes(200_000), metas=metas) as file:
        assert file.page_bytes == (size if believed else 4096)


MAIN = Tree(1, 2, 7)


@pytest.mark.parametrize(
    ("metas", "txns"),
    [
        ([meta(0, txn=4), meta(1, txn=5)], [5, 4]),
        ([meta(0, txn=6), meta(1, txn=5)], [6, 5]),
        ([meta(0, txn=6, own=9), meta(1, txn=5, kind=LEAF)], [6, 5]),  # their magic is right
        ([meta(0, txn=6), meta(1, txn=5, magic=1)], [6]),  # pages of 4096 bytes, as far as known
        ([meta(0, txn=6, magic=1), meta(1, txn=5)], [6, 5]),
        ([meta(0, txn=6, magic=1, own=9), meta(1, txn=5)], [5]),
        ([meta(0, txn=6, magic=1, kind=LEAF), meta(1, txn=5)], [5]),
        ([meta(0, txn=6), meta(1, txn=5)[:151]], [6]),
    ],
)
def test_of_the_meta_pages_the_newer_comes_first(
    tmp_path: Path, metas: list[bytes], txns: list[int]
) -> None:
    with made(tmp_path, metas=metas) as file:
        assert [one.txn for one in file.metas()] == txns


def test_a_meta_page_tells_the_main_tree_and_where_pages_end(tmp_path: Path) -> None:
    metas = [meta(0, main=tree(*MAIN), last=9), meta(1, txn=0)]
    with made(tmp_path, metas=metas) as file:
        found = file.metas()[0]
        assert (found.main, found.end) == (MAIN, 10 * SIZE)
        assert file.lmdb_versions() == [VERSION, VERSION]
    with made(tmp_path, metas=[meta(0), meta(1, magic=1)[:23]]) as file:
        assert file.lmdb_versions() == [VERSION]


# -- leaves --------------------------------------------------------------------------------------


def leaf(directory: Path, data: bytes, lower: int = 0, upper: int = 0) -> list[Node]:
    with made(directory, data) as file:
        return list(file.leaf(2, data, lower, upper))


def test_nodes_of_a_leaf_tell_where_their_data_lie(tmp_path: Path) -> None:
    big = struct.pack("=Q", 70)
    entries = [
        Entry(b"a", b"small"),
        Entry(b"big", big, BIG, 100_000),
        Entry(b"c", tree(1, 2, 3), SUB),
        Entry(b"d", big, BIG | SUB, 48),
    ]
    data = page(2, LEAF, entries)
    lower, upper = 16 + 2 * 4, struct.unpack_from("=H", data, 14)[0]
    found = leaf(tmp_path, data, lower, upper)
    begins = [data.index(b"small"), 0, data.index(tree(1, 2, 3)), 0]
    assert found == [
        Node(b"a", 2 * SIZE + begins[0], 5, False),
        Node(b"big", 70 * SIZE + 16, 100_000, False),
        Node(b"c", 2 * SIZE + begins[2], 48, True),
        Node(b"d", 70 * SIZE + 16, 48, True),
    ]
    assert leaf(tmp_path, data, lower - 2, upper) == found[:-1]
    assert set(leaf(tmp_path, data)) >= set(found), "whatever may be a node"


def place(*nodes: tuple[int, bytes]) -> bytes:
    """A leaf with these bytes at these offsets, and slots for them."""
    data = bytearray(page(2, LEAF, []))
    for number, (at, node) in enumerate(nodes):
        struct.pack_into("=H", data, 16 + 2 * number, at)
        data[at : at + len(node)] = node[: len(data) - at]
    return bytes(data)


@pytest.mark.parametrize(
    ("at", "entry", "taken"),
    [
        (SIZE - 14, Entry(b"k", b"12345"), True),  # to the last byte
        (SIZE - 14, Entry(b"k", b"12345", 0, 6), False),
        (SIZE - 14, Entry(b"123456"), True),
        (SIZE - 14, Entry(b"1234567"), False),
        (SIZE - 8, Entry(b""), False),
        (400, Entry(b"", b"data"), False),
        (SIZE - 18, Entry(b"kk", bytes(8), BIG, 99), True),
        (SIZE - 18, Entry(b"kkk", bytes(8), BIG, 99), False),
        (401, Entry(b"k", b"d"), False),  # nodes begin at even places
        (18, Entry(b"k", b"d"), True),
        (16, Entry(b"k", bytes(16)), False),  # its slot
        (SIZE - 6, Entry(b"k"), False),
    ],
)
def test_a_node_lies_within_its_page(tmp_path: Path, at: int, entry: Entry, taken: bool) -> None:
    node = struct.pack("=HHHH", *struct.unpack_from("=HHHH", entry.pack()))
    node += entry.key + entry.data
    others = [(300, Entry(b"before", b"1").pack()), (350, Entry(b"behind", b"2").pack())]
    if at > 18:
        found = leaf(tmp_path, place(others[0], (at, node), others[1]), 16 + 2 * 3)
        assert [one.key for one in found] == [b"before", *([entry.key] if taken else []), b"behind"]
    else:
        found = leaf(tmp_path, place((at, node)), 16 + 2)
        assert [one.key for one in found] == ([entry.key] if taken else [])


def test_what_begins_before_the_nodes_is_what_was_before(tmp_path: Path) -> None:
    nodes = [(at, Entry(b"%d" % at, b"1").pack()) for at in (298, 300, 302 + 12)]
    big = Entry(b"old", bytes(8), BIG, 99).pack()
    found = leaf(tmp_path, place(*nodes[1:], (200, big), (260, nodes[0][1])), 16 + 8, 300)
    assert [one.stale for one in found] == [False, False, True, True]


def test_a_slot_that_is_told_twice_is_one_node(tmp_path: Path) -> None:
    node = Entry(b"k", b"1").pack()
    assert len(leaf(tmp_path, place((300, node), (300, node)), 20)) == 1


@pytest.mark.parametrize("lower", [1, 15, 16, 17])
def test_a_leaf_whose_slots_end_before_they_begin_has_none(tmp_path: Path, lower: int) -> None:
    assert leaf(tmp_path, place((300, Entry(b"k", b"1").pack())), lower) == []


def test_slots_end_with_the_page(tmp_path: Path) -> None:
    data = place((300, Entry(b"k", b"1").pack()))
    assert leaf(tmp_path, data, SIZE) == leaf(tmp_path, data, 60_000) == leaf(tmp_path, data)


@pytest.mark.parametrize(
    ("number", "kind", "taken"), [(2, LEAF, True), (2, 77, True), (9, LEAF, True), (9, 77, False)]
)
def test_half_a_header_tells_what_was_a_leaf(
    tmp_path: Path, number: int, kind: int, taken: bool
) -> None:
    data = page(number, kind, [Entry(b"key", b"value")])
    with made(tmp_path, data) as file:
        assert (b"key" in keys(file.stray_leaf(2, data))) is taken
        assert keys(file.walk(Tree(1, 1, 2))) == ([b"key"] if taken else [])


# -- trees ---------------------------------------------------------------------------------------


def branch(number: int, *children: tuple[bytes, int]) -> bytes:
    """LMDB keeps no key for the first child."""
    entries = [Entry(key, b"", child >> 32, child) for key, child in children]
    return page(number, BRANCH, entries)


def leaves(*numbered: tuple[int, bytes]) -> list[bytes]:
    return [
        page(number, LEAF, [Entry(bytes([key]), b"v") for key in text]) for number, text in numbered
    ]


def test_a_tree_is_walked_in_order(tmp_path: Path) -> None:
    pages = [branch(2, (b"", 3), (b"m", 6)), branch(3, (b"", 5), (b"c", 4))]
    pages += [*leaves((4, b"cd"), (5, b"ab")), branch(6, (b"", 7)), *leaves((7, b"mn"))]
    with made(tmp_path, *pages) as file:
        assert keys(file.walk(Tree(3, 6, 2))) == [b"a", b"b", b"c", b"d", b"m", b"n"]
        assert keys(file.walk(Tree(2, 6, 3))) == [b"a", b"b", b"c", b"d"]
        assert keys(file.walk(Tree(1, 6, 99))) == []
        assert list(file.misplaced(Tree(3, 6, 2))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param((4, b""), id="a page of zeros"),
        pytest.param((2, b""), id="a loop"),
        pytest.param((99, b""), id="beyond the end"),
        pytest.param((3, b""), id="the first again"),
        pytest.param((3 + (1 << 32), b""), id="far beyond the end"),
    ],
)
def test_the_rest_of_a_damaged_tree_is_walked(tmp_path: Path, wrong: tuple[int, bytes]) -> None:
    pages = [branch(2, (b"", 3), (b"c", wrong[0]), (b"e", 5))]
    pages += [*leaves((3, b"ab")), bytes(SIZE), *leaves((5, b"ef"))]
    with made(tmp_path, *pages) as file:
        assert keys(file.walk(Tree(2, 6, 2))) == [b"a", b"b", b"e", b"f"]


@pytest.mark.parametrize(("depth", "found"), [(32, [b"a"]), (33, [])])
def test_no_tree_is_deeper_than_lmdb_makes_them(
    tmp_path: Path, depth: int, found: list[bytes]
) -> None:
    pages = [branch(number, (b"", number + 1)) for number in range(2, depth + 1)]
    with made(tmp_path, *pages, *leaves((depth + 1, b"a"))) as file:
        assert keys(file.walk(Tree(depth, 1, 2))) == found


@pytest.mark.parametrize(
    ("first", "second", "third", "wrong"),
    [
        (b"ab", b"cd", b"ef", []),
        (b"ab", b"bd", b"ef", [4]),
        (b"ac", b"cd", b"ef", [3]),  # the least of the next
        (b"ab", b"ce", b"ef", [4]),
        (b"ab", b"cd", b"df", [5]),
        (b"ac", b"cd", b"cz", [3, 5]),
        (b"", b"", b"", []),
    ],
)
def test_keys_that_a_search_would_miss_are_found(
    tmp_path: Path, first: bytes, second: bytes, third: bytes, wrong: list[int]
) -> None:
    pages = [branch(2, (b"", 3), (b"c", 4), (b"e", 5))]
    pages += leaves((3, first), (4, second), (5, third))
    with made(tmp_path, *pages) as file:
        assert sorted(file.misplaced(Tree(2, 6, 2))) == wrong


def test_a_leaf_that_is_not_there_has_no_keys_and_its_neighbours_have(tmp_path: Path) -> None:
    pages = [branch(2, (b"", 3), (b"c", 99), (b"e", 4))]
    with made(tmp_path, *pages, *leaves((3, b"ac"), (4, b"df"))) as file:
        assert sorted(file.misplaced(Tree(2, 6, 2))) == [3, 4]


def test_what_lies_between_slots_and_nodes_is_none(tmp_path: Path) -> None:
    """LMDB does not wipe it."""
    data = bytearray(leaves((3, b"ab"))[0])
    data[300:310] = Entry(b"z", b"").pack()
    struct.pack_into("=H", data, 16 + 2 * 2, 300)
    with made(tmp_path, branch(2, (b"", 3), (b"c", 99)), bytes(data)) as file:
        assert list(file.misplaced(Tree(2, 6, 2))) == []
        assert keys(file.walk(Tree(2, 6, 2))) == [b"a", b"b"]


def test_a_child_has_48_bits() -> None:
    children = [(b"", 3), (b"k", 70_000), (b"kk", 5 + (2 << 32)), (b"m", 2**48 - 1)]
    data = branch(2, *children)
    assert list(_branches(data, 16 + 2 * 4)) == children


def test_the_ends_of_a_branch_are_those_of_its_leaves(tmp_path: Path) -> None:
    pages = [branch(2, (b"", 3), (b"m", 4)), branch(3, (b"", 5)), branch(4, (b"", 6))]
    with made(tmp_path, *pages, *leaves((5, b"am"), (6, b"lz"))) as file:
        assert sorted(file.misplaced(Tree(3, 6, 2))) == [5, 6]
    with made(tmp_path, *pages, *leaves((5, b"al"), (6, b"mz"))) as file:
        assert sorted(file.misplaced(Tree(3, 6, 2))) == []


def test_databases_are_the_trees_of_the_main_tree(tmp_path: Path) -> None:
    entries = [
        Entry(b"batches", tree(2, 40, 9), SUB),
        Entry(b"none", tree(2, 40, 9)),
        Entry(b"queue", tree(1, 3, 8), SUB),
        Entry(b"short", tree(1, 3, 8)[:-1], SUB),
    ]
    metas = [meta(0, main=tree(1, 4, 2)), meta(1, txn=0)]
    with made(tmp_path, page(2, LEAF, entries), metas=metas) as file:
        wanted = {"batches": Tree(2, 40, 9), "queue": Tree(1, 3, 8)}
        assert databases(file, file.metas()[0]) == wanted
