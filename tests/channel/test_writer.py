"""The writer: order, groups, failing disks and the end."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest

from tests.channel.making import LIMITS, fill, opened, put, record, tmpfs
from tests.waiting import eventually
from tiers.channel import channel as channel_module
from tiers.channel import writer as writer_module
from tiers.channel.channel import Channel
from tiers.channel.environment import (
    DISK_FULL_BYTES,
    Environment,
    Panicked,
    Transaction,
    words,
)
from tiers.channel.writer import Submitted, overtaking
from tiers.core.batch import BatchId
from tiers.core.change import Change, Put
from tiers.errors import ChannelUnavailable


async def test_thousands_of_small_puts_go_in_few_groups(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        order: list[int] = []
        wakes: list[int] = []
        channel.subscribe(lambda: wakes.append(len(order)))
        futures = []
        for number in range(5000):
            future = channel.submit(
                Change(puts=[put(channel)], records={b"position/x": b"%d" % number})
            )
            future.add_done_callback(lambda done: order.append(done.result()[0]))
            futures.append(future)
        await asyncio.gather(*futures)
        assert order == list(range(1, 5001))
        stats = channel.stats()
        assert channel.commits.count <= 200
        assert len(wakes) == channel.commits.count
        assert (stats.puts, stats.batches, stats.queues["out"].events) == (5000, 5000, 5000)
        assert channel.records(b"position/") == {b"position/x": b"4999"}
        assert [e.position for e in channel.entries("out", after=4990)] == list(range(4991, 5001))


async def test_a_group_takes_no_more_bodies_than_allowed(tmp_path: Path) -> None:
    limits = replace(LIMITS, commit_bytes_max=300_000)
    async with opened(tmp_path, limits) as channel:
        changes = [Change(puts=[put(channel, bytes(100_000))]) for _ in range(20)]
        changes.append(Change(puts=[put(channel, bytes(1_000_000))]))  # too large, goes alone
        await asyncio.gather(*map(channel.submit, changes))
        assert channel.commits.count >= 11


async def test_close_commits_what_was_submitted(tmp_path: Path) -> None:
    channel = await Channel.open(tmp_path, LIMITS, ["out"])
    origin = channel.origin
    futures = [channel.submit(Change(puts=[put(channel)])) for _ in range(500)]
    await channel.close()
    assert [future.result()[0] for future in futures] == list(range(1, 501))
    await channel.close()
    with pytest.raises(ChannelUnavailable, match="closed"):
        await channel.submit(Change())
    async with opened(tmp_path) as channel:
        assert len(channel.entries("out")) == 500
        assert channel.origins()[origin].last == 500


async def test_a_cancelled_future_takes_nothing_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        channel.submit(Change(puts=[put(channel)])).cancel()
        await channel.submit(Change(puts=[put(channel)]))
        assert [entry.position for entry in channel.entries("out")] == [1, 2]


async def test_an_arrived_batch_is_stored_once(tmp_path: Path) -> None:
    origin = b"o" * 16
    one = Put(BatchId(origin, 7), record(origin, 7), 1, ["out"], arrived=True)
    async with opened(tmp_path) as channel:
        assert await channel.submit(Change(puts=[one, one])) == (1, 0)
        assert await channel.submit(Change(puts=[one])) == (0,)
        assert channel.seen([BatchId(origin, 7), BatchId(origin, 8)]).keys() == {BatchId(origin, 7)}
        (position,) = await channel.submit(Change(puts=[replace(one, arrived=False)]))
        assert position == 4, "what does not come from a peer is not asked"
        assert len(channel.entries("out")) == 2


async def test_a_failed_write_of_the_meta_page_is_overcome(tmp_path: Path) -> None:
    """LMDB gives up on its environment then: it is opened anew, and nothing is lost or doubled."""
    async with opened(tmp_path) as channel:
        await channel.submit(Change(puts=[put(channel)]))
        spoil(tmp_path / "channel" / "data.mdb", os.O_DSYNC)
        futures = [channel.submit(Change(puts=[put(channel)])) for _ in range(5)]
        assert await asyncio.gather(*futures) == [(2,), (3,), (4,), (5,), (6,)]
        assert [entry.position for entry in channel.entries("out")] == [1, 2, 3, 4, 5, 6]
        await eventually(lambda: channel.stats().trouble == "", "the trouble is over")


async def test_a_commit_that_took_place_after_all_is_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Environment.writing
    failures = [True]

    @contextmanager
    def doubtful(self: Environment) -> Iterator[Transaction]:
        with real(self) as txn:
            yield txn
        if failures:
            failures.pop()
            raise Panicked("commit: the meta page's write failed")

    async with opened(tmp_path) as channel:
        monkeypatch.setattr(Environment, "writing", doubtful)
        first = channel.submit(Change(puts=[put(channel)], records={b"agent/x": b"1"}))
        assert await first == (1,)
        assert await channel.submit(Change(puts=[put(channel)])) == (2,)
        assert [entry.position for entry in channel.entries("out")] == [1, 2]
        assert channel.stats().queues["out"].batches == 2
        assert not failures


async def test_data_pages_that_cannot_be_written_are_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        saved, descriptor = spoil(tmp_path / "channel" / "data.mdb", 0)
        future = channel.submit(Change(puts=[put(channel)]))
        await eventually(lambda: channel.stats().trouble, "the trouble shows")
        assert not future.done()
        assert channel.free_bytes() == 0
        os.dup2(saved, descriptor)
        os.close(saved)
        assert await future == (1,)


class Waits(threading.Event):
    """Of the writer, after commits that failed: none is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return self.is_set()


