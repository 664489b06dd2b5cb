"""Several sinks with copies of the same batches on one store: each line is published once."""

import asyncio
import contextlib
import itertools
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.sinks.parts import (
    LIMITS,
    OUTPUT,
    MemorySink,
    Said,
    fill,
)
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId
from tiers.core.commit import store_names
from tiers.core.commit.answers import Listed, Moved
from tiers.core.commit.claim import Claim, encode_claim
from tiers.errors import StoreRefused
from tiers.host.clock import CLOCK
from tiers.sinks import meters
from tiers.sinks.files.days import tend_days
from tiers.sinks.files.stores.local import LocalStore

BLOCKS = [b"line %d\n" % n for n in range(1, 7)]
ID = BatchId(b"o" * 16, 1)
DAY = "2026-11-23"


@contextlib.asynccontextmanager
async def channel_with(directory: Path, *, flagged: bool) -> AsyncIterator[Channel]:
    channel = await Channel.open(directory, LIMITS, [OUTPUT])
    await fill(channel, BLOCKS, flagged=flagged)
    try:
        yield channel
    finally:
        await channel.close()


def sink_of(channel: Channel, root: Path, name: str, **options: object) -> MemorySink:
    said = Said(channel, agent=name)
    return MemorySink(said, LocalStore(root), path="", **{"takeover_after": 0.4, **options})


@contextlib.asynccontextmanager
async def running(*sinks: MemorySink) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(sink.run()) for sink in sinks]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def lines(root: Path) -> Counter[bytes]:
    """All that is published; what is below `.tiers` comes and goes, and is not looked at."""
    files = [path for path in root.iterdir() if path.is_file()] if root.exists() else []
    return Counter(line for path in files for line in path.read_bytes().splitlines(True))


def empty(channel: Channel) -> Callable[[], bool]:
    return lambda: not channel.entries(OUTPUT) and not channel.records(b"plan/")


@pytest.mark.parametrize("both_flagged", [True, False])
async def test_copies_in_two_sinks_are_published_once(tmp_path: Path, both_flagged: bool) -> None:
    root = tmp_path / "out"
    async with (
        channel_with(tmp_path / "a", flagged=both_flagged) as one,
        channel_with(tmp_path / "b", flagged=True) as other,
    ):
        sinks = sink_of(one, root, "a", roll_size=1), sink_of(other, root, "b", roll_size=1)
        async with running(*sinks):
            await eventually(empty(one))
            await eventually(empty(other))
    assert lines(root) == Counter(BLOCKS)
    # Of each two copies one was published and the other let go of.
    assert sum(sink.counts.dropped for sink in sinks) == len(BLOCKS)


async def stopped_before_publishing(channel: Channel, root: Path, name: str) -> None:
    """A sink that stops for ever between its intent and its rename."""
    reached, never = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Stopping(LocalStore):
        def length(self, path: str) -> int | None:
            if path.startswith(store_names.CLOSED):
                loop.call_soon_threadsafe(reached.set)
                never.wait()  # a daemon thread: it ends with the process
            return super().length(path)

    sink = MemorySink(Said(channel, agent=name), Stopping(root), path="", takeover_after=0.4)
    task = asyncio.create_task(sink.run())
    await asyncio.wait_for(reached.wait(), 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiers.sinks.files.sink._STOP_S", 0.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_sink_that_is_gone_is_taken_over_and_fenced_when_it_comes_back(
    tmp_path: Path,
) -> None:
    root = tmp_path / "out"
    async with (
        channel_with(tmp_path / "a", flagged=True) as one,
        channel_with(tmp_path / "b", flagged=True) as other,
    ):
        await stopped_before_publishing(one, root, "a")
        assert not lines(root)
        taking = sink_of(other, root, "b")
        async with running(taking):
            await eventually(empty(other))
        counts = taking.counts
        assert (counts.taken_over, counts.fenced) == (len(BLOCKS), 1)
        back = sink_of(one, root, "a")
        async with running(back):
            await eventually(empty(one))
        assert back.counts.dropped == len(BLOCKS)
    assert lines(root) == Counter(BLOCKS)


