"""Content decides: what real disks do to logs, in kinds, over the shipped code and real files."""

import errno
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import zstandard

from tests.sources.test_tail import ROTATE_WAIT_S, Follower, append
from tiers.errors import ChannelDamaged
from tiers.sources.tail.door import RealFiles
from tiers.sources.tail.following import STARTED, Following
from tiers.sources.tail.source import TailOptions

LONG = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def copytruncate(log: Path, turn: int) -> None:
    for number in range(turn, 0, -1):
        log.with_name(f"app.log.{number}").rename(log.with_name(f"app.log.{number + 1}"))
    shutil.copyfile(log, log.with_name("app.log.1"))
    os.truncate(log, 0)


@pytest.mark.parametrize("pattern", ["app.log", "*.log", "app.log*"])
@pytest.mark.parametrize("lines", [LONG, b"short\n"])
def test_copytruncate_again_and_again(log: Path, pattern: str, lines: bytes) -> None:
    follower = Follower(log.with_name(pattern))
    append(log, b"first\n")
    assert follower.read() == b"first\n"
    for turn in range(5):
        append(log, b"%d " % turn + lines)
        assert follower.read() == b"%d " % turn + lines
        copytruncate(log, turn)
        assert follower.read() == b""
    assert follower.counts["bytes_lost"] == 0


@pytest.mark.parametrize("pattern", ["app.log", "*.log", "app.log*"])
@pytest.mark.parametrize("lines", [LONG, LONG * 20, b"short\n" * 9])
@pytest.mark.parametrize("down", [False, True])
def test_a_slow_copytruncate(log: Path, pattern: str, lines: bytes, down: bool) -> None:
    """Looked at after each piece, the log written on meanwhile, and its last line in no copy."""
    follower = Follower(log.with_name(pattern))
    append(log, b"first\n")
    assert follower.read() == b"first\n"
    follower.read()
    os.truncate(log, 0)
    copy = log.with_name("app.log.1")
    for turn in range(3):
        append(log, b"%d " % turn + lines)
        wanted = b"%d " % turn + lines
        read = follower.read()
        copy.unlink(missing_ok=True)
        for share in (0, 0.01, 0.5, 0.9):
            copy.write_bytes(log.read_bytes()[: int(len(wanted) * share)])
            read += follower.read()
            if down:
                follower.restart()
            append(log, b"%d and %.2f\n" % (turn, share))
            wanted += b"%d and %.2f\n" % (turn, share)
            read += follower.read()
        copy.write_bytes(log.read_bytes())
        if turn:
            read += follower.read()
            append(log, b"%d last\n" % turn)
            wanted += b"%d last\n" % turn
            read += follower.read()
        os.truncate(log, 0)
        read += follower.read()
        assert sorted(read.splitlines()) == sorted(wanted.splitlines())
    assert follower.read(after_s=100) == b""
    assert follower.counts["bytes_perhaps_doubled"] == follower.counts["bytes_lost"] == 0


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_a_generation_that_is_compressed(
    log: Path, pack: Callable[[bytes], bytes], down: bool, end: str
) -> None:
    """By its first bytes, whatever its name is: what of it was not read is read, once."""
    follower = Follower(log)
    append(log, LONG)
    assert follower.read() == LONG
    append(log, b"unread\n")
    data = log.read_bytes()
    log.with_name(f"app.log.1{end}").write_bytes(pack(data))
    if down:
        follower.restart()
    log.unlink()
    append(log, b"new\n")
    assert sorted(follower.read().split()) == [b"new", b"unread"]
    log.with_name(f"app.log.1{end}").rename(log.with_name(f"app.log.2{end}"))
    follower.restart()
    for _ in range(4):
        assert follower.read(after_s=ROTATE_WAIT_S) == b""


def test_a_compressed_generation_that_came_and_went_unseen(log: Path) -> None:
    follower = Follower(log)
    append(log, b"1\n")
    follower.read()
    log.with_name("app.log.2.gz").write_bytes(gzip.compress(LONG))
    log.rename(log.with_name("app.log.1"))
    append(log, b"2\n")
    assert sorted(follower.read().split(b"\n")) == sorted((LONG + b"2\n").split(b"\n"))


