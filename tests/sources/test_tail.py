"""tail against every way a log file is rotated, cut, deleted and written anew.

Most of it drives `Following` directly: it is plain calls with the time as an argument.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tiers.sources.tail.following import Following
from tiers.sources.tail.step import Advance, FollowOptions

ROTATE_WAIT_S = 5.0


class Follower:
    """A Following with its clock, what it gave, and the positions as a channel would keep them."""

    def __init__(self, *patterns: Path | str, **keys: Any) -> None:
        options: dict[str, Any] = {
            "patterns": [str(pattern) for pattern in patterns],
            "start_at_end": False,
            "rescan_s": 1.0,
            "rotate_wait_s": ROTATE_WAIT_S,
            "open_files_max": 100,
            "block_size_max": 1 << 20,
            "event_size_max": 1 << 20,
        }
        self.options = FollowOptions(**{**options, **keys})
        self.stored: dict[bytes, bytes] = {}
        self.now = 100.0
        self.counts: Counter[str] = Counter()
        self.blocks: list[tuple[str, bytes]] = []
        self.trouble = ""
        # What a look costs is no matter here, however busy the machine is.
        self.clock = lambda: 0.0
        self.following = Following(self.options, {}, clock=self.clock)

    def restart(self, positions: dict[bytes, bytes] | None = None) -> None:
        """The agent dies and starts again."""
        self.following.close()
        self.following = Following(
            self.options, dict(self.stored if positions is None else positions), clock=self.clock
        )

    def step(self, draining: bool = False) -> Advance:
        step = self.following.advance(self.now, (), False, draining)
        if step.block:
            data = bytes(step.block.data)
            assert data.count(b"\n") == step.block.count
            assert data.endswith(b"\n")
            self.blocks.append((step.block.path, data))
            step.positions[step.block.key] = step.block.position
        for key, value in step.positions.items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        self.counts.update(step.counts)
        self.trouble = step.trouble
        return step

    def read(self, after_s: float = 2.0, draining: bool = False) -> bytes:
        """All there is `after_s` from now."""
        self.now += after_s
        seen = len(self.blocks)
        while (step := self.step(draining)).block or step.positions:
            pass
        assert step.finished is draining
        return b"".join(data for _, data in self.blocks[seen:])

    @property
    def open_descriptors(self) -> int:
        return sum(f.opened is not None for f in self.following.files.values())


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def follower(log: Path) -> Follower:
    return Follower(log.parent / "*.log")


def test_append(follower: Follower, log: Path) -> None:
    append(log, b"one\ntwo\n")
    assert follower.read() == b"one\ntwo\n"
    append(log, b"three\n")
    assert follower.read() == b"three\n"
    assert follower.read() == b""


def test_only_whole_lines_are_taken(follower: Follower, log: Path) -> None:
    append(log, b"one\ntw")
    assert follower.read() == b"one\n"
    assert follower.read(after_s=100) == b""
    append(log, b"o\n")
    assert follower.read() == b"two\n"


def test_bytes_stay_bytes(follower: Follower, log: Path) -> None:
    data = b"\r\n\n\xff\xfe\0\x80 latin \xe9\r\n\n" + bytes(range(256)) + b"\n"
    append(log, data)
    assert follower.read() == data


def test_new_file_and_new_directory(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "**" / "*.log")
    assert follower.read() == b""
    append(tmp_path / "a.log", b"a\n")
    assert follower.read() == b"a\n"
    (tmp_path / "x" / "y").mkdir(parents=True)
    append(tmp_path / "x" / "y" / "b.log", b"b\n")
    append(tmp_path / "x" / "no.txt", b"no\n")
    assert follower.read() == b"b\n"
    assert str(tmp_path / "x" / "y") in follower.following.directories(100)


def test_rename_rotation(follower: Follower, log: Path) -> None:
    append(log, b"1\n2\n")
    assert follower.read() == b"1\n2\n"
    with log.open("ab") as late:  # a writer that keeps the old file for a while
        late.write(b"3\n4")
        late.flush()
        log.rename(log.with_name("app.log.1"))
        append(log, b"5\n")
        assert follower.read() == b"3\n5\n"
        late.write(b"4\n")
        late.flush()
        assert follower.read() == b"44\n"
        late.write(b"no newline")
    assert follower.read() == b""
    assert follower.read(after_s=ROTATE_WAIT_S) == b"no newline\n"
    assert follower.counts["lines_ended"] == 1
    assert follower.read(after_s=ROTATE_WAIT_S) == b""
    assert follower.open_descriptors == 1
    append(log.with_name("app.log.1"), b"very late\n")
    assert follower.read() == b"very late\n"


def test_the_old_file_is_read_to_its_end_before_the_new_one(log: Path) -> None:
    follower = Follower(log, block_size_max=4)
    append(log, b"a\n")
    follower.read()
    append(log, b"".join(b"%d\n" % i for i in range(8)))
    log.rename(log.with_name("app.log.1"))
    append(log, b"x\ny\n")
    assert follower.read() == b"0\n1\n2\n3\n4\n5\n6\n7\nx\ny\n"


def test_rename_within_the_glob_is_no_new_file(log: Path) -> None:
    follower = Follower(f"{log}*")
    append(log, b"1\n")
    assert follower.read() == b"1\n"
    append(log, b"2\n")
    log.rename(log.with_name("app.log.1"))
    append(log, b"3\n")
    assert follower.read() == b"2\n3\n"


def test_one_rotation_while_down(follower: Follower, log: Path) -> None:
    append(log, b"1\n2\n")
    follower.read()
    append(log, b"3\n4")
    log.rename(log.with_name("app.log.1"))
    append(log, b"5\n")
    follower.restart()
    assert follower.read() == b"3\n5\n"
    assert follower.read(after_s=ROTATE_WAIT_S) == b"4\n"


@pytest.mark.parametrize("number", ["{}", "2026-11-2{}"])
def test_several_rotations_while_down(log: Path, number: str) -> None:
    follower = Follower(log)
    append(log, b"1\n")
    follower.read()
    append(log, b"2\n")
    names = [log.with_name("app.log." + number.format(i)) for i in range(3)]
    for i, name in enumerate(names):
        log.rename(name)
        append(log, b"generation %d\n" % i)
    append(log.with_name("app.log.err"), b"another log\n")
    append(log.with_name("app.log.9.gz"), b"compressed\n")
    os.utime(names[1], ns=(10**18 * 2, 10**18 * 2))
    os.utime(names[2], ns=(10**18 * 2 + 1, 10**18 * 2 + 1))
    follower.restart()
    assert follower.read() == b"2\ngeneration 0\ngeneration 1\ngeneration 2\n"
    follower.restart()
    assert follower.read() == b""


def test_rotated_and_compressed_while_down(follower: Follower, log: Path) -> None:
    append(log, b"1\n")
    follower.read()
    log.rename(log.with_name("app.log.1"))
    append(log, b"2\n")
    log.with_name("app.log.1").unlink()  # gzip did: all of it was read before
    append(log.with_name("app.log.2.gz"), b"compressed\n")
    log.rename(log.with_name("app.log.1"))
    append(log, b"3\n")
    follower.restart()
    assert follower.read() == b"2\n3\n"


def test_a_generation_that_could_not_be_read_at_first(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(log)
    append(log, b"1\n")
    follower.read()
    names = [log.with_name(f"app.log.{i}") for i in (3, 2, 1)]
    for i, name in enumerate(names):
        log.rename(name)
        append(log, b"generation %d\n" % i)
        os.utime(name, ns=(2 * 10**18 + i, 2 * 10**18 + i))
    real_open = os.open

    def refuse(path: str, *args: Any) -> int:
        if str(path) == str(names[1]):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    assert follower.read() == b"generation 1\ngeneration 2\n"
    assert "app.log.2" in follower.trouble
    monkeypatch.undo()
    follower.restart()
    assert follower.read() == b"generation 0\n"


def test_older_generations_are_not_taken(follower: Follower, log: Path) -> None:
    old = log.with_name("app.log.2")
    append(old, b"from before we came\n")
    os.utime(old, ns=(10**18, 10**18))
    append(log, b"1\n")
    assert follower.read() == b"1\n"
    log.rename(log.with_name("app.log.1"))
    append(log, b"2\n")
    assert follower.read() == b"2\n"


def test_copytruncate_of_what_was_read(follower: Follower, log: Path) -> None:
    append(log, b"1\n2\n3\n")
    follower.read()
    os.truncate(log, 0)
    append(log, b"4\n")
    assert follower.read() == b"4\n"
    assert follower.counts["files_truncated"] == 1


@pytest.mark.parametrize("down", [False, True])
def test_copytruncate_reads_the_rest_from_the_copy(
    follower: Follower, log: Path, down: bool
) -> None:
    append(log, b"1\n2\n3\n")
    follower.read()
    append(log, b"4\n")
    log.with_name("app.log.1").write_bytes(log.read_bytes())
    os.truncate(log, 0)
    append(log, b"5\n")
    if down:
        follower.restart()
    assert sorted(follower.read().split()) == [b"4", b"5"]
    follower.restart()
    assert follower.read() == b""


def test_truncated_and_grown_beyond_the_offset_unseen(follower: Follower, log: Path) -> None:
    append(log, b"old old\n")
    follower.read()
    os.truncate(log, 0)
    append(log, b"new new\nand more\n")
    assert follower.read() == b"new new\nand more\n"


def test_same_head_but_another_file(follower: Follower, log: Path) -> None:
    head = b"# fields: " + b"x" * 400 + b"\n"
    append(log, head + b"old line one\n")
    follower.read()
    os.truncate(log, 0)
    append(log, head + b"new line one\nnew line two\n")
    assert follower.read() == head + b"new line one\nnew line two\n"


def test_a_file_that_shrinks(follower: Follower, log: Path) -> None:
    append(log, b"1\n2\n3\n")
    follower.read()
    os.truncate(log, 2)
    assert follower.read() == b"1\n"
    assert follower.counts["files_truncated"] == 1
    assert follower.read() == b""


def test_deleted_while_being_read(log: Path) -> None:
    follower = Follower(log, block_size_max=4, retention_s=0.0)
    append(log, b"1\n2\n3\n4\n5")
    follower.step()
    follower.step()
    log.unlink()
    assert b"".join(d for _, d in follower.blocks) + follower.read() == b"1\n2\n3\n4\n"
    assert follower.read(after_s=ROTATE_WAIT_S) == b"5\n"
    follower.read(after_s=ROTATE_WAIT_S)
    assert follower.open_descriptors == 0
    follower.read()
    assert list(follower.stored) == [b"started"], "the position of a file gone for good stays"


def test_deleted_and_created_anew(follower: Follower, log: Path) -> None:
    append(log, b"1\n")
    follower.read()
    log.unlink()
    append(log, b"2\n")
    assert follower.read() == b"2\n"


def test_inode_given_again_while_down(follower: Follower, log: Path) -> None:
    append(log, b"old\nold\n")
    follower.read()
    position = dict(follower.stored)
    follower.following.close()
    # The file system may or may not give the inode again, so we write the file in place.
    log.write_bytes(b"new\nnew\nnew\n")
    follower.restart(position)
    assert follower.read() == b"new\nnew\nnew\n"


def test_inode_given_to_a_file_that_is_none_of_ours(log: Path) -> None:
    follower = Follower(log, retention_s=0.0)
    append(log, b"old\nold\n")
    follower.read()
    follower.following.close()
    other = log.with_name("other.txt")
    log.rename(other)
    other.write_bytes(b"none of our business\n")
    follower.restart()
    assert follower.read() + follower.read() + follower.read() == b""
    assert list(follower.stored) == [b"started"]


def test_symbolic_links_and_hard_links_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "app-1.txt"
    append(real, b"1\n")
    (tmp_path / "a.log").symlink_to(real)
    (tmp_path / "b.log").symlink_to(real)
    os.link(real, tmp_path / "c.log")
    (tmp_path / "dangling.log").symlink_to("nowhere")
    follower = Follower(tmp_path / "*.log")
    assert follower.read() == b"1\n"
    append(real, b"2\n")
    assert follower.read() == b"2\n"
    assert str(tmp_path / "real") in follower.following.directories(100)


def test_a_symbolic_link_that_moves_on(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    first, second = tmp_path / "real" / "1", tmp_path / "real" / "2"
    link = tmp_path / "current.log"
    append(first, b"1\n")
    link.symlink_to(first)
    follower = Follower(link)
    assert follower.read() == b"1\n"
    append(first, b"last of the first\n")
    append(second, b"2\n")
    link.unlink()
    link.symlink_to(second)
    follower.restart()
    assert follower.read() == b"last of the first\n2\n"


def test_unreadable_files_are_said_and_others_flow(
    follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = log.with_name("bad.log")
    append(bad, b"later\n")
    append(log, b"1\n")
    (log.parent / "loop.log").symlink_to("loop.log")
    real_open = os.open

    def refuse(path: str, *args: Any) -> int:
        if str(path) == str(bad):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    assert follower.read() == b"1\n"
    assert "cannot read" in follower.trouble
    assert "1 more" in follower.trouble
    monkeypatch.undo()
    (log.parent / "loop.log").unlink()
    assert follower.read() == b"later\n"
    assert follower.trouble == ""


def test_a_directory_vanishes_and_comes_back(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    follower = Follower(directory / "*.log")
    append(directory / "a.log", b"1\n")
    assert follower.read() == b"1\n"
    append(directory / "a.log", b"2\n")
    follower.following.close()
    directory.rename(tmp_path / "elsewhere")  # as if unmounted
    follower.restart()
    assert follower.read() == b""
    assert str(tmp_path) in follower.following.directories(100)
    (tmp_path / "elsewhere").rename(directory)
    assert follower.read() == b"2\n"


def test_a_directory_deleted_while_being_read(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    follower = Follower(directory / "*.log")
    append(directory / "a.log", b"1\n")
    follower.read()
    append(directory / "a.log", b"2\n")
    (directory / "a.log").unlink()
    directory.rmdir()
    assert follower.read() == b"2\n"
    follower.read(after_s=ROTATE_WAIT_S)
    assert follower.open_descriptors == 0


@pytest.mark.parametrize("block_size_max", [64, 1000, 5000])
def test_long_lines_are_split_and_counted(log: Path, block_size_max: int) -> None:
    follower = Follower(log, block_size_max=block_size_max, event_size_max=1000)
    append(log, b"before\n" + b"x" * 2500 + b"\nafter\n" + b"y" * 999 + b"\n" + b"z" * 5000)
    out = follower.read()
    lines = out.split(b"\n")[:-1]
    assert [len(line) for line in lines[:6]] == [6, 999, 999, 502, 5, 999]
    assert follower.counts["lines_split"] == 2
    append(log, b"\nend\n")
    out += follower.read()
    assert out.replace(b"\n", b"") == log.read_bytes().replace(b"\n", b"")
    assert follower.counts["lines_split"] == 2
    for _, block in follower.blocks:
        assert len(block) <= block_size_max or block.count(b"\n") == 1
        assert max(map(len, block.split(b"\n"))) < 1000


def test_round_robin_by_block(tmp_path: Path) -> None:
    for name in "abc":
        append(tmp_path / f"{name}.log", b"12345\n" * 50)
    follower = Follower(tmp_path / "*.log", block_size_max=60)
    follower.read()
    order = [Path(path).stem for path, _ in follower.blocks]
    assert len(order) == 15
    assert all(set(order[i : i + 3]) == set("abc") for i in range(0, 15, 3))


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "*.log", open_files_max=3)
    paths = [tmp_path / f"{i}.log" for i in range(10)]
    for turn in range(3):
        for path in paths:
            append(path, b"%s %d\n" % (path.stem.encode(), turn))
        assert sorted(follower.read().split(b"\n"))[1:] == [b"%d %d" % (i, turn) for i in range(10)]
        assert follower.open_descriptors <= 3


def test_start_at_the_end_is_for_the_first_start_only(log: Path) -> None:
    append(log, b"old\nunfini")
    follower = Follower(log.parent / "*.log", start_at_end=True)
    assert follower.read() == b""
    append(log, b"shed\n")
    append(log.with_name("new.log"), b"new\n")
    follower.restart()
    assert sorted(follower.read().split()) == [b"new", b"unfinished"]


def test_start_at_the_end_with_no_file_yet(log: Path) -> None:
    follower = Follower(log, start_at_end=True)
    follower.read()
    append(log, b"while down\n")
    follower.restart()
    assert follower.read() == b"while down\n"


def test_a_restart_at_any_position_loses_and_doubles_nothing(log: Path) -> None:
    append(log, b"".join(b"line %d\n" % i for i in range(100)))
    follower = Follower(log, block_size_max=100)
    stored = [dict(follower.stored)]
    while follower.step().block:
        stored.append(dict(follower.stored))
    everything = b"".join(data for _, data in follower.blocks)
    assert everything == log.read_bytes()
    for done, positions in enumerate(stored):
        follower.restart(positions)
        before = b"".join(data for _, data in follower.blocks[:done])
        assert before + follower.read() == everything


def test_drain_takes_last_lines_and_ends(follower: Follower, log: Path) -> None:
    append(log, b"1\n2")
    append(log.with_name("b.log"), b"b")
    assert follower.read() == b"1\n"
    assert sorted(follower.read(draining=True).split()) == [b"2", b"b"]
    append(log, b"too late\n")
    follower.restart()
    assert follower.read() == b"too late\n"


def test_drain_of_a_file_that_never_stops_growing(log: Path) -> None:
    follower = Follower(log, block_size_max=10)
    append(log, b"12345\n" * 5)
    for _ in range(50):
        append(log, b"12345\n" * 2)
        if follower.step(draining=True).finished:
            return
    raise AssertionError("drain runs after a growing file for ever")


def test_drain_of_a_rotated_and_of_a_deleted_file(follower: Follower, log: Path) -> None:
    other = log.with_name("b.log")
    append(log, b"1\n")
    append(other, b"1\n")
    follower.read()
    append(log, b"2\n3")
    append(other, b"4\n5")
    log.rename(log.with_name("app.log.1"))
    other.unlink()
    assert sorted(follower.read(draining=True).split()) == [b"2", b"3", b"4", b"5"]


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.log")
    append(Path(path), b"1\n")
    follower = Follower(tmp_path / "*.log")
    assert follower.read() == b"1\n"
    append(Path(path), b"2\n")
    follower.restart()
    assert follower.read() == b"2\n"


def test_a_pipe_or_directory_in_the_place_of_a_log(follower: Follower, log: Path) -> None:
    os.mkfifo(log.with_name("pipe.log"))
    log.with_name("directory.log").mkdir()
    append(log, b"1\n")
    assert follower.read() == b"1\n"
