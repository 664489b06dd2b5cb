"""What happens in directories is told soon, and costs little however much it is."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from inotify_simple import INotify

from tests.waiting import eventually
from tiers.sources.tail.ours import Identity
from tiers.sources.tail.watching import Watching


class Told:
    """What a `Watching` said."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.names = 0
        self.calls = 0
        self.watching = Watching(self._changed)

    def _changed(self, paths: set[str], names: bool) -> None:
        self.paths |= paths
        self.names += names
        self.calls += 1

    async def watch(self, *directories: Path) -> None:
        await self.watching.watch({str(path): identity(path) for path in directories})

    def forget(self) -> None:
        self.paths, self.names, self.calls = set(), 0, 0


def identity(path: Path) -> Identity:
    status = path.stat()
    return (status.st_dev, status.st_ino)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def append(path: Path, text: bytes = b"x\n") -> None:
    with path.open("ab", buffering=0) as file:
        file.write(text)


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    made = Told()
    yield made
    made.watching.close()
    made.watching.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are told in the turn in which they are read, or not at all."""
    monkeypatch.setattr("tiers.sources.tail.watching._NAMES_AFTER_S", 0.0)


async def test_a_file_that_grows_is_told_by_its_path(
    tmp_path: Path, told: Told, at_once: None
) -> None:
    log = tmp_path / "log"
    log.touch()
    await told.watch(tmp_path)
    append(log)
    await eventually(lambda: told.paths == {str(log)})
    await asyncio.sleep(0)  # a timer that is due has its turn
    assert not told.names
    log.chmod(0o600)
    told.forget()
    await eventually(lambda: told.paths == {str(log)}, "it may be readable now")


@pytest.mark.parametrize("what", ["create", "delete", "move in", "move out", "directory", "link"])
async def test_names_that_come_and_go_are_told(tmp_path: Path, told: Told, what: str) -> None:
    watched, other = tmp_path / "watched", tmp_path / "other"
    for each in (watched, other):
        each.mkdir()
        (each / each.name).touch()
    await told.watch(watched)
    match what:
        case "create":
            (watched / "new").touch()
        case "delete":
            (watched / "watched").unlink()
        case "move in":
            (other / "other").rename(watched / "moved")
        case "move out":
            (watched / "watched").rename(other / "moved")
        case "directory":
            (watched / "directory").mkdir()
        case "link":
            (watched / "link").symlink_to(other)
    await eventually(lambda: told.names > 0)


async def test_names_are_told_later_than_contents_and_together(tmp_path: Path, told: Told) -> None:
    """A copy that is being made, as copytruncate's, should be whole when it is looked at."""
    await told.watch(tmp_path)
    begun = time.monotonic()
    for number in range(10):
        append(tmp_path / f"copy.{number}")
    await eventually(lambda: len(told.paths) == 10)
    assert not told.names or time.monotonic() - begun >= 0.05
    await eventually(lambda: told.names > 0)
    assert (told.names, time.monotonic() - begun >= 0.05) == (1, True)
    told.forget()
    (tmp_path / "later").touch()
    await eventually(lambda: told.names == 1, "and again")


async def test_who_reads_is_not_told(tmp_path: Path, told: Told, at_once: None) -> None:
    (tmp_path / "log").write_bytes(b"1\n")
    await told.watch(tmp_path)
    (tmp_path / "log").read_bytes()
    list(tmp_path.iterdir())
    append(tmp_path / "log")
    await eventually(lambda: told.calls > 0)
    await asyncio.sleep(0)  # a timer that is due has its turn
    assert (told.paths, told.names, told.calls) == ({str(tmp_path / "log")}, 0, 1)


async def test_only_those_of_the_last_call_are_watched(tmp_path: Path, told: Told) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    await told.watch(one)
    await told.watch(other)
    append(one / "log")
    append(other / "log")
    await eventually(lambda: str(other / "log") in told.paths)
    assert str(one / "log") not in told.paths
    await told.watch(one, other)
    await told.watch(one, other)
    told.forget()
    append(one / "log")
    append(other / "log")
    await eventually(lambda: told.paths == {str(one / "log"), str(other / "log")})


