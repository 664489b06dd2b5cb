"""The pages of a channel's file, read without LMDB: nothing in a damaged file can crash this.

    page      pgno u64 | pad u16 | flags u16 | lower u16 | upper u16 | offset u16 ... nodes
    overflow  pgno u64 | pad u16 | flags u16 | pages u32 | data, on through all its pages
    node      low u16 | high u16 | flags u16 | key size u16 | key | data
              in a leaf data has low + (high << 16) bytes; with flag 1 it is the number of the
              overflow page that has them, with flag 2 it is a tree
              in a branch the child is page low + (high << 16) + (flags << 32)
    tree      pad u32 | flags u16 | depth u16 | pages of 3 kinds u64 | entries u64 | root u64
    meta      page header | magic u32 | version u32 | address, map size u64 | free tree, main
              tree | last page u64 | transaction u64

Integers are in the machine's order (lmdb.h, mdb.c of LMDB 0.9, 64 bits).
"""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096  # where neither meta page tells
HEADER_BYTES: Final = 16
_HEADER: Final = struct.Struct("=QHHHH")
_NODE: Final = struct.Struct("=HHHH")
_TREE: Final = struct.Struct("=4xHH24xQQ")
_META: Final = struct.Struct("=Q2xH4xI4x16xI44x48sQQ")
_VERSION: Final = struct.Struct("=16xII")
_PAGE: Final = struct.Struct("=Q")
_BRANCH, _LEAF, _META_PAGE = 1, 2, 8
_BIG, _SUB = 1, 2
_MAGIC: Final = 0xBEEFC0DE
_DEPTH_MAX: Final = 32  # of a tree; LMDB's own limit


class Tree(NamedTuple):
    """A tree as its parent describes it."""

    depth: int
    entries: int
    root: int


class Meta(NamedTuple):
    """What one of the two meta pages says."""

    txn: int
    main: Tree
    end: int  # bytes that all pages take


class Node(NamedTuple):
    """A key of a leaf, and where its data lie in the file."""

    key: bytes
    offset: int
    size: int
    is_tree: bool
    stale: bool = False  # where its page has no nodes any more: what it was before


