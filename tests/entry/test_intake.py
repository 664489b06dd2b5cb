"""Sources' way into a real channel: order, receipts, positions, back-pressure, and a failure
that lets nothing past it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from threading import Event

import msgpack
import pytest

from tests.channel.making import stored, unsealed
from tests.waiting import eventually, move_on
from tiers.channel.channel import Channel
from tiers.core import events
from tiers.core.batch import HEADER_BYTES_MAX, TIME_MS_MAX, Envelope, Unnumbered
from tiers.core.block import Block
from tiers.core.change import Change, ChannelLimits
from tiers.core.entry.cutting import Cut, CuttingRules
from tiers.core.entry.routes import everywhere
from tiers.entry.intake import SourceIntake, take_over
from tiers.entry.press import Press
from tiers.errors import BatchError, ChannelUnavailable, TiersError
from tiers.interceptors.chain import Chain
from tiers.sources.source import SourceOptions

WEB = {"service": "web"}
LIMITS = ChannelLimits(free_floor_bytes=0)
HOUR_MS = 3_600_000


async def put(
    intake: SourceIntake,
    data: bytes,
    count: int,
    headers: Mapping[str, str],
    time_ms: int | None = None,
    positions: Mapping[bytes, bytes | None] | None = None,
) -> Awaitable[None]:
    return await intake.put(Block(data, count, headers, time_ms), positions)


class HeldPress(Press):
    """A press whose work waits for the test, and may fail."""

    def __init__(self, codec: str = "zstd", threads: int = 1) -> None:
        super().__init__(codec, 1, threads)
        self.go = Event()
        self.fails_on = b"\xff"
        self.pressed: list[bytes] = []

    def _press(self, cut: Cut, origin: bytes, sealed_ms: int) -> Unnumbered:
        assert self.go.wait(30)
        raw = b"".join(cut.blocks)
        self.pressed.append(raw)
        if self.fails_on in raw:
            raise MemoryError("no memory to compress in")
        return super()._press(cut, origin, sealed_ms)


class PressByHand(Press):
    """A press that is done with a cut when the test says so."""

    def __init__(self) -> None:
        super().__init__("none", 1)
        self.cuts: list[tuple[Sequence[Cut], bytes, asyncio.Future[list[Unnumbered]]]] = []

    def press(
        self, cuts: Sequence[Cut], origin: bytes, sealed_ms: int
    ) -> "asyncio.Future[list[Unnumbered]]":
        self.cuts.append((cuts, origin, asyncio.get_running_loop().create_future()))
        return self.cuts[-1][2]

    def done(self, number: int) -> None:
        cuts, origin, batches = self.cuts[number]
        batches.set_result(self._press_all(cuts, origin, 0))


class Bench:
    """A channel with an intake in front of it."""

    def __init__(
        self, channel: Channel, press: Press, rules: CuttingRules, chain: Chain | None = None
    ) -> None:
        self.channel = channel
        self.chain = chain
        self.press = press
        self.rules = rules
        self.route = everywhere(["out"])
        self.intake = self.another("tail")

    def another(self, source: str) -> SourceIntake:
        return SourceIntake(
            source, "edge-1", self.channel, self.route, self.press, self.rules, 1 << 20, 60.0,
            chain=self.chain,
        )  # fmt: skip

    def stored(self) -> list[tuple[Envelope, bytes]]:
        return list(stored(self.channel))

    def positions(self) -> dict[bytes, bytes]:
        return dict(self.another("tail").positions)


@asynccontextmanager
async def bench(
    directory: Path,
    *,
    press: Press | None = None,
    limits: ChannelLimits = LIMITS,
    rules: CuttingRules | None = None,
    chain: Chain | None = None,
) -> AsyncIterator[Bench]:
    channel = await Channel.open(directory, limits, ("out",))
    rules = rules or CuttingRules(linger_s=0.001)
    made = Bench(channel, press or Press("zstd", 1), rules, chain)
    try:
        yield made
    finally:
        made.intake.end()
        if isinstance(press, HeldPress):
            press.go.set()
        made.press.close()
        await channel.close()


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
async def test_what_is_put_is_stored_sealed_and_said_to_be(tmp_path: Path, codec: str) -> None:
    async with bench(tmp_path, press=Press(codec, 1)) as b:
        receipt = await put(b.intake, b"a\nb\n", 2, WEB, time_ms=HOUR_MS + 5)
        await receipt
        ((envelope, body),) = b.stored()
        assert body == b"a\nb\n"
        assert (envelope.origin, envelope.seq) == (b.channel.origin, 1)
        assert (envelope.count, envelope.size, envelope.time) == (2, 4, HOUR_MS)
        assert (envelope.headers, envelope.codec, envelope.framing) == (WEB, codec, "lines")
        (entry,) = b.channel.entries("out")
        assert [hop.agent for hop in entry.hops] == ["edge-1"]
        assert entry.hops[0].stored_ms == envelope.sealed
        assert (b.intake.events, b.intake.bytes) == (2, 4)


class Changes:
    """What is submitted to a channel, change by change."""

    def __init__(self, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[Change] = []
        submit = channel.submit

        def noting(change: Change) -> "asyncio.Future[tuple[int, ...]]":
            self.all.append(change)
            return submit(change)

        monkeypatch.setattr(channel, "submit", noting)


def lines_of(change: Change) -> list[bytes]:
    found: list[bytes] = []
    for put in change.puts:
        envelope, body = unsealed(put.record)
        found += body.splitlines()
        assert all(line.endswith(envelope.headers["host"].encode()) for line in body.splitlines())
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_on_disk_is_what_the_positions_there_say_whatever_the_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A change is on disk whole or not at all, so a kill is between two of them."""
    dice = Random(seed)
    rules = CuttingRules(300, 600, 1000, 5, linger_s=0.0)
    async with bench(tmp_path, rules=rules, press=Press("zstd", 1, 2)) as b:
        changes = Changes(b.channel, monkeypatch)
        for number in range(1, 400):
            host = f"h{dice.randrange(dice.choice((1, 3, 9)))}"
            line = b"%d %b %b\n" % (number, b"x" * dice.randrange(120), host.encode())
            await put(b.intake, line, 1, {"host": host}, positions={b"f": b"%d" % number})
            if dice.random() < 0.05:
                await asyncio.sleep(0.001)
        await b.intake.flush()
        upto, taken = 0, set[int]()
        for change in changes.all:
            taken |= {int(line.split()[0]) for line in lines_of(change)}
            upto = int(change.records[b"position/tail/f"] or 0)
            assert taken == set(range(1, upto + 1))
        assert upto == 399
        seqs = [put.id.seq for change in changes.all for put in change.puts]
        assert seqs == list(range(1, len(seqs) + 1)), "no number is missing"
        assert max(len(change.puts) for change in changes.all) > 1


