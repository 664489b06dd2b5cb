"""What every sink promises (tiers/contracts). A new sink adds a `Rig` (sinking.py)."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.contracts.sinking import (
    LINES,
    OPENING,
    RIGS,
    Place,
    Rig,
    lines_of,
    make,
    store,
)
from tests.core.batches import an_envelope
from tests.metering import number
from tests.seeds import some_dice
from tests.sinks.parts import AT, OUTPUT, Said, emptied, open_channel, put, record, running
from tests.waiting import eventually
from tiers.agent.parts.parts import Parts
from tiers.agent.parts.sink import SinkPart, SinkSpec
from tiers.channel.channel import Channel
from tiers.channel.meters import BYTES_OUT, EVENTS_OUT, NEWEST
from tiers.contracts import Sink
from tiers.core import backoff
from tiers.core.batch import seal
from tiers.core.change import Change, ChannelLimits
from tiers.core.steps import Key, StepKind
from tiers.host.clock import CLOCK
from tiers.observe.meters import Meters
from tiers.registry import load
from tiers.sinks import BUILTIN, GROUP, meters

SMALL = ChannelLimits(size_bytes_max=2 << 20, free_floor_bytes=0)
BATCHES = 200  # of the process that is killed
WANTED = set(lines_of(range(1, BATCHES + 1)))
each_rig = pytest.mark.parametrize("rig", RIGS, ids=lambda rig: rig.type)
each_that_opens = pytest.mark.parametrize("rig", OPENING, ids=lambda rig: rig.type)


@pytest.fixture
def place(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(backoff, "REFUSED_MIN_S", 0.001)
    monkeypatch.setattr(backoff, "REFUSED_MAX_S", 0.01)
    monkeypatch.setattr(backoff, "BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr(backoff, "BACKOFF_MAX_S", 0.01)
    return rig.place(tmp_path, monkeypatch)


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[Channel]:
    channel = await open_channel(tmp_path / "agent")
    yield channel
    await channel.close()


@each_rig
async def test_all_is_delivered_in_whole_lines_and_counted(
    rig: Rig, place: Place, channel: Channel
) -> None:
    said = Said(channel)
    sink = make(rig.type, said, **place.options)
    await store(channel, range(1, 11))
    async with running(sink):
        await emptied(channel)
        await store(channel, range(11, 16))
        await emptied(channel)
        await eventually(lambda: number(sink, meters.HELD, OUTPUT) == 0)
    if rig.opens:
        assert sorted(place.lines()) == sorted(lines_of(range(1, 16)))
    assert number(sink, EVENTS_OUT, OUTPUT) == 15 * LINES
    assert number(sink, meters.BATCHES, OUTPUT) == 15
    assert number(sink, BYTES_OUT, OUTPUT) > 0
    assert number(sink, NEWEST, OUTPUT) == AT / 1000
    assert not said.troubles
    assert not sink.work()


def run(directory: Path, rig: Rig, place: Place, commits: int | None, *planted: str) -> bool:
    """Whether a process that is killed after so many commits had delivered all by then."""
    command = [sys.executable, "-m", "tests.contracts.sink_child", str(directory), rig.type]
    command += [json.dumps(place.options), str(BATCHES), *planted]
    with (
        (directory / "stdout").open("ab") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as child,
    ):
        assert child.stderr is not None
        said = list(islice(child.stderr, commits))
        child.kill() if commits is not None else child.wait(90)
    assert child.returncode in (0, -9), "".join(said)
    return child.returncode == 0


@each_rig
def test_sigkill_at_any_moment_loses_nothing(rig: Rig, place: Place, tmp_path: Path) -> None:
    dice = some_dice()
    killed = sum(not run(tmp_path, rig, place, dice.randrange(1, 40)) for _ in range(6))
    assert killed > 0
    assert run(tmp_path, rig, place, None)
    if rig.opens:
        lines = Counter(line for line in place.lines() if line in WANTED)
        assert set(lines) == WANTED
        if rig.once:
            assert max(lines.values()) == 1


@each_that_opens
async def test_what_is_refused_waits_for_a_person(rig: Rig, place: Place, channel: Channel) -> None:
    said = Said(channel)
    place.refuse()
    await store(channel, range(1, 6))
    async with running(make(rig.type, said, **place.options)):
        await eventually(lambda: len(said.troubles) > 0)
        assert len(channel.entries(OUTPUT)) == 5
        place.mend()
        await emptied(channel)
        await eventually(lambda: said.troubles[-1] == "")
    assert set(place.lines()) == set(lines_of(range(1, 6)))


@each_that_opens
async def test_who_is_slow_holds_up_nothing_but_its_queue(
    rig: Rig, place: Place, tmp_path: Path
) -> None:
    """That fills until the channel takes no more, and goes when it goes on."""
    channel = await Channel.open(tmp_path / "full", SMALL, [OUTPUT])
    place.hold()
    async with running(make(rig.type, Said(channel), **place.options)):
        last = 0
        while channel.free_bytes() > 0:
            await store(channel, [last := last + 1], count=10_000)
        assert len(channel.entries(OUTPUT)) == last
        # A pipe takes some before it is full: what it has taken is delivered.
        place.let_go()
        await emptied(channel)
        await asyncio.wait_for(channel.wait_room(), 90)
    await eventually(lambda: set(place.lines()) == set(lines_of(range(1, last + 1), 10_000)))
    await channel.close()


@each_rig
async def test_drain_delivers_what_is_there(rig: Rig, place: Place, channel: Channel) -> None:
    options = {**place.options, **({"roll_after": "1h"} if "roll_after" in place.options else {})}
    sink = make(rig.type, Said(channel), **options)
    await store(channel, range(1, 6))
    async with running(sink):
        sink.drain()
        sink.drain()
        await emptied(channel)
    if rig.opens:
        assert sorted(place.lines()) == sorted(lines_of(range(1, 6)))


@each_rig
async def test_cancelled_at_any_await_it_goes_on_where_it_was(
    rig: Rig, place: Place, channel: Channel
) -> None:
    for turns in range(60):
        await store(channel, [turns + 1])
        task = asyncio.create_task(make(rig.type, Said(channel), **place.options).run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with running(make(rig.type, Said(channel), **place.options)):
        await emptied(channel)
    if rig.opens:
        lines = Counter(place.lines())
        assert set(lines) == set(lines_of(range(1, 61)))
        assert not rig.once or max(lines.values()) == 1


@each_rig
async def test_reloaded_in_mid_stream_it_goes_on(rig: Rig, place: Place, channel: Channel) -> None:
    said = Said(channel)

    async def made(_: Key, spec: SinkSpec) -> SinkPart:
        return SinkPart(spec, make(rig.type, said, **place.options))

    async def settled() -> None:
        await channel.submit(Change())

    parts, key = Parts(made, settled, Meters(), CLOCK.random), Key(StepKind.SINK, OUTPUT)
    sinks: list[Sink] = []
    for level in range(1, 10):
        await parts.apply(partial(dict, {key: SinkSpec(place.options, level, 60.0)}), 30.0)
        sinks.append(parts.sinks[OUTPUT])
        await store(channel, range(10 * level - 9, 10 * level + 1))
    await emptied(channel)
    await parts.end()
    assert len(set(map(id, sinks))) == 9
    assert not said.troubles
    if rig.opens:
        lines = Counter(place.lines())
        assert set(lines) == set(lines_of(range(1, 91)))
        assert not rig.once or max(lines.values()) == 1


@each_that_opens
async def test_what_can_never_be_delivered_is_buried_and_what_is_newer_waits(
    rig: Rig, place: Place, channel: Channel
) -> None:
    said = Said(channel)
    damaged = bytearray(record(b"damaged\n", 1))
    damaged[-1] ^= 1
    lies = seal(an_envelope(2, count=2, size=6, headers={}, sealed=AT, time=AT), b"alone\n")
    newer = record(b"newer\n", 3, framing="columns")
    sealed = (bytes(damaged), lies, newer)
    await channel.submit(Change(puts=[put(one, seq, 1) for seq, one in enumerate(sealed, 1)]))
    await store(channel, [4])
    async with running(sink := make(rig.type, said, **place.options)):
        await eventually(lambda: len(channel.entries(OUTPUT)) == 1)
        await eventually(lambda: said.troubles)
    assert [entry.position for entry in channel.entries(OUTPUT)] == [3]
    assert "1 batches wait, sealed by a newer version (framing 'columns')" in said.troubles[-1]
    assert number(sink, meters.HELD, OUTPUT) == 1, "it takes a place"
    assert {letter.position for letter in channel.dead_letters()} == {1, 2}
    assert number(sink, meters.BURIED, OUTPUT) == 2
    assert len(said.events) == 2, "each is said"
    assert sorted(place.lines()) == sorted(lines_of([4]))


@each_that_opens
def test_this_suite_sees_a_batch_released_that_was_not_delivered(
    rig: Rig, place: Place, tmp_path: Path
) -> None:
    dice = some_dice()
    for _ in range(6):
        run(tmp_path, rig, place, dice.randrange(1, 40), "planted")
    assert run(tmp_path, rig, place, None)
    assert not WANTED.issubset(place.lines())


@each_rig
async def test_status_is_plain_data_before_during_and_after(
    rig: Rig, place: Place, channel: Channel
) -> None:
    sink = make(rig.type, Said(channel), **place.options)
    assert json.dumps(sink.status())
    await store(channel, [1])
    async with running(sink):
        await emptied(channel)
        assert json.dumps([sink.status(), sink.store_id()])
    assert json.dumps(sink.status())


@each_rig
async def test_whether_it_can_be_proven_goes_with_whether_it_has_a_store(
    rig: Rig, place: Place
) -> None:
    made = load(BUILTIN, GROUP, rig.type)
    options = made.Options.model_validate({"type": rig.type, **place.options})
    assert bool(options.unproven()) is not hasattr(made, "open_store")
    with pytest.raises(ValidationError, match="colour"):
        made.Options.model_validate({"type": rig.type, **place.options, "colour": "red"})
    with pytest.raises(ValidationError):
        options.name = "other"


def test_every_builtin_sink_is_under_this_suite() -> None:
    """That of HDFS is the file sink of a directory, with a store under a suite of its own."""
    assert {rig.type for rig in RIGS} | {"hdfs"} == set(BUILTIN)
