"""Whole lines of a text, block by block, with what holes and limits do to them."""

import pytest

from tests.sources.scene import Scene
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.marks import STRONG_BYTES, mark_of
from tiers.sources.tail.reading import Limits, Torn, read, read_unfinished
from tiers.sources.tail.texts import open_text

WIDE = Limits(1 << 20, 1 << 20)
HOLE, GAP = 16, 512  # zeros where a line would begin, and within one


def opened(scene: Scene, data: bytes) -> Generation:
    file = scene.sees("app.log", data)
    generation = scene.knows(b"", None, file)
    inode, birth_ns = file.identity
    generation.opened = open_text(scene.disk, file.where, inode, birth_ns, scene.room)
    return generation


def taken(generation: Generation, limits: Limits) -> list[tuple[bytes, int, int, bool]]:
    """Of each block its lines, the hole before it, how many were split, whether one was ended."""
    found = []
    while block := read(generation, limits):
        assert bytes(block.data).count(b"\n") == block.count
        assert (block.path, block.key) == (generation.path, generation.key)
        assert block.position == generation.pack()
        found.append((bytes(block.data), block.hole, block.split, block.ended))
    return found


@pytest.mark.parametrize(
    ("data", "blocks", "offset"),
    [
        (b"", [], 0),
        (b"one\ntwo\ntorn", [(b"one\ntwo\n", 0, 0, False)], 8),
        (bytes(1) + b"one\n", [(b"one\n", 1, 0, False)], 5),  # at the beginning any zeros
        (bytes(9), [], 0),
        (b"one\n" + bytes(99), [(b"one\n", 0, 0, False)], 4),
        (
            b"one\n" + bytes(HOLE) + b"two\n",
            [(b"one\n", 0, 0, False), (b"two\n", HOLE, 0, False)],
            8 + HOLE,
        ),
        (
            b"one\n" + bytes(HOLE - 1) + b"two\n",  # a line may begin with some
            [(b"one\n" + bytes(HOLE - 1) + b"two\n", 0, 0, False)],
            7 + HOLE,
        ),
        (
            b"torn" + bytes(GAP) + b"two\n",
            [(b"torn\n", 0, 0, True), (b"two\n", GAP, 0, False)],
            8 + GAP,
        ),
        (
            b"whole" + bytes(GAP - 1) + b"line\n",
            [(b"whole" + bytes(GAP - 1) + b"line\n", 0, 0, False)],
            9 + GAP,
        ),
        (b"torn" + bytes(GAP), [], 0),  # more of it may come
        (b"torn" + bytes(3), [], 0),
        (
            b"one\ntorn" + bytes(GAP) + b"two\n",
            [(b"one\n", 0, 0, False), (b"torn\n", 0, 0, True), (b"two\n", GAP, 0, False)],
            12 + GAP,
        ),
        (
            b"one\n" + bytes(3 << 20) + b"two\n",
            [(b"one\n", 0, 0, False), (b"two\n", 3 << 20, 0, False)],
            8 + (3 << 20),
        ),
        (
            b"one\n" + bytes(HOLE) + b"two\ntorn" + bytes(GAP) + b"x\n",
            [
                (b"one\n", 0, 0, False),
                (b"two\n", HOLE, 0, False),
                (b"torn\n", 0, 0, True),
                (b"x\n", GAP, 0, False),
            ],
            14 + HOLE + GAP,
        ),
    ],
)
def test_holes(data: bytes, blocks: list[tuple[bytes, int, int, bool]], offset: int) -> None:
    generation = opened(Scene(), data)
    assert taken(generation, WIDE) == blocks
    assert generation.offset == offset


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        (Limits(1000, 2000), 1000),
        (Limits(1000, 1000), 1000),
        (Limits(1000, 999), 998),
        (Limits(1000, 101), 989),
        (Limits(1000, 100), 989),
        (Limits(5, 2), 1),
    ],
)
def test_what_is_read_at_once_has_room_for_the_newlines_of_split_lines(
    limits: Limits, size: int
) -> None:
    assert limits.read_bytes == size
    generation = opened(Scene(), b"x" * 5000 + b"\n")
    blocks = taken(generation, limits)
    assert b"".join(data.replace(b"\n", b"") for data, *_ in blocks) == b"x" * 5000
    assert sum(split for _, _, split, _ in blocks) == 1
    if limits.event_size_max <= limits.block_size_max:
        assert max(len(data) for data, *_ in blocks) <= max(limits.block_size_max, 2)


