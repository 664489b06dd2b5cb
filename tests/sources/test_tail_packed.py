"""Compressed generations: each kind, cut off anywhere, damaged; and where rotation takes them."""

import gzip
import lzma
import os
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.sources.compressed import KINDS, LINES, TEXT, VARIANTS, Pack
from tests.sources.test_tail import ROTATE_WAIT_S, Follower, append
from tiers.sources.tail.door import RealFiles
from tiers.sources.tail.following import Following
from tiers.sources.tail.packed import OpeningMemory, Streams, may_become


def rotated_while_down(log: Path, name: str, pack: Pack, cut: int) -> tuple[Follower, bytes, bytes]:
    """A follower of a log whose rotated generation has lines that were not read, the first `cut`
    parts in a thousand of it being there; those lines, and the rest of the file."""
    follower = Follower(log)
    append(log, TEXT[:4000] + b"\n")
    follower.read()
    random = Random(2)
    unread = b"".join(b"%d %s\n" % (i, random.randbytes(20).hex().encode()) for i in range(40_000))
    append(log, unread)
    packed = pack(log.read_bytes())
    at = len(packed) * cut // 1000
    log.with_name(name).write_bytes(packed[:at])
    follower.restart()
    log.unlink()
    append(log, b"new\n")
    return follower, unread, packed[at:]


@pytest.mark.parametrize(("name", "pack"), [(f"app.log.1{e[:4]}", KINDS[e]) for e in KINDS])
@pytest.mark.parametrize("cut", [1000, 600])
def test_what_was_not_read_of_a_compressed_generation_is_read(
    tmp_path: Path, name: str, pack: Pack, cut: int
) -> None:
    """Half of it has no end of a line: no line is taken in two pieces, and nothing is well."""
    log = tmp_path / "app.log"
    follower, unread, rest = rotated_while_down(log, name.rstrip(","), pack, cut)
    taken = follower.read()
    for _ in range(4):
        taken += follower.read(after_s=ROTATE_WAIT_S)
    assert bool(rest) == ("cut off" in follower.trouble)
    append(log.with_name(name.rstrip(",")), rest)
    for _ in range(4):
        taken += follower.read(after_s=ROTATE_WAIT_S)
    assert sorted(taken.split()) == sorted((unread + b"new\n").split())
    assert not follower.trouble