async def test_positions_are_kept_once_for_salvage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, rules=CuttingRules(linger_s=3600.0)) as b:
        await (await put(b.intake, b"at once\n", 1, WEB))
        changes = Changes(b.channel, monkeypatch)
        for number in range(9):
            headers = {"n": str(number % 3)}
            await put(b.intake, b"x\n", 1, headers, positions={b"f": b"%d" % number})
        await b.intake.flush()
        [change] = changes.all
        notes = [put.note for put in change.puts]
        assert notes[:-1] == [b"", b""]
        assert msgpack.unpackb(notes[-1]) == [b"position/tail/", {b"f": b"8"}]


async def test_many_values_of_a_header_make_no_batch_of_each_event(tmp_path: Path) -> None:
    async with bench(tmp_path, rules=CuttingRules()) as b:
        hosts = [{"host": f"host-{number}"} for number in range(500)]
        for number in range(50_000):
            await put(b.intake, b"%d\n" % number, 1, hosts[number * 7919 % 500])
        await b.intake.flush()
        stored = b.stored()
    assert sum(envelope.count for envelope, _ in stored) == 50_000
    assert len(stored) < 5_000, "ten events in each, though they came one by one"


async def test_order_is_kept_however_long_each_press_takes(tmp_path: Path) -> None:
    """Large blocks and small ones side by side in two threads, several batches each."""
    async with bench(tmp_path, rules=CuttingRules(200_000, 200_000, linger_s=0.0)) as b:
        given = b""
        for number in range(60):
            lines = b"%d\n" % number * (40_000 if number % 3 == 0 else 1)
            given += lines
            await put(b.intake, lines, lines.count(b"\n"), WEB, time_ms=0)
        await b.intake.flush()
        stored = b.stored()
        assert b"".join(body for _, body in stored) == given
        assert [envelope.seq for envelope, _ in stored] == list(range(1, len(stored) + 1))
        assert b.intake.events == given.count(b"\n") == sum(e.count for e, _ in stored)
        assert b.intake.bytes == len(given)


