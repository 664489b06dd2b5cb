"""Size, floor and marks: puts stop in time, deletes always go on."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.channel.making import LIMITS, fill, opened, put, tmpfs
from tests.core.batches import an_envelope, batch_ids, hops
from tests.waiting import eventually
from tiers.channel import environment, opening, writer
from tiers.channel.channel import Channel
from tiers.channel.headroom import Headroom, Sizes
from tiers.channel.layout import QueueItem, pack_hops, unpack_hops, unpack_item
from tiers.core.batch import BODY_SIZE_MAX, BatchId, Hop, open_envelope, seal
from tiers.core.change import Change

MIB = 1 << 20
BODY = os.urandom(60_000)


async def put_until_full(
    channel: Channel, body: bytes = BODY, outputs: Sequence[str] = ("out",)
) -> int:
    """Puts for as long as there is room; how many."""
    count = 0
    while channel.free_bytes() > 0:
        futures: list[asyncio.Future[tuple[int, ...]]] = []
        while channel.free_bytes() > 0 and len(futures) < 10:
            new = put(channel, body, outputs=outputs)
            records = {b"position/x": b"%d" % new.id.seq}
            futures.append(channel.submit(Change(puts=[new], records=records)))
        await asyncio.gather(*futures)
        count += len(futures)
    return count


async def test_puts_stop_at_the_high_mark_and_go_on_below_the_low_mark(tmp_path: Path) -> None:
    limits = replace(LIMITS, size_bytes_max=4 * MIB)
    async with opened(tmp_path, limits) as channel:
        await put_until_full(channel)
        stats = channel.stats()
        assert 0.85 * 4 * MIB < stats.used_bytes <= 0.95 * 4 * MIB
        waiter = asyncio.ensure_future(channel.wait_room())
        for entry in channel.entries("out"):
            was_above_low = channel.stats().used_bytes > 0.8 * 4 * MIB
            await channel.submit(Change(releases=[("out", entry.position)]))
            if channel.stats().used_bytes > 0.8 * 4 * MIB:
                assert channel.free_bytes() == 0
                assert not waiter.done()
            elif was_above_low:
                await asyncio.wait_for(waiter, 30)
                assert channel.free_bytes() > 0
        assert waiter.done()
        assert channel.stats().batches == 0
        assert channel.stats().used_bytes < MIB // 4


async def test_submitted_bytes_count_before_they_are_committed(tmp_path: Path) -> None:
    async with opened(tmp_path, replace(LIMITS, size_bytes_max=4 * MIB)) as channel:
        before = channel.free_bytes()
        futures = [channel.submit(Change(puts=[put(channel, BODY)])) for _ in range(20)]
        assert channel.free_bytes() <= before - 20 * len(BODY)
        pending = channel.free_bytes()
        await asyncio.gather(*futures)
        assert abs(channel.free_bytes() - pending) < 100_000
        await channel.wait_room()  # there is room: it returns at once


async def test_full_with_deletes_going_on_round_after_round(tmp_path: Path) -> None:
    limits = replace(LIMITS, size_bytes_max=3 * MIB)
    async with opened(tmp_path, limits, ["a", "b"]) as channel:
        for round_number in range(6):
            body = BODY[: 900 + 7000 * round_number]
            await put_until_full(channel, body, ["a", "b"])
            held = [entry.position for entry in channel.entries("a", limit=10**6)]
            for output in ("a", "b"):
                futures = [channel.submit(Change(releases=[(output, at)])) for at in held]
                await asyncio.gather(*futures)
                if output == "a":
                    assert channel.stats().batches == len(held)
                    assert channel.free_bytes() == 0
            assert channel.stats().batches == 0
        assert channel.stats().trouble == ""
        file_bytes = (tmp_path / "channel" / "data.mdb").stat().st_size
        assert file_bytes < limits.size_bytes_max + opening.HEADROOM_BYTES_MIN


async def test_a_map_that_fills_up_grows_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not look at `free_bytes` gets what was accepted onto disk all the same."""
    monkeypatch.setattr(opening, "HEADROOM_BYTES_MIN", 0)
    monkeypatch.setattr(writer, "GROW_BYTES", 300_000)
    limits = replace(LIMITS, size_bytes_max=MIB)
    async with opened(tmp_path, limits) as channel:
        futures = [channel.submit(Change(puts=[put(channel, BODY)])) for _ in range(100)]
        assert [one for (one,) in await asyncio.gather(*futures)] == list(range(1, 101))
        assert channel.free_bytes() == 0
        assert [entry.position for entry in channel.entries("out")] == list(range(1, 101))
    async with opened(tmp_path, limits) as channel:
        assert len(channel.entries("out")) == 100
        releases = [("out", entry.position) for entry in channel.entries("out")]
        await channel.submit(Change(releases=releases))
        assert channel.free_bytes() > 0