async def test_many_flagged_batches_are_claimed_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.sinks.files.sink.CLAIMS_MAX", 2)
    root = tmp_path / "out"
    async with channel_with(tmp_path / "a", flagged=True) as one:
        sink = sink_of(one, root, "a")
        async with running(sink):
            await eventually(empty(one))
            # A file is counted a step after its batches have left the channel.
            await eventually(lambda: sink.counts.files == len(BLOCKS) // 2)
            await eventually(lambda: sink.number(meters.HELD) == 0)
        assert sink.counts.claimed == len(BLOCKS)
    assert lines(root) == Counter(BLOCKS)


async def test_parked_batches_do_not_wait_for_a_backlog_to_end(tmp_path: Path) -> None:
    root = tmp_path / "out"
    async with (
        channel_with(tmp_path / "a", flagged=True) as one,
        channel_with(tmp_path / "b", flagged=True) as other,
    ):
        await stopped_before_publishing(one, root, "a")
        taking = sink_of(other, root, "b", roll_size=1, writers=1)
        seqs = itertools.count(100)

        async def keep_a_backlog() -> None:
            while True:
                if len(other.entries(OUTPUT)) < 200:
                    await fill(other, [b"more\n"] * 100, next(seqs) * 100)
                await asyncio.sleep(0)

        backlog = asyncio.create_task(keep_a_backlog())
        async with running(taking):
            await eventually(lambda: taking.counts.taken_over == len(BLOCKS))
        backlog.cancel()
        await asyncio.gather(backlog, return_exceptions=True)


async def test_what_is_parked_beside_a_file_is_counted_once(tmp_path: Path) -> None:
    root, seen = tmp_path / "out", list[object]()

    class Counting(LocalStore):
        def length(self, path: str) -> int | None:
            if path.startswith(store_names.CLOSED):
                seen.append(sink.number(meters.HELD))
            return super().length(path)

    other = root / store_names.claim_path(DAY, ID)
    other.parent.mkdir(parents=True)
    other.write_bytes(encode_claim(Claim("another.out.0", ID, 5)))
    async with channel_with(tmp_path / "a", flagged=True) as channel:
        sink = MemorySink(Said(channel), Counting(root), path="", takeover_after=3600)
        async with running(sink):
            await eventually(lambda: lines(root) == Counter(BLOCKS[1:]))
            await eventually(lambda: sink.number(meters.HELD) == 1)
    assert seen == [len(BLOCKS)]


async def test_parked_batches_are_seen_in_the_status(tmp_path: Path) -> None:
    root, looks, listed = tmp_path / "out", list[str](), LocalStore.list

    def look(self: LocalStore, path: str) -> list[Listed] | None:
        looks.append(path)
        return listed(self, path)

    async with (
        channel_with(tmp_path / "a", flagged=True) as one,
        channel_with(tmp_path / "b", flagged=True) as other,
    ):
        await stopped_before_publishing(one, root, "a")
        waiting = sink_of(other, root, "b", takeover_after=3600)
        async with running(waiting):
            await eventually(lambda: waiting.number(meters.PARKED) == len(BLOCKS))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(LocalStore, "list", look)
                await eventually(lambda: looks.count(store_names.claims_path(DAY)) > 1)
            assert waiting.counts.parked_ever == len(BLOCKS)
            assert not lines(root)


@pytest.mark.parametrize("content", [b"", b"not ours\n", b'{"tiers":"claim"}\n00000000\n'])
async def test_a_bad_claim_stops_its_batch_and_no_other(tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "out"
    claim = root / store_names.claim_path(DAY, ID)
    claim.parent.mkdir(parents=True)
    claim.write_bytes(content)
    async with channel_with(tmp_path / "a", flagged=True) as channel:
        sink = sink_of(channel, root, "a")
        async with running(sink):
            await eventually(lambda: lines(root) == Counter(BLOCKS[1:]))
            await eventually(lambda: sink.status()["stopped"])
            assert store_names.claim_name(ID) in str(sink.status()["stopped"])
            assert claim.read_bytes() == content
            claim.unlink()  # somebody has looked at it
            await eventually(empty(channel))
    assert lines(root) == Counter(BLOCKS)


async def test_a_bad_manifest_stops_what_is_flagged_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "out"
    bad = root / store_names.manifest_path(DAY, store_names.file_name("x.out.0", 1))
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b'{"tiers":"manifest"')
    async with channel_with(tmp_path / "a", flagged=True) as channel:
        await fill(channel, [b"unflagged\n"], 100)
        sink = sink_of(channel, root, "a", roll_size=1)
        async with running(sink):
            await eventually(lambda: lines(root) == Counter([b"unflagged\n"]))
            await eventually(lambda: sink.status()["stopped"])
            assert bad.name in str(sink.status()["stopped"])
            assert bad.exists()
            bad.unlink()
            await eventually(empty(channel))
    assert lines(root) == Counter([*BLOCKS, b"unflagged\n"])


async def test_a_directory_where_a_claim_should_be_stops_its_batch(tmp_path: Path) -> None:
    root = tmp_path / "out"
    claim = root / store_names.claim_path(DAY, ID)
    claim.mkdir(parents=True)
    async with channel_with(tmp_path / "a", flagged=True) as channel:
        sink = sink_of(channel, root, "a")
        async with running(sink):
            await eventually(lambda: lines(root) == Counter(BLOCKS[1:]))
            await eventually(lambda: store_names.claim_name(ID) in str(sink.status()["stopped"]))
            claim.rmdir()
            await eventually(empty(channel))
    assert lines(root) == Counter(BLOCKS)


async def test_a_manifest_far_too_large_is_not_read_into_memory(tmp_path: Path) -> None:
    root = tmp_path / "out"
    bad = root / store_names.manifest_path(DAY, store_names.file_name("x.out.0", 1))
    bad.parent.mkdir(parents=True)
    with bad.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    async with channel_with(tmp_path / "a", flagged=True) as channel:
        sink = sink_of(channel, root, "a")
        async with running(sink):
            await eventually(lambda: sink.status()["stopped"])
            assert "at most" in str(sink.status()["stopped"])
            bad.unlink()
            await eventually(empty(channel))
    assert lines(root) == Counter(BLOCKS)


class Refusing(LocalStore):
    """Says no to calls about names that end so, as for want of a permission, until it `permits`."""

    def __init__(self, root: Path, call: str, name: str) -> None:
        super().__init__(root)
        self._call, self._name = call, name
        self.permits = False

    def _ask(self, call: str, path: str) -> None:
        if not self.permits and call == self._call and path.endswith(self._name):
            raise StoreRefused(f"{call} {path}: permission denied")

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        self._ask("read", path)
        return super().read(path, bytes_max)

    def length(self, path: str) -> int | None:
        self._ask("length", path)
        return super().length(path)

    def replace(self, source: str, target: str) -> Moved:
        self._ask("replace", target)
        return super().replace(source, target)


@pytest.mark.parametrize("call", ["read", "length"])
async def test_a_manifest_that_is_refused_stops_what_is_flagged_and_nothing_else(
    tmp_path: Path, call: str
) -> None:
    root = tmp_path / "out"
    foreign = root / store_names.manifest_path(DAY, store_names.file_name("x.out.0", 1))
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"not ours to read")
    async with channel_with(tmp_path / "a", flagged=True) as channel:
        await fill(channel, [b"unflagged\n"], 100)
        store = Refusing(root, call, foreign.name)
        sink = MemorySink(Said(channel), store, path="", roll_size=1, writers=1, takeover_after=0.4)
        async with running(sink):
            await eventually(lambda: lines(root) == Counter([b"unflagged\n"]))
            await eventually(lambda: "permission denied" in str(sink.status()["stopped"]))
            foreign.unlink()
            store.permits = True
            await eventually(empty(channel))
    assert lines(root) == Counter([*BLOCKS, b"unflagged\n"])


