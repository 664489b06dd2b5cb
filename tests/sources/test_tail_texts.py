"""A compressed text is read at any place as if it lay there plainly, and gone through once where
reading goes forward."""

import errno
import gzip
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tiers.sources.tail.door import RealFiles
from tiers.sources.tail.packed import OpeningMemory
from tiers.sources.tail.streams import CutOff, Damaged, Raw
from tiers.sources.tail.texts import Changed, PackedText, PlainText, open_text

packed = partial(gzip.compress, mtime=0)
KEPT = 4 << 20
STEP = 256 << 10
TEXT = random.Random(1).randbytes(1 << 20) * 12


class Unpacked:
    """A `Reader` of what it is given, which notes how often it was begun and asked."""

    begun = asked = 0
    fault: Damaged | None = None

    def __init__(self, text: bytes, fault: Damaged | None = None) -> None:
        self._text, self._at, self._at_end = text, 0, fault
        Unpacked.begun += 1

    def read(self, length: int) -> bytes:
        Unpacked.asked += 1
        part = self._text[self._at : self._at + length]
        self._at += len(part)
        self.fault = None if part else self._at_end
        return part


@pytest.fixture
def make() -> Callable[..., PackedText]:
    Unpacked.begun = Unpacked.asked = 0

    def make(text: bytes, fault: Damaged | None = None) -> PackedText:
        return PackedText(
            RealFiles(), -1, lambda _: Unpacked(text, fault), OpeningMemory(lambda: None)
        )

    return make


@pytest.mark.parametrize("seed", range(4))
def test_read_at_any_place(make: Callable[..., PackedText], seed: int) -> None:
    rng = random.Random(seed)
    packed, at = make(TEXT), 0
    for _ in range(40):
        if rng.random() < 0.3:
            at = rng.choice([0, 1, len(TEXT) - 5, len(TEXT), rng.randrange(len(TEXT))])
        length = rng.choice([1, 1024, STEP - 1, STEP, STEP + 1, 1 << 20])
        assert packed.read(at, length) == TEXT[at : at + length]
        at = max(0, min(len(TEXT), at + length - rng.choice([0, 0, 1, 1024, 1 << 20])))
    assert packed.size == len(TEXT)


def test_reading_on_and_a_little_back_goes_through_it_once(
    make: Callable[..., PackedText],
) -> None:
    packed = make(TEXT)
    for at in range(0, len(TEXT), 1 << 20):
        assert packed.read(at, 1 << 20) == TEXT[at : at + (1 << 20)]
        back = max(0, at + (1 << 20) - KEPT)
        assert packed.read(back, 1024) == TEXT[back : back + 1024], "what was read is kept"
        assert len(packed._kept) <= KEPT + (1 << 20) + STEP, "and no more"
    assert (Unpacked.begun, Unpacked.asked) == (1, len(TEXT) // STEP)


def test_farther_back_it_is_begun_anew_and_its_size_stays_known(
    make: Callable[..., PackedText],
) -> None:
    cut_off = CutOff()
    packed = make(TEXT, cut_off)
    assert (packed.size, packed.fault(), Unpacked.begun) == (len(TEXT), cut_off, 1)
    assert packed.read(len(TEXT) - KEPT, 10) == TEXT[-KEPT:][:10]
    assert Unpacked.begun == 1
    assert packed.read(len(TEXT) - KEPT - 1, 10) == TEXT[-KEPT - 1 :][:10]
    asked = Unpacked.asked
    assert (packed.size, packed.fault(), Unpacked.begun) == (len(TEXT), cut_off, 2)
    assert Unpacked.asked == asked


def test_more_than_is_kept_can_be_read_at_once(make: Callable[..., PackedText]) -> None:
    packed = make(TEXT)
    assert packed.read(1000, 9 << 20) == TEXT[1000 : 1000 + (9 << 20)]
    assert Unpacked.begun == 1


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1])
def test_where_it_ends(make: Callable[..., PackedText], size: int) -> None:
    packed = make(TEXT[:size])
    assert packed.fault() is None, "nothing is known yet"
    assert packed.read(0, 2 * STEP) == TEXT[:size]
    assert packed.read(size, 1) == b""
    assert packed.size == size
    assert packed.data_after(size) is None
    if size:
        assert packed.data_after(size - 1) == size - 1


