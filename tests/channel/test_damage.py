"""Damaged bytes: a body costs its batch, anything else the channel; nothing wrong is believed."""

import shutil
from pathlib import Path

import pytest

from tests.channel.making import LIMITS, arrived, opened, put, python
from tests.seeds import a_seed
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.channel.salvage.pages import PageFile
from tiers.core.change import Change
from tiers.errors import BatchError, ChannelDamaged

ORIGIN = b"ORIGIN-OF-A-PEER"
MARKS = {
    "records": b"MARK-IN-A-RECORD",
    "notes": b"MARK-IN-A-NOTE",
    "dead": b"MARK-IN-A-REASON",
    "queue": b"MARK-IN-A-QUEUE",
    "seen": ORIGIN + bytes(8),
    "meta": b"MARK-IN-A-NAME",
}


def flip(file: Path, mark: bytes, offset: int = 0) -> None:
    """Flips a bit in every copy of `mark` (LMDB keeps old pages around)."""
    data = bytearray(file.read_bytes())
    at = data.find(mark)
    assert at >= 0, f"{mark!r} is not in the file"
    while at >= 0:
        data[at + offset] ^= 0x10
        at = data.find(mark, at + 1)
    with file.open("r+b") as stream:  # in place: an open map must see it
        stream.write(data)


async def make(directory: Path) -> bytes:
    """A channel with something in each database; its id."""
    outputs = ["out", MARKS["meta"].decode()]
    async with opened(directory, outputs=outputs) as channel:
        await channel.submit(Change(puts=[put(channel, b"BODY-ONE" * 500, note=MARKS["notes"])]))
        hops = put(channel, b"BODY-TWO" * 500)
        hopped = type(hops)(
            hops.id, hops.record, 1, ["out"], hops=[type(hops.hops[0])(MARKS["queue"].decode(), 1)]
        )
        await channel.submit(Change(puts=[hopped, arrived(ORIGIN, 7)]))
        await channel.submit(Change(records={b"position/x": MARKS["records"]}))
        third = await channel.submit(Change(puts=[put(channel, b"BODY-TRE" * 500)]))
        await channel.submit(Change(dead=[("out", third[0], MARKS["dead"].decode())]))
        return channel.channel_id


async def test_a_flipped_bit_in_a_body_costs_that_batch_only(tmp_path: Path) -> None:
    channel_id = await make(tmp_path)
    flip(tmp_path / "channel" / "data.mdb", b"BODY-ONE")
    async with opened(tmp_path) as channel:
        assert channel.channel_id == channel_id
        with pytest.raises(BatchError, match="checksum"):
            channel.record(1)
        assert channel.envelope(1).seq == 1
        assert channel.record(2).endswith(b"BODY-TWO")
        await channel.submit(Change(dead=[("out", 1, "body damaged")], releases=[("out", 2)]))
        assert [entry.position for entry in channel.entries("out")] == [3]
        first, last = channel.dead_letters()
        assert (first.reason, first.record) == ("body damaged", b"")
        assert last.record.endswith(b"BODY-TRE")
        assert channel.stats().set_aside == ""


async def test_a_batch_that_is_gone_is_a_batch_error(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        with pytest.raises(BatchError, match="no batch"):
            channel.record(1)
        with pytest.raises(BatchError, match="no batch"):
            channel.envelope(1)
        assert channel.entry("out", 1) is None
        assert channel.note(1) == b""


@pytest.mark.parametrize("database", sorted(MARKS))
async def test_any_other_flipped_bit_condemns_the_channel(tmp_path: Path, database: str) -> None:
    old_id = await make(tmp_path)
    mark = MARKS[database]
    # Of the window's key only the last byte: its origin is in queue and body too.
    flip(tmp_path / "channel" / "data.mdb", mark, len(mark) - 1)
    async with opened(tmp_path) as channel:
        assert channel.channel_id != old_id
        assert channel.entries("out") == []
        text = channel.stats().set_aside
        (kept,) = tmp_path.glob("channel.damaged-*")
        assert kept.name in text
        assert (kept / "data.mdb").exists()
        await channel.submit(Change(puts=[put(channel)]))
    async with opened(tmp_path) as channel:
        assert channel.stats().set_aside == text, "told after a restart as well"
        assert len(channel.entries("out")) == 1
    shutil.rmtree(kept)
    async with opened(tmp_path) as channel:
        assert channel.stats().set_aside == "", "somebody has looked and taken it away"
        assert len(channel.entries("out")) == 1


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.01])
async def test_a_truncated_file_is_set_aside(tmp_path: Path, kept: float) -> None:
    old_id = await make(tmp_path)
    data = tmp_path / "channel" / "data.mdb"
    with data.open("r+b") as stream:
        stream.truncate(int(data.stat().st_size * kept))
    async with opened(tmp_path) as channel:
        assert channel.channel_id != old_id
        assert "set aside as channel.damaged-" in channel.stats().set_aside


@pytest.mark.parametrize("gone", [True, False])
async def test_a_file_that_is_gone_or_empty_is_no_fresh_channel(tmp_path: Path, gone: bool) -> None:
    old_id = await make(tmp_path)
    data = tmp_path / "channel" / "data.mdb"
    data.unlink() if gone else data.write_bytes(b"")
    async with opened(tmp_path) as channel:
        assert channel.channel_id != old_id
        assert "gone, or empty" in channel.stats().set_aside


