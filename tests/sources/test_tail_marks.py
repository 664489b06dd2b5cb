"""What a generation is known by, and that it is proven with the very bytes that are read."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sources.test_tail import Follower, append
from tiers.sources.tail.marks import NOTHING, STRONG_BYTES, Mark, head_of, mark_of, seam_of
from tiers.sources.tail.streams import Damaged
from tiers.sources.tail.texts import PlainText

DATA = bytes(range(256)) * 20


class Plain:
    packed = False
    size = len(DATA)

    def read(self, begin: int, length: int) -> bytes:
        assert begin >= 0
        return DATA[begin : begin + length]

    def data_after(self, begin: int) -> int | None:
        return begin if begin < self.size else None

    def fault(self) -> Damaged | None:
        return None


@pytest.mark.parametrize(
    ("begin", "end", "head", "seam"),
    [
        (0, 0, (0, 0), (0, 0)),
        (0, 7, (0, 7), (0, 7)),
        (0, STRONG_BYTES, (0, STRONG_BYTES), (0, STRONG_BYTES)),
        (0, STRONG_BYTES + 1, (0, STRONG_BYTES), (1, STRONG_BYTES + 1)),
        (500, 600, (500, 600), (500, 600)),
        (500, 4000, (500, 500 + STRONG_BYTES), (4000 - STRONG_BYTES, 4000)),
        (600, 500, (0, 0), (0, 0)),
    ],
)
def test_marks_are_of_the_first_and_the_last_bytes_that_were_read(
    begin: int, end: int, head: tuple[int, int], seam: tuple[int, int]
) -> None:
    for found, (first, last) in (
        (head_of(Plain(), begin, end), head),
        (seam_of(Plain(), begin, end), seam),
    ):
        assert found == mark_of(DATA[first:last], first)
        assert (found.begin, found.length) == (first if last > first else 0, last - first)
        assert found.holds(Plain())


def test_a_mark_holds_where_each_of_its_bytes_is_as_it_was() -> None:
    found = mark_of(DATA[100:200], 100)
    assert found.holds(Plain())
    assert not mark_of(DATA[100:199] + b"x", 100).holds(Plain())
    assert not Mark(101, 100, found.digest).holds(Plain())
    assert NOTHING.holds(Plain())
    beyond = mark_of(DATA[-10:] + b"x", len(DATA) - 10)
    assert not beyond.holds(Plain())


@pytest.mark.parametrize(("at", "is_torn"), [(0, True), (1023, True), (1500, False)])
def test_a_log_that_is_written_anew_within_a_read_is_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, is_torn: bool
) -> None:
    """What is before its last kilobyte may differ alone: its first one is asked too."""
    log = tmp_path / "app.log"
    follower = Follower(log)
    lines = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))
    append(log, lines)
    assert follower.read() == lines
    append(log, b"more\n")
    really: Callable[..., bytes] = PlainText.read
    waits = [True]

    def read(self: PlainText, begin: int, length: int) -> bytes:
        data = really(self, begin, length)
        if b"more" in data and waits:  # right behind this read of what is new
            waits.clear()
            other = bytearray(log.read_bytes())
            other[at] ^= 1
            with log.open("r+b") as file:
                file.write(other)
        return data

    monkeypatch.setattr(PlainText, "read", read)
    follower.now += 2
    assert (follower.step().block is None) is is_torn


def test_what_grew_and_is_gone_before_its_turn_is_counted(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "*.log")
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    lines = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))
    for log in (a, b):
        append(log, log.name.encode() + lines)
    follower.read()
    append(a, b"more of a\n")
    append(b, b"more of b\n")
    follower.now += 2
    block = follower.step().block
    assert block is not None
    assert bytes(block.data) == b"more of a\n"
    assert {f.path: f.behind for f in follower.following.files.values()} == {
        str(a): 0,
        str(b): len("more of b\n"),
    }
    os.truncate(b, 0)
    append(b, b"new of b\n")
    assert follower.read() + follower.read() == b"new of b\n"
    assert follower.counts["bytes_lost"] == len("more of b\n")
    assert follower.counts["files_truncated"] == 1


def test_of_a_compressed_file_its_text_counts_and_not_its_bytes(tmp_path: Path) -> None:
    log, part = tmp_path / "app.log", tmp_path / "app.log.1.gz"
    follower = Follower(log)
    lines = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))
    append(log, lines)
    follower.read()
    append(log, b"unread\n" * 10)
    packed = gzip.compress(log.read_bytes(), 0)
    assert len(packed) > log.stat().st_size
    part.write_bytes(packed[:-30])
    follower.restart()
    log.unlink()
    append(log, b"new\n")
    taken = follower.read()
    for begin in (-30, -20, -10):
        append(part, packed[begin : begin + 10 or None])
        taken += follower.read()
    assert sorted(taken.split()) == [b"new", *[b"unread"] * 10]
    assert not any(f.behind for f in follower.following.files.values())
    part.unlink()
    assert follower.read() + follower.read(after_s=20) == b""
    assert follower.counts["bytes_lost"] == 0
