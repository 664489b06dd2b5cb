"""Texts of a look: opened once, few at a time, and asked as they are."""

import gzip
from collections.abc import Callable

import pytest

from tests.sources.scene import Scene
from tiers.sources.tail.marks import mark_of
from tiers.sources.tail.sightings import StartAt, Unreadable
from tiers.sources.tail.texts import PlainText

OPEN_MAX = 16
LONG = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_those_that_were_asked_last_stay_open(scene: Scene) -> None:
    files = [scene.sees(f"app.log.{i}", b"%03d\n" % i) for i in range(OPEN_MAX + 2)]
    opened: list[str] = []
    really = scene.disk.open

    def note(path: str) -> int:
        opened.append(path)
        return really(path)

    scene.disk.open = note  # type: ignore[method-assign]
    for file in files[:OPEN_MAX]:
        scene.texts.of(file)
    first = scene.texts.of(files[0])
    for file in files[OPEN_MAX:]:
        assert scene.texts.same_to(file, first, 1), "it is open still"
        assert len(scene.disk.descriptors) == OPEN_MAX
    assert opened == [file.where for file in files]
    scene.texts.of(files[0])
    scene.texts.of(files[-1])
    assert len(opened) == len(files)
    scene.texts.of(files[1])
    assert opened[-1] == files[1].where
    scene.texts.close()
    assert not scene.disk.descriptors


@pytest.mark.parametrize(
    ("data", "lines", "end"),
    [
        (b"", 0, 0),
        (b"torn", 0, 4),
        (b"one\n", 4, 4),
        (b"one\ntw", 4, 6),
        (b"one\ntw" + bytes(9), 4, 6),
        (bytes(9), 0, 0),
        (gzip.compress(b"one\ntw", mtime=0), 4, 6),
    ],
)
def test_where_lines_and_text_end(scene: Scene, data: bytes, lines: int, end: int) -> None:
    file = scene.sees("app.log.1", data)
    assert scene.texts.ends(file) == (lines, end)
    scene.texts.close()
    scene.disk.unlink(file.where)
    assert scene.texts.ends(file) == (lines, end), "asked once"


@pytest.mark.parametrize(
    ("offset", "line"), [(0, 0), (3, 0), (4, 4), (5, 4), (8, 8), (9, 8), (99, 8)]
)
def test_where_a_line_begins(scene: Scene, offset: int, line: int) -> None:
    file = scene.sees("app.log.1", b"one\ntwo\nx")
    assert scene.texts.line_at(file, offset) == line


def test_what_a_text_is_known_by(scene: Scene) -> None:
    file = scene.sees("app.log.1", LONG)
    head, seam = mark_of(LONG[:1024], 0), mark_of(LONG[1400 - 1024 : 1400], 1400 - 1024)
    assert scene.texts.start(file, 1400) == StartAt(1400, 0, head, seam, 1400)
    holed = scene.sees("app.log.2", bytes(100) + LONG + b"torn")
    known = scene.texts.known(holed)
    size = 100 + len(LONG)
    assert known == StartAt(
        size,
        100,
        mark_of(LONG[:1024], 100),
        mark_of(LONG[-1024:], size - 1024),
        size + 4,
    )
    data = gzip.compress(LONG, mtime=0)
    packed = scene.sees("app.log.3", data)
    assert scene.texts.known(packed) == StartAt(0, 0, head, size=len(data), blind=True, packed=True)
    assert scene.texts.start(packed, 1400) == StartAt(1400, 0, head, seam, 1400, packed=True)
    generation = scene.knows(b"")
    for start in (known, scene.texts.known(packed)):
        start.begin(generation)
        assert start == StartAt(
            generation.offset,
            generation.begin,
            generation.head,
            generation.seam,
            generation.size,
            generation.blind,
            generation.packed,
        )


@pytest.mark.parametrize(
    ("at", "end", "is_same"),
    [
        (-1, 2800, True),
        (0, 2800, False),
        (1023, 2800, False),
        (1024, 2800, True),  # between its ends nothing is asked
        (1775, 2800, True),
        (1776, 2800, False),
        (2799, 2800, False),
        (2799, 2799, True),
        (-1, 2801, False),  # it is not there
        (5, 5, True),
        (4, 5, False),
    ],
)
def test_alike_at_both_ends(scene: Scene, at: int, end: int, is_same: bool) -> None:
    other = bytearray(LONG)
    if at >= 0:
        other[at] ^= 1
    file, another = scene.sees("app.log.1", LONG), scene.sees("app.log.2", bytes(other))
    assert scene.texts.same_to(file, scene.texts.of(another), end) is is_same
    assert scene.texts.same_to(another, scene.texts.of(file), end) is is_same


def test_of_what_is_held_open_the_descriptor_is_asked(scene: Scene) -> None:
    generation = scene.knows(LONG)
    scene.holds(generation, LONG)
    opened = generation.opened
    assert opened is not None
    file = scene.sees("app.log.1", b"other\n")
    texts = type(scene.texts)(scene.disk, scene.room, [opened])
    file.status = opened.status
    (inode,) = scene.disk.descriptors.values()
    inode.data += b"more\n"
    text = texts.of(file)
    assert text is opened.text
    assert isinstance(text, PlainText)
    assert text.size == len(LONG) + 5, "as it is now"
    texts.close()
    assert scene.disk.descriptors, "it is not ours to close"
    file.status = scene.disk.stat(file.where)
    for status in (
        file.status._replace(device=opened.status.device, inode=opened.status.inode),
        file.status._replace(device=7),
    ):
        file.status = status
        inode = scene.disk.names[file.where]
        inode.number, inode.birth_ns = status.inode, status.birth_ns
        assert texts.of(file) is not opened.text
        texts.close()


def test_what_cannot_be_read_is_said_of_its_file(scene: Scene) -> None:
    file = scene.sees("app.log.1", LONG)
    generation = scene.knows(LONG)
    questions: list[Callable[[], object]] = [
        lambda: scene.texts.of(file),
        lambda: scene.texts.agrees(generation, file),
        lambda: scene.texts.ends(file),
        lambda: scene.texts.head(file),
        lambda: scene.texts.fault(file),
        lambda: scene.texts.line_at(file, 7),
        lambda: scene.texts.start(file, 7),
        lambda: scene.texts.known(file),
    ]
    for question in questions:
        for call in ("open", "pread"):
            scene.texts.close()
            scene.disk.fail_next[call] = 5
            with pytest.raises(Unreadable) as raised:
                question()
            assert raised.value.sighting is file
            assert raised.value.error.errno == 5
        assert not scene.disk.fail_next
    assert scene.texts.fault(file) is None