async def test_two_damaged_channels_in_one_second_keep_both(tmp_path: Path) -> None:
    for _ in range(2):
        async with opened(tmp_path):
            pass
        (tmp_path / "channel" / "data.mdb").write_bytes(b"rubbish" * 10_000)
    async with opened(tmp_path):
        assert len(list(tmp_path.glob("channel.damaged-*"))) == 2


async def test_damage_found_while_it_runs_ends_it_and_sets_it_aside(tmp_path: Path) -> None:
    old_id = await make(tmp_path)
    channel = await Channel.open(tmp_path, LIMITS, ["out"])
    flip(tmp_path / "channel" / "data.mdb", MARKS["queue"])
    with pytest.raises(ChannelDamaged, match="checksum"):
        channel.entries("out")
    with pytest.raises(ChannelDamaged):
        await channel.submit(Change(puts=[put(channel)]))
    assert "checksum" in channel.stats().trouble
    assert channel.free_bytes() == 0
    with pytest.raises(ChannelDamaged):
        await channel.wait_room()
    await channel.close()
    flip(tmp_path / "channel" / "data.mdb", bytes([MARKS["queue"][0] ^ 0x10]) + MARKS["queue"][1:])
    async with opened(tmp_path) as channel:  # the bit is right again, but who would trust it
        assert channel.channel_id != old_id
        assert "checksum" in channel.stats().set_aside


async def test_damage_met_by_the_writer_fails_what_waits(tmp_path: Path) -> None:
    await make(tmp_path)
    channel = await Channel.open(tmp_path, LIMITS, ["out"])
    waiter = channel.wait_room()
    flip(tmp_path / "channel" / "data.mdb", MARKS["queue"])
    futures = [channel.submit(Change(releases=[("out", 2)])) for _ in range(3)]
    for future in futures:
        with pytest.raises(ChannelDamaged):
            await future
    await eventually((tmp_path / "channel" / "damaged").exists, "the mark")
    with pytest.raises(ChannelDamaged):
        await waiter
    await channel.close()


FLIPS = """
import asyncio, random, shutil, sys
from pathlib import Path
from tests.channel.making import opened
from tiers.errors import BatchError

async def main(base, work, rounds, seed):
    rng = random.Random(seed)
    data = (base / "channel" / "data.mdb").read_bytes()
    for _ in range(rounds):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)
        bad = bytearray(data)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        (work / "channel" / "data.mdb").write_bytes(bad)
        async with opened(work) as channel:
            seen = []
            for entry in channel.entries("out"):
                try:
                    channel.record(entry.position)
                    seen.append(entry.position)
                except BatchError:
                    seen.append(-1)
            print("aside" if channel.stats().set_aside else seen, flush=True)

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
"""


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("bit", [2, 27, 63])
async def test_a_flip_that_would_undo_the_last_commit_is_seen(
    tmp_path: Path, page: int, bit: int
) -> None:
    old_id = await make(tmp_path)
    data = tmp_path / "channel" / "data.mdb"
    damaged = bytearray(data.read_bytes())
    damaged[page * 4096 + 144 + bit // 8] ^= 1 << bit % 8  # the number of its transaction
    data.write_bytes(damaged)
    async with opened(tmp_path) as channel:
        assert channel.channel_id != old_id
        assert "no neighbours" in channel.stats().set_aside


async def test_the_newest_commit_lowered_by_two_is_seen(tmp_path: Path) -> None:
    old_id = await make(tmp_path)
    data = tmp_path / "channel" / "data.mdb"
    damaged = bytearray(data.read_bytes())
    places = (144, 4096 + 144)
    newest = max(places, key=lambda at: damaged[at : at + 8])
    number = int.from_bytes(damaged[newest : newest + 8], "little")
    damaged[newest : newest + 8] = (number - 2).to_bytes(8, "little")
    data.write_bytes(damaged)
    async with opened(tmp_path) as channel:
        assert channel.channel_id != old_id
        assert "the newer meta page leads to group" in channel.stats().set_aside


@pytest.mark.parametrize("bit", [2, 4])
@pytest.mark.parametrize("database", ["batches", "dead", "notes", "queue", "records", "seen"])
async def test_a_value_that_is_marked_as_a_tree_is_seen(
    tmp_path: Path, database: str, bit: int
) -> None:
    """lmdb.verify lets it pass, and the commit that deletes it fails."""
    await make(tmp_path)
    path = tmp_path / "channel" / "data.mdb"
    pages = PageFile(path)
    main = {
        node.key: tree for node in pages.walk(pages.metas()[0].main) if (tree := pages.tree(node))
    }
    page = main[database.encode()].root
    node = next(iter(pages.walk(main[database.encode()])))
    pages.close()
    data = bytearray(path.read_bytes())
    at = data.index(len(node.key).to_bytes(2, "little") + node.key, page * 4096) - 2
    data[at] ^= bit
    path.write_bytes(data)
    async with opened(tmp_path, outputs=["out", MARKS["meta"].decode()]) as channel:
        assert "set aside" in channel.stats().set_aside


async def test_random_flips_are_never_believed(tmp_path: Path) -> None:
    await make(tmp_path / "base")
    rounds = 40
    done = python(FLIPS, tmp_path / "base", tmp_path / "work", rounds, a_seed())
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.splitlines()
    assert len(outcomes) == rounds
    assert set(outcomes) <= {"aside", "[1, 2, 3]", "[-1, 2, 3]", "[1, -1, 3]", "[1, 2, -1]"}