async def test_two_paths_of_one_directory_are_both_told(tmp_path: Path, told: Told) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    await told.watch(real, link)
    append(real / "log")
    await eventually(lambda: told.paths == {str(real / "log"), str(link / "log")})
    await told.watch(link)
    told.forget()
    append(real / "log")
    await eventually(lambda: told.paths == {str(link / "log")})


@pytest.mark.parametrize("how", ["deleted", "moved away"])
async def test_a_directory_that_was_replaced_is_watched_anew(
    tmp_path: Path, told: Told, how: str
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    await told.watch(watched)
    if how == "deleted":
        watched.rmdir()
        await eventually(lambda: told.names > 0)
        assert told.watching.lost
    else:
        watched.rename(tmp_path / "before")
        await eventually(lambda: told.names > 0)
    watched.mkdir()  # perhaps with the very inode
    await told.watch(watched)
    assert not told.watching.lost
    told.forget()
    append(watched / "log")
    await eventually(lambda: str(watched / "log") in told.paths)


async def test_what_is_no_directory_or_not_there_is_passed_over(tmp_path: Path, told: Told) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = ("missing", "file", "loop", "file/below")
    await told.watching.watch(
        {**{str(tmp_path / name): (1, 1) for name in names}, str(tmp_path): identity(tmp_path)}
    )
    append(tmp_path / "log")
    await eventually(lambda: str(tmp_path / "log") in told.paths)


async def test_names_that_are_no_utf_8_and_newlines_in_names(tmp_path: Path, told: Told) -> None:
    names = [os.fsdecode(b"caf\xe9"), "a\nb", "a" * 255]
    for name in names:
        (tmp_path / name).touch()
    await told.watch(tmp_path)
    for name in names:
        append(tmp_path / name)
    await eventually(lambda: told.paths == {str(tmp_path / name) for name in names})


async def test_without_more_watches_it_raises_and_those_there_are_stay(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    await told.watch(one)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(INotify, "add_watch", full)
        with pytest.raises(OSError, match="No space"):
            await told.watch(one, other)
    append(one / "log")
    await eventually(lambda: str(one / "log") in told.paths)
    await told.watch(one, other)
    append(other / "log")
    await eventually(lambda: str(other / "log") in told.paths)


async def test_a_storm_is_read_in_turns_and_what_the_kernel_lost_is_a_look(
    tmp_path: Path, told: Told
) -> None:
    files = [os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT) for name in ("a", "b")]
    await told.watch(tmp_path)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit + 100):  # by turns, or they would be merged
        os.write(files[number % 2], b"x")
    for file in files:
        os.close(file)
    turns_s: list[float] = []
    told.forget()
    while not told.names:
        began = time.thread_time()
        await asyncio.sleep(0)
        turns_s.append(time.thread_time() - began)
    assert told.calls > 10, "a part at a time"
    *turns_s, _ = sorted(turns_s)  # the machine may have taken one of them for itself
    assert max(turns_s) < sum(turns_s) / 4


async def test_a_busy_file_is_one_call_a_pause(tmp_path: Path, told: Told) -> None:
    log = tmp_path / "log"
    log.touch()
    await told.watch(tmp_path)
    began, written = time.monotonic(), 0
    while time.monotonic() - began < 0.5:
        append(log)
        written += 1
        await asyncio.sleep(0)
    assert 1 <= told.calls <= 0.5 / 0.005 + 2
    assert written > 2 * told.calls


@pytest.mark.parametrize("when", ["never", "while it begins", "while it pauses"])
async def test_closed_at_any_time_it_leaves_no_descriptor(tmp_path: Path, when: str) -> None:
    await asyncio.to_thread(str)  # the loop's thread for files is there
    before = descriptors()
    told = Told()
    if when == "while it begins":
        task = asyncio.create_task(told.watch(tmp_path))
        await asyncio.sleep(0)
        task.cancel()
    elif when == "while it pauses":
        await told.watch(tmp_path)
        append(tmp_path / "log")
        await eventually(lambda: told.calls > 0)
    told.watching.close()
    await eventually(lambda: descriptors() == before)
