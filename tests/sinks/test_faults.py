"""Faults at every store call, and SIGKILL at random moments: each line is published exactly once.

Every case counts the calls of an undisturbed run first; then each of them fails in every way. What
users see is looked at after every call, too: never half a file, never a line twice.
"""

import asyncio
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.seeds import some_dice
from tests.sinks.parts import (
    OUTPUT,
    MemorySink,
    MemoryStore,
    Said,
    fill,
    open_channel,
    published,
    read_tree,
    unavailable,
)
from tests.waiting import eventually, wait_for
from tiers.channel.channel import Channel
from tiers.errors import StoreRefused

BLOCKS = [b"line %d a\nline %d b\n" % (n, n) for n in range(6)]
LINES = sorted(line for block in BLOCKS for line in block.splitlines())
CALLS = 36  # of an undisturbed run; the first test holds it to that


async def run_until_empty(channel: Channel, store: MemoryStore, **options: object) -> None:
    sink = MemorySink(Said(channel), store, path="{service}/%H", **options)
    task = asyncio.create_task(sink.run())
    try:
        await eventually(
            lambda: task.done() or not (channel.entries(OUTPUT) or channel.records(b"plan/"))
        )
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def filled(directory: Path) -> Channel:
    channel = await open_channel(directory)
    await fill(channel, BLOCKS[:3], headers={"service": "web"})
    await fill(channel, BLOCKS[3:], 4, headers={"service": "db"}, flagged=True)
    return channel


def lines_of(store: MemoryStore) -> list[bytes]:
    return sorted(
        line for content in published(dict(store.files)).values() for line in content.splitlines()
    )


def watch(store: MemoryStore) -> list[str]:
    """Looks at what users see after every call; what was wrong with it is in the list."""
    wrong: list[str] = []

    def look(_number: int, name: str) -> None:
        lines = lines_of(store)
        for content in published(dict(store.files)).values():
            if any(content.count(b.splitlines()[0]) != content.count(b) for b in BLOCKS):
                wrong.append(f"{name}: half a batch is visible")
        wrong.extend(f"{name}: {line!r} twice" for line, n in Counter(lines).items() if n > 1)

    store.after = look
    return wrong


async def test_an_undisturbed_run(tmp_path: Path) -> None:
    channel, store = await filled(tmp_path), MemoryStore()
    wrong = watch(store)
    await run_until_empty(channel, store, writers=1)
    await channel.close()
    assert lines_of(store) == LINES and not wrong
    assert store.calls == CALLS


def fail_at(index: int, how: str, store: MemoryStore) -> None:
    look = store.after

    def before(number: int, _name: str) -> None:
        if number == index and how == "lost before":
            unavailable()
        if number == index and how == "refused":
            raise StoreRefused("no")

    def after(number: int, name: str) -> None:
        look(number, name)
        if number == index and how == "lost after":
            unavailable()

    store.before, store.after = before, after


@pytest.mark.parametrize("how", ["lost before", "lost after", "refused"])
async def test_a_call_fails(tmp_path: Path, how: str, impatient: None) -> None:
    for index in range(1, CALLS + 1):
        channel, store = await filled(tmp_path / str(index)), MemoryStore()
        wrong = watch(store)
        fail_at(index, how, store)
        await run_until_empty(channel, store)
        await channel.close()
        assert lines_of(store) == LINES, f"call {index} {how}"
        assert not wrong, f"call {index} {how}"


@pytest.mark.parametrize("how", ["before", "after"])
async def test_a_crash_at_a_call_that_is_carried_out_late_or_was(
    tmp_path: Path, how: str, impatient: None
) -> None:
    """The call hangs when the sink is gone; *before*: the store carries it out only after the
    next sink has done everything."""
    for index in range(1, CALLS + 1):
        channel, store = await filled(tmp_path / str(index)), MemoryStore()
        wrong = watch(store)
        await crash_at(index, how, channel, store)
        await channel.close()
        assert lines_of(store) == LINES, f"crash {how} call {index}"
        assert not wrong, f"crash {how} call {index}"