@pytest.mark.parametrize("size", [9, 10, 11, 98, 99, 100, 101])
def test_a_line_longer_than_a_block_is_read_whole_up_to_the_size_of_an_event(size: int) -> None:
    line = b"x" * (size - 1) + b"\n"
    generation = opened(Scene(), line + b"y\n")
    blocks = taken(generation, Limits(10, 100))
    assert b"".join(data for data, *_ in blocks).replace(b"\n", b"") == b"x" * (size - 1) + b"y"
    assert sum(split for _, _, split, _ in blocks) == (size > 100)
    assert all(len(data) <= 100 for data, *_ in blocks)


def test_what_is_known_once_a_block_is_taken() -> None:
    data = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))
    scene = Scene()
    generation = opened(scene, bytes(100) + data + b"torn")
    limits = Limits(700, 1000)
    offset = 100
    while block := read(generation, limits):
        offset += len(block.data)
        begin = max(100, offset - STRONG_BYTES)
        whole = bytes(100) + data
        assert generation.offset == offset
        assert generation.begin == 100
        assert generation.head == mark_of(whole[100 : min(offset, 100 + STRONG_BYTES)], 100)
        assert generation.seam == mark_of(whole[begin:offset], begin)
    assert generation.size == generation.extent == 100 + len(data) + 4
    assert generation.unfinished == generation.behind == 4
    assert not generation.unread


def test_a_hole_is_in_the_seam_and_not_in_the_head() -> None:
    generation = opened(Scene(), b"one\n" + bytes(20) + b"two\n")
    taken(generation, WIDE)
    assert generation.head == mark_of(b"one\n" + bytes(20) + b"two\n", 0)
    assert generation.seam == generation.head
    generation = opened(Scene(), b"one\n" + bytes(5000) + b"two\n")
    taken(generation, WIDE)
    seam = bytes(STRONG_BYTES - 4) + b"two\n"
    assert generation.seam == mark_of(seam, 5008 - STRONG_BYTES)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"one\ntorn", b"torn\n"),
        (b"one\ntorn" + bytes(9), b"torn\n"),
        (b"one\n", None),
        (b"one\n" + bytes(9), None),
        (b"one\n" + bytes(HOLE) + b"torn", b"torn\n"),
    ],
)
def test_the_last_line(data: bytes, line: bytes | None) -> None:
    generation = opened(Scene(), data)
    taken(generation, WIDE)
    block = read_unfinished(generation, WIDE)
    assert (block and bytes(block.data)) == line
    if block:
        assert (block.count, block.ended) == (1, True)
        assert generation.offset == len(data.rstrip(b"\0"))


@pytest.mark.parametrize("cut", [0, 1, 8])
def test_what_shrinks_while_it_is_read_is_not_taken(cut: int) -> None:
    scene = Scene()
    generation = opened(scene, b"one\ntwo\nmore")
    really = scene.disk.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        data = really(descriptor, length, offset)
        del scene.disk.names["/logs/app.log"].data[8 - cut :]
        return data

    scene.disk.pread = pread  # type: ignore[method-assign]
    if cut:
        with pytest.raises(Torn):
            read(generation, WIDE)
        assert generation.offset == 0
    else:
        block = read(generation, WIDE)
        assert block is not None
        assert bytes(block.data) == b"one\ntwo\n"
