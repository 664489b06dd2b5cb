"""A topology file that changes: when it counts, what is kept of it, what a start goes by."""

import asyncio
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import eventually, move_on
from tiers.agent import reloading
from tiers.agent.reloading import KEPT, LEAVE_AFTER_S, LEFT, begin
from tiers.errors import ConfigError, TiersError, UsageError
from tiers.host.durable import write_durably
from tiers.topology import Topology
from tiers.topology.steady import Absence, Steady

EDGE = """
[tiers.{name}]
agents = ["{name}-1"]
next = "sink"
sources = [{{ type = "generate" }}]
"""
HEAD = """
name = "halves"
[tiers.sink]
agents = { sink-1 = "127.0.0.1:7400" }
sinks = [{ type = "directory", root = "/out" }]
"""
WEB = HEAD + EDGE.format(name="web")
BOTH = WEB + EDGE.format(name="db")  # its first part, up to here, is right by itself
MOVED = BOTH.replace("7400", "7500")
BAD = "name = "


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_S", 0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.toml"
    path.write_text(BOTH)
    return path


class Follower:
    """An agent of which there is nothing but its reloading."""

    def __init__(self, file: Path, name: str = "db-1") -> None:
        topology, self.directory, self.reloading = begin(file, name, file.parent / "data")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.draining = asyncio.Event()
        self.topology = topology
        self.refuses = ""

    async def apply(self, topology: Topology) -> None:
        if self.refuses:
            raise UsageError(self.refuses)
        self.topology = topology

    async def __aenter__(self) -> "Follower":
        await self.reloading.accept()
        work = self.reloading.run(self.apply, self.draining.set)
        self.task = asyncio.create_task(work)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def looked_after(self, patch: pytest.MonkeyPatch, seconds: float) -> None:
        """The loop's clock is moved on, and the file looked at again."""
        looks, saw = 0, self.reloading._steady.saw

        def seen(content: bytes | str) -> bytes | str | None:
            nonlocal looks
            looks += 1
            return saw(content)

        move_on(patch, seconds)
        patch.setattr(self.reloading._steady, "saw", seen)
        await eventually(lambda: looks > 2, "it has looked")

    @property
    def kept(self) -> str:
        return (self.directory / KEPT).read_text()


# --- what was seen ------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b"a", b"b", "gone"])), st.sampled_from([None, b"a"]))
def test_a_content_counts_once_and_only_after_two_looks_in_a_row(
    looks: list[bytes | str], accepted: bytes | None
) -> None:
    steady = Steady(accepted)
    before: bytes | str | None = accepted
    acted: bytes | str | None = accepted
    for content in looks:
        told = steady.saw(content)
        assert told == (content if content == before != acted else None)
        acted = acted if told is None else told
        before = content


def test_what_is_forgotten_counts_once_more_after_two_looks() -> None:
    steady = Steady(b"a")
    steady.forget()
    assert [steady.saw(b"a") for _ in range(3)] == [None, b"a", None]


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.floats(0, 20))))
def test_an_absence_is_of_one_content_without_a_break(looks: list[tuple[bytes, float]]) -> None:
    absence, now_s, since_s = Absence(30.0), 0.0, None
    absence.begin(b"a")
    for content, step_s in looks:
        now_s += step_s
        since_s = (now_s if since_s is None else since_s) if content == b"a" else None
        lasts = since_s is not None and now_s - since_s >= 30.0
        assert absence.lasts(content, now_s) == lasts


# --- while it runs ------------------------------------------------------------------------------


async def test_the_first_part_of_a_file_takes_nobody_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Follower(file) as one:
        file.write_text(WEB)
        await eventually(lambda: "does not name db-1" in one.reloading.error, "it is said")
        assert one.kept == BOTH
        file.write_text(BOTH.replace("7400", "7500"))
        await eventually(lambda: one.reloading.generation == 2, "the whole file is in force")
        assert not one.reloading.error
        assert one.kept == MOVED
        await one.looked_after(monkeypatch, 2 * LEAVE_AFTER_S)
        assert not one.draining.is_set()


async def test_a_file_that_leaves_an_agent_out_for_long_takes_it_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Follower(file) as one:
        file.write_text(WEB)
        await eventually(lambda: "does not name db-1" in one.reloading.error, "it is said")
        await one.looked_after(monkeypatch, LEAVE_AFTER_S / 2)
        assert not one.draining.is_set()
        await one.looked_after(monkeypatch, LEAVE_AFTER_S / 2)
        await eventually(one.draining.is_set, "it drains")
        assert one.reloading.left
        assert one.kept == BOTH
        await one.reloading.drained()
    _, _, again = begin(file, "db-1", file.parent / "data")
    assert again.left