async def crash_at(index: int, how: str, channel: Channel, store: MemoryStore) -> None:
    let_go, crash = threading.Event(), asyncio.Event()
    loop, look = asyncio.get_running_loop(), store.after

    def hang() -> None:
        loop.call_soon_threadsafe(crash.set)
        assert let_go.wait(30)

    def before(number: int, _name: str) -> None:
        if number == index and how == "before":
            hang()

    def after(number: int, name: str) -> None:
        look(number, name)
        if number == index and how == "after":
            hang()

    store.before, store.after = before, after
    first = asyncio.create_task(MemorySink(Said(channel), store, path="{service}/%H").run())
    await asyncio.wait_for(crash.wait(), 30)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await run_until_empty(channel, store)
    calls = store.calls
    let_go.set()
    # Whatever the late call does, it has done: only then is it looked at.
    for thread in threading.enumerate():
        if thread.name.startswith(f"store-{OUTPUT}"):
            await asyncio.to_thread(thread.join, 30)
    begun = [name for name in store.seen[calls:] if "store-id" not in name]
    assert not begun, "a stopped sink began another call"
    await run_until_empty(channel, store)


async def test_random_trouble(tmp_path: Path, impatient: None) -> None:
    """Many calls fail, in any way, and the sink is stopped again and again."""
    dice = some_dice()
    for round_ in range(15):
        channel, store = await filled(tmp_path / str(round_)), MemoryStore()
        wrong = watch(store)
        store.before = _roll(dice, store.before)
        store.after = _roll(dice, store.after)
        for _ in range(dice.randrange(4)):
            await run_for_calls(channel, store, dice.randrange(1, 30))
        await run_until_empty(channel, store)
        await channel.close()
        assert lines_of(store) == LINES and not wrong, f"round {round_}"


async def run_for_calls(channel: Channel, store: MemoryStore, calls: int) -> None:
    task = asyncio.create_task(MemorySink(Said(channel), store, path="{service}/%H").run())
    stop_at = store.calls + calls
    await eventually(lambda: store.calls >= stop_at or not channel.entries(OUTPUT))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _roll(dice: random.Random, look: Callable[[int, str], None]) -> Callable[[int, str], None]:
    def hook(number: int, name: str) -> None:
        look(number, name)
        if dice.random() < 0.15:
            unavailable()

    return hook


# --- SIGKILL -----------------------------------------------------------------------------------

CHILD_BATCHES = 1500


def start_child(directory: Path, codec: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.sinks.child", str(directory), codec, str(CHILD_BATCHES)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def kill_in_mid_stream(directory: Path, codec: str, dice: random.Random) -> None:
    """Lets a child publish a few files more, and kills it."""
    child = start_child(directory, codec)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        enough = len(manifest_names(directory)) + dice.randrange(1, 6)
        wait_for(
            lambda: len(manifest_names(directory)) >= enough or child.poll() is not None,
            "files published",
        )
        child.kill()  # one that had published all is over already


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_killed_at_random_moments(tmp_path: Path, codec: str) -> None:
    dice = some_dice()
    for _ in range(5):
        kill_in_mid_stream(tmp_path, codec, dice)
    with start_child(tmp_path, codec) as last:
        assert last.wait(60) == 0
    files = published(read_tree(tmp_path / "out"))
    lines = Counter(line for content in files.values() for line in content.splitlines())
    wanted = {b"batch %d line %d" % (n, i) for n in range(1, CHILD_BATCHES + 1) for i in range(20)}
    assert set(lines) == wanted
    assert max(lines.values()) == 1, [line for line, n in lines.items() if n > 1][:5]


def manifest_names(directory: Path) -> list[Path]:
    return list((directory / "out").glob(".tiers/*/manifests/*"))