def test_a_kind_that_is_not_read_is_told(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    follower, _, _ = rotated_while_down(log, "app.log.1.lz4", lambda data: b"\x04\x22M\x18", 1000)
    assert follower.read() == b"new\n"
    said = [problem.text for problem in follower.following.problems.all()]
    assert any("app.log.1.lz4 is compressed in a way that is not read" in text for text in said)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_directory_that_rotation_leads_to(tmp_path: Path, compressed: bool) -> None:
    """What lay there before is not read; what goes there later is, also when it was compressed
    before anyone looked and the source was down."""
    log, old = tmp_path / "app.log", tmp_path / "old"
    old.mkdir()

    def rotate() -> None:
        for number in (3, 2, 1):
            for end in ("", ".gz"):
                if (old / f"app.log.{number}{end}").exists():
                    (old / f"app.log.{number}{end}").rename(old / f"app.log.{number + 1}{end}")
        log.rename(old / "app.log.1")
        if compressed:
            (old / "app.log.1.gz").write_bytes(gzip.compress((old / "app.log.1").read_bytes()))
            (old / "app.log.1").unlink()

    for number in (1, 2):
        (old / f"app.log.{number}").write_bytes(b"before %d\n" % number * 200)
        os.utime(old / f"app.log.{number}", (1_700_000_000, 1_700_000_000))
    follower = Follower(log)
    append(log, b"first\n" * 300)
    assert follower.read() == b"first\n" * 300
    rotate()
    append(log, b"second\n" * 300)
    taken = follower.read() + follower.read(after_s=ROTATE_WAIT_S)
    assert taken == b"second\n" * 300
    append(log, b"third\n" * 300)
    rotate()
    append(log, b"fourth\n" * 300)
    rotate()
    append(log, b"fifth\n" * 300)
    follower.restart()
    taken = follower.read() + follower.read(after_s=ROTATE_WAIT_S)
    wanted = [b"third"] * 300 + [b"fourth"] * 300 + [b"fifth"] * 300
    assert sorted(taken.split()) == sorted(wanted)


def test_a_link_to_the_newest_of_several(tmp_path: Path) -> None:
    """As cronolog makes it: the log is a link, and what it leads to has a date in its name."""
    log = tmp_path / "app.log"

    def day(number: int, data: bytes) -> None:
        append(tmp_path / f"app-2026112{number}.log", data)
        log.unlink(missing_ok=True)
        log.symlink_to(f"app-2026112{number}.log")

    append(tmp_path / "app-20261120.log", b"before\n")
    day(1, b"one\n" * 300)
    follower = Follower(log)
    assert follower.read() == b"one\n" * 300
    day(2, b"two\n" * 300)
    day(3, b"three\n" * 300)
    follower.restart()
    taken = follower.read() + follower.read(after_s=ROTATE_WAIT_S)
    assert sorted(taken.split()) == sorted([b"two"] * 300 + [b"three"] * 300)


def looked(follower: Follower, times: int = 4) -> bytes:
    return b"".join(follower.read(after_s=ROTATE_WAIT_S) for _ in range(times))


def long_ago(follower: Follower) -> None:
    """Files that were written by now are not being written any more."""
    follower.following.close()
    follower.following = Following(
        follower.options,
        dict(follower.stored),
        wall_ns=lambda: time.time_ns() + 60 * 10**9,
        clock=follower.clock,
    )


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("at_path", [False, True])
def test_whatever_program_compressed_it(tmp_path: Path, name: str, at_path: bool) -> None:
    """Rotated and compressed while nobody looked; or at the glob."""
    whole, text = VARIANTS[name]
    log = tmp_path / "app.log"
    follower = Follower(log, *([tmp_path / "app.log.1.gz"] if at_path else []))
    append(log, b"before\n")
    assert follower.read() == b"before\n"
    append(tmp_path / "app.log.1.gz", whole)
    lines = text[: text.rfind(b"\n") + 1].replace(b"\0", b"")
    assert looked(follower).replace(b"\0", b"").startswith(lines)
    assert not follower.trouble


@pytest.mark.parametrize("name", [*KINDS])
@pytest.mark.parametrize("seen", [1, 2, 3, 5, 9])  # one or two letters may be a line
@pytest.mark.parametrize("at_path", [False, True])
def test_a_file_that_was_seen_while_it_had_only_a_few_bytes(
    tmp_path: Path, name: str, seen: int, at_path: bool
) -> None:
    """Its name says nothing of how it is compressed."""
    log, packed = tmp_path / "app.log", tmp_path / "app.log-20261128"
    follower = Follower(log, *([packed] if at_path else []))
    append(log, b"before\n")
    assert follower.read() == b"before\n"
    whole = KINDS[name](LINES)
    append(packed, whole[:seen])
    if at_path or may_become(whole[:seen]):
        assert looked(follower) == b""
    append(packed, whole[seen:20])
    assert looked(follower) == b""
    append(packed, whole[20:])
    assert looked(follower) == LINES
    assert not follower.trouble


@pytest.mark.parametrize("name", [*KINDS])
@pytest.mark.parametrize("seen", [12, 100])
def test_one_that_is_cut_off_before_any_text_is_told(tmp_path: Path, name: str, seen: int) -> None:
    log = tmp_path / "app.log"
    follower = Follower(log)
    append(log, b"before\n")
    assert follower.read() == b"before\n"
    whole = KINDS[name](Random(9).randbytes(90_000).hex().encode() + b"\n")
    append(tmp_path / "app.log.1.gz", whole[:seen])
    assert follower.read() == b""
    assert not follower.trouble  # it may be that it was just begun
    long_ago(follower)
    assert follower.read() == b""
    assert "app.log.1.gz: damaged: it ends within its compressed text" in follower.trouble
    append(tmp_path / "app.log.1.gz", whole[seen:])
    assert len(looked(follower)) == 180_001
    assert not follower.trouble


@pytest.mark.parametrize("name", [*KINDS])
@pytest.mark.parametrize("at_path", [False, True])
@pytest.mark.parametrize("damage", ["garbage", "a stream that is damaged"])
def test_what_is_good_is_taken_and_the_damage_told(
    tmp_path: Path, name: str, at_path: bool, damage: str
) -> None:
    log, packed = tmp_path / "app.log", tmp_path / "app.log.1.gz"
    follower = Follower(log, *([packed] if at_path else []))
    append(log, b"before\n")
    assert follower.read() == b"before\n"
    bad = bytearray(KINDS[name](b"%s\n" % Random(3).randbytes(300).hex().encode()))
    bad[8:17] = b"\xff" * 9
    append(packed, KINDS[name](LINES) + (b"garbage" if damage == "garbage" else bytes(bad)))
    taken = looked(follower)
    assert taken.startswith(LINES)
    assert "app.log.1.gz: damaged: " in follower.trouble
    append(log, b"after\n")
    assert follower.read() == b"after\n"
    follower.restart()
    assert looked(follower) == b""
    assert "app.log.1.gz: damaged: " in follower.trouble
    packed.unlink()
    assert looked(follower) == b""
    assert not follower.trouble


def test_one_at_the_glob_that_stays_cut_off_is_worth_a_word(tmp_path: Path) -> None:
    """No more: its writer may have it open still."""
    follower = Follower(tmp_path / "*.gz")
    append(tmp_path / "a.gz", gzip.compress(LINES)[:-9])
    assert LINES.startswith(looked(follower, 1)[:-1])
    looked(follower)
    said = [problem.text for problem in follower.following.problems.all()]
    assert any("a.gz" in text and "ends within its compressed text" in text for text in said)
    assert not follower.trouble


@pytest.mark.parametrize("open_files_max", [2, 100])
def test_compressed_files_are_read_one_after_the_other(
    tmp_path: Path, open_files_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is opened from its beginning a few times at the most, and memory is bounded."""
    begun: list[int] = []
    taken: list[int] = []
    real, claim = Streams.__init__, OpeningMemory.claim

    def begin(self: Streams, raw: Any) -> None:
        begun.append(1)
        real(self, raw)

    def claimed(self: OpeningMemory, *args: Any) -> None:
        claim(self, *args)
        taken.append(self.bytes_taken)

    monkeypatch.setattr(Streams, "__init__", begin)
    monkeypatch.setattr(OpeningMemory, "claim", claimed)
    follower = Follower(tmp_path / "*.log*", block_size_max=10_000, open_files_max=open_files_max)
    wanted = []
    for number in range(8):
        text = b"".join(b"%d %d %s\n" % (number, i, b"x" * 90) for i in range(2000))
        wanted += text.splitlines()
        append(tmp_path / f"{number}.log.xz", lzma.compress(text, preset=0))
    append(tmp_path / "plain.log", b"plain\n" * 20_000)
    assert sorted(follower.read().splitlines()) == sorted(wanted + [b"plain"] * 20_000)
    assert len(begun) <= 8 * 4
    assert max(taken) <= 140 << 20


def test_a_compressed_file_that_grows_is_not_read_from_its_beginning_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    real = Streams.__init__

    def begin(self: Streams, raw: Any) -> None:
        begun.append(1)
        real(self, raw)

    monkeypatch.setattr(Streams, "__init__", begin)
    follower = Follower(tmp_path / "*.gz")
    whole = gzip.compress(LINES) + gzip.compress(LINES)
    taken = b""
    for at in range(0, len(whole), len(whole) // 40):
        append(tmp_path / "a.gz", whole[at : at + len(whole) // 40])
        taken += follower.read()
    assert taken == LINES * 2
    assert len(begun) <= 3
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"new\n" * 300) + whole * 2)
    assert looked(follower) == b"new\n" * 300 + LINES * 4
    assert not follower.trouble


@pytest.mark.parametrize("pack", KINDS.values(), ids=KINDS)
def test_one_that_could_not_be_read_at_the_first_look(tmp_path: Path, pack: Pack) -> None:
    """It was there before, and is not read once it can be."""
    log, old = tmp_path / "app.log", tmp_path / "app.log.1.gz"
    append(old, pack(LINES))
    append(log, b"before\n")

    class Shut(RealFiles):
        shut = True

        def open(self, path: str) -> int:
            if self.shut and path == str(old):
                raise PermissionError(13, "Permission denied", path)
            return super().open(path)

    follower = Follower(log)
    door = Shut()
    follower.following = Following(follower.options, {}, door, clock=follower.clock)
    assert follower.read() == b"before\n"
    assert "Permission denied" in follower.trouble
    door.shut = False
    assert looked(follower) == b""
    assert not follower.trouble
    append(old, pack(b"more\n"))
    assert looked(follower) == LINES + b"more\n"  # what grows later is read


@pytest.mark.parametrize("name", ["app.log.1.GZ", "app.log.1.lz4", "app.log-20261128.bgz"])
def test_what_a_compressed_file_is_called_says_nothing_of_how_it_is_to_be_read(
    tmp_path: Path, name: str
) -> None:
    log = tmp_path / "app.log"
    follower, unread, _ = rotated_while_down(log, name, gzip.compress, 1000)
    assert sorted(looked(follower).split()) == sorted((unread + b"new\n").split())


@pytest.mark.parametrize(
    ("name", "data"),
    [("app.log.1.br", Random(4).randbytes(4000)), ("app.log.1.gz", b"text\n" * 300)],
)
def test_what_is_called_compressed_and_is_not_as_known_is_told(
    tmp_path: Path, name: str, data: bytes
) -> None:
    log = tmp_path / "app.log"
    follower, _, _ = rotated_while_down(log, name, lambda _: data, 1000)
    long_ago(follower)
    assert looked(follower) == b"new\n"
    said = [problem.text for problem in follower.following.problems.all()]
    assert any(f"{name} is compressed in a way that is not read" in text for text in said)