@pytest.mark.parametrize("limit", ["changes", "bytes"])
async def test_after_each_failure_the_wait_grows_and_the_group_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    real = Environment.writing
    all_submitted = threading.Event()
    outcomes = iter(["works", *["fails"] * 10, "works", "works", "fails", "fails"])
    groups: list[tuple[str, int]] = []

    @contextmanager
    def writing(self: Environment) -> Iterator[Transaction]:
        all_submitted.wait()
        outcome = next(outcomes, "works")
        groups.append((outcome, 0))
        with real(self) as txn:
            yield txn
            if outcome == "fails":
                raise ChannelUnavailable("the disk says no")

    def apply(*args: Any) -> Any:
        groups[-1] = groups[-1][0], groups[-1][1] + 1
        return one_applied(*args)

    limits = LIMITS
    if limit == "changes":
        monkeypatch.setattr(writer_module, "GROUP_CHANGES_MAX", 8)
    else:
        limits = replace(LIMITS, commit_bytes_max=8 * len(record(b"o" * 16, 1)))
    one_applied = writer_module._apply
    async with opened(tmp_path, limits) as channel:
        channel._writer._give_up = waits = Waits()
        monkeypatch.setattr(Environment, "writing", writing)
        monkeypatch.setattr(writer_module, "_apply", apply)
        first = channel.submit(Change(puts=[put(channel)]))
        futures = [channel.submit(Change(puts=[put(channel)])) for _ in range(30)]
        all_submitted.set()
        assert await asyncio.gather(first, *futures) == [(n,) for n in range(1, 32)]
    tried = [size for outcome, size in groups if outcome == "fails"]
    assert tried == [8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 8, 4]
    assert waits.seconds[:10] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert waits.seconds[10:] == [0.05, 0.1]


def spoil(data: Path, flag: int) -> tuple[int, int]:
    """Makes LMDB's own descriptor of its file (that with O_DSYNC writes meta pages, that without
    the others) one that cannot be written; a copy of it, and its number."""
    for link in list(Path("/proc/self/fd").iterdir()):
        number = int(link.name)
        try:
            if not os.path.samestat(os.fstat(number), data.stat()):
                continue
            flags = int(Path(f"/proc/self/fdinfo/{number}").read_text().split()[3], 8)
        except OSError:
            continue
        if flags & os.O_DSYNC == flag:
            saved = os.dup(number)
            unwritable = os.open(data, os.O_RDONLY)
            os.dup2(unwritable, number)
            os.close(unwritable)
            return saved, number
    raise AssertionError("LMDB has no such descriptor")


