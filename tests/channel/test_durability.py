"""What a channel syncs, takes of a disk and tells of time: what no test sees by what is in it."""

import asyncio
import gc
import os
import time
from pathlib import Path

import lmdb
import pytest

from tests.channel.making import opened, put
from tiers.channel import inspection, opening
from tiers.channel.layout import after, pages
from tiers.channel.opening import SET_ASIDE_STEM, mark_damaged
from tiers.core.change import Change
from tiers.host.durable import sync_directory


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, frozenset[str]]]:
    """Directories that were synced, with the names that were in them."""
    done: list[tuple[Path, frozenset[str]]] = []
    really = os.fsync

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            done.append((path, frozenset(os.listdir(path))))  # noqa: PTH208
        really(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    return done


async def test_the_names_of_a_new_channel_are_on_disk_when_it_is_open(
    tmp_path: Path, synced: list[tuple[Path, frozenset[str]]]
) -> None:
    directory = tmp_path.resolve() / "made" / "edge-1"
    async with opened(directory):
        last = dict(synced)
        assert last[directory / "channel"] >= {"data.mdb", "begun"}
        assert "channel" in last[directory]
        assert "edge-1" in last[tmp_path.resolve() / "made"]
        assert "made" in last[tmp_path.resolve()]


async def test_a_name_is_on_disk_though_one_above_is_not_ours_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def sync(path: Path) -> None:
        asked.append(path)
        if path == tmp_path.resolve():
            raise PermissionError(path)
        sync_directory(path)

    monkeypatch.setattr(opening, "sync_directory", sync)
    async with opened(tmp_path.resolve() / "made" / "edge-1"):
        assert asked[-1] == Path("/"), "those above it are asked all the same"


async def test_a_channel_is_set_aside_on_disk_before_a_fresh_one_begins(
    tmp_path: Path, synced: list[tuple[Path, frozenset[str]]]
) -> None:
    directory = tmp_path.resolve()
    for number in range(1, 4):
        async with opened(directory):
            pass
        mark_damaged(directory / "channel", "for the test")
        synced.clear()
        async with opened(directory) as channel:
            assert "for the test" in channel.stats().set_aside
        kept = {path.name for path in directory.glob(f"{SET_ASIDE_STEM}*")}
        assert len(kept) == number, "none in place of another"
        first = next(names for path, names in synced if path == directory)
        assert kept <= first and "channel" not in first


async def test_the_lock_is_let_go_of_though_a_child_has_it_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        inherited = os.dup(channel._lock)
    try:
        async with opened(tmp_path):
            pass
    finally:
        os.close(inherited)


async def test_times_of_beginning_and_storing_are_those_of_the_clock(tmp_path: Path) -> None:
    before_ms = time.time_ns() // 1_000_000
    async with opened(tmp_path) as channel:
        begun_ms = time.time_ns() // 1_000_000
        await channel.submit(Change(puts=[put(channel)]))
        [entry] = channel.entries("out")
        assert begun_ms <= entry.stored_ms <= time.time_ns() // 1_000_000
    head = inspection.look(tmp_path / "channel").head
    assert before_ms <= head.identity.begun_ms <= begun_ms


async def test_positions_follow_the_last_one(tmp_path: Path) -> None:
    for number in range(1, 4):
        async with opened(tmp_path) as channel:
            assert channel.last_position() == number - 1
            (position,) = await channel.submit(Change(puts=[put(channel)]))
            assert position == channel.last_position() == number


@pytest.mark.parametrize("size", [2049, 4080, 4081, 8176, 8177, 1 << 20])
def test_a_large_value_takes_whole_pages_as_in_lmdb(tmp_path: Path, size: int) -> None:
    with lmdb.Environment(str(tmp_path), map_size=64 << 20) as environment:
        with environment.begin(write=True) as txn:
            txn.put(b"12345678", bytes(size))
        stat = environment.stat()
        assert stat["psize"] == 4096
        assert pages(size) == 4096 * stat["overflow_pages"]


def test_a_small_value_takes_a_part_of_a_page() -> None:
    assert [pages(size) for size in (0, 1, 2048)] == [64, 65, 2112]
    assert pages(2049) == 4096
    assert pages(8192, 16384) == 8256 and pages(8193, 16384) == 16384


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        (b"a", b"b"),
        (b"a/", b"a0"),
        (b"ab\xff", b"ac"),
        (b"a\xff\xff", b"b"),
        (b"a\xfe", b"a\xff"),
        (b"\xff", None),
        (b"\xff\xff", None),
        (b"", None),
    ],
)
def test_the_key_behind_all_of_a_prefix(prefix: bytes, key: bytes | None) -> None:
    assert after(prefix) == key


async def test_what_nobody_waits_for_is_no_error_of_the_loop(tmp_path: Path) -> None:
    told: list[str] = []
    async with opened(tmp_path) as channel:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: told.append(context["message"])
        )
        left = [channel.submit(Change(puts=[put(channel)])) for _ in range(3)]
        channel._end(ValueError("for the test"))
        assert all(future.done() for future in left)
    del channel, left
    gc.collect()
    assert not [text for text in told if "never retrieved" in text]