def test_a_map_grows_beyond_the_file_that_was_found(tmp_path: Path) -> None:
    def write(one: environment.Environment, size: int) -> None:
        with one.writing() as txn:
            txn.put(b"%d" % size, bytes(size), db=one.db["records"])

    one = environment.Environment(tmp_path, 4 * MIB)
    write(one, 3 * MIB)
    one.close()
    one = environment.Environment(tmp_path, MIB)
    with pytest.raises(environment.MapFull):
        write(one, MIB // 2)
    one.grow(MIB)
    write(one, MIB // 2)
    one.close()


async def test_the_floor_of_free_space(tmp_path: Path) -> None:
    floor = 8 * MIB
    limits = replace(LIMITS, size_bytes_max=1 << 30, free_floor_bytes=floor)
    with tmpfs(tmp_path / "disk", 24 * MIB) as disk:
        async with opened(disk, limits) as channel:
            count = await put_until_full(channel)
            assert count * len(BODY) > 8 * MIB
            assert channel.stats().disk_free_bytes > floor - MIB
            assert "floor" in channel.stats().trouble
            entries = channel.entries("out")
            for entry in entries[: len(entries) // 2]:
                await channel.submit(Change(releases=[("out", entry.position)]))
            assert channel.stats().batches == count - count // 2
            # The file does not shrink, so the disk has no more than before; yet its free pages
            # may be used again, and using them takes nothing from the disk.
            assert channel.free_bytes() > 0
            assert channel.stats().trouble == ""
            await put_until_full(channel)
            assert channel.stats().disk_free_bytes > floor - 2 * MIB


async def test_another_one_fills_the_disk_to_the_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "IDLE_S", 0.01)
    limits = replace(LIMITS, free_floor_bytes=8 * MIB)
    with tmpfs(tmp_path / "disk", 16 * MIB) as disk:
        async with opened(disk / "agent", limits) as channel:
            (first,) = await channel.submit(Change(puts=[put(channel, BODY)]))
            assert channel.free_bytes() > 0
            (disk / "filler").write_bytes(bytes(9 * MIB))
            await eventually(lambda: channel.free_bytes() < 100_000, "the idle writer looks")
            await put_until_full(channel)
            assert channel.free_bytes() == 0
            waiter = asyncio.ensure_future(channel.wait_room())
            await channel.submit(Change(releases=[("out", first)]))
            (disk / "filler").unlink()
            await asyncio.wait_for(waiter, 30)
            assert channel.free_bytes() > MIB


async def test_a_full_disk_is_waited_out_and_nothing_is_lost(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 16 * MIB) as disk:
        async with opened(disk / "agent", LIMITS) as channel:
            for number in range(20):  # some pages are free in the file afterwards
                await channel.submit(Change(puts=[put(channel, BODY)]))
                if number < 10:
                    await channel.submit(Change(releases=[("out", number + 1)]))
            fill(disk / "filler")
            stuck = [
                channel.submit(
                    Change(
                        puts=[put(channel, os.urandom(500_000))],
                        records={b"position/x": b"%d" % number},
                    )
                )
                for number in range(8)
            ]
            await eventually(lambda: "disk full" in channel.stats().trouble, "the trouble shows")
            assert channel.free_bytes() == 0
            # Letting go overtakes the puts, and is not kept waiting by the full disk.
            letting_go = channel.submit(Change(releases=[("out", 11), ("out", 12)]))
            assert await asyncio.wait_for(letting_go, 30) == ()
            assert channel.entries("out")[0].position == 13
            assert not stuck[-1].done()
            waiter = asyncio.ensure_future(channel.wait_room())
            (disk / "filler").unlink()
            positions = [one for (one,) in await asyncio.wait_for(asyncio.gather(*stuck), 30)]
            assert positions == list(range(21, 29))
            await asyncio.wait_for(waiter, 30)
            assert channel.stats().trouble == ""
            assert channel.records(b"position/") == {b"position/x": b"7"}
        async with opened(disk / "agent", LIMITS) as channel:
            assert [entry.position for entry in channel.entries("out")] == list(range(13, 29))
            for position in positions:
                channel.record(position)


def test_room_counts_what_the_disk_and_the_file_have() -> None:
    room = Headroom(size_bytes_max=1000, high=0.9, low=0.8, free_floor_bytes=80)
    assert room.free_bytes(Sizes(used=0, file=0, disk_free=10_000, pending=0)) == 900
    assert room.free_bytes(Sizes(used=300, file=0, disk_free=10_000, pending=200)) == 400
    assert room.free_bytes(Sizes(used=300, file=300, disk_free=100, pending=0)) == 20
    assert room.free_bytes(Sizes(used=300, file=500, disk_free=50, pending=0)) == 100
    assert room.free_bytes(Sizes(used=300, file=300, disk_free=80, pending=0)) == 0
    assert room.free_bytes(Sizes(used=300, file=300, disk_free=85, pending=0)) == 0, "some more"
    assert room.free_bytes(Sizes(used=300, file=300, disk_free=95, pending=0)) == 15


@given(
    st.lists(
        st.builds(Sizes, *[st.integers(0, 1200)] * 4),
        min_size=1,
        max_size=20,
    )
)
def test_room_stops_at_the_high_mark_and_stays_stopped_to_the_low_mark(steps: list[Sizes]) -> None:
    room = Headroom(size_bytes_max=1000, high=0.9, low=0.8, free_floor_bytes=0)
    stopped = False
    for sizes in steps:
        free = room.free_bytes(sizes)
        filled = sizes.used + sizes.pending
        assert 0 <= free <= max(0, 900 - filled)
        if stopped and filled > 800:
            assert free == 0
        stopped = free == 0
        if filled <= 800 and sizes.disk_free - sizes.pending >= 1:
            assert free > 0


def test_the_lock_file_has_no_holes(tmp_path: Path) -> None:
    """LMDB writes reader slots into a map of it: a hole on a full disk would be a SIGBUS."""
    one = environment.Environment(tmp_path, MIB)
    lock = (tmp_path / "lock.mdb").stat()
    assert lock.st_blocks * 512 >= lock.st_size >= 126 * 64
    one.close()
    there = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    assert not [path for path in there if path.is_relative_to(tmp_path)]


def test_what_comes_on_earlier_credit_is_taken_up_to_the_size_itself() -> None:
    room = Headroom(1000, high=0.8, low=0.6, free_floor_bytes=500)
    plenty = 10_000
    assert room.free_bytes(Sizes(850, 1000, plenty, 0)) == 0
    assert not room.overfull(Sizes(850, 1000, plenty, 100))
    assert room.overfull(Sizes(850, 1000, plenty, 150))
    # At the disk's floor: what is on its way would go below it.
    assert room.free_bytes(Sizes(700, 700, 500, 0)) == 0
    assert not room.overfull(Sizes(700, 700, 500, 0))
    assert room.overfull(Sizes(700, 700, 500, 1))


@given(batch_ids, st.integers(1, BODY_SIZE_MAX), st.integers(0, 2**32 - 1), hops)
def test_whatever_a_receiver_takes_has_room_in_an_item(
    key: BatchId, count: int, crc: int, told: tuple[Hop, ...]
) -> None:
    """A number too large for its place ended the agent at the commit, for 2**32 events."""
    envelope = an_envelope(key.seq, origin=key.origin, count=count, size=BODY_SIZE_MAX)
    assert open_envelope(seal(envelope, b"")).id == key
    item = QueueItem(True, True, False, 2**53, count, 32 << 20, key, crc, pack_hops(told))
    assert unpack_item(item.pack()) == item
    assert unpack_hops(item.hops) == told
