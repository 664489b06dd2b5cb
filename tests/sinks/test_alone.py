"""Batches by which the sink itself fails: alone, and twice, they are dead letters; whatever else
fails, they are not."""

import asyncio
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from tiers.core.batch import Buffer, Envelope
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.files import body, loading
from tiers.sinks.files.openings import Openings
from tiers.sinks.formats import proven

LINES = [b"a\n", b"b\n", b"c\n"]
BAD = 2
RUN = """
import asyncio, os, sys
from pathlib import Path
from tests.sinks.parts import MemorySink, Said, emptied, open_channel, running
from tiers.sinks.formats import proven
from tiers.sinks.files import body
from tiers.sinks.files.stores.local import LocalStore

def die(envelope, *rest, **options):
    if envelope.seq == 2:
        os._exit(9)
    return proven(envelope, *rest, **options)

async def main():
    body.proven = die
    channel = await open_channel(Path(sys.argv[1]))
    store = LocalStore(Path(sys.argv[1]) / "store")
    async with running(MemorySink(Said(channel), store)):
        await emptied(channel)
    await channel.close()

asyncio.run(main())
"""


def run(directory: Path) -> int:
    command = [sys.executable, "-c", RUN, str(directory)]
    return subprocess.run(command, check=False, timeout=120).returncode


async def lines_of(channel: Channel, store: MemoryStore | None = None) -> list[bytes]:
    store = store or MemoryStore()
    async with running(MemorySink(Said(channel), store)):
        await emptied(channel)
    return sorted(b"".join(published(store.files).values()).splitlines(keepends=True))


def note(channel: Channel, position: int) -> None:
    """As a process leaves it that dies while it opens that batch."""
    file = channel.directory / f"opening-{OUTPUT}"
    file.write_bytes(bytes(16) + struct.pack(">QQ", position, 0))


def reasons(channel: Channel) -> dict[int, str]:
    return {letter.position: letter.reason for letter in channel.dead_letters()}


def failing(
    monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], times: int = 1 << 30
) -> None:
    """Opening the bad batch fails so often."""
    left = times

    def fail(envelope: Envelope, of: Buffer, *, strictly: bool) -> Iterator[bytes]:
        nonlocal left
        if envelope.seq == BAD and left:
            left -= 1
            raise error()
        return proven(envelope, of, strictly=strictly)

    monkeypatch.setattr(body, "proven", fail)


async def test_a_batch_that_kills_its_process_alone_twice_is_a_dead_letter(tmp_path: Path) -> None:
    channel = await open_channel(tmp_path)
    await fill(channel, LINES)
    await channel.close()
    ends: list[int] = []
    while not ends or ends[-1] == 9:
        assert len(ends) < 5, "it dies at every start"
        ends.append(await asyncio.to_thread(run, tmp_path))
    assert ends == [9, 9, 9, 0], "among others, alone, alone once more"
    channel = await open_channel(tmp_path)
    try:
        assert list(reasons(channel)) == [BAD]
        assert "died 2 times as it was opened alone" in reasons(channel)[BAD]
        assert not channel.entries(OUTPUT)
    finally:
        await channel.close()


async def test_who_was_there_by_chance_is_not_blamed(channel: Channel) -> None:
    """Killed from outside, however often, as it opened a batch."""
    await fill(channel, LINES)
    store = MemoryStore()
    for _ in range(5):
        note(channel, BAD)
        sink = MemorySink(Said(channel), store, roll_after=60)
        noted = Openings(channel.directory / f"opening-{OUTPUT}")
        async with running(sink):
            await eventually(lambda: not noted.found(), "it was tried alone")  # noqa: B023
        noted.close()
    assert await lines_of(channel, store) == LINES
    assert not reasons(channel)


async def test_what_is_gone_since_is_forgotten(channel: Channel) -> None:
    note(channel, 77)
    openings = Openings(channel.directory / f"opening-{OUTPUT}")
    assert [one.position for one in openings.found()] == [77]
    await fill(channel, LINES)
    assert await lines_of(channel) == LINES
    assert not openings.found()
    openings.close()


async def test_a_batch_by_which_it_fails_each_time_is_a_dead_letter(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, lambda: IndexError("out of range"))
    await fill(channel, LINES)
    assert await lines_of(channel) == [b"a\n", b"c\n"]
    assert list(reasons(channel)) == [BAD]
    assert "fails by it alone: IndexError" in reasons(channel)[BAD]


@pytest.mark.parametrize("times", [1, 2])
async def test_who_fails_once_is_tried_again(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, impatient: None, times: int
) -> None:
    failing(monkeypatch, lambda: IndexError("out of range"), times)
    await fill(channel, LINES)
    assert await lines_of(channel) == LINES
    assert not reasons(channel)


async def test_no_memory_is_held_against_nobody(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    failing(monkeypatch, MemoryError, 9)
    await fill(channel, LINES)
    assert await lines_of(channel) == LINES
    assert not reasons(channel)


@pytest.mark.parametrize("error", [StoreRefused, StoreUnavailable])
async def test_what_the_store_says_is_held_against_nobody(
    channel: Channel, impatient: None, error: type[Exception]
) -> None:
    left = 20

    def refuse(_: int, name: str) -> None:
        nonlocal left
        if name.startswith("write") and left:
            left -= 1
            raise error("no")

    store = MemoryStore()
    store.before = refuse
    await fill(channel, LINES[:1])
    async with running(MemorySink(Said(channel), store)):
        await emptied(channel)
    assert not left
    assert list(published(store.files).values()) == LINES[:1]
    assert not reasons(channel)


async def test_a_batch_that_cannot_be_filed_holds_up_no_other(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = loading.Loading._bucket

    def fail(self: loading.Loading, envelope: Envelope) -> object:
        if envelope.seq == BAD:
            raise ValueError("a year out of range")
        return bucket(self, envelope)

    monkeypatch.setattr(loading.Loading, "_bucket", fail)
    await fill(channel, LINES)
    assert await lines_of(channel) == [b"a\n", b"c\n"]
    assert "ValueError" in reasons(channel)[BAD]