async def test_what_is_pressed_sooner_is_stored_and_told_no_sooner(tmp_path: Path) -> None:
    press = PressByHand()
    async with bench(tmp_path, press=press, rules=CuttingRules(4, 4, linger_s=0.0)) as b:
        blocks = (b"one\n", b"two\n", b"tre\n")
        receipts = [
            asyncio.ensure_future(await put(b.intake, block, 1, WEB, positions={b"f": block}))
            for block in blocks
        ]
        press.done(1)
        await asyncio.sleep(0)
        await b.channel.submit(Change())
        assert (b.stored(), b.positions()) == ([], {})
        press.done(0)
        await asyncio.wait(receipts[:2])
        assert [body for _, body in b.stored()] == [b"one\n", b"two\n"]
        assert b.positions() == {b"f": b"two\n"}
        await b.channel.submit(Change())
        assert [receipt.done() for receipt in receipts] == [True, True, False]
        press.done(2)
        await receipts[2]
        assert [body for _, body in b.stored()] == [*blocks]


async def test_two_sources_share_the_numbers_without_gaps(tmp_path: Path) -> None:
    async with bench(tmp_path, rules=CuttingRules(1000, 1000, linger_s=0.0)) as b:
        other = b.another("syslog")
        for number in range(50):
            await put(b.intake, b"t%d\n" % number, 1, WEB)
            await put(other, b"s%d\n" % number * 100, 100, WEB)
        await asyncio.gather(b.intake.flush(), other.flush())
        assert [e.seq for e, _ in b.stored()] == list(range(1, len(b.stored()) + 1))
        lines = b"".join(body for _, body in b.stored()).splitlines()
        assert [line for line in lines if line[:1] == b"t"] == [b"t%d" % n for n in range(50)]
        other.end()


