"""What a channel that was set aside still holds, read without LMDB: live batches with what waited
for them, dead letters, positions; what is damaged is lost and named, and nothing else."""

import asyncio
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgpack
import pytest

from tests.channel.making import LIMITS, opened, put
from tiers.channel.layout import POSITION
from tiers.channel.salvage.index import committed_groups
from tiers.channel.salvage.pages import PageFile
from tiers.channel.salvage.salvage import Batch, SalvageEnd, SalvageHead, main, salvage
from tiers.core.change import Change
from tiers.errors import BatchError

OUTPUTS = ("next", "files")
BODIES = (40, 900, 2500, 5000, 40_000)  # within a leaf, and on pages of their own
SOURCE = b"position/tail/"


async def make(directory: Path, batches: int = 60) -> tuple[bytes, bytes]:
    """A channel that has lived: of its batches every third is gone, every fifth was flagged, some
    are dead letters, some wait for one output only. Its id."""
    rng = random.Random(1)
    async with opened(directory, LIMITS, OUTPUTS) as channel:
        for number in range(1, batches + 1):
            positions = {b"8-15": msgpack.packb([number * 100, number])}
            new = put(
                channel,
                rng.randbytes(BODIES[number % 5]),
                outputs=OUTPUTS,
                note=msgpack.packb([SOURCE, positions]),
                count=number,
            )
            records = {SOURCE + key: value for key, value in positions.items()}
            await channel.submit(Change(puts=[new], records=records))
            if number % 3 == 0:
                await channel.submit(Change(releases=[(one, number) for one in OUTPUTS]))
            elif number % 5 == 0:
                await channel.submit(Change(dead=[("files", number, "too bad")]))
            elif number % 7 == 0:
                await channel.submit(Change(releases=[("files", number)]))
        return channel.channel_id, channel.origin


def waiting(number: int) -> tuple[list[str] | None, list[list[str]]]:
    """Outputs and dead letters of batch `number` as `make` leaves them."""
    if number % 5 == 0:
        return ["next"], [["files", "too bad"]]
    return (["next"] if number % 7 == 0 else ["next", "files"]), []


def live(batches: int = 60) -> list[int]:
    return [number for number in range(1, batches + 1) if number % 3]


def read(directory: Path, **how: bool | int) -> tuple[SalvageHead, list[Batch], SalvageEnd]:
    oldest_ms = int(how.pop("oldest_ms", 0))
    head, *batches, end = salvage(directory / "channel", oldest_ms, **how)  # type: ignore[arg-type]
    assert isinstance(head, SalvageHead)
    assert isinstance(end, SalvageEnd)
    return head, [one for one in batches if isinstance(one, Batch)], end


def change(directory: Path, how: Callable[[bytearray], None]) -> None:
    file = directory / "channel" / "data.mdb"
    data = bytearray(file.read_bytes())
    how(data)
    file.write_bytes(data)


def seqs(batches: Sequence[Batch]) -> list[int]:
    return [one.seq for one in batches if one.record]


async def test_a_sound_channel_is_read_whole(tmp_path: Path) -> None:
    channel_id, origin = await make(tmp_path)
    head, batches, end = read(tmp_path)
    positions = {SOURCE + b"8-15": msgpack.packb([6000, 60])}
    assert (head.channel_id, head.batches, head.positions) == (channel_id, 40, positions)
    assert head.positions_whole
    assert {key: numbers[0] for key, numbers in head.origins.items()} == {origin: 60}
    assert end == SalvageEnd(exact=True, old=0)
    assert seqs(batches) == live()
    for one in batches:
        assert (one.origin, one.events) == (origin, one.seq)
        assert (one.outputs, [list(letter) for letter in one.letters]) == waiting(one.seq)
        assert msgpack.unpackb(one.note)[1] == {b"8-15": msgpack.packb([one.seq * 100, one.seq])}
        assert msgpack.unpackb(one.hops) == [["edge-1", 1]]


async def test_reading_is_taken_up_again_where_it_was_broken_off(tmp_path: Path) -> None:
    await make(tmp_path)
    _, all_of_them, _ = read(tmp_path)
    _, rest, end = read(tmp_path, after=13)
    assert rest == all_of_them[13:]
    assert end.exact


async def test_without_its_trees_all_is_found_by_looking_at_every_page(tmp_path: Path) -> None:
    await make(tmp_path)
    head, batches, end = read(tmp_path, trees=False)
    assert not end.exact
    assert not head.positions_whole
    assert head.positions == {SOURCE + b"8-15": msgpack.packb([6000, 60])}
    found = {one.seq: one for one in batches}
    assert set(live()) <= set(found), "what lives is found, and perhaps what has left"
    for number in live():
        outputs = found[number].outputs
        assert outputs is None or set(waiting(number)[0] or ()) <= set(outputs)
    assert {one.seq for one in batches if not one.record} <= set(range(1, 61)) - set(live())


async def test_a_record_is_found_though_nothing_tells_its_size(tmp_path: Path) -> None:
    await make(tmp_path)
    file = PageFile(tmp_path / "channel" / "data.mdb")
    leaves = [
        number
        for number in range(2, file.pages)
        if (page := file.page(number)) is not None
        if any(
            len(node.key) == POSITION.size and node.size > 2048
            for node in file.stray_leaf(number, page)
        )
    ]
    file.close()

    def wipe(data: bytearray) -> None:
        for number in leaves:
            data[number * 4096 : (number + 1) * 4096] = bytes(4096)

    change(tmp_path, wipe)
    _, batches, _ = read(tmp_path, trees=False)
    on_pages_of_their_own = {number for number in live() if number % 5 in (2, 3, 4)}
    assert leaves
    assert on_pages_of_their_own <= set(seqs(batches))