@pytest.mark.parametrize("flagged", [True, False])
async def test_a_claim_that_is_refused_stops_its_batch_and_no_other(
    tmp_path: Path, flagged: bool
) -> None:
    root = tmp_path / "out"
    claim = root / store_names.claim_path(DAY, ID)
    claim.parent.mkdir(parents=True)
    claim.write_bytes(b"not ours to read")
    async with channel_with(tmp_path / "a", flagged=flagged) as channel:
        store = Refusing(root, "read", claim.name)
        sink = MemorySink(Said(channel), store, path="", takeover_after=0.4)
        async with running(sink):
            await eventually(lambda: lines(root) == Counter(BLOCKS[1:]))
            await eventually(lambda: "permission denied" in str(sink.status()["stopped"]))
            claim.unlink()
            store.permits = True
            await eventually(empty(channel))
    assert lines(root) == Counter(BLOCKS)


async def test_a_claim_that_cannot_be_taken_over_stops_its_batch_and_no_other(
    tmp_path: Path,
) -> None:
    root = tmp_path / "out"
    async with (
        channel_with(tmp_path / "a", flagged=True) as one,
        channel_with(tmp_path / "b", flagged=True) as other,
    ):
        await stopped_before_publishing(one, root, "a")
        claim = store_names.claim_name(ID)
        store = Refusing(root, "replace", claim)
        sink = MemorySink(Said(other, agent="b"), store, path="", takeover_after=0.4)
        async with running(sink):
            await eventually(lambda: lines(root) == Counter(BLOCKS[1:]))
            await eventually(lambda: claim in str(sink.status()["stopped"]))
            store.permits = True
            await eventually(empty(other))
    assert lines(root) == Counter(BLOCKS)


