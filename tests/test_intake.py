"""Sources' way into a real channel: order, receipts, positions, back-pressure, and a failure
that lets nothing past it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

import pytest

from tests.waiting import eventually
from tiers.channel.change import Change
from tiers.channel.channel import Channel, ChannelLimits
from tiers.core.batch import HEADER_BYTES_MAX, Buffer, Envelope, split, verify
from tiers.core.codecs import decompress
from tiers.core.cutting import CuttingRules
from tiers.errors import BatchError, ChannelUnavailable, TiersError
from tiers.intake import UNDER_WAY_BYTES_MAX, Press, SourceIntake

WEB = {"service": "web"}
LIMITS = ChannelLimits(free_floor_bytes=0)
HOUR_MS = 3_600_000


class HeldPress(Press):
    """A press whose work waits for the test, and may fail."""

    def __init__(self, codec: str = "zstd", threads: int = 1) -> None:
        super().__init__(codec, 1, threads)
        self.go = Event()
        self.fails_on = b"\xff"
        self.pressed: list[bytes] = []

    def _press(self, blocks: Sequence[Buffer]) -> tuple[bytes, int]:
        assert self.go.wait(30)
        raw = b"".join(blocks)
        self.pressed.append(raw)
        if self.fails_on in raw:
            raise MemoryError("no memory to compress in")
        return super()._press(blocks)


class Bench:
    """A channel with an intake in front of it."""

    def __init__(self, channel: Channel, press: Press, rules: CuttingRules) -> None:
        self.channel = channel
        self.press = press
        self.rules = rules
        self.intake = self.another("tail")

    def another(self, source: str) -> SourceIntake:
        return SourceIntake(
            source, "edge-1", self.channel, ("out",), self.press, self.rules, 1 << 20
        )

    def stored(self) -> list[tuple[Envelope, bytes]]:
        found = []
        for entry in self.channel.entries("out"):
            record = self.channel.record(entry.position)
            envelope = verify(record)
            body = decompress(envelope.codec, split(record)[1], envelope.size)
            found.append((envelope, body))
        return found

    def positions(self) -> dict[bytes, bytes]:
        return dict(self.another("tail").positions)


@asynccontextmanager
async def bench(
    directory: Path,
    *,
    press: Press | None = None,
    limits: ChannelLimits = LIMITS,
    rules: CuttingRules | None = None,
) -> AsyncIterator[Bench]:
    channel = await Channel.open(directory, limits, ("out",))
    made = Bench(channel, press or Press("zstd", 1), rules or CuttingRules(linger_s=0.001))
    try:
        yield made
    finally:
        made.intake.close()
        if isinstance(press, HeldPress):
            press.go.set()
        made.press.close()
        await channel.close()


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
async def test_what_is_put_is_stored_sealed_and_said_to_be(tmp_path: Path, codec: str) -> None:
    async with bench(tmp_path, press=Press(codec, 1)) as b:
        receipt = await b.intake.put(b"a\nb\n", 2, WEB, time_ms=HOUR_MS + 5)
        await receipt
        ((envelope, body),) = b.stored()
        assert body == b"a\nb\n"
        assert (envelope.origin, envelope.seq) == (b.channel.channel_id, 1)
        assert (envelope.count, envelope.size, envelope.time) == (2, 4, HOUR_MS)
        assert (envelope.headers, envelope.codec, envelope.framing) == (WEB, codec, "lines")
        (entry,) = b.channel.entries("out")
        assert [hop.agent for hop in entry.hops] == ["edge-1"]
        assert entry.hops[0].stored_ms == envelope.sealed
        assert (b.intake.events, b.intake.bytes) == (2, 4)


async def test_order_is_kept_however_long_each_press_takes(tmp_path: Path) -> None:
    """Large blocks and small ones side by side in two threads, several batches each."""
    async with bench(tmp_path, rules=CuttingRules(size_bytes=200_000, linger_s=0.0)) as b:
        put = b""
        for number in range(60):
            lines = b"%d\n" % number * (40_000 if number % 3 == 0 else 1)
            put += lines
            await b.intake.put(lines, lines.count(b"\n"), WEB, time_ms=0)
        await b.intake.flush()
        stored = b.stored()
        assert b"".join(body for _, body in stored) == put
        assert [envelope.seq for envelope, _ in stored] == list(range(1, len(stored) + 1))
        assert b.intake.events == put.count(b"\n") == sum(e.count for e, _ in stored)
        assert b.intake.bytes == len(put)


async def test_two_sources_share_the_numbers_without_gaps(tmp_path: Path) -> None:
    async with bench(tmp_path, rules=CuttingRules(size_bytes=1000, linger_s=0.0)) as b:
        other = b.another("syslog")
        for number in range(50):
            await b.intake.put(b"t%d\n" % number, 1, WEB)
            await other.put(b"s%d\n" % number * 100, 100, WEB)
        await asyncio.gather(b.intake.flush(), other.flush())
        assert [e.seq for e, _ in b.stored()] == list(range(1, len(b.stored()) + 1))
        lines = b"".join(body for _, body in b.stored()).splitlines()
        assert [line for line in lines if line[:1] == b"t"] == [b"t%d" % n for n in range(50)]
        other.close()


async def test_receipts_come_with_the_block_and_its_positions(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        receipts = [
            await b.intake.put(b"%d\n" % n, 1, WEB, positions={b"file": b"%d" % n})
            for n in range(30)
        ]
        for number, receipt in enumerate(receipts):
            await receipt
            # Never ahead of the events, and not behind this one.
            upto = int(b.positions()[b"file"])
            lines = b"".join(body for _, body in b.stored()).splitlines()
            assert number <= upto
            assert lines == [b"%d" % n for n in range(upto + 1)]


async def test_positions_live_with_the_channel_and_can_be_deleted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await (await b.intake.put(b"a\n", 1, WEB, positions={b"f": b"1", b"g": b"2"}))
    async with bench(tmp_path) as b:
        assert b.intake.positions == {b"f": b"1", b"g": b"2"}
        assert b.another("other").positions == {}
        await (await b.intake.put(b"", 0, {}, positions={b"f": None, b"g": b"3"}))
        assert b.positions() == {b"g": b"3"}
        assert len(b.stored()) == 1  # positions alone make no batch


async def test_a_block_counts_by_its_bytes(tmp_path: Path) -> None:
    """Events that a source did not count are stored all the same."""
    async with bench(tmp_path) as b:
        await (await b.intake.put(b"half a line", 0, WEB, positions={b"f": b"11"}))
        assert [body for _, body in b.stored()] == [b"half a line"]


async def test_receipts_of_a_put_that_cuts_twice(tmp_path: Path) -> None:
    """The block before is cut as it does not fit, and this one is full by itself."""
    rules = CuttingRules(size_bytes=100, linger_s=60.0)
    async with bench(tmp_path, rules=rules) as b:
        await (await b.intake.put(b"first, at once\n", 1, WEB))
        before = await b.intake.put(b"a\n", 1, WEB, positions={b"f": b"a"})
        full = await b.intake.put(b"b" * 200 + b"\n", 1, WEB, positions={b"f": b"b"})
        await asyncio.gather(before, full)
        assert [len(body) for _, body in b.stored()] == [15, 2, 201]
        assert b.positions() == {b"f": b"b"}


async def test_what_lingers_goes_by_itself(tmp_path: Path) -> None:
    async with bench(tmp_path, rules=CuttingRules(linger_s=0.05)) as b:
        await (await b.intake.put(b"a\n", 1, WEB))
        receipts = [await b.intake.put(b"b\n", 1, WEB), await b.intake.put(b"c\n", 1, WEB)]
        await asyncio.gather(*receipts)
        assert [body for _, body in b.stored()] == [b"a\n", b"b\nc\n"]


async def test_events_gather_while_the_channel_is_busy(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press, rules=CuttingRules(linger_s=0.0)) as b:
        receipts = [await b.intake.put(b"%d\n" % n, 1, WEB) for n in range(100)]
        press.go.set()
        await asyncio.gather(*receipts)
        assert [envelope.count for envelope, _ in b.stored()] == [1, 99]


async def test_flush_stores_what_is_open(tmp_path: Path) -> None:
    async with bench(tmp_path, rules=CuttingRules(linger_s=3600.0)) as b:
        await b.intake.flush()  # nothing: fine
        await (await b.intake.put(b"a\n", 1, WEB))
        receipt = await b.intake.put(b"b\n", 1, WEB, positions={b"f": b"2"})
        assert not asyncio.ensure_future(receipt).done()
        await b.intake.flush()
        assert [body for _, body in b.stored()] == [b"a\n", b"b\n"]
        assert b.positions() == {b"f": b"2"}


async def test_too_much_under_way_holds_the_source(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        block = b"x" * ((1 << 20) - 1) + b"\n"
        taken = 0

        async def source() -> None:
            nonlocal taken
            for _ in range(20):
                await b.intake.put(block, 1, WEB)
                taken += 1

        task = asyncio.create_task(source())
        await eventually(lambda: not b.intake.has_room(), "the intake is full")
        held = taken
        assert held == UNDER_WAY_BYTES_MAX >> 20
        press.go.set()
        await task
        await b.intake.flush()
        assert b.intake.bytes == 20 << 20
        assert b.intake.has_room()


async def test_a_full_channel_holds_the_source_until_there_is_room(tmp_path: Path) -> None:
    limits = ChannelLimits(size_bytes_max=4 << 20, high=0.6, low=0.3, free_floor_bytes=0)
    async with bench(tmp_path, press=Press("none", 1), limits=limits) as b:
        block = b"x" * 65_535 + b"\n"

        async def source() -> None:
            for _ in range(400):
                await b.intake.put(block, 1, WEB)

        task = asyncio.create_task(source())
        await eventually(lambda: b.channel.free_bytes() == 0, "the channel is full")
        await b.intake.flush()
        assert not b.intake.has_room()
        assert not task.done()
        while not task.done():  # the output lets go, and everything comes
            positions = [entry.position for entry in b.channel.entries("out")]
            await b.channel.submit(_releases(positions))
        await task
        await b.intake.flush()
        assert b.intake.events == 400


def _releases(positions: list[int]) -> Change:
    return Change(releases=[("out", position) for position in positions])


async def test_counters_and_trouble_are_for_status(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.intake.count("lines_split")
        b.intake.count("lines_split", 2)
        b.intake.trouble("cannot read")
        assert (b.intake.counters["lines_split"], b.intake.error) == (3, "cannot read")


async def test_a_press_that_fails_lets_nothing_past_it(tmp_path: Path) -> None:
    """Positions of what follows would skip what failed: it would be lost at the next start."""
    press = HeldPress(threads=2)
    async with bench(tmp_path, press=press, rules=CuttingRules(size_bytes=4, linger_s=0.0)) as b:
        receipts = [
            await b.intake.put(block, 1, WEB, positions={b"f": b"%d" % n})
            for n, block in enumerate((b"one\n", b"tw\xff\n", b"tre\n", b"for\n"), 1)
        ]
        alone = await b.intake.put(b"", 0, {}, positions={b"f": b"9"})
        press.go.set()
        await receipts[0]
        for receipt in (*receipts[1:], alone):
            with pytest.raises(MemoryError):
                await receipt
        for call in (b.intake.flush(), b.intake.put(b"six\n", 1, WEB, positions={b"f": b"6"})):
            with pytest.raises(MemoryError):
                await call
        await eventually(lambda: len(press.pressed) == 4, "all are pressed")
        await b.channel.submit(Change())
        assert [body for _, body in b.stored()] == [b"one\n"]
        assert b.positions() == {b"f": b"1"}


async def test_a_failed_press_wakes_whoever_waits(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        block = b"\xff" * (1 << 20)
        for _ in range(8):
            await b.intake.put(block, 1, WEB)
        waiting = asyncio.create_task(b.intake.put(block, 1, WEB))
        flushing = asyncio.create_task(b.intake.flush())
        await eventually(lambda: not b.intake.has_room(), "the intake is full")
        press.go.set()
        for task in (waiting, flushing):
            with pytest.raises(MemoryError):
                await task


async def test_a_press_that_is_closed_fails_what_it_did_not_do(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press, rules=CuttingRules(size_bytes=4, linger_s=0.0)) as b:
        one = await b.intake.put(b"one\n", 1, WEB, positions={b"f": b"1"})
        two = await b.intake.put(b"two\n", 1, WEB, positions={b"f": b"2"})
        await b.intake.put(b"", 0, {}, positions={b"f": b"3"})
        press.close()
        press.go.set()
        await one  # it was being pressed
        with pytest.raises(TiersError, match="the agent stops"):
            await two
        await b.channel.submit(Change())
        assert b.positions() == {b"f": b"1"}


async def test_headers_that_no_receiver_takes_are_refused_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for bad in ({"path": "x" * (HEADER_BYTES_MAX + 1)}, {"path": "\udc80"}):
            with pytest.raises(BatchError, match="header"):
                await b.intake.put(b"a\n", 1, bad, positions={b"f": b"1"})
        await b.intake.flush()
        assert (b.stored(), b.positions()) == ([], {})
        # And no number is missing for it.
        await (await b.intake.put(b"b\n", 1, WEB))
        assert [envelope.seq for envelope, _ in b.stored()] == [1]


async def test_a_channel_that_has_ended_fails_the_source(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        receipt = await b.intake.put(b"a\n", 1, WEB)
        await b.channel.close()
        press.go.set()
        for waiting in (receipt, b.intake.flush(), b.intake.put(b"b\n", 1, WEB)):
            with pytest.raises(ChannelUnavailable):
                await waiting


async def test_a_receipt_that_nobody_wants_any_more_holds_up_nobody(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        given_up = asyncio.ensure_future(await b.intake.put(b"a\n", 1, WEB))
        wanted = await b.intake.put(b"b\n", 1, WEB)
        given_up.cancel()
        press.go.set()
        await wanted
        assert b.intake.events == 2


async def test_a_failure_that_nobody_awaits_is_not_complained_about(tmp_path: Path) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        await b.intake.put(b"\xff\n", 1, WEB)
        press.go.set()
        with pytest.raises(MemoryError):
            await b.intake.flush()
    gc.collect()
    assert complaints == []
