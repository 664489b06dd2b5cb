"""Batches that no file can take: they are dead letters with the reason, the others are published,
and every published file opens for everybody."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.strangers import LINES, ORIGIN, VARIANTS, Sealed, sealed, verified
from tests.sinks.parts import (
    LIMITS,
    OUTPUT,
    MemorySink,
    MemoryStore,
    Said,
    emptied,
    published,
    put,
    read_tree,
    record,
    running,
)
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId, split
from tiers.core.change import Change
from tiers.sinks.directory import DirectorySink

TAKEN = [variant for variant in VARIANTS if variant.fate != "rejected"]
WAITING = [variant.fate for variant in TAKEN].count("waits")


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
async def test_of_all_that_strangers_seal_each_meets_its_fate(
    channel: Channel, tmp_path: Path, codec: str
) -> None:
    batches = [variant.sealed(seq) for seq, variant in enumerate(TAKEN, 1)]
    puts = [
        put(verified(sealed(batch)), batch.seq, 200 if batch.count is None else batch.count,
            origin=ORIGIN)
        for batch in batches
        if isinstance(batch.count, int | None)
    ]  # fmt: skip
    await channel.submit(Change(puts=puts))
    root = tmp_path / "out"
    options = DirectorySink.Options.model_validate(
        {"type": "directory", "root": str(root), "path": "{service}/%Y/%m/%d/%H",
         "codec": codec, "roll_after": 0}
    )  # fmt: skip
    context = Said(channel).context()
    sink = DirectorySink(options, context)
    async with running(sink):
        await eventually(lambda: len(channel.entries(OUTPUT)) == WAITING)
    dead = {letter.position for letter in channel.dead_letters()}
    waits = {entry.position for entry in channel.entries(OUTPUT)}
    fates = {variant.name: "dead" if seq in dead else "waits" if seq in waits else "published"
             for seq, variant in enumerate(TAKEN, 1)}  # fmt: skip
    assert fates == {variant.name: variant.fate for variant in TAKEN}
    files = published(read_tree(root))
    lines = sorted(line for content in files.values() for line in content.splitlines())
    assert lines == sorted(LINES.splitlines() * list(fates.values()).count("published"))
    assert all(len(path.split("/")) == 6 for path in files), "one level for {service}"
    assert context.outlet.counts.dead == len(dead)


async def test_many_bad_ones_cost_one_file(channel: Channel) -> None:
    bad = [sealed(Sealed(seq, b"no zstd", 1, 9, codec="zstd")) for seq in range(1, 101)]
    puts = [put(data, seq, 1, origin=ORIGIN) for seq, data in enumerate(bad, 1)]
    puts.append(put(record(b"good\n", 101), 101, 1))
    await channel.submit(Change(puts=puts))
    store = MemoryStore()
    async with running(sink := MemorySink(Said(channel), store)):
        await emptied(channel)
    assert list(published(store.files).values()) == [b"good\n"]
    assert sink.outlet.counts.dead == 100
    assert sink.counts.voided == 1


# -- with "end" ----------------------------------------------------------------------------------


def _in_its_envelope(data: bytes) -> bytes:
    return data.replace(b"\xa7framing", b"\xa7frameng")


def _in_its_headers(data: bytes) -> bytes:
    return data.replace(b"stranger", b"Stranger", 1)


def _in_its_body(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize("harm", [_in_its_envelope, _in_its_headers, _in_its_body])
async def test_what_is_damaged_here_comes_again_with_end(tmp_path: Path, harm: object) -> None:
    """Upstream has a good copy: it must not hear that this one is dead, and no queue keeps it."""
    assert callable(harm)
    one = BatchId(ORIGIN, 1)
    good = verified(sealed(Sealed(1, LINES)))
    assert harm(good) != good
    limits = replace(LIMITS, ask_again=True)
    channel = await Channel.open(tmp_path / "sink-1", limits, [OUTPUT])
    passed_on: list[BatchId] = []
    channel.tell_passed_on(passed_on.extend)
    store = MemoryStore()
    try:
        await channel.submit(Change(puts=[put(harm(good), 1, 200, origin=ORIGIN)]))
        async with running(MemorySink(Said(channel), store)):
            await emptied(channel)
            (letter,) = channel.dead_letters()
            assert (letter.position, letter.record) == (1, b"")
            assert channel.seen([one]) == {}, "who asks for it hears that it is unknown"
            assert passed_on == []
            await channel.submit(Change(puts=[put(good, 1, 200, origin=ORIGIN)]))
            await eventually(lambda: passed_on == [one])
        assert list(published(store.files).values()) == [LINES]
    finally:
        await channel.close()


async def test_what_was_sealed_so_is_dead_for_good_with_end(tmp_path: Path) -> None:
    """Whoever sends it again sends the same."""
    one = BatchId(ORIGIN, 1)
    bad = verified(sealed(Sealed(1, b"no zstd", 1, 9, codec="zstd")))
    channel = await Channel.open(tmp_path / "sink-1", replace(LIMITS, ask_again=True), [OUTPUT])
    passed_on: list[BatchId] = []
    channel.tell_passed_on(passed_on.extend)
    try:
        await channel.submit(Change(puts=[put(bad, 1, 1, origin=ORIGIN)]))
        async with running(MemorySink(Said(channel), MemoryStore())):
            await eventually(lambda: passed_on == [one])
        (letter,) = channel.dead_letters()
        assert bytes(split(letter.record)[1]) == b"no zstd", "to be looked at"
        assert channel.seen([one])[one].passed_on
    finally:
        await channel.close()
