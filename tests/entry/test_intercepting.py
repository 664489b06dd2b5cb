"""Interceptors between a source and a real channel: order, positions, dead letters, failures."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event

import pytest

from tests.entry.test_intake import WEB, Bench, HeldPress, bench, put
from tests.interceptors.test_chain import Does, fails, link, split
from tiers.core.block import Block
from tiers.core.change import ChannelLimits
from tiers.core.entry.cutting import CuttingRules
from tiers.entry.press import Press
from tiers.errors import TiersError
from tiers.interceptors.chain import Chain


def chain(does: Does, **keys: str) -> Chain:
    return Chain([link(does, **keys)], 1 << 20)


def bodies(b: Bench) -> list[bytes]:
    return [body for _, body in b.stored()]


async def test_what_becomes_of_a_block_is_stored(tmp_path: Path) -> None:
    async with bench(tmp_path, chain=chain(split)) as b:
        await (await put(b.intake, b"a\nb\na\n", 3, WEB, positions={b"f": b"1"}))
        found = sorted((envelope.headers["line"], body) for envelope, body in b.stored())
        assert found == [("0", b"a\n"), ("1", b"b\n"), ("2", b"a\n")]
        assert b.positions() == {b"f": b"1"}
        assert (b.intake.events, b.intake.bytes, b.intake.under_way) == (3, 6, 0)


async def test_they_come_in_the_order_of_the_source(tmp_path: Path) -> None:
    """However many threads there are, and whatever else goes through them."""
    async with bench(tmp_path, press=Press("zstd", 1, 4), chain=chain(lambda b: [b])) as b:
        other = b.another("other")
        for number in range(300):
            await put(b.intake, b"t%d\n" % number, 1, WEB, positions={b"f": b"%d" % number})
            await put(other, b"s%d\n" % number, 1, WEB)
            if number % 7 == 0:
                await asyncio.sleep(0)
        await b.intake.flush()
        await other.flush()
        other.end()
        lines = b"".join(bodies(b)).splitlines()
        for mark in (b"t", b"s"):
            mine = [line for line in lines if line.startswith(mark)]
            assert mine == [mark + b"%d" % number for number in range(300)]
        assert b.positions() == {b"f": b"299"}


async def test_positions_of_what_is_dropped_are_stored(tmp_path: Path) -> None:
    async with bench(tmp_path, chain=chain(lambda _: [])) as b:
        await (await put(b.intake, b"a\nb\n", 2, WEB, positions={b"f": b"1"}))
        await (await put(b.intake, b"", 0, WEB, positions={b"g": b"2"}))
        assert b.stored() == []
        assert b.positions() == {b"f": b"1", b"g": b"2"}
        assert b.intake.counters == {"dropped_one": 2, "dropped_one_bytes": 4}
        assert (b.intake.events, b.intake.under_way) == (0, 0)


async def test_what_one_fails_on_is_counted_and_said_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, chain=chain(fails)) as b:
        for _ in range(5):
            await (await put(b.intake, b"a\n", 1, WEB))
        assert bodies(b) == [b"a\n"] * 5
        assert b.intake.counters == {"failed_one": 5}
        assert b.intake.failing()["one"].startswith("KeyError")
        clock = b.intake._clock
        monkeypatch.setattr(clock, "now_s", lambda: asyncio.get_running_loop().time() + 61)
        assert b.intake.failing() == {}


def half_dead(block: Block) -> Sequence[Block]:
    if b"bad" in bytes(block.data):
        raise ValueError("bad")
    return [block]


async def test_dead_letters(tmp_path: Path) -> None:
    rules = CuttingRules(linger_s=10.0)
    async with bench(tmp_path, rules=rules, chain=chain(half_dead, on_error="dead")) as b:
        await (await put(b.intake, b"at once\n", 1, WEB))
        for number, line in enumerate((b"good\n", b"bad\n", b"bad too\n", b"good too\n")):
            await put(b.intake, line, 1, WEB, positions={b"f": b"%d" % number})
        await b.intake.flush()
        assert bodies(b) == [b"at once\n", b"good\ngood too\n"]
        (letter,) = b.channel.dead_letters()
        assert letter.reason.startswith("interceptor 'one': ValueError")
        assert (letter.output, letter.count) == ("out", 2)
        assert b.positions() == {b"f": b"3"}


async def test_without_room_in_the_dead_letters_it_stays_in_the_queue(tmp_path: Path) -> None:
    limits = ChannelLimits(free_floor_bytes=0, size_bytes_max=32 << 20)
    async with bench(tmp_path, limits=limits, chain=chain(half_dead, on_error="dead")) as b:
        room = b.channel.stats().dead_bytes_max
        size = (1 << 20) - 10
        for _ in range(room // size + 2):
            body = b"bad" + Random(1).randbytes(size)
            await (await put(b.intake, body.replace(b"\n", b"x") + b"\n", 1, WEB))
        stats = b.channel.stats()
        assert stats.dead_bytes <= room
        assert stats.dead
        assert stats.dead + stats.queues["out"].batches == room // size + 2


async def test_flush_waits_for_what_is_being_intercepted(tmp_path: Path) -> None:
    go = Event()

    def slow(block: Block) -> Sequence[Block]:
        assert go.wait(30)
        return [replace(block, headers={"seen": "yes"})]

    async with bench(tmp_path, chain=chain(slow)) as b:
        for number in range(3):
            await put(b.intake, b"%d\n" % number, 1, WEB)
        flushed = asyncio.create_task(b.intake.flush())
        await asyncio.sleep(0.05)
        assert not flushed.done()
        assert b.intake.under_way == 6
        go.set()
        await flushed
        assert b"".join(bodies(b)) == b"0\n1\n2\n"
        assert b.intake.under_way == 0


async def test_a_put_waits_while_too_much_is_being_intercepted(tmp_path: Path) -> None:
    go = Event()

    def slow(block: Block) -> Sequence[Block]:
        assert go.wait(30)
        return []

    async with bench(tmp_path, chain=chain(slow)) as b:
        block = b"x" * ((1 << 20) - 1) + b"\n"
        puts = 0
        while b.intake.has_room():
            await put(b.intake, block, 1, WEB)
            puts += 1
        waiting = asyncio.create_task(put(b.intake, b"last\n", 1, WEB))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        go.set()
        await (await waiting)
        assert b.intake.counters["dropped_one"] == puts + 1


async def test_once_the_agent_stops_nothing_goes_on(tmp_path: Path) -> None:
    go = Event()

    def slow(block: Block) -> Sequence[Block]:
        assert go.wait(30)
        return [block]

    press = HeldPress()
    async with bench(tmp_path, press=press, chain=chain(slow)) as b:
        first = await put(b.intake, b"a\n", 1, WEB)
        second = await put(b.intake, b"b\n", 1, WEB)
        press.close()
        go.set()
        for receipt in (first, second):
            with pytest.raises(TiersError):
                await receipt
        with pytest.raises(TiersError):
            await b.intake.flush()
        with pytest.raises(TiersError):
            await put(b.intake, b"c\n", 1, WEB)
