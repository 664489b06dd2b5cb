"""Dead letters of a real channel: queued again, or dropped for good."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.channel.making import LIMITS, StoppedClock, arrived, opened, put, record
from tests.channel.test_damage import flip
from tiers.channel import inspection, withheld
from tiers.channel.channel import Channel
from tiers.channel.letters import every_letter
from tiers.core import batch
from tiers.core.batch import BatchId, Hop
from tiers.core.change import NO_OUTPUT, Change, LetterHead, Put
from tiers.core.entry.routes import Branch, OneOf, Route, everywhere
from tiers.dead import handling
from tiers.dead.handling import Done, Handling, Key, page
from tiers.observe.snapshot import audit

PEER = b"P" * 16
OUTPUTS = ("a", "b")


@asynccontextmanager
async def at(directory: Path, *outputs: str) -> AsyncIterator[tuple[Channel, Handling]]:
    """Opened, and sound when it is closed."""
    names = outputs or OUTPUTS
    async with opened(directory, outputs=names) as channel:
        yield channel, Handling(channel, everywhere(names))
    assert inspection.problems(directory / "channel") == []


def keys(channel: Channel) -> list[Key]:
    return [(one.position, one.output) for one in every_letter(channel)]


async def bury(channel: Channel, *letters: tuple[str, int]) -> None:
    await channel.submit(Change(dead=[(*letter, "bad") for letter in letters]))


async def with_letters(channel: Channel, count: int) -> None:
    """So many batches, each a letter of both outputs."""
    for _ in range(count):
        (position,) = await channel.submit(Change(puts=[put(channel, outputs=OUTPUTS)]))
        await bury(channel, ("a", position), ("b", position))


def outcome(done: Done) -> tuple[int, int, list[str]]:
    return done.letters, done.events, [one.why for one in done.refused]


async def test_what_is_queued_again_is_a_letter_no_more(tmp_path: Path) -> None:
    async with at(tmp_path) as (channel, dead):
        first = put(channel, b"a\nb\n", outputs=OUTPUTS, count=2, note=b"where it was read")
        await channel.submit(Change(puts=[first]))
        await bury(channel, ("a", 1))
        assert outcome(await dead.retry([(1, "a")])) == (1, 2, [])
        assert keys(channel) == []
    async with at(tmp_path) as (channel, dead):
        (entry,) = channel.entries("a")
        assert (entry.position, entry.id, entry.flagged) == (2, first.id, True)
        assert (entry.hops, entry.count, entry.handed_to) == (first.hops, 2, None)
        assert channel.record(2) == first.record
        assert channel.note(2) == b"", "positions of a source are not told twice"
        (other,) = channel.entries("b")
        assert (other.position, other.flagged) == (1, False), "the other output's is as it was"
        assert (channel.stats().batches, channel.stats().dead) == (2, 0)
        await channel.submit(Change(releases=[("a", 2), ("b", 1)]))
        assert channel.stats().batches == 0


async def test_letters_of_one_batch_share_its_record_again(tmp_path: Path) -> None:
    async with at(tmp_path) as (channel, dead):
        await with_letters(channel, 2)
        done = await dead.retry([(1, "a"), (1, "b"), (2, "b")])
        assert outcome(done) == (3, 3, [])
        assert [e.position for e in channel.entries("a")] == [3]
        assert [e.position for e in channel.entries("b")] == [3, 4]
        assert keys(channel) == [(2, "a")]
        stats = channel.stats()
        assert (stats.batches, stats.dead_bytes) == (3, len(channel.record(2)))


async def test_twice_is_once(tmp_path: Path) -> None:
    async with at(tmp_path) as (channel, dead):
        await with_letters(channel, 1)
        assert outcome(await dead.retry([(1, "a"), (1, "a")]))[0] == 1
        done = await dead.retry([(1, "a"), (7, "b"), (1, "unheard of")])
        assert (done.letters, len(done.refused)) == (0, 3)
        assert len(channel.entries("a")) == 1
        # And where two changes of the kind are under way the second does nothing.
        again = Put(BatchId(PEER, 1), b"", 1, ["b"], flagged=True, letter=9)
        assert await channel.submit(Change(puts=[again], drops=[("b", 9)])) == (0,)


async def test_what_arrived_is_counted_once_by_its_window(tmp_path: Path) -> None:
    clock = StoppedClock()
    one = BatchId(PEER, 1)
    limits = replace(LIMITS, dedupe_retention_s=10.0)
    async with opened(tmp_path, limits, OUTPUTS, clock) as channel:
        dead = Handling(channel, everywhere(OUTPUTS))
        await channel.submit(Change(puts=[arrived(PEER, 1, outputs=OUTPUTS)]))
        await bury(channel, ("a", 1), ("b", 1))
        await dead.retry([(1, "a")])
        await dead.retry([(1, "b")])
        assert await channel.submit(Change(puts=[arrived(PEER, 1, outputs=OUTPUTS)])) == (0,)
        assert channel.seen([one])[one].passed_on
        await channel.submit(Change(releases=[("a", 2), ("b", 3)]))
        assert channel.stats().batches == 0
    assert inspection.problems(tmp_path / "channel") == []


async def test_what_another_batch_has_the_id_of_is_a_new_batch(tmp_path: Path) -> None:
    hops = (Hop("edge-1", 1), Hop("agg-1", 2))
    async with at(tmp_path) as (channel, dead):
        for body in (b"one\n", b"two\n"):
            sealed = record(PEER, 1, body)
            other = Put(BatchId(PEER, 1), sealed, 1, OUTPUTS, hops=hops, arrived=True)
            await channel.submit(Change(puts=[other]))
        assert keys(channel) == [(2, "a"), (2, "b")]
        assert all(one.twice_given for one in every_letter(channel))
        assert outcome(await dead.retry([(2, "a")])) == (1, 1, [])
        entry = channel.entries("a")[-1]
        assert entry.id == BatchId(channel.origin, 1)
        envelope = batch.verify(channel.record(entry.position))
        assert (envelope.id, envelope.headers["service"]) == (entry.id, "web")
        assert bytes(batch.split(channel.record(entry.position))[1]) == b"two\n"
        assert entry.hops == hops
        # The other output was not to have that number, and gets one of its own.
        assert audit(channel)["outputs"]["b"]["skipped"] == {channel.origin.hex(): [[1, 1]]}
        await dead.retry([(2, "b")])
        assert [one.id.seq for one in channel.entries("b")] == [1, 2]
        assert channel.next_seq() == 3
        assert keys(channel) == []


async def test_what_is_dropped_is_gone_and_told_to_an_audit(tmp_path: Path) -> None:
    async with at(tmp_path) as (channel, dead):
        own = channel.origin
        await with_letters(channel, 3)
        assert outcome(await dead.drop([(1, "a"), (3, "a"), (2, "b")])) == (3, 3, [])
        assert keys(channel) == [(1, "b"), (2, "a"), (3, "b")]
        assert channel.stats().batches == 3, "each is a letter of the other output"
        await dead.drop([(1, "b")])
        assert channel.stats().batches == 2
        told = audit(channel)["outputs"]
        assert told["a"]["dropped"] == {own.hex(): [[1, 1], [3, 3]]}
    async with at(tmp_path) as (channel, dead):
        assert withheld.told_of(channel.records(withheld.PREFIX)) == {
            "a": ({}, {own: [[1, 1], [3, 3]]}),
            "b": ({}, {own: [[1, 2]]}),
        }
        await dead.drop(keys(channel))
        assert channel.stats().dead_bytes == 0
        assert channel.stats().batches == 0


async def test_a_known_id_is_no_reason_to_explain_the_batch_that_has_it(tmp_path: Path) -> None:
    async with at(tmp_path) as (channel, dead):
        for body in (b"one\n", b"two\n"):
            other = Put(BatchId(PEER, 1), record(PEER, 1, body), 1, ("a",), arrived=True)
            await channel.submit(Change(puts=[other]))
        await dead.drop(keys(channel))
        assert channel.stats().batches == 1
        assert audit(channel)["outputs"]["a"]["dropped"] == {}


async def test_what_cannot_be_delivered_is_refused_with_words(tmp_path: Path) -> None:
    async with opened(tmp_path, outputs=OUTPUTS) as channel:
        await with_letters(channel, 1)
        await channel.submit(Change(puts=[put(channel, b"SPOILED" * 9, outputs=["a"])]))
        await bury(channel, ("a", 2))
    flip(tmp_path / "channel" / "data.mdb", b"SPOILED")
    async with opened(tmp_path, outputs=["a"]) as channel:
        dead = Handling(channel, everywhere(["a"]))
        done = await dead.retry(keys(channel))
        assert done.letters == 1
        whys = {(one.position, one.output): one.why for one in done.refused}
        assert whys[1, "b"].startswith("output 'b' is configured no more: put it back, or drop")
        assert whys[2, "a"].startswith("damaged: checksum")
        assert keys(channel) == [(1, "b"), (2, "a")]
        assert (await dead.drop(keys(channel))).letters == 2


async def test_without_room_they_stay_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at(tmp_path) as (channel, dead):
        await with_letters(channel, 1)
        with monkeypatch.context() as patch:
            patch.setattr(channel, "free_bytes", lambda: 10)
            done = await dead.retry(keys(channel))
        assert (done.letters, {one.why[:23] for one in done.refused}) == (
            0,
            {"the channel has no room"},
        )
        assert (await dead.retry(keys(channel))).letters == 2


async def test_a_call_does_a_bounded_part_and_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "LETTERS_PER_CALL", 4)
    monkeypatch.setattr(handling, "CALL_BYTES_MAX", 1)
    async with at(tmp_path) as (channel, dead):
        await with_letters(channel, 3)
        every = keys(channel)
        done = await dead.retry(every)
        assert (done.letters, done.left) == (2, [*every[4:], *every[2:4]])
        done = await dead.drop(done.left)
        assert (done.letters, done.left) == (4, [])
        assert [(one.meter.name, one.value) for one in dead.meters()] == [
            ("channel_dropped_batches", 4),
            ("channel_dropped_events", 4),
            ("channel_retried_batches", 2),
        ]


async def test_a_page_is_bounded_by_letters_and_by_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at(tmp_path) as (channel, _):
        await with_letters(channel, 3)
        found: list[LetterHead] = []
        while more := page(channel, found[-1].after if found else (0, 0), 4):
            assert len(more) <= 4
            found += more
        assert found == list(every_letter(channel))
        assert len(found) == 6
        monkeypatch.setattr(handling, "PAGE_BYTES_MAX", 2)
        assert len(page(channel, (0, 0), 4)) == 1


def unrouted(batch: Put) -> Put:
    return replace(batch, outputs=(), skipped=OUTPUTS, dead="unrouted: why")


async def test_what_no_output_wanted_goes_where_the_route_says_now(tmp_path: Path) -> None:
    web, db = ({"service": OneOf(frozenset([name]))} for name in ("web", "db"))
    async with opened(tmp_path, outputs=OUTPUTS) as channel:
        await channel.submit(Change(puts=[unrouted(put(channel)), unrouted(arrived(PEER, 9))]))
        dead = Handling(channel, Route([Branch("a", db), Branch("b", db)]))
        letters = [(1, NO_OUTPUT), (2, NO_OUTPUT)]
        assert keys(channel) == letters
        why = "no output wants it: change the topology, or drop these"
        assert outcome(await dead.retry(letters)) == (0, 0, [why, why])
        assert keys(channel) == letters
        dead.route = Route([Branch("a", db), Branch("b", web)])
        assert outcome(await dead.retry(letters)) == (2, 2, [])
        assert keys(channel) == []
        assert channel.entries("a") == []
        assert [(one.id.seq, one.flagged) for one in channel.entries("b")] == [(1, True), (9, True)]
        told = audit(channel)["outputs"]["a"]
        assert told["skipped"] == {channel.origin.hex(): [[1, 1]], PEER.hex(): [[9, 9]]}
        assert told["dropped"] == {}
    assert inspection.problems(tmp_path / "channel") == []


async def test_what_no_output_wanted_is_dropped_for_all_of_them(tmp_path: Path) -> None:
    async with at(tmp_path) as (channel, dead):
        await channel.submit(Change(puts=[unrouted(put(channel))]))
        own = {channel.origin.hex(): [[1, 1]]}
        assert audit(channel)["outputs"][NO_OUTPUT]["dead"] == own
        assert outcome(await dead.drop([(1, NO_OUTPUT)])) == (1, 1, [])
        told = audit(channel)["outputs"]
        assert [told[output]["dropped"] for output in OUTPUTS] == [own, own]
        assert NO_OUTPUT not in told