async def test_what_was_sealed_too_long_ago_is_left_where_nothing_tells_that_it_lives(
    tmp_path: Path,
) -> None:
    await make(tmp_path)
    _, batches, end = read(tmp_path, trees=False, oldest_ms=10)  # all were sealed at 1 ms
    assert batches == []
    assert end.old >= len(live())
    _, batches, end = read(tmp_path, oldest_ms=10)
    assert (seqs(batches), end.old) == (live(), 0), "the trees tell"


@pytest.mark.parametrize("page", [0, 1])
async def test_a_damaged_meta_page_costs_nothing(tmp_path: Path, page: int) -> None:
    await make(tmp_path)

    def wipe(data: bytearray) -> None:
        data[page * 4096 : page * 4096 + 200] = bytes(200)

    newer = PageFile(tmp_path / "channel" / "data.mdb").metas()[0].txn % 2 == page
    change(tmp_path, wipe)
    head, batches, end = read(tmp_path)
    assert end.exact
    assert set(live()) - {59} <= set(seqs(batches)), "but for the last commit"
    if not newer:
        assert seqs(batches) == live()
        assert head.batches == 40


async def test_a_damaged_body_is_lost_by_name_and_no_other(tmp_path: Path) -> None:
    _, origin = await make(tmp_path)
    with_body = PageFile(tmp_path / "channel" / "data.mdb")
    place = next(
        node
        for node in with_body.walk(_tree(with_body, b"batches"))
        if POSITION.unpack(node.key)[0] == 4
    )

    def flip(data: bytearray) -> None:
        data[place.offset + place.size - 9] ^= 4

    change(tmp_path, flip)
    head, batches, end = read(tmp_path)
    assert seqs(batches) == [number for number in live() if number != 4]
    (lost,) = (one for one in batches if not one.record)
    assert (lost.origin, lost.seq, lost.events) == (origin, 4, 4)
    assert (lost.outputs, lost.reason) == (["next", "files"], "its record is damaged")
    assert head.positions_whole
    assert end.exact
    async with opened(tmp_path, LIMITS, OUTPUTS) as channel:
        with pytest.raises(BatchError):
            channel.record(4)


def _tree(file: PageFile, name: bytes):  # type: ignore[no-untyped-def]
    node = next(node for node in file.walk(file.metas()[0].main) if node.key == name)
    tree = file.tree(node)
    assert tree is not None
    return tree


@pytest.mark.parametrize("name", [b"batches", b"queue", b"dead", b"meta", b"records", b"notes"])
async def test_a_damaged_root_costs_what_only_it_knew(tmp_path: Path, name: bytes) -> None:
    await make(tmp_path)
    root = _tree(PageFile(tmp_path / "channel" / "data.mdb"), name).root

    def wipe(data: bytearray) -> None:
        data[root * 4096 : root * 4096 + 16] = b"\xff" * 16

    change(tmp_path, wipe)
    head, batches, end = read(tmp_path)
    assert seqs(batches) == live()
    assert all(one.record for one in batches)
    assert end.exact
    assert head.positions_whole is (name != b"records")
    assert msgpack.unpackb(head.positions[SOURCE + b"8-15"])[0] >= 5900
    for one in batches:
        wanted, letters = waiting(one.seq)
        if name == b"queue":
            assert one.outputs is None or set(wanted or ()) <= set(one.outputs)
        elif name != b"dead":
            assert (one.outputs, [list(letter) for letter in one.letters]) == (wanted, letters)


@pytest.mark.parametrize("kept", [0.95, 0.6, 0.2, 0.0])
async def test_of_a_truncated_file_what_is_there_is_found(tmp_path: Path, kept: float) -> None:
    await make(tmp_path)
    file = tmp_path / "channel" / "data.mdb"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    _, batches, _ = read(tmp_path)
    pages = PageFile(tmp_path / "channel" / "data.mdb")
    whole = [one.record for one in batches if one.record]
    assert len(set(whole)) == len(whole), "none twice"
    if kept == 0.0:
        assert batches == []
    else:
        assert len(whole) >= kept * len(live()) / 2
    pages.close()


async def test_the_state_of_both_last_commits_is_told(tmp_path: Path) -> None:
    await make(tmp_path)
    newer, older = committed_groups(tmp_path / "channel" / "data.mdb")
    assert newer is not None
    assert older is not None
    assert newer == older + 1


async def test_rubbish_is_no_channel_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "channel").mkdir()
    for data in (b"", b"rubbish" * 10_000, bytes(5), random.Random(3).randbytes(50_000)):
        (tmp_path / "channel" / "data.mdb").write_bytes(data)
        head, batches, end = await asyncio.to_thread(read, tmp_path)
        assert (head.batches, batches, end.exact) == (-1, [], False)


def test_a_file_that_is_gone_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^cannot read .*data\.mdb: No such file or directory$"):
        main([str(tmp_path), "0"], io.BytesIO())
