"""A sink looks for itself in the store before it does anything: what it finds and does not know,
another life of its disk has written."""

import shutil
from pathlib import Path

import pytest

from tests.sinks.parts import (
    OUTPUT,
    MemorySink,
    MemoryStore,
    Said,
    emptied,
    fill,
    open_channel,
    published,
    running,
)
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.core.commit import store_names
from tiers.sinks.files.traces import unknown_trace

DAY = "2026-11-23"


def names(channel: Channel) -> tuple[str, str]:
    """The sink, and its start."""
    sink = store_names.sink_name("sink-1", OUTPUT, channel.channel_id)
    return sink, store_names.start_name(channel.life.starts[-1].id)


@pytest.mark.parametrize("room", ["tmp", "void", "manifests"])
@pytest.mark.parametrize(
    ("day", "start", "file_id", "knows"),
    [
        (DAY, "", 1, True),
        (DAY, "", 2, False),  # the disk went back behind a number that it had given
        (f"{DAY}.1", "", 9, False),
        (DAY, "f" * 16, 1, False),  # another start: it went back, or is there twice
    ],
)
async def test_what_it_does_not_know_of_itself_renews_it(
    channel: Channel, room: str, day: str, start: str, file_id: int, knows: bool
) -> None:
    store, said = MemoryStore(), Said(channel)
    await fill(channel, [b"a\n"])
    async with running(MemorySink(said, store)):
        await emptied(channel)
    sink, own = names(channel)
    writer = store_names.writer_name(sink, start or own)
    store._put(f".tiers/{day}/{room}/{store_names.file_name(writer, file_id)}", b"")
    await fill(channel, [b"b\n"], 2)
    async with running(MemorySink(said, store)):
        await eventually(lambda: said.renewals or not channel.entries(OUTPUT))
        assert bool(said.renewals) is not knows
        assert len(published(store.files)) == (2 if knows else 1)


@pytest.mark.parametrize(
    "name",
    [
        "sink-2.{output}.{channel}.ffffffffffffffff-0000000001",  # another agent
        "sink-1.{output}.0000000000000000.ffffffffffffffff-0000000001",  # a disk that was lost
        "sink-1.{output}.{channel}.ffffffffffffffff-00000000000000ff.small",  # staged
        "sink-1.{output}.{channel}.ffffffffffffffff",
    ],
)
async def test_what_others_wrote_is_nothing_to_it(channel: Channel, name: str) -> None:
    store, said = MemoryStore(), Said(channel)
    told = name.format(output=OUTPUT, channel=channel.channel_id.hex()[:16])
    store._put(f".tiers/{DAY}/tmp/{told}", b"")
    await fill(channel, [b"a\n"])
    async with running(MemorySink(said, store)):
        await emptied(channel)
    assert said.renewals == []


async def test_what_is_older_than_the_retention_does_not_count(channel: Channel) -> None:
    store, said = MemoryStore(), Said(channel)
    sink, _ = names(channel)
    writer = store_names.writer_name(sink, "f" * 16)
    store._put(f".tiers/{DAY}/manifests/{store_names.file_name(writer, 1)}", b"")
    stop = MemorySink(said, store)._stop
    arguments = (store, sink, frozenset[str](), 0)
    assert unknown_trace(*arguments, -1, stop) == ""
    assert unknown_trace(*arguments, 1, stop).endswith("-0000000001")


async def test_its_own_earlier_starts_are_known(tmp_path: Path) -> None:
    store = MemoryStore()
    for number in range(1, 4):
        channel = await open_channel(tmp_path)
        said = Said(channel)
        await fill(channel, [b"%d\n" % number], number)
        async with running(MemorySink(said, store)):
            await emptied(channel)
        assert said.renewals == []
        await channel.close()
    assert sorted(published(store.files).values()) == [b"1\n", b"2\n", b"3\n"]
    writers = {path.rpartition("-")[0] for path in published(store.files)}
    assert len(writers) == 3, "each start writes under a name of its own"


async def test_a_copy_of_its_disk_that_published_meanwhile_doubles_nothing(tmp_path: Path) -> None:
    """Set back behind a publication, and renewed: what is queued is flagged, and found there."""

    store, here = MemoryStore(), tmp_path / "a"
    channel = await open_channel(here)
    await fill(channel, [b"a\n"])
    await channel.close()
    shutil.copytree(here, tmp_path / "image")
    channel = await open_channel(here)
    async with running(MemorySink(Said(channel), store)):
        await emptied(channel)
    await channel.close()
    channel = await open_channel(tmp_path / "image")
    said = Said(channel)
    async with running(MemorySink(said, store)):
        await eventually(lambda: said.renewals)
        channel.renew(said.renewals[0])
    await channel.close()
    channel = await open_channel(tmp_path / "image")
    async with running(MemorySink(Said(channel), store)):
        await emptied(channel)
    await channel.close()
    assert list(published(store.files).values()) == [b"a\n"]