async def test_what_comes_for_a_closed_day_goes_to_its_next_generation(tmp_path: Path) -> None:
    root = tmp_path / "out"
    store = LocalStore(root)
    async with (
        channel_with(tmp_path / "a", flagged=False) as one,
        running(sink_of(one, root, "a")),
    ):
        await eventually(empty(one))
    age(root / ".tiers" / DAY, 100)
    assert tend_days(store, "x", 50_000, CLOCK).closed == {DAY}
    async with channel_with(tmp_path / "b", flagged=False) as late:
        await fill(late, [b"late\n"], 50)
        sink = sink_of(late, root, "b")
        async with running(sink):
            await eventually(empty(late))
        assert sink.counts.dropped == len(BLOCKS)
    assert lines(root) == Counter([*BLOCKS, b"late\n"])
    assert (root / ".tiers" / f"{DAY}.1" / "manifests").is_dir()
    age(root / ".tiers" / "closed", 100)
    days = tend_days(store, "x", 50_000, CLOCK)
    assert (days.closed, days.forgotten) == ({DAY}, {DAY})
    assert not (root / ".tiers" / DAY).exists()
    assert not list((root / ".tiers" / "trash").iterdir())
    assert lines(root) == Counter([*BLOCKS, b"late\n"])


async def test_a_day_that_is_closed_under_way(tmp_path: Path) -> None:
    """The mark comes between a file's plan and its check: it is voided, and made anew."""
    root = tmp_path / "out"

    class Closing(LocalStore):
        def length(self, path: str) -> int | None:
            mark = root / store_names.closed_path(DAY)
            if path == store_names.closed_path(DAY) and not mark.exists():
                mark.parent.mkdir(parents=True)
                mark.touch()
            return super().length(path)

    async with channel_with(tmp_path / "a", flagged=False) as channel:
        sink = MemorySink(Said(channel), Closing(root), path="")
        async with running(sink):
            await eventually(empty(channel))
        assert sink.counts.voided == 1
    assert lines(root) == Counter(BLOCKS)


def age(path: Path, seconds: float) -> None:
    """As if all of it had been made so long ago."""
    for one in (path, *path.rglob("*")):
        found = one.stat()
        os.utime(one, (found.st_atime - seconds, found.st_mtime - seconds))