async def test_receipts_come_with_the_block_and_its_positions(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        receipts = [
            await put(b.intake, b"%d\n" % n, 1, WEB, positions={b"file": b"%d" % n})
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
        await (await put(b.intake, b"a\n", 1, WEB, positions={b"f": b"1", b"g": b"2"}))
    async with bench(tmp_path) as b:
        assert b.intake.positions == {b"f": b"1", b"g": b"2"}
        assert b.another("other").positions == {}
        await (await put(b.intake, b"", 0, {}, positions={b"f": None, b"g": b"3"}))
        assert b.positions() == {b"g": b"3"}
        assert len(b.stored()) == 1  # positions alone make no batch


@pytest.mark.parametrize(
    ("block", "count", "time_ms"),
    [
        (b"half a line", 1, None),
        (b"a\nand a half", 1, None),
        (b"not counted\n", 0, None),
        (b"before 1970\n", 1, -1),
        (b"in 10000\n", 1, TIME_MS_MAX + 1),
    ],
)
async def test_what_no_sink_would_take_is_not_taken_from_a_source(
    tmp_path: Path, block: bytes, count: int, time_ms: int | None
) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(BatchError):
            await put(b.intake, block, count, WEB, time_ms=time_ms)
        await (await put(b.intake, b"good\n", 1, WEB))
        assert [body for _, body in b.stored()] == [b"good\n"]


@pytest.mark.parametrize("time_ms", [0, TIME_MS_MAX])
async def test_any_time_that_a_calendar_has_is_taken(tmp_path: Path, time_ms: int) -> None:
    async with bench(tmp_path) as b:
        await (await put(b.intake, b"a\n", 1, WEB, time_ms=time_ms))
        ((envelope, _),) = b.stored()
        assert envelope.time == time_ms // HOUR_MS * HOUR_MS


async def test_a_source_is_told_how_large_and_how_old_things_may_be(tmp_path: Path) -> None:
    rules = CuttingRules(700, 700)
    async with bench(tmp_path, rules=rules) as b:
        press, written = b.press, ("/var/log/out",)
        one = SourceIntake("s", "edge-1", b.channel, b.route, press, rules, 500, 60.0, written)
        told = (one.block_size_max, one.event_size_max, one.retention_s, one.written)
        assert told == (700, 500, 60.0, written)


async def test_receipts_of_a_put_that_cuts_twice(tmp_path: Path) -> None:
    """The block before is cut as it does not fit, and this one is full by itself."""
    rules = CuttingRules(100, 100, linger_s=60.0)
    async with bench(tmp_path, rules=rules) as b:
        await (await put(b.intake, b"first, at once\n", 1, WEB))
        before = await put(b.intake, b"a\n", 1, WEB, positions={b"f": b"a"})
        full = await put(b.intake, b"b" * 200 + b"\n", 1, WEB, positions={b"f": b"b"})
        await asyncio.gather(before, full)
        assert [len(body) for _, body in b.stored()] == [15, 2, 201]
        assert b.positions() == {b"f": b"b"}


async def test_what_lingers_goes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path, rules=CuttingRules(linger_s=3600.0)) as b:
        await (await put(b.intake, b"a\n", 1, WEB))
        receipts = [await put(b.intake, b"b\n", 1, WEB), await put(b.intake, b"c\n", 1, WEB)]
        move_on(monkeypatch, 3600.0)
        await asyncio.gather(*receipts)
        assert [body for _, body in b.stored()] == [b"a\n", b"b\nc\n"]


async def test_events_gather_while_the_channel_is_busy(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press, rules=CuttingRules(linger_s=0.0)) as b:
        receipts = [await put(b.intake, b"%d\n" % n, 1, WEB) for n in range(100)]
        press.go.set()
        await asyncio.gather(*receipts)
        assert [envelope.count for envelope, _ in b.stored()] == [1, 99]


async def test_flush_stores_what_is_open(tmp_path: Path) -> None:
    async with bench(tmp_path, rules=CuttingRules(linger_s=3600.0)) as b:
        await b.intake.flush()  # nothing: fine
        await (await put(b.intake, b"a\n", 1, WEB))
        receipt = await put(b.intake, b"b\n", 1, WEB, positions={b"f": b"2"})
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
                await put(b.intake, block, 1, WEB)
                taken += 1

        task = asyncio.create_task(source())
        await eventually(lambda: not b.intake.has_room(), "the intake is full")
        held = taken
        assert held == 3 * CuttingRules().grown_bytes_max >> 20
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
                await put(b.intake, block, 1, WEB)

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


async def test_what_a_source_remarks_lasts_until_it_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        remarked = [b.intake.remarked]
        for words in [("a link",), ("a link", True), ("a link", False), ("", True)]:
            b.intake.remark(*words)  # type: ignore[arg-type]
            remarked.append(b.intake.remarked)
        assert remarked == [None, ("a link", False), ("a link", True), ("a link", False), None]


async def test_the_next_life_of_a_source_counts_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await (await put(b.intake, b"a\nb\n", 2, WEB))
        b.intake.count("lines_split", 3)
        b.intake.end()
        before, b.intake = b.intake, b.another("tail")
        assert (b.intake.events, b.intake.bytes, b.intake.counters) == (0, 0, {})
        b.intake.go_on(before)
        await (await put(b.intake, b"c\n", 1, WEB))
        assert (b.intake.events, b.intake.bytes) == (3, 6)
        assert b.intake.counters == {"lines_split": 3}


async def test_a_press_that_fails_lets_nothing_past_it(tmp_path: Path) -> None:
    """Positions of what follows would skip what failed: it would be lost at the next start."""
    press = HeldPress(threads=2)
    async with bench(tmp_path, press=press, rules=CuttingRules(4, 4, linger_s=0.0)) as b:
        receipts = [
            await put(b.intake, block, 1, WEB, positions={b"f": b"%d" % n})
            for n, block in enumerate((b"one\n", b"tw\xff\n", b"tre\n", b"for\n"), 1)
        ]
        alone = await put(b.intake, b"", 0, {}, positions={b"f": b"9"})
        press.go.set()
        await receipts[0]
        for receipt in (*receipts[1:], alone):
            with pytest.raises(MemoryError):
                await receipt
        for call in (b.intake.flush(), put(b.intake, b"six\n", 1, WEB, positions={b"f": b"6"})):
            with pytest.raises(MemoryError):
                await call
        await eventually(lambda: len(press.pressed) == 4, "all are pressed")
        await b.channel.submit(Change())
        assert [body for _, body in b.stored()] == [b"one\n"]
        assert b.positions() == {b"f": b"1"}


async def test_a_failed_press_wakes_whoever_waits(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        block = b"\xff" * (1 << 20) + b"\n"
        while b.intake.has_room():
            await put(b.intake, block, 1, WEB)
        waiting = asyncio.create_task(put(b.intake, block, 1, WEB))
        flushing = asyncio.create_task(b.intake.flush())
        await asyncio.sleep(0)  # both wait
        press.go.set()
        for task in (waiting, flushing):
            with pytest.raises(MemoryError):
                await task


async def test_a_press_that_is_closed_fails_what_it_did_not_do(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press, rules=CuttingRules(4, 4, linger_s=0.0)) as b:
        one = await put(b.intake, b"one\n", 1, WEB, positions={b"f": b"1"})
        two = await put(b.intake, b"two\n", 1, WEB, positions={b"f": b"2"})
        await put(b.intake, b"", 0, {}, positions={b"f": b"3"})
        press.close()
        press.go.set()
        await one  # it was being pressed
        with pytest.raises(TiersError, match="the agent stops"):
            await two
        await b.channel.submit(Change())
        assert b.positions() == {b"f": b"1"}


async def test_what_is_cut_after_the_press_is_closed_fails_too(tmp_path: Path) -> None:
    """A commit that ends while an agent stops: what was gathered meanwhile is due then."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    press = HeldPress()
    async with bench(tmp_path, press=press, rules=CuttingRules(linger_s=0.0)) as b:
        one = await put(b.intake, b"one\n", 1, WEB, positions={b"f": b"1"})
        two = await put(b.intake, b"two\n", 1, WEB, positions={b"f": b"2"})
        press.close()
        press.go.set()
        await one  # it was being pressed
        with pytest.raises(TiersError, match="the agent stops"):
            await two
        assert b.positions() == {b"f": b"1"}
    assert complaints == []


async def test_headers_that_no_receiver_takes_are_refused_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for bad in ({"path": "x" * (HEADER_BYTES_MAX + 1)}, {"path": "\udc80"}):
            with pytest.raises(BatchError, match="header"):
                await put(b.intake, b"a\n", 1, bad, positions={b"f": b"1"})
        await b.intake.flush()
        assert (b.stored(), b.positions()) == ([], {})
        # And no number is missing for it.
        await (await put(b.intake, b"b\n", 1, WEB))
        assert [envelope.seq for envelope, _ in b.stored()] == [1]


async def test_a_channel_that_has_ended_fails_the_source(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        receipt = await put(b.intake, b"a\n", 1, WEB)
        await b.channel.close()
        press.go.set()
        for waiting in (receipt, b.intake.flush(), put(b.intake, b"b\n", 1, WEB)):
            with pytest.raises(ChannelUnavailable):
                await waiting


async def test_a_receipt_that_nobody_wants_any_more_holds_up_nobody(tmp_path: Path) -> None:
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        given_up = asyncio.ensure_future(await put(b.intake, b"a\n", 1, WEB))
        wanted = await put(b.intake, b"b\n", 1, WEB)
        given_up.cancel()
        press.go.set()
        await wanted
        assert b.intake.events == 2


async def test_a_failure_that_nobody_awaits_is_not_complained_about(tmp_path: Path) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    press = HeldPress()
    async with bench(tmp_path, press=press) as b:
        await put(b.intake, b"\xff\n", 1, WEB)
        press.go.set()
        with pytest.raises(MemoryError):
            await b.intake.flush()
    gc.collect()
    assert complaints == []


class Files(SourceOptions):
    """Reads files whose names begin with one of its marks."""

    marks: str

    def subject(self, position: bytes) -> str:
        return position.decode() if position[:1].decode() in self.marks else ""


async def test_positions_of_a_source_that_is_configured_no_more_are_taken_over(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        positions = {b"1": b"a1", b"2": b"b2", b"3": b"c3"}
        await (await put(b.intake, b"", 0, WEB, positions=positions))
        app, other = (Files(type="x", name=name, marks=name[:1]) for name in ("app", "box"))
        # While the old one is there and reads them, what it has is its own.
        await take_over(b.channel, [app, other, Files(type="x", name="tail", marks="abc")])
        assert b.positions() == positions
        await take_over(b.channel, [app, other])
        assert b.another("app").positions == {b"1": b"a1"}
        assert b.another("box").positions == {b"2": b"b2"}
        assert b.positions() == {b"3": b"c3"}, "what nobody knows stays"


async def test_a_source_that_was_divided_leaves_its_positions_to_its_parts(tmp_path: Path) -> None:
    """One file is in a source of its own now: it is not read from its beginning there."""
    async with bench(tmp_path) as b:
        await (await put(b.intake, b"", 0, WEB, positions={b"1": b"a1", b"2": b"b2"}))
        parts = [
            Files(type="x", name=name, marks=mark) for name, mark in (("tail", "a"), ("b", "b"))
        ]
        await take_over(b.channel, parts)
        assert b.positions() == {b"1": b"a1"}
        assert b.another("b").positions == {b"2": b"b2"}


async def test_who_knows_a_file_already_takes_over_nothing_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await (await put(b.intake, b"", 0, WEB, positions={b"1": b"a1", b"2": b"a2"}))
        app = Files(type="x", name="app", marks="a")
        await b.channel.submit(Change(records={b"position/app/7": b"a1"}))
        await take_over(b.channel, [app])
        assert b.positions() == {b"1": b"a1"}
        assert b.another("app").positions == {b"7": b"a1", b"2": b"a2"}


async def test_events_with_newlines_go_beside_lines(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        two = [events.Event({"level": "error"}, b"one\ntwo"), events.Event({}, b"three")]
        packed = b"".join(map(events.pack, two))
        await (await b.intake.put(Block(packed, 2, WEB, framing="events"), {b"f": b"1"}))
        await (await put(b.intake, b"a line\n", 1, WEB))
        found = [(e.framing, e.count, body) for e, body in b.stored()]
        assert found == [("events", 2, packed), ("lines", 1, b"a line\n")]
        for wrong in (Block(packed, 3, WEB, framing="events"), Block(b"x\n", 1, framing="events")):
            with pytest.raises(BatchError):
                await b.intake.put(wrong)
