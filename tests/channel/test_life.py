"""What a start does to a channel: its line, its origins, another home, a renewal; and what is kept
apart of two contents under one id."""

import asyncio
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.channel.making import LIMITS, StoppedClock, arrived, opened, put, record
from tiers.channel import home
from tiers.channel.channel import Channel
from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import SEEN_KEY
from tiers.channel.living import MET as MET_KEY
from tiers.channel.living import ORIGIN
from tiers.channel.windows import delete_pieces
from tiers.core.batch import BatchId, Hop
from tiers.core.change import Change, Put
from tiers.core.dedupe import BLOCK_SEQS, PIECES
from tiers.core.life import Point
from tiers.errors import ChannelUnavailable

PEER, MET = b"p" * 16, b"m" * 16


def flags(channel: Channel) -> list[bool]:
    return [entry.flagged for entry in channel.entries("out")]


async def test_each_start_has_a_number_an_origin_and_a_place_on_the_line(tmp_path: Path) -> None:
    lives, origins, points = [], [], []
    for _ in range(3):
        async with opened(tmp_path) as channel:
            await channel.submit(Change(puts=[put(channel)]))
            await channel.submit(Change(puts=[put(channel)]))
            lives.append(channel.life)
            origins.append(channel.origin)
            point = channel.life.point()
            assert point is not None
            points.append(point)
            told = {origin: one.last for origin, one in channel.origins().items()}
            assert told == dict.fromkeys(origins, 2)
    last = lives[-1]
    assert len(set(origins)) == 3
    assert last.origins == set(origins)
    assert all(last.has(point) for point in points)
    assert [start.opened for start in last.starts[1:]] == [point.number for point in points[:2]]
    assert not last.has(points[0]._replace(number=points[0].number + 1))
    assert not lives[0].has(points[1]), "it was set back to where it was then"


async def test_what_was_met_is_written_down_with_the_next_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        channel.life.meet(MET, "agg-1", Point(b"s" * 12, 5))
        assert channel.records(b"met/") == {}
        await channel.submit(Change(puts=[put(channel)]))
        channel.life.meet(MET, "agg-1", Point(b"s" * 12, 9))
        await channel.submit(Change())
        channel.life.meet(MET, "agg-1", Point(b"s" * 12, 11))  # with no commit of its own
    async with opened(tmp_path) as channel:
        assert channel.life.met_of(MET) == Point(b"s" * 12, 9)
        assert channel.life.told_to("agg-1", {"agg-1"}) == ((MET, Point(b"s" * 12, 9)),)