@pytest.mark.parametrize(
    ("begin", "is_told", "is_fault"),
    [
        (b"", False, False),
        (b"text", False, False),
        (b"a longer text", True, False),
        (b"\x1f\x8b", False, True),
        (b"BZh", False, True),
        (bytes(10), False, False),  # zeros are not there yet
        (b"\x1f\x8b no gzip", True, False),
    ],
)
def test_what_may_become_a_compressed_file_is_no_text_as_yet(
    begin: bytes, is_told: bool, is_fault: bool
) -> None:
    text = PlainText(RealFiles(), -1, len(begin), begin[:10])
    assert text.is_told is is_told
    assert isinstance(text.fault(), CutOff) is is_fault


def test_the_room_knows_what_one_takes_until_it_is_dropped() -> None:
    def begin(raw: Raw) -> Unpacked:
        raw.claim(100)
        return Unpacked(TEXT[:10])

    room = OpeningMemory(lambda: None, KEPT + STEP + 150)
    one, other = (PackedText(RealFiles(), -1, begin, room) for _ in range(2))
    assert room.bytes_taken == 0
    assert one.read(0, 5) == TEXT[:5]
    assert room.bytes_taken == 100 + KEPT + STEP
    assert other.read(0, 5) == TEXT[:5]
    assert room.bytes_taken == 100 + KEPT + STEP, "the first has left"
    assert one._reader is None
    other.drop()
    assert room.bytes_taken == 0
    assert one.read(0, 5) == TEXT[:5]


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [((40, 60), [0, 1]), ((40, 61), [1]), ((101,), [0]), ((50, 50, 1), [1, 2]), ((9, 99), [1])],
)
def test_who_used_the_room_longest_ago_leaves_it(sizes: tuple[int, ...], kept: list[int]) -> None:
    room, left = OpeningMemory(lambda: None, 100), []
    who = [object() for _ in sizes]
    for number, size in enumerate(sizes):
        room.claim(who[number], size, lambda number=number: left.append(number))  # type: ignore[misc]
    assert [number for number in range(len(sizes)) if number not in left] == kept
    assert room.bytes_taken == sum(sizes[number] for number in kept)
    room.claim(who[-1], 1, lambda: None)
    room.leave(who[-1])
    assert room.bytes_taken == sum(sizes[number] for number in kept[:-1])


def test_another_file_at_the_path_is_not_read_and_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    status = RealFiles().stat(str(path))
    closed: list[int] = []
    monkeypatch.setattr(RealFiles, "close", lambda _, descriptor: closed.append(descriptor))
    for inode, birth_ns in [
        (status.inode + 1, status.birth_ns),
        (status.inode, status.birth_ns + 1),
    ]:
        with pytest.raises(Changed) as raised:
            open_text(RealFiles(), str(path), inode, birth_ns, OpeningMemory(lambda: None))
        assert raised.value.errno == errno.ESTALE
    (tmp_path / "directory").mkdir()
    other = RealFiles().stat(str(tmp_path / "directory"))
    with pytest.raises(Changed):
        open_text(
            RealFiles(),
            str(tmp_path / "directory"),
            other.inode,
            other.birth_ns,
            OpeningMemory(lambda: None),
        )
    assert len(closed) == 3
    for descriptor in closed:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (b"\x1f\x8b", packed(b"one\n"), b"one\n"),  # begun to be written
        (b"", b"a longer text\n", b"a longer text\n"),
        (b"", bytes(20) + b"\n", bytes(20) + b"\n"),
        (packed(b"a longer text\n" * 90), packed(b"one\n"), b"one\n"),
        (packed(b"a longer text\n" * 90), b"plain by now\n", b"plain by now\n"),
        (packed(b"one\n"), packed(b"one\n") + packed(b"two\n"), b"one\ntwo\n"),
        # Written anew in its place, and longer: what was read of it leads nowhere.
        (packed(b"one\n" * 9), packed(random.Random(2).randbytes(999)),
         random.Random(2).randbytes(999)),
    ],
)  # fmt: skip
def test_a_file_that_became_another_text_in_its_place(
    tmp_path: Path, before: bytes, after: bytes, text: bytes
) -> None:
    path = tmp_path / "log"
    path.write_bytes(before)
    status = RealFiles().stat(str(path))
    opened = open_text(
        RealFiles(), str(path), status.inode, status.birth_ns, OpeningMemory(lambda: None)
    )
    opened.text.read(0, opened.text.size)
    path.write_bytes(after)
    os.utime(path, ns=(1, 1))
    opened.look()
    assert (opened.text.size, opened.text.read(0, 1 << 20)) == (len(text), text)
    opened.close()