def test_a_compressed_file_that_is_being_written(log: Path) -> None:
    follower = Follower(log)
    append(log, LONG)
    follower.read()
    random = Random(4)
    append(
        log,
        b"".join(b"more %d %s\n" % (i, random.randbytes(20).hex().encode()) for i in range(3000)),
    )
    data = log.read_bytes()
    packed = gzip.compress(data, mtime=0)
    part = log.with_name("app.log.1.gz")
    part.write_bytes(packed[: len(packed) // 2])
    follower.restart()
    log.unlink()
    append(log, b"new\n")
    taken = follower.read()
    append(part, packed[len(packed) // 2 :])
    taken += follower.read() + follower.read(after_s=ROTATE_WAIT_S)
    assert sorted(taken.split(b"\n")) == sorted((data[len(LONG) :] + b"new\n").split(b"\n"))


def test_a_log_on_another_disk(log: Path) -> None:
    """Restored or copied: new inodes, new births, another device; the same text."""
    follower = Follower(log)
    append(log, LONG)
    follower.read()
    follower.following.close()
    log.rename(log.with_name("kept"))
    shutil.copyfile(log.with_name("kept"), log)
    append(log, b"more\n")
    follower.restart()
    assert follower.read() == b"more\n"


def test_a_finished_generation_is_put_back(log: Path) -> None:
    follower = Follower(log)
    append(log, LONG)
    follower.read()
    log.rename(log.with_name("app.log.1"))
    append(log, b"new\n")
    assert follower.read() == b"new\n"
    for _ in range(3):
        follower.read(after_s=ROTATE_WAIT_S)
    log.unlink()
    shutil.copyfile(log.with_name("app.log.1"), log)
    append(log, b"after\n")
    assert follower.read() == b"after\n"


@pytest.mark.parametrize("hole", [1, 100, 5 << 20])
def test_a_hole_after_a_truncation_is_left_out(log: Path, hole: int) -> None:
    follower = Follower(log)
    append(log, LONG)
    follower.read()
    os.truncate(log, 0)
    os.truncate(log, hole)
    append(log, b"after\n")
    assert follower.read() == b"after\n"
    assert follower.counts["bytes_hole"] == hole
    append(log, b"more\n")
    follower.restart()
    assert follower.read() == b"more\n"


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_zeros_at_the_end_are_not_there_yet(log: Path, size: int) -> None:
    follower = Follower(log, event_size_max=1000)
    log.write_bytes(b"one\ntw" + bytes(size))
    assert follower.read() == b"one\n"
    assert follower.read(after_s=100) == b""
    with log.open("rb+") as writer:
        writer.seek(6)
        writer.write(b"o\n")
    assert follower.read() == b"two\n"
    os.truncate(log, 8)  # what was reserved is given back
    append(log, b"three\n")
    assert follower.read() == b"three\n"
    assert follower.counts["files_truncated"] == 0


def test_a_line_that_breaks_off_at_zeros(log: Path) -> None:
    """What a power cut leaves: the rest of a block is zeros, and the log goes on behind it."""
    follower = Follower(log)
    append(log, b"one\nbroken" + bytes(5000) + b"two\n")
    assert follower.read() == b"one\nbroken\ntwo\n"
    assert follower.counts["lines_ended"] == 1
    assert follower.counts["bytes_hole"] == 5000


def test_what_was_lost_is_counted(log: Path) -> None:
    follower = Follower(log, block_size_max=1000)
    append(log, LONG)
    follower.step()
    taken = follower.blocks[0][1]
    os.truncate(log, 0)
    append(log, b"new\n")
    assert follower.read() == b"new\n"
    assert follower.counts["files_truncated"] == 1
    assert follower.counts["bytes_lost"] == len(LONG) - len(taken)


def test_a_path_leaves_the_globs_and_comes_back(log: Path) -> None:
    follower = Follower(log.parent / "*.log")
    append(log, LONG)
    follower.read()
    append(log, b"meanwhile\n")
    positions, options = follower.stored, follower.options
    other = Follower(log.parent / "*.txt")
    other.stored = positions
    other.restart()
    assert other.read() == b""
    assert not other.following.files
    follower.options, follower.stored = options, other.stored
    follower.restart()
    assert follower.read() == b"meanwhile\n"


def test_a_path_that_is_rotated_while_it_is_out_of_the_globs(log: Path) -> None:
    follower = Follower(log)
    append(log, LONG)
    follower.read()
    append(log, b"meanwhile\n")
    other = Follower(log.parent / "*.txt")
    other.stored = follower.stored
    other.restart()
    assert other.read() == b""
    log.rename(log.with_name("app.log.1"))
    append(log, b"new\n")
    follower.stored = other.stored
    follower.restart()
    assert sorted(follower.read().split()) == [b"meanwhile", b"new"]
    assert {path for path, _ in follower.blocks} == {str(log)}, "its lines are its log's"


@pytest.mark.parametrize("is_rotated", [False, True])
def test_another_glob_leads_to_the_same_file(log: Path, is_rotated: bool) -> None:
    follower = Follower(log)
    append(log, LONG)
    follower.read()
    append(log, b"more\n")
    (log.parent / "link").symlink_to(".")
    if is_rotated:
        log.rename(log.with_name("app.log.1"))
        append(log, b"new\n")
    other = Follower(log.parent / "link" / "app.log")
    other.stored = follower.stored
    other.restart()
    assert sorted(other.read().split()) == ([b"more", b"new"] if is_rotated else [b"more"])
    paths = {path for path, _ in other.blocks}
    assert paths == {str(log.parent / "link" / "app.log")}, "under that of now"


def test_positions_say_whose_they_are(log: Path) -> None:
    follower = Follower(log)
    append(log, b"1\n")
    follower.read()
    mine = TailOptions.model_validate({"type": "tail", "paths": [str(log.parent / "**/*.log")]})
    another = TailOptions.model_validate({"type": "tail", "paths": [str(log.parent / "*.txt")]})
    (position,) = [value for key, value in follower.stored.items() if key != STARTED]
    assert mine.subject(position)
    assert not another.subject(position)
    assert not mine.subject(b"1")


@pytest.mark.parametrize("value", [b"", b"1", b"\x93\x01\x02\x03", b"\x9f" + bytes(15)])
def test_a_position_of_another_version_is_refused(log: Path, value: bytes) -> None:
    with pytest.raises(ChannelDamaged, match="cannot be read"):
        Following(Follower(log).options, {b"0000000000000001": value})


def test_read_errors_stand_until_the_file_was_read(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(log.parent / "*.log")
    append(log, LONG)
    follower.read()
    append(log, b"more\n")
    append(log.with_name("b.log"), b"other\n")
    real = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").resolve() == log:
            raise OSError(5, "Input/output error")
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    for _ in range(3):
        follower.read()
        assert "Input/output error" in follower.trouble
    (problem,) = follower.following.problems.all()
    since_s = problem.since_s
    follower.read()
    assert follower.following.problems.all()[0].since_s == since_s
    assert [data for path, data in follower.blocks if path != str(log)] == [b"other\n"]
    monkeypatch.undo()
    assert follower.read() == b"more\n"
    assert follower.trouble == ""


def test_what_the_globs_find_and_cannot_be_a_log_is_remarked(log: Path) -> None:
    os.mkfifo(log)
    follower = Follower(log, log.with_name("nothing*"))
    follower.read()
    assert follower.trouble == ""
    remarks = [problem.text for problem in follower.following.problems.all() if problem.harmless]
    assert len(remarks) == 2


def test_the_history_is_kept_short(log: Path) -> None:
    follower = Follower(log)
    for turn in range(100):
        append(log, b"turn %d\n" % turn)
        assert follower.read() == b"turn %d\n" % turn
        log.unlink()
        follower.read(draining=False)
    for _ in range(5):
        follower.read(after_s=ROTATE_WAIT_S)
    assert len(follower.stored) <= 70


class Shut(RealFiles):
    """A path that may not be opened as yet."""

    def __init__(self, path: Path) -> None:
        self.shut = str(path)

    def open(self, path: str) -> int:
        if path == self.shut and self.stat(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return super().open(path)


@pytest.mark.parametrize("rotated", [False, True])
def test_a_log_that_may_not_be_read_at_first_is_not_taken_for_a_copy_beside_it(
    tmp_path: Path, rotated: bool
) -> None:
    """Nor for one from before, when it was rotated until it may."""
    log = tmp_path / "app.log"
    lines = b"".join(b"%d a line\n" % i for i in range(500))
    append(log, lines)
    append(tmp_path / "app.log.9", lines)
    follower = Follower(log)
    door = Shut(log)
    follower.following = Following(follower.options, {}, door, clock=follower.clock)
    assert follower.read() == follower.read() == b""
    assert "Permission denied" in follower.trouble
    if rotated:
        log.rename(tmp_path / "app.log.1")
        append(log, b"new\n")
    door.shut = ""
    taken = follower.read() + follower.read(after_s=ROTATE_WAIT_S)
    assert sorted(taken.splitlines()) == sorted(
        (lines + (b"new\n" if rotated else b"")).splitlines()
    )
    assert follower.read() == b""
    assert not follower.trouble


def test_a_copy_that_lay_beside_at_first_has_what_was_truncated_since(tmp_path: Path) -> None:
    """It was there before, but its lines were not read; nor are they in vain in another copy."""
    log = tmp_path / "app.log"
    lines = b"".join(b"%d a line\n" % i for i in range(500))
    append(log, lines)
    append(tmp_path / "app.log.9", lines)
    follower = Follower(log, block_size_max=800)
    first = follower.step().block
    assert first is not None
    append(tmp_path / "app.log.1", lines)
    log.write_bytes(b"")
    taken = bytes(first.data) + follower.read(after_s=ROTATE_WAIT_S)
    assert taken == lines
    assert follower.read(after_s=ROTATE_WAIT_S) == b""


def test_a_log_that_is_gone_and_could_not_be_read_is_no_trouble_any_more(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, b"a line\n")
    follower = Follower(log)
    follower.following = Following(follower.options, {}, Shut(log), clock=follower.clock)
    follower.read()
    assert "Permission denied" in follower.trouble
    log.unlink()
    assert follower.read() == follower.read() == b""
    assert not follower.trouble


def test_a_file_that_went_with_something_unread_is_not_looked_for_all_the_time(
    tmp_path: Path,
) -> None:
    """Only as often as any other: it may come back."""
    log = tmp_path / "app.log"
    follower = Follower(log)
    append(log, b"a line\n")
    assert follower.read() == b"a line\n"
    append(log, b"unread\n" * 100)
    follower.restart()
    (tmp_path / "elsewhere").mkdir()
    away = log.rename(tmp_path / "elsewhere" / "app.log")
    assert follower.read() == b""
    for _ in range(3):
        follower.now = follower.step().wake_at
    assert follower.step().wake_at == follower.now + follower.options.rescan_s
    away.rename(log)
    assert follower.read() == b"unread\n" * 100


@pytest.mark.parametrize("read_first", [False, True])
def test_what_shred_leaves_of_a_rotated_log_is_no_text(tmp_path: Path, read_first: bool) -> None:
    log, old = tmp_path / "app.log", tmp_path / "app.log.1"
    follower = Follower(log)
    append(log, LONG)
    assert follower.read() == LONG
    log.rename(old)
    append(log, b"new\n")
    assert follower.read(after_s=2 * ROTATE_WAIT_S if read_first else 1.0) == b"new\n"
    random = Random(5)
    for _ in range(3):
        with old.open("r+b") as file:
            file.write(random.randbytes(4096))
        assert follower.read(after_s=ROTATE_WAIT_S) == follower.read() == b""
    old.unlink()
    assert follower.read(after_s=ROTATE_WAIT_S) == b""


def test_a_copy_over_the_copy_before_it_is_read(tmp_path: Path) -> None:
    """A rotation made at home: `cp app.log app.log.1; : > app.log`, twice while nobody looked."""
    log, old = tmp_path / "app.log", tmp_path / "app.log.1"
    follower = Follower(log)
    append(log, LONG)
    assert follower.read() == LONG
    taken = b""
    for turn in (b"one ", b"two "):
        old.write_bytes(log.read_bytes())
        log.write_bytes(turn + LONG)
        if turn == b"one ":
            assert follower.read(after_s=ROTATE_WAIT_S) + follower.read() == turn + LONG
            append(log, b"unread\n")
    taken = follower.read(after_s=ROTATE_WAIT_S) + follower.read(after_s=ROTATE_WAIT_S)
    assert sorted(taken.splitlines()) == sorted((b"unread\ntwo " + LONG).splitlines())


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("lines", [LONG, b"short\n"])
@pytest.mark.parametrize("down", [(), (2,), (1, 2, 3), (4,)])
def test_an_archive_that_each_day_is_added_to(
    tmp_path: Path, pack: Callable[[bytes], bytes], lines: bytes, down: tuple[int, ...]
) -> None:
    """`gzip -c app.log >> app.log.1; : > app.log`, read before or while nobody looked."""
    log, archive = tmp_path / "app.log", tmp_path / "app.log.1"
    follower = Follower(log)
    wanted = taken = b""
    for day in range(5):
        text = b"day %d\n" % day + lines
        append(log, text)
        wanted += text
        if day not in down:
            taken += follower.read()
        append(archive, pack(text))
        if day not in down:
            taken += follower.read()
        log.write_bytes(b"")
        if day in down:
            follower.restart()
        taken += b"".join(follower.read(after_s=ROTATE_WAIT_S) for _ in range(4))
    taken += follower.read(after_s=ROTATE_WAIT_S) + follower.read(after_s=ROTATE_WAIT_S)
    assert not set(wanted.splitlines()) - set(taken.splitlines())
    if lines == LONG:
        assert sorted(taken.splitlines()) == sorted(wanted.splitlines())
    else:
        assert len(taken) - len(wanted) <= follower.counts["bytes_perhaps_doubled"]