async def test_close_gives_up_on_a_disk_that_stays_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "CLOSE_WITHIN_S", 0.2)
    with tmpfs(tmp_path / "disk", 8 << 20) as disk:
        channel = await Channel.open(disk / "agent", LIMITS, ["out"])
        await channel.submit(Change(puts=[put(channel)]))
        fill(disk / "filler")
        future = channel.submit(Change(puts=[put(channel, os.urandom(500_000))]))
        with pytest.raises(ChannelUnavailable, match="disk full"):
            await channel.close()
        with pytest.raises(ChannelUnavailable, match="disk full"):
            await future
        assert channel.stats().trouble.count("disk full") == 1
        (disk / "filler").unlink()
        async with opened(disk / "agent") as channel:
            assert [entry.position for entry in channel.entries("out")] == [1]


@pytest.mark.parametrize("text", ["committing: Input/output error", "disk full: committing: No"])
@pytest.mark.parametrize("free_bytes", [0, DISK_FULL_BYTES - 1, DISK_FULL_BYTES])
def test_a_full_disk_is_named_once(text: str, free_bytes: int) -> None:
    is_named = free_bytes < DISK_FULL_BYTES or text.startswith("disk full")
    said = words(ChannelUnavailable(text), free_bytes)
    assert (said.count("disk full"), said.endswith(text)) == (int(is_named), True)


async def test_our_own_mistake_ends_the_channel_and_hangs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await Channel.open(tmp_path, LIMITS, ["out"])

    def broken(*_: object) -> None:
        raise lmdb.BadValsizeError("a mistake")

    monkeypatch.setattr("tiers.channel.applying.guard", broken)
    with pytest.raises(lmdb.BadValsizeError):
        await channel.submit(Change(puts=[put(channel)]))
    assert "a mistake" in channel.stats().trouble
    monkeypatch.undo()
    await channel.close()
    async with opened(tmp_path) as channel:
        assert channel.entries("out") == []


def waiting(change: Change, *positions: int) -> Submitted:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[tuple[int, ...]] = loop.create_future()
    loop.close()
    return Submitted(change, positions, 0, 0, future)


def test_what_may_overtake_a_put_that_waits_for_room() -> None:
    origin = b"o" * 16
    new = Put(BatchId(origin, 1), b"", 1, ["out"])
    before = waiting(Change(releases=[("out", 3)]))
    stuck = waiting(Change(puts=[new], records={b"k": b"1"}, releases=[("out", 4)]), 10)
    free = waiting(Change(releases=[("out", 5)], dead=[("b", 6, "x")], records={b"j": None}))
    of_the_put = waiting(Change(releases=[("out", 10)]))
    same_key = waiting(Change(records={b"k": b"2"}, releases=[("out", 7)]))
    same_entry = waiting(Change(releases=[("out", 4)]))
    after_one_that_stays = waiting(Change(flags=[("out", 7)]))
    free_too = waiting(Change(flags=[("out", 8)]))
    every = [before, stuck, free, of_the_put, same_key, same_entry, after_one_that_stays, free_too]
    assert overtaking(every) == [before, free, free_too]
    assert overtaking([before, free]) == [], "nothing to overtake"


async def test_speed_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = os.urandom(200_000)
    async with opened(tmp_path, replace(LIMITS, size_bytes_max=1 << 30)) as channel:
        begun = time.perf_counter()
        flying: set[asyncio.Future[tuple[int, ...]]] = set()
        done: list[int] = []
        for _ in range(300):
            let_go = [("out", done.pop())] if done else []
            future = channel.submit(Change(puts=[put(channel, body)], releases=let_go))
            flying.add(future)
            future.add_done_callback(lambda one: done.append(one.result()[0]))
            if len(flying) >= 80:
                _, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*flying)
        rate = 300 / (time.perf_counter() - begun)
        begun = time.perf_counter()
        for _ in range(20):
            await channel.submit(Change(puts=[put(channel)]))
        quiet_ms = (time.perf_counter() - begun) / 20 * 1000
        assert channel.stats().puts == 320
    with capsys.disabled():
        print(f"\n{rate:.0f} puts of 200 kB/s ({rate / 5:.0f} MB/s), quiet put {quiet_ms:.2f} ms")