def replaced(file: Path) -> None:
    fresh = file.with_suffix(".fresh")
    fresh.write_text(MOVED)
    os.utime(fresh, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    fresh.replace(file)


def written_in_place_with_the_same_time_and_size(file: Path) -> None:
    before = file.stat()
    file.write_text(MOVED)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size


def linked_elsewhere(file: Path) -> None:
    (file.parent / "other.toml").write_text(MOVED)
    file.unlink()
    file.symlink_to("other.toml")


def gone_for_a_while(file: Path) -> None:
    file.unlink()
    file.write_text(MOVED)


@pytest.mark.parametrize(
    "change",
    [replaced, written_in_place_with_the_same_time_and_size, linked_elsewhere, gone_for_a_while],
)
@pytest.mark.parametrize("when", ["between loading and the first look", "later"])
async def test_however_a_file_is_changed_it_is_noticed(
    file: Path, change: Callable[[Path], None], when: str
) -> None:
    one = Follower(file)
    if when != "later":
        change(file)
    async with one:
        if when == "later":
            change(file)
        await eventually(lambda: one.reloading.generation == 2, "it is in force")
        assert one.kept == MOVED
        assert one.reloading.hash == sha256(file.read_bytes()).hexdigest()[:16]


async def test_hangups_at_any_time_read_the_file_once_more(file: Path) -> None:
    one = Follower(file)
    one.reloading.wake()
    one.reloading.wake()
    async with one:
        await eventually(lambda: one.reloading.generation == 2, "it was read")
        one.reloading.wake()
        await eventually(lambda: one.reloading.generation == 3, "and again")


async def test_one_that_cannot_be_put_in_force_leaves_the_old_one(file: Path) -> None:
    async with Follower(file) as one:
        one.refuses = "port 7400 is in use"
        file.write_text(MOVED)
        await eventually(lambda: "port 7400 is in use" in one.reloading.error, "it is said")
        assert "cannot be put in force" in one.reloading.error
        assert one.reloading.refused_hash == sha256(MOVED.encode()).hexdigest()[:16]
        assert one.reloading.generation == 1
        assert one.kept == BOTH
        one.refuses = ""
        one.reloading.wake()
        await eventually(lambda: one.reloading.generation == 2, "tried again, it is in force")
        assert one.kept == MOVED
        assert not one.reloading.error


async def test_what_wants_a_restart_is_told_and_not_applied(file: Path) -> None:
    end = BOTH + '\n[delivery]\nguarantee = "end"\nwindow = "8MiB"\n'
    async with Follower(file) as one:
        file.write_text(end)
        await eventually(lambda: one.reloading.generation == 2, "it is in force")
        assert one.reloading.restart_needed == ["delivery.guarantee"]
        assert one.topology.delivery.guarantee == "hop"
        assert one.topology.delivery.window_bytes_max == 8 << 20
        file.write_text(BOTH)
        await eventually(lambda: one.reloading.generation == 3, "as it was")
        assert one.reloading.restart_needed == []


# --- at a start ---------------------------------------------------------------------------------


def wrong(file: Path) -> None:
    file.write_text(BAD)


def no_utf8(file: Path) -> None:
    file.write_bytes(b"\xff\xfen\0")


def empty(file: Path) -> None:
    file.write_text("")


def gone(file: Path) -> None:
    file.unlink()


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


TROUBLES = [wrong, no_utf8, empty, gone, a_directory]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_start_with_a_bad_file_goes_by_the_one_accepted_last(
    file: Path, trouble: Callable[[Path], None]
) -> None:
    data = file.parent / "data"
    with pytest.raises(UsageError, match="no agent"):
        begin(file, "nobody", data)
    async with Follower(file) as one:
        file.write_text(MOVED)
        await eventually(lambda: one.reloading.generation == 2, "the second is accepted")
    trouble(file)
    with pytest.raises(TiersError):
        begin(file, "db-1", data, strict=True)
    with pytest.raises(TiersError):
        begin(file, "web-1", data)  # it has none
    async with Follower(file) as one:
        assert str(one.topology.peers("sink")["sink-1"]) == "127.0.0.1:7500"
        assert "what was last accepted" in one.reloading.error
        if file.is_dir():
            file.rmdir()
        file.write_text(BOTH)
        await eventually(lambda: not one.reloading.error, "the mended file is in force")
        assert one.kept == BOTH


async def test_one_that_has_drained_does_not_begin_again_by_its_copy(file: Path) -> None:
    async with Follower(file) as one:
        await one.reloading.drained()
    assert (one.directory / LEFT).read_text() == BOTH
    file.write_text(BAD)
    with pytest.raises(ConfigError):
        begin(file, "db-1", file.parent / "data")
    file.write_text(BOTH)
    async with Follower(file) as one:
        assert not one.reloading.left
        assert not (one.directory / LEFT).exists()
        assert one.kept == BOTH


async def test_a_start_while_the_file_leaves_it_out_is_no_end_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Follower(file):
        pass
    file.write_text(WEB)
    async with Follower(file) as one:
        assert not one.reloading.left
        await eventually(lambda: "does not name db-1" in one.reloading.error, "it is said")
        file.write_text(BOTH)
        await eventually(lambda: not one.reloading.error, "it is back")
        file.write_text(WEB)
        await eventually(lambda: "does not name db-1" in one.reloading.error, "it is said again")
        await one.looked_after(monkeypatch, LEAVE_AFTER_S)
        await eventually(one.draining.is_set, "it leaves")


def test_the_directory_is_known_of_a_file_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(f'data = "{tmp_path}/data"\n{BOTH}')
    _, directory, made = begin(file, "db-1", None)
    directory.mkdir(parents=True)
    asyncio.run(made.accept())
    file.write_text(f'data = "{tmp_path}/data"\nwrong = 1\n{BOTH}')
    assert begin(file, "db-1", None)[1] == directory
    file.write_text(f"data = 7\nwrong = 1\n{BOTH}")
    with pytest.raises(ConfigError):
        begin(file, "db-1", None)


# --- on disk ------------------------------------------------------------------------------------


def test_what_is_kept_is_synced_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(old: Path, new: Path) -> Path:
        steps.append(f"{old.name} becomes {new.name}")
        return replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    file = tmp_path / "agent" / KEPT
    file.parent.mkdir()
    write_durably(file, b"x")
    assert steps == ["topology.new", "topology.new becomes topology.toml", "agent"]


async def test_a_copy_that_could_not_be_kept_is_kept_later(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(reloading, "write_durably", full)
        one = Follower(file)
        await one.reloading.accept()
        assert not (one.directory / KEPT).exists()
    task = asyncio.create_task(one.reloading.run(one.apply, one.draining.set))
    await eventually((one.directory / KEPT).exists, "it is kept")
    task.cancel()
