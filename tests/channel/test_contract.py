"""What every channel promises, whatever lies below it: one on LMDB, and one in memory."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.channel.making import LIMITS, arrived, put, record
from tests.channel.memory import MemoryDisk, MemoryEnvironment, Tables
from tests.channel.places import BOTH, Place
from tests.channel.test_model import ChannelMachine
from tiers.channel.channel import Channel
from tiers.channel.environment import Environment, MapFull
from tiers.channel.layout import DATABASES
from tiers.core.batch import BatchId
from tiers.core.change import Change, Handed, Put
from tiers.core.hop.peers import HandedTo
from tiers.errors import BatchError, ChannelUnavailable

PEER = b"P" * 16


def positions(channel: Channel, output: str) -> list[int]:
    return [entry.position for entry in channel.entries(output)]


async def test_positions_are_those_of_submission_and_go_on_at_the_next_start(place: Place) -> None:
    async with place.opened() as channel:
        assert channel.last_position() == 0
        futures = [channel.submit(Change(puts=[put(channel, outputs=BOTH)])) for _ in range(3)]
        assert await asyncio.gather(*futures) == [(1,), (2,), (3,)]
        two = await channel.submit(Change(puts=[put(channel, outputs=["two"]) for _ in range(2)]))
        assert two == (4, 5)
        assert positions(channel, "one") == [1, 2, 3]
    async with place.opened() as channel:
        assert channel.last_position() == 5
        assert positions(channel, "two") == [1, 2, 3, 4, 5]
        assert await channel.submit(Change(puts=[put(channel, outputs=["one"])])) == (6,)


async def test_a_change_is_there_as_a_whole_once_its_future_is_done(place: Place) -> None:
    async with place.opened() as channel:
        change = Change(puts=[put(channel, outputs=BOTH)], records={b"position/a": b"17"})
        future = channel.submit(change)
        assert positions(channel, "one") == []
        assert channel.records(b"") == channel.records(b"channel/")
        await future
        assert positions(channel, "one") == positions(channel, "two") == [1]
        assert channel.records(b"position/") == {b"position/a": b"17"}


async def test_a_batch_that_arrived_is_stored_once(place: Place) -> None:
    key = BatchId(PEER, 7)
    async with place.opened() as channel:
        assert channel.seen([key]) == {}
        assert await channel.submit(Change(puts=[arrived(PEER, 7, outputs=BOTH)])) == (1,)
        assert await channel.submit(Change(puts=[arrived(PEER, 7, outputs=BOTH)])) == (0,)
        both = [arrived(PEER, 8, outputs=["one"]), arrived(PEER, 8, outputs=["one"])]
        assert await channel.submit(Change(puts=both)) == (3, 0)
        assert positions(channel, "one") == [1, 3]
        assert not channel.seen([key])[key].passed_on
    async with place.opened() as channel:
        assert await channel.submit(Change(puts=[arrived(PEER, 7, outputs=BOTH)])) == (0,)


async def test_another_content_under_a_known_id_is_a_dead_letter(place: Place) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[arrived(PEER, 7, outputs=["one"])]))
        other = record(PEER, 7, b"another line\n")
        change = Change(puts=[Put(BatchId(PEER, 7), other, 1, ["one"], arrived=True)])
        await channel.submit(change)
        assert positions(channel, "one") == [1]
        (letter,) = channel.dead_letters()
        assert letter.record == other


async def test_what_all_outputs_have_let_go_of_is_gone_and_told(place: Place) -> None:
    key = BatchId(PEER, 7)
    async with place.opened() as channel:
        told: list[BatchId] = []
        channel.tell_passed_on(told.extend)
        await channel.submit(Change(puts=[arrived(PEER, 7, outputs=BOTH)]))
        await channel.submit(Change(releases=[("one", 1)]))
        assert positions(channel, "one") == []
        assert positions(channel, "two") == [1]
        assert told == []
        await channel.submit(Change(releases=[("two", 1), ("two", 1)]))
        assert told == [key]
        assert channel.seen([key])[key].passed_on
        assert channel.stats().batches == 0
        with pytest.raises(BatchError):
            channel.record(1)


async def test_flags_and_who_has_it_are_kept(place: Place) -> None:
    to = HandedTo("agg-1", b"C" * 16)
    async with place.opened() as channel:
        await channel.submit(Change(puts=[put(channel, outputs=BOTH) for _ in range(3)]))
        handed = [Handed("one", 2, to, flagged=True), Handed("one", 9, to, flagged=True)]
        await channel.submit(Change(flags=[("one", 1)], handed=handed))
    async with place.opened() as channel:
        entries = channel.entries("one")
        assert [entry.flagged for entry in entries] == [True, True, False]
        assert [entry.handed_to for entry in entries] == [None, to, None]
        assert not any(entry.flagged for entry in channel.entries("two"))


async def test_dead_letters_are_kept_with_their_reason(place: Place) -> None:
    async with place.opened() as channel:
        puts = [put(channel, b"%d\n" % number, outputs=BOTH) for number in range(3)]
        await channel.submit(Change(puts=puts))
        await channel.submit(Change(dead=[("two", 3, "too old"), ("one", 1, "refused")]))
        await channel.submit(Change(dead=[("one", 1, "refused once more")]))
        assert positions(channel, "one") == [2, 3]
        assert positions(channel, "two") == [1, 2]
        shown = [(one.position, one.output, one.reason) for one in channel.dead_letters()]
        assert shown == [(1, "one", "refused"), (3, "two", "too old")]
        assert channel.dead_letters(after=1)[0].record == puts[2].record
        assert channel.stats().dead == 2


async def test_of_a_damaged_batch_another_copy_is_taken(place: Place) -> None:
    limits = replace(LIMITS, ask_again=True)
    async with place.opened(limits=limits) as channel:
        await channel.submit(Change(puts=[arrived(PEER, 7, outputs=BOTH)]))
        await channel.submit(Change(damaged=[("one", 1, "rotten")]))
        assert channel.seen([BatchId(PEER, 7)]) == {}
        assert await channel.submit(Change(puts=[arrived(PEER, 7, outputs=BOTH)])) == (2,)
        assert positions(channel, "one") == [2]
        assert positions(channel, "two") == [1]


async def test_records_are_found_by_their_beginning(place: Place) -> None:
    async with place.opened() as channel:
        values: dict[bytes, bytes | None] = {
            b"position/a": b"1",
            b"position/\xff": b"",
            b"plan": b"x" * 9000,
        }
        await channel.submit(Change(records=values))
        await channel.submit(Change(records={b"position/a": None, b"never": None}))
        assert channel.records(b"position/") == {b"position/\xff": b""}
        assert channel.records(b"plan") == {b"plan": b"x" * 9000}


async def test_notes_records_and_envelopes_are_read_by_position(place: Place) -> None:
    async with place.opened() as channel:
        body = b"line\n" * 4000
        await channel.submit(Change(puts=[put(channel, body, outputs=["one"], note=b"beside")]))
        assert channel.note(1) == b"beside"
        assert channel.note(2) == b""
        assert channel.envelope(1).id == BatchId(channel.origin, 1)
        assert channel.record(1) == record(channel.origin, 1, body)
        assert channel.entry("one", 1) == channel.entries("one")[0]
        assert channel.entry("one", 2) is channel.entry("two", 1) is None


async def test_puts_stop_at_the_high_mark_and_go_on_below_the_low_one(place: Place) -> None:
    limits = replace(LIMITS, size_bytes_max=1 << 20, high=0.8, low=0.5)
    async with place.opened(limits=limits) as channel:
        while channel.free_bytes() > 0:
            await channel.submit(Change(puts=[put(channel, b"x" * 20_000, outputs=["one"])]))
        assert channel.stats().used_bytes >= 0.8 * limits.size_bytes_max
        waiting = asyncio.ensure_future(channel.wait_room())
        for position in positions(channel, "one"):
            assert channel.free_bytes() == 0
            assert not waiting.done()
            await channel.submit(Change(releases=[("one", position)]))
            if channel.free_bytes() > 0:
                break
        assert channel.stats().used_bytes <= 0.5 * limits.size_bytes_max
        await asyncio.wait_for(waiting, 10)


async def test_close_commits_what_was_submitted(place: Place) -> None:
    async with place.opened() as channel:
        for _ in range(20):
            channel.submit(Change(puts=[put(channel, outputs=["one"])]))
    with pytest.raises(ChannelUnavailable, match="closed"):
        await channel.submit(Change())
    async with place.opened() as channel:
        assert positions(channel, "one") == list(range(1, 21))


async def test_subscribers_are_called_after_each_commit(place: Place) -> None:
    async with place.opened() as channel:
        found: list[list[int]] = []
        channel.subscribe(lambda: found.append(positions(channel, "one")))
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
        await asyncio.sleep(0)
        assert found[-1] == [1]


async def test_who_ends_its_subscription_is_called_no_more(place: Place) -> None:
    async with place.opened(["one"]) as channel:
        called: list[str] = []
        unsubscribe = channel.subscribe(lambda: called.append("committed"))
        tell_no_more = channel.tell_passed_on(lambda _: called.append("passed on"))
        for seq, end in enumerate((None, unsubscribe, tell_no_more), 1):
            if end is not None:
                end()
            (position,) = await channel.submit(Change(puts=[arrived(PEER, seq, outputs=["one"])]))
            await channel.submit(Change(releases=[("one", position)]))
            await asyncio.sleep(0)
        assert called == ["committed", "passed on", "committed", "passed on"]


async def test_outputs_come_and_go_while_it_is_open(place: Place) -> None:
    async with place.opened(["one"]) as channel:
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
        await channel.work_by(LIMITS, ["two"])
        assert list(channel.stats().queues) == ["one", "two"], "what waits is told of"
        await channel.submit(Change(puts=[put(channel, outputs=["two"])]))
        assert (positions(channel, "one"), positions(channel, "two")) == ([1], [2])
        await channel.submit(Change(releases=[("one", 1)]))
        assert list(channel.stats().queues) == ["two"]
    async with place.opened(["two"]) as channel:
        assert positions(channel, "two") == [2], "it was known before anything waited for it"
        await channel.work_by(LIMITS, ["one", "three"])
        await channel.submit(Change(puts=[put(channel, outputs=["one", "three"])]))
        assert (positions(channel, "one"), positions(channel, "three")) == ([3], [3])
        assert positions(channel, "two") == [2], "nobody else has its queue"


async def test_limits_change_while_it_is_open(place: Place) -> None:
    async with place.opened(["one"]) as channel:
        body = b"x" * (1 << 20)
        await channel.submit(Change(puts=[put(channel, body, outputs=["one"]) for _ in range(4)]))
        free = channel.free_bytes()
        assert free > 0
        small = replace(LIMITS, size_bytes_max=4 << 20)
        await channel.work_by(small, ["one"])
        assert channel.free_bytes() == 0
        assert channel.overfull()
        assert channel.stats().dead_bytes_max == 1 << 20
        await channel.work_by(LIMITS, ["one"])
        assert channel.free_bytes() == free


async def test_a_renewal_gives_a_new_id_and_flags_what_waits(place: Place) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
        before = channel.channel_id, channel.origin
        channel.renew("told to")
    async with place.opened() as channel:
        assert channel.channel_id != before[0]
        assert channel.origin != before[1]
        assert channel.entries("one")[0].flagged
        assert before[1] in channel.origins()
        assert "told to" in channel.stats().news


async def test_each_start_has_an_origin_of_its_own(place: Place) -> None:
    origins, numbers = [], []
    for _ in range(3):
        async with place.opened() as channel:
            origins.append(channel.origin)
            numbers.append(channel.life.number)
            await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
            assert set(origins) <= channel.origins().keys()
    assert len(set(origins)) == len(set(numbers)) == 3


async def test_an_output_that_comes_later_gets_what_comes_then(place: Place) -> None:
    async with place.opened(["one"]) as channel:
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
    async with place.opened(["two"]) as channel:
        await channel.submit(Change(puts=[put(channel, outputs=["two"])]))
        assert positions(channel, "one") == [1]
        assert positions(channel, "two") == [2]


async def test_what_is_gone_is_no_fresh_channel(tmp_path: Path) -> None:
    disk = MemoryDisk({})
    place = Place(tmp_path, disk)
    async with place.opened() as channel:
        first = channel.channel_id
    disk.tables.clear()
    async with place.opened() as channel:
        assert channel.channel_id != first
        assert "set aside" in channel.stats().set_aside


async def test_a_copy_of_the_tables_is_an_image_of_the_disk(tmp_path: Path) -> None:
    disk = MemoryDisk({})
    place = Place(tmp_path, disk)
    async with place.opened() as channel:
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
        images = {path: tables.copy() for path, tables in disk.tables.items()}
        await channel.submit(Change(puts=[put(channel, outputs=["one"])], releases=[("one", 1)]))
        assert positions(channel, "one") == [2]
    disk.tables = images
    async with place.opened() as channel:
        assert positions(channel, "one") == [1]


# -- below the channel: the same answers to the same calls --------------------------------------

keys = st.sampled_from([b"a", b"b", b"ba", b"c\x00", b"c\xff", b"d" * 511])
values = st.sampled_from([b"", b"v", b"w" * 2100, b"x" * 9000])
databases = st.sampled_from(["queue", "records", "batches"])
calls = st.one_of(
    st.tuples(st.just("put"), databases, keys, values),
    st.tuples(st.just("append"), databases, keys, values),
    st.tuples(st.just("get"), databases, keys),
    st.tuples(st.just("pop"), databases, keys),
    st.tuples(st.just("delete"), databases, keys),
    st.tuples(st.just("delete range"), databases, keys, st.integers(1, 3)),
    st.tuples(st.just("forwards"), databases, keys),
    st.tuples(st.just("backwards"), databases, keys),
    st.tuples(st.just("all"), databases),
    st.tuples(st.just("entries"), databases),
)
transactions = st.lists(st.tuples(st.lists(calls, max_size=8), st.booleans()), max_size=8)


class Undone(Exception):
    """The transaction is not to take place."""


def answers(environment: Environment, drawn: list[tuple[list[tuple], bool]]) -> list[object]:  # type: ignore[type-arg]
    found: list[object] = []
    begun = environment.last_commit()
    for several, undone in drawn:
        try:
            with environment.writing() as txn:
                found += [answer(txn, environment.db[one[1]], *one) for one in several]
                if undone:
                    raise Undone
        except Undone:
            pass
        with environment.viewing() as views:
            for name in DATABASES:
                found.append([(bytes(k), bytes(v)) for k, v in views.cursor(environment.db[name])])
        with environment.reading() as txn:
            number = txn.id()
        assert number == environment.last_commit()
        found.append(number - begun)
    return found


def answer(txn, db, name: str, _, *rest):  # type: ignore[no-untyped-def]
    if name == "put":
        return txn.put(*rest, db=db)
    if name == "append":
        return txn.put(*rest, append=True, db=db)
    if name in ("get", "pop", "delete"):
        return getattr(txn, name)(rest[0], db=db)
    if name == "all":
        return list(txn.cursor(db))
    if name == "entries":
        return txn.stat(db)["entries"]
    cursor = txn.cursor(db)
    if name == "delete range":
        more = cursor.set_range(rest[0])
        return [(cursor.key(), cursor.delete()) for _ in range(rest[1]) if more and cursor.key()]
    found, more = [], cursor.set_range(rest[0])
    while more:
        found.append(cursor.item())
        more = cursor.next() if name == "forwards" else cursor.prev()
    return found


@settings(max_examples=150)
@given(drawn=transactions)
def test_tables_in_memory_answer_as_lmdb_does(
    drawn: list[tuple[list[tuple], bool]],  # type: ignore[type-arg]
) -> None:
    path = Path(tempfile.mkdtemp(prefix="tiers-contract-"))
    real = Environment(path, 1 << 24)
    memory = MemoryEnvironment(Tables(), path, 1 << 24)
    try:
        assert answers(memory, drawn) == answers(real, drawn)
    finally:
        real.close()
        shutil.rmtree(path)


@pytest.mark.parametrize("make", [Environment, lambda *what: MemoryEnvironment(Tables(1), *what)])
def test_a_map_that_is_full_grows(tmp_path: Path, make: Callable[..., Environment]) -> None:
    environment = make(tmp_path, 1 << 20)
    with pytest.raises(MapFull), environment.writing() as txn:
        for number in range(100):
            txn.put(b"%d" % number, b"x" * 50_000, db=environment.db["batches"])
    with environment.reading() as txn:
        assert txn.stat(environment.db["batches"])["entries"] == 0
    environment.grow(8 << 20)
    with environment.writing() as txn:
        for number in range(100):
            txn.put(b"%d" % number, b"x" * 50_000, db=environment.db["batches"])
    with pytest.raises(lmdb.BadValsizeError), environment.writing() as txn:
        txn.put(b"k" * 512, b"", db=environment.db["records"])
    environment.close()
    with pytest.raises(ChannelUnavailable), environment.reading():
        pass


class MemoryMachine(ChannelMachine):
    """Random changes, as on LMDB: against the same model."""

    def open(self) -> None:
        self.disk = getattr(self, "disk", MemoryDisk({}))
        limits = replace(LIMITS, ask_again=True)
        opening = Channel.open(self.directory, limits, self.model.outputs, disk=self.disk)
        self.channel = self.loop.run_until_complete(opening)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(ChannelMachine.TestCase.settings, max_examples=40)