@pytest.mark.parametrize("how", ["copied", "put back", "another machine", "where it was"])
async def test_another_home_flags_what_waits(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a"
    async with opened(here) as channel:
        channel_id = channel.channel_id
        await channel.submit(Change(puts=[put(channel)]))
        await channel.submit(Change(puts=[arrived(PEER, 1)]))
    if how == "copied":
        here = Path(shutil.copytree(here, tmp_path / "b"))
    elif how == "put back":
        shutil.copytree(here, tmp_path / "kept")
        shutil.rmtree(here)
        shutil.copytree(tmp_path / "kept", here)
    elif how == "another machine":
        (tmp_path / "machine-id").write_text("another")
        monkeypatch.setattr(home, "MACHINE_ID", tmp_path / "machine-id")
    moved = how != "where it was"
    async with opened(here) as channel:
        assert channel.channel_id == channel_id
        assert flags(channel) == [moved, moved]
        assert ("2 batches that waited are flagged" in channel.stats().news) is moved
        await channel.submit(Change(puts=[put(channel)]))
    async with opened(here) as channel:
        assert flags(channel) == [moved, moved, False], "once"


async def test_a_file_that_has_the_number_of_one_that_is_gone_is_another(tmp_path: Path) -> None:
    file = tmp_path / "data.mdb"
    file.write_bytes(b"one")
    before = home.home_of(file)
    if not before.born_ns:
        pytest.skip("this file system keeps no time of birth")
    found = []
    for _ in range(50):
        file.unlink()
        file.write_bytes(b"two")
        found.append(home.home_of(file))
    assert before not in found
    assert home.home_of(file) == found[-1]


async def test_a_renewal_gives_a_new_id_and_flags_what_waits(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        old, origin = channel.life, channel.origin
        await channel.submit(Change(puts=[put(channel)]))
        channel.life.meet(MET, "agg-1", Point(b"s" * 12, 5))
        channel.renew("agg-1 knows more")
    async with opened(tmp_path) as channel:
        assert channel.channel_id not in (old.channel, b"")
        assert flags(channel) == [True]
        assert len(channel.life.starts) == 1, "a line of its own"
        assert not channel.life.has(old.point())
        assert channel.life.met_of(MET) == Point(b"s" * 12, 5)
        assert origin in channel.life.origins
        assert "agg-1 knows more" in channel.stats().news
        renewed = channel.channel_id
    async with opened(tmp_path) as channel:
        assert channel.channel_id == renewed
        assert "agg-1 knows more" in channel.stats().news, "for as long as the retention"


async def test_where_others_were_met_is_known_for_one_retention(tmp_path: Path) -> None:
    clock = StoppedClock()
    async with opened(tmp_path, clock=clock) as channel:
        assert channel.stats().news == "", "nothing happened to a fresh one"
        channel.life.meet(MET, "agg-1", Point(b"s" * 12, 5))
        await channel.submit(Change(puts=[put(channel)]))
    clock.ms += 7 * 86_400_000
    for known in (True, False):
        async with opened(tmp_path, clock=clock) as channel:
            assert channel.life.met_of(MET) == (Point(b"s" * 12, 5) if known else None)
            assert (MET_KEY + MET in channel.records(MET_KEY)) is known
        clock.ms += 1


async def test_a_channel_that_cannot_be_read_yet_tells_what_it_had_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than that would look like a disk that went back."""

    def unreadable(_: Environment) -> None:
        raise ChannelUnavailable("the disk says no")

    async with opened(tmp_path) as channel:
        await channel.submit(Change(puts=[put(channel)]))
        before = channel.life.point()
    async with opened(tmp_path) as channel:
        start = channel.life.starts[-1]
        with monkeypatch.context() as patched:
            patched.setattr(Environment, "reading", unreadable)
            assert channel.life.point() == Point(start.id, start.opened)
        assert before is not None
        assert start.opened >= before.number


async def test_where_others_were_met_is_written_down_by_the_next_commit_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = Environment.writing, [True, True]

    @contextmanager
    def writing(self: Environment) -> Iterator[Transaction]:
        with real(self) as txn:
            yield txn
            if failures:
                failures.pop()
                raise ChannelUnavailable("the disk says no")

    async with opened(tmp_path) as channel:
        monkeypatch.setattr(Environment, "writing", writing)
        channel.life.meet(MET, "agg-1", Point(b"s" * 12, 5))
        await channel.submit(Change(puts=[put(channel)]))
        assert not failures
        assert channel.life.take_unsaved() == {}, "and by no other after it"
    async with opened(tmp_path) as channel:
        assert channel.life.met_of(MET) == Point(b"s" * 12, 5)


class Counting(StoppedClock):
    """Its tokens are in order."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count(1)

    def token(self, size_bytes: int) -> bytes:
        return next(self._numbers).to_bytes(size_bytes)


async def test_origins_and_starts_are_forgotten_three_retentions_after(tmp_path: Path) -> None:
    clock = Counting()
    day_ms = 86_400_000

    async def start(*, puts: int = 0, release: int = 0, dead: int = 0) -> bytes:
        async with opened(tmp_path, clock=clock) as channel:
            on_disk = {key.removeprefix(ORIGIN) for key in channel.records(ORIGIN)}
            assert on_disk == channel.life.origins - {channel.origin}
            if puts:
                await channel.submit(Change(puts=[put(channel) for _ in range(puts)]))
            if release:
                await channel.submit(Change(releases=[("out", release)]))
            if dead:
                await channel.submit(Change(dead=[("out", dead, "for the test")]))
            return channel.origin

    async def origins() -> set[bytes]:
        last = await start()
        async with opened(tmp_path, clock=clock) as channel:
            return channel.life.origins - {channel.origin, last}

    first, second = await start(puts=1), await start(puts=1)
    clock.ms += 100 * day_ms
    assert await origins() == {first, second}
    clock.ms += 100 * day_ms
    assert await origins() == {first, second}, "their batches are here"
    await start(release=1)
    third = await start(puts=1, release=3, dead=2)
    clock.ms += day_ms
    assert await origins() == {first, second, third}, "two have nothing here, one a dead letter"
    clock.ms += 20 * day_ms
    assert await origins() == {first, second, third}
    clock.ms += 1
    assert await origins() == {second, third}
    clock.ms += day_ms - 1
    assert await origins() == {second, third}
    async with opened(tmp_path, clock=clock) as channel:
        assert len(channel.life.starts) == 10, "those that ended in the last three retentions"
    clock.ms += 1
    assert await origins() == {second}
    async with opened(tmp_path, clock=clock) as channel:
        assert len(channel.life.starts) == 11, "without two of before, and with three more"


def another(body: bytes, seq: int = 1) -> Put:
    sealed = record(PEER, seq, body)
    hops = (Hop("edge-1", 1), Hop("agg-1", 2))
    return Put(BatchId(PEER, seq), sealed, 1, ("out",), hops=hops, arrived=True)


async def test_another_content_under_a_known_id_is_kept_apart_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        await channel.submit(Change(puts=[another(b"one\n")]))
        await channel.submit(Change(puts=[another(b"two\n"), another(b"one\n")]))
        await channel.submit(Change(puts=[another(b"two\n")], releases=[("out", 1)]))
    async with opened(tmp_path) as channel:  # the first is gone, and known all the same
        await channel.submit(Change(puts=[another(b"one\n"), another(b"two\n")]))
        (letter,) = channel.dead_letters()
        assert letter.record == record(PEER, 1, b"two\n")
        assert "edge-1 sent another batch under the id" in letter.reason
        assert "agg-1 knows" in letter.reason
        assert channel.entries("out") == []
        (known,) = channel.seen([BatchId(PEER, 1)]).values()
        assert len(known.sums) == 2


def test_the_checksums_of_a_block_are_let_go_of_and_no_others(tmp_path: Path) -> None:
    one = Environment(tmp_path, 1 << 20)
    pieces = [(origin, 31 * n) for origin in (PEER, MET) for n in range(12)]
    with one.writing() as txn:
        for origin, piece in pieces:
            txn.put(SEEN_KEY.pack(origin, piece), b"sums", db=one.db["sums"])
        delete_pieces(one, txn, PEER, 2)
        delete_pieces(one, txn, MET, 9)
        left = [SEEN_KEY.unpack(key) for key, _ in txn.cursor(one.db["sums"])]
    one.close()
    gone = [(PEER, piece) for _, piece in pieces if 2 * PIECES <= piece < 3 * PIECES]
    assert sorted(left) == sorted(set(pieces) - set(gone))


async def test_checksums_of_the_last_thousands_are_known(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        wanted = [1, BLOCK_SEQS, 2 * BLOCK_SEQS - 1, 2 * BLOCK_SEQS]
        for seq in wanted:
            await channel.submit(Change(puts=[another(b"%d\n" % seq, seq)]))
            await channel.submit(Change(releases=[("out", channel.last_position())]))
        known = channel.seen([BatchId(PEER, seq) for seq in wanted])
        assert [len(known[BatchId(PEER, seq)].sums) for seq in wanted] == [0, 1, 1, 1]
        await channel.submit(Change(puts=[another(b"other\n", 1)]))
        assert channel.dead_letters() == [], "whose checksum is not known any more counts as known"


async def test_no_counter_follows_what_arrives(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        await channel.submit(Change(puts=[arrived(channel.origin, 2**40)]))
        assert channel.origins()[channel.origin].last == 0


async def test_a_start_is_on_disk_before_anything_is_done(tmp_path: Path) -> None:
    """One that is killed at once has its place on the line all the same."""
    async with opened(tmp_path):
        pass
    code = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from tests.channel.making import LIMITS; from tiers.channel.channel import Channel\n"
        "c = asyncio.run(Channel.open(Path(sys.argv[1]), LIMITS, ['out']))\n"
        "print(c.life.starts[-1].id.hex(), flush=True); os._exit(0)\n"
    )
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await run.communicate()
    async with opened(tmp_path, LIMITS) as channel:
        assert channel.life.starts[-2].id.hex() == told.decode().strip()