class PageFile:
    """Open until `close`. A page that is beyond the end or cannot be read is None."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_RDONLY)
        self.size = os.fstat(self._file).st_size
        self.page_bytes = self._find_page_bytes()

    def close(self) -> None:
        os.close(self._file)

    @property
    def pages(self) -> int:
        return -(-self.size // self.page_bytes)

    def read(self, offset: int, size: int) -> bytes:
        """These bytes, as many as there are and the disk gives."""
        end = min(offset + size, self.size)
        if not 0 <= offset < end:
            return b""
        try:
            return os.pread(self._file, end - offset, offset)
        except OSError:
            return b""

    def page(self, number: int) -> bytes | None:
        data = self.read(number * self.page_bytes, self.page_bytes)
        return data if len(data) == self.page_bytes else None

    def metas(self) -> list[Meta]:
        """Those of the two meta pages that can be read, the newer first."""
        found = []
        for number in (0, 1):
            data = self.read(number * self.page_bytes, _META.size)
            if len(data) == _META.size:
                own, flags, magic, _, tree, last, txn = _META.unpack(data)
                if magic == _MAGIC or (own, flags) == (number, _META_PAGE):
                    found.append(Meta(txn, _tree(tree), (last + 1) * self.page_bytes))
        return sorted(found, key=lambda meta: -meta.txn)

    def lmdb_versions(self) -> list[int]:
        """What the meta pages that are LMDB's say of its own format."""
        heads = [self.read(number * self.page_bytes, _VERSION.size) for number in (0, 1)]
        told = [_VERSION.unpack(head) for head in heads if len(head) == _VERSION.size]
        return [version for magic, version in told if magic == _MAGIC]

    def walk(self, tree: Tree) -> Iterator[Node]:
        """The nodes of a tree's leaves, in order. What does not look like a page of it is left
        out: `tree.entries` tells whether all were there."""
        seen: set[int] = set()
        todo = [(tree.root, 1)]
        while todo:
            number, depth = todo.pop()
            page = self.page(number) if number not in seen and depth <= _DEPTH_MAX else None
            if page is None:
                continue
            seen.add(number)
            own, _, flags, lower, upper = _HEADER.unpack_from(page)
            kind = _LEAF if depth == tree.depth else _BRANCH
            if own != number and flags != kind:  # one of them may be damaged
                continue
            if kind == _LEAF:
                yield from self.leaf(number, page, lower, upper)
            else:
                children = [(child, depth + 1) for _, child in _branches(page, lower)]
                todo.extend(reversed(children))

    def misplaced(self, tree: Tree) -> Iterator[int]:
        """Leaves of a sound tree with keys that a search would look for elsewhere, since a key in
        a branch is not what it was."""
        todo: list[tuple[int, int, bytes, bytes | None]] = [(tree.root, 1, b"", None)]
        while todo:
            number, depth, low, high = todo.pop()
            page = self.page(number) if depth <= tree.depth else None
            if page is None:
                continue
            lower = _HEADER.unpack_from(page)[3]
            if depth < tree.depth:
                branches = list(_branches(page, lower))
                ends = [key for key, _ in branches[1:]]
                begins = [low, *ends]
                for begin, end, (_, child) in zip(begins, [*ends, high], branches, strict=True):
                    todo.append((child, depth + 1, begin, end))
                continue
            keys = [node.key for node in self.leaf(number, page, lower)]
            if keys and (keys[0] < low or (high is not None and keys[-1] >= high)):
                yield number

    def stray_leaf(self, number: int, page: bytes) -> Iterator[Node]:
        """The nodes of a page that was a leaf once, and all else in it that could be one: of its
        header one half may be damaged. None of a page that is no leaf."""
        own, _, flags, _, _ = _HEADER.unpack_from(page)
        if own == number or flags == _LEAF:
            yield from self.leaf(number, page)

    def leaf(self, number: int, page: bytes, lower: int = 0, upper: int = 0) -> Iterator[Node]:
        """The nodes of a page taken for a leaf, each within the page: those whose offsets stand
        before `lower`, or all that could be nodes. One that begins before `upper` is `stale`."""
        base = number * self.page_bytes
        for at in _offsets(page, lower):
            low, high, flags, key_size = _NODE.unpack_from(page, at)
            begin = at + _NODE.size + key_size
            key, size = page[at + _NODE.size : begin], low | high << 16
            if begin > len(page) or not key:
                continue
            is_tree = bool(flags & _SUB)
            if flags & _BIG:
                if begin + _PAGE.size <= len(page):
                    first = _PAGE.unpack_from(page, begin)[0]
                    place = first * self.page_bytes + HEADER_BYTES
                    yield Node(key, place, size, is_tree, at < upper)
            elif begin + size <= len(page):
                yield Node(key, base + begin, size, is_tree, at < upper)

    def tree(self, node: Node) -> Tree | None:
        """The tree that a node of the main tree describes."""
        data = self.read(node.offset, node.size)
        return _tree(data) if node.is_tree and len(data) == _TREE.size else None

    def _find_page_bytes(self) -> int:
        size: int = _META.unpack(self.read(0, _META.size).ljust(_META.size, b"\0"))[3]
        plausible = 512 <= size <= 65536 and size & (size - 1) == 0
        # The second page begins with its number and has the magic: so a size that is no more
        # than plausible is not believed.
        second = self.read(size, _META.size) if plausible else b""
        if len(second) == _META.size and _META.unpack(second)[2] == _MAGIC:
            return size
        return PAGE_BYTES


def _tree(data: bytes) -> Tree:
    _, depth, entries, root = _TREE.unpack(data)
    return Tree(depth, entries, root)


def _offsets(page: bytes, lower: int) -> Iterable[int]:
    """Where nodes begin: their offsets stand at the beginning, up to `lower`. Where that is not
    to be believed, whatever may be an offset is taken for one."""
    end = min(lower or len(page), len(page)) & ~1
    slots = memoryview(page)[HEADER_BYTES:end].cast("H") if end > HEADER_BYTES else ()
    last = len(page) - _NODE.size
    return dict.fromkeys(at for at in slots if HEADER_BYTES < at <= last and not at & 1)


def _branches(page: bytes, lower: int) -> Iterator[tuple[bytes, int]]:
    """Least key and page of each child."""
    for at in _offsets(page, lower):
        low, high, flags, key_size = _NODE.unpack_from(page, at)
        begin = at + _NODE.size
        yield page[begin : begin + key_size], low | high << 16 | flags << 32


def databases(file: PageFile, meta: Meta) -> dict[str, Tree]:
    """Those of one commit, by name."""
    found = {}
    for node in file.walk(meta.main):
        if (tree := file.tree(node)) is not None:
            found[node.key.decode(errors="replace")] = tree
    return found
