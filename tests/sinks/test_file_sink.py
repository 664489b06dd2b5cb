"""The file sink over a real channel: what it publishes, when, and what it does with trouble."""

import re
from dataclasses import replace

import pytest

from tests.core.batches import an_envelope
from tests.metering import number
from tests.sinks.parts import (
    AT,
    OUTPUT,
    MemorySink,
    MemoryStore,
    Said,
    emptied,
    fill,
    published,
    put,
    record,
    running,
    unavailable,
)
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.channel.meters import NEWEST
from tiers.core.batch import BatchId, seal
from tiers.core.change import Change
from tiers.core.codecs import opened_lines
from tiers.core.commit import store_names
from tiers.core.commit.manifest import Manifest, decode
from tiers.core.commit.planned import Plan, encode_plan
from tiers.core.events import Event, pack, read
from tiers.errors import ChannelUnavailable, StoreRefused
from tiers.sinks import formats, meters
from tiers.sinks.files import at_work
from tiers.sinks.files.options import FileOptions

DAY_MS = 86_400_000


def manifests(store: MemoryStore) -> list[Manifest]:
    return [decode(data) for path, data in store.files.items() if "/manifests/" in path]


def writer(channel: Channel) -> str:
    start = channel.life.starts[-1].id.hex()[:16]
    return f"sink-1.{OUTPUT}.{channel.channel_id.hex()[:16]}.{start}"


async def test_what_is_in_the_channel_is_published_and_let_go(channel: Channel) -> None:
    store, said = MemoryStore(), Said(channel)
    await fill(channel, [b"a\nb\n", b"c\n"], headers={"service": "web"})
    await fill(channel, [b"d\n"], 3, headers={"service": "db"}, flagged=True)
    sink = MemorySink(said, store, path="{service}/%Y/%m/%d/%H")
    async with running(sink):
        await emptied(channel)
    files = published(store.files)
    assert {path.rpartition("/")[0]: lines for path, lines in files.items()} == {
        "web/2026/11/23/09": b"a\nb\nc\n",
        "db/2026/11/23/09": b"d\n",
    }
    name = writer(channel)
    assert all(path.rpartition("/")[2].startswith(f"{name}-00000000") for path in files)
    assert all(path.endswith(".log") for path in files)
    told = {m.path: [(i.id.seq, i.events, i.flagged) for i in m.items] for m in manifests(store)}
    assert told == {
        path: [(3, 1, True)] if path.startswith("db") else [(1, 2, False), (2, 1, False)]
        for path in files
    }
    counts, delivered = sink.counts, sink.outlet.counts
    assert (counts.files, counts.flagged) == (2, 1)
    assert (delivered.batches, delivered.events_out, delivered.bytes_out) == (3, 4, 8)
    assert (sink.number(meters.PLANNED), sink.number(meters.HELD)) == (0, 0)
    assert number(sink, NEWEST, OUTPUT) == AT / 1000
    assert delivered.latency.count == 4, "of each event"
    assert sink.status()["last_file"] in files
    assert store.closed
    assert not said.troubles
    assert int.from_bytes(channel.records(b"file/")[b"file/out"], "big") == 2


async def test_a_file_never_mixes_days(channel: Channel) -> None:
    store = MemoryStore()
    for seq, at in enumerate((AT, AT + DAY_MS, AT), 1):
        sealed = record(b"x\n", seq, at=at)
        await channel.submit(Change(puts=[put(sealed, seq, 1)]))
    async with running(MemorySink(Said(channel), store, path="")):
        await emptied(channel)
    assert sorted((m.day, len(m.items)) for m in manifests(store)) == [
        ("2026-11-23", 2),
        ("2026-11-24", 1),
    ]


async def test_a_file_is_due_by_size_then_by_age_then_by_draining(channel: Channel) -> None:
    store = MemoryStore()
    await fill(channel, [b"x" * 99 + b"\n"] * 25)
    sink = MemorySink(Said(channel), store, roll_size=1000, roll_after=3600, writers=1)
    async with running(sink):
        await eventually(lambda: sink.counts.files == 2)
        assert sink.number(meters.HELD) == 5
        sink.drain()
        await emptied(channel)
    assert [len(m.items) for m in manifests(store)] == [10, 10, 5]


async def test_later_batches_wake_it(channel: Channel) -> None:
    store = MemoryStore()
    async with running(MemorySink(Said(channel), store)):
        await eventually(lambda: "list .tiers" in store.seen[-1:])
        await fill(channel, [b"a\n"])
        await emptied(channel)
    assert list(published(store.files).values()) == [b"a\n"]


async def test_a_file_that_is_not_flagged_costs_six_calls(channel: Channel) -> None:
    """Beside its own PUT one small create, two moves, one listing, and whether its day is closed;
    whatever else there is in the store."""
    store = MemoryStore()
    async with running(MemorySink(Said(channel), store, path="")):
        await fill(channel, [b"a\n"])
        await emptied(channel)
        for number in range(50):  # claims and manifests of others
            claim = store_names.claim_path("2026-11-23", BatchId(b"p" * 16, number))
            store._put(claim, b"?")
            store._put(store_names.manifest_path("2026-11-23", f"x.out.0-{number:010d}"), b"?")
        store.seen.clear()
        await fill(channel, [b"b\n"] * 3, 2)
        await emptied(channel)
    rooms = [re.sub(r"[^ ]*/([a-z]+)/[^ ]*|[^ ]*(\.log)", r"\1\2", name) for name in store.seen]
    assert rooms == [
        "write tmp",
        "write tmp",
        "move tmp manifests",
        "list .tiers/2026-11-23/claims",
        "length closed",
        "move tmp .log",
    ]


async def test_file_ids_are_never_used_again(channel: Channel) -> None:
    store = MemoryStore()
    for seq in (1, 2):
        await fill(channel, [b"a\n"], seq)
        async with running(MemorySink(Said(channel), store)):
            await emptied(channel)
    assert [one.file_id for one in manifests(store)] == [1, 2]


@pytest.mark.parametrize("kind", ["text", "events"])
async def test_events_and_lines_in_one_file(channel: Channel, kind: str) -> None:
    """In the file's format, which its manifest says."""
    store = MemoryStore()
    trace = Event({"level": "error"}, b"one\ntwo")
    packed = pack(trace) + pack(Event({}, b"three"))
    options = {"count": 2, "size": len(packed), "headers": {}, "sealed": AT, "time": AT}
    sealed = an_envelope(2, framing="events", codec="none", **options)
    await fill(channel, [b"a line\n"], 1)
    await channel.submit(Change(puts=[put(seal(sealed, packed), 2, 2)]))

    async with running(MemorySink(Said(channel), store, format=kind)):
        await emptied(channel)
    (content,) = published(store.files).values()
    if kind == "text":
        assert content == b"a line\none#012two\nthree\n"
    else:
        assert list(read([content])) == [Event({}, b"a line"), trace, Event({}, b"three")]
    assert [one.format for one in manifests(store)] == [kind]


async def test_a_file_that_was_published_before_a_restart_counts_with_its_events(
    channel: Channel,
) -> None:
    await fill(channel, [b"a\nb\n"])
    (entry,) = channel.entries(OUTPUT)
    plan = Plan("s", 7, "2026-11-23", "a.log", "none", (), [entry.position], 2, 1)
    records = {f"plan/{OUTPUT}/0000000007".encode(): encode_plan(plan)}
    await channel.submit(Change(records=records))
    store = MemoryStore()
    manifest = store_names.manifest_path(plan.day, plan.name)
    store.make_parents(manifest)
    store.files[manifest] = b"what it says is not read"
    sink = MemorySink(Said(channel), store)
    async with running(sink):
        await emptied(channel)
    counts, delivered = sink.counts, sink.outlet.counts
    assert (counts.files, counts.flagged) == (1, 1)
    assert (delivered.batches, delivered.events_out) == (1, 2)


async def test_a_full_channel_hastens_what_is_not_due(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    monkeypatch.setattr(channel, "free_bytes", lambda: 0)
    await fill(channel, [b"a\n"])
    async with running(MemorySink(Said(channel), store, roll_after=3600)):
        await emptied(channel)


async def test_references_held_are_bounded_while_the_store_is_down(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr("tiers.sinks.outlet.HELD_MAX", 10)
    monkeypatch.setattr("tiers.sinks.files.sink.LOAD_MAX", 4)
    store, said = MemoryStore(), Said(channel)
    blocks = [b"line %d\n" % n for n in range(50)]
    await fill(channel, blocks)
    sink = MemorySink(said, store, roll_after=3600)
    held: list[int] = []

    def fail(number: int, _name: str) -> None:
        held.append(sink.number(meters.HELD))
        if 5 < number < 40:
            unavailable()

    store.before = fail
    async with running(sink):
        # The rest may wait for more, and would, for an hour.
        await eventually(lambda: len(channel.entries(OUTPUT)) < 10)
        sink.drain()
        await emptied(channel)
    assert 0 < max(held) <= 13
    lines = b"".join(published(store.files).values()).splitlines(keepends=True)
    assert sorted(lines) == sorted(blocks)


async def test_what_no_file_can_take_goes_to_the_dead_letters(channel: Channel) -> None:
    store = MemoryStore()
    sealed = bytearray(record(b"damaged, somewhere in its body\n", 1))
    sealed[-1] ^= 1
    future = record(b"x\n", 2, at=2**53)
    puts = [put(data, seq, 1) for seq, data in enumerate((bytes(sealed), future), 1)]
    await channel.submit(Change(puts=puts))
    await fill(channel, [b"good\n"], 3)
    sink = MemorySink(Said(channel), store)
    async with running(sink):
        await emptied(channel)
    assert list(published(store.files).values()) == [b"good\n"]
    reasons = {letter.position: letter.reason for letter in channel.dead_letters()}
    assert "checksum" in reasons[1]
    assert "calendar" in reasons[2]
    assert sink.outlet.counts.dead == 2
    # The file with the damaged batch was written in part: it is void, and empty.
    assert [data for path, data in store.files.items() if "/void/" in path] == [b""]


NEWER = {"framing": "columns", "codec": "none"}, {"framing": "lines", "codec": "brotli"}


@pytest.mark.parametrize("words", NEWER, ids=lambda words: "-".join(words.values()))
async def test_what_a_newer_version_sealed_waits_for_the_upgrade(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, words: dict[str, str]
) -> None:
    store, said = MemoryStore(), Said(channel)
    await fill(channel, [b"good\n"], 1)
    sealed = an_envelope(2, count=1, size=6, headers={}, sealed=AT, time=AT, **words)
    whole = seal(sealed, b"newer\n")
    damaged = bytearray(seal(replace(sealed, seq=3), b"newer\n"))
    damaged[-1] ^= 1
    await channel.submit(Change(puts=[put(whole, 2, 1), put(bytes(damaged), 3, 1)]))
    await fill(channel, [b"good as well\n"], 4)
    sink = MemorySink(said, store)
    async with running(sink):
        await eventually(lambda: len(channel.entries(OUTPUT)) == 1)
        await eventually(lambda: "newer version" in said.troubles[-1])
        await eventually(lambda: sink.number(meters.HELD) == 1)
    [waits] = channel.entries(OUTPUT)
    assert waits.position == 2
    assert [letter.position for letter in channel.dead_letters()] == [3], "damage is none"
    assert "1 batches wait, sealed by a newer version (" in said.troubles[-1]
    assert said.troubles[-1].endswith("): upgrade this agent")
    # The upgrade: it knows both.
    monkeypatch.setattr("tiers.sinks.opening.FRAMINGS", ("lines", "columns"))
    monkeypatch.setattr("tiers.sinks.opening.CODECS", ("none", "brotli"))
    monkeypatch.setattr("tiers.core.codecs._open", lambda _, body, *__: iter([bytes(body)]))
    monkeypatch.setattr("tiers.sinks.files.body.proven", opened_lines)
    monkeypatch.setattr(formats.TextFormat, "encode", lambda _, __, body: iter(body))
    async with running(MemorySink(Said(channel), store)):
        await emptied(channel)
    lines = b"".join(published(store.files).values()).splitlines()
    assert sorted(lines) == [b"good", b"good as well", b"newer"]


async def test_trouble_is_said_and_then_over(channel: Channel, impatient: None) -> None:
    store, said = MemoryStore(), Said(channel)

    def refuse(number: int, name: str) -> None:
        if number < 10 and "manifests" in name:
            raise StoreRefused("quota exceeded")

    store.before = refuse
    await fill(channel, [b"a\n"])
    async with running(MemorySink(said, store)):
        await emptied(channel)
        await eventually(lambda: said.troubles[-1] == "")
    assert "quota exceeded" in said.troubles[0]


async def test_a_directory_that_is_refused_does_not_hold_up_the_others(
    channel: Channel, impatient: None
) -> None:
    store, said = MemoryStore(), Said(channel)
    acted: list[bool] = []

    def refuse(_number: int, name: str) -> None:
        if name.startswith("move") and " shut/" in name and not acted:
            raise StoreRefused("permission denied")

    store.before = refuse
    for seq in range(1, 6):
        await fill(channel, [b"shut %d\n" % seq], seq, headers={"service": "shut"})
    await fill(channel, [b"open\n"], 6, headers={"service": "open"})
    sink = MemorySink(said, store, path="{service}", roll_size=1, writers=1)
    async with running(sink):
        await eventually(lambda: sink.counts.files)
        await eventually(lambda: sink.number(meters.PLANNED) == 5)
        assert list(published(store.files).values()) == [b"open\n"]
        assert "permission denied" in said.troubles[-1]
        acted.append(True)
        await emptied(channel)
        await eventually(lambda: said.troubles[-1] == "")
    assert len(published(store.files)) == 6


async def test_no_more_than_so_many_files_wait_for_a_person(
    channel: Channel, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work, "REFUSED_MAX", 3)
    store = MemoryStore()
    acted: list[bool] = []
    planned: list[int] = []

    def refuse(_number: int, name: str) -> None:
        planned.append(sink.number(meters.PLANNED))
        if name.startswith("move") and name.endswith(".log") and not acted:
            raise StoreRefused("permission denied")

    store.before = refuse
    await fill(channel, [b"line\n"] * 10)
    sink = MemorySink(Said(channel), store, roll_size=1, writers=1)
    async with running(sink):
        await eventually(lambda: planned.count(2) > 20)
        acted.append(True)
        await emptied(channel)
    assert max(planned) == 2, "an agent's share of three places"
    assert len(published(store.files)) == 10


async def test_a_channel_that_cannot_be_read_for_a_while(
    channel: Channel, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = MemoryStore(), Said(channel)
    await fill(channel, [b"a\n"])
    read = {"entries": channel.entries, "record": channel.record}
    failed: list[str] = []

    def shaky(name: str) -> object:
        def call(*arguments: object) -> object:
            if failed.count(name) < 3:
                failed.append(name)
                raise ChannelUnavailable("not open at the moment")
            return read[name](*arguments)  # type: ignore[operator]

        return call

    for name in read:
        monkeypatch.setattr(channel, name, shaky(name))
    async with running(MemorySink(said, store)):
        await eventually(lambda: len(failed) == 6)
        monkeypatch.undo()
        await emptied(channel)
    assert list(published(store.files).values()) == [b"a\n"]
    assert not channel.dead_letters()
    assert any("not open" in text for text in said.troubles)


async def test_the_store_id_is_agreed_upon(channel: Channel, impatient: None) -> None:
    store = MemoryStore()
    sinks = [MemorySink(Said(channel), store) for _ in range(2)]
    async with running(sinks[0]), running(sinks[1]):
        await eventually(lambda: all(sink.store_id() for sink in sinks))
    assert len({sink.store_id() for sink in sinks}) == 1
    assert store.files[".tiers/store-id"].decode().strip() == sinks[0].store_id()
    assert not [path for path in store.files if path.endswith(".small")]


async def test_a_damaged_store_id_stops_everything_and_is_said(
    channel: Channel, impatient: None
) -> None:
    store, said = MemoryStore(), Said(channel)
    store.files[".tiers/store-id"] = b"\xff garbage"
    await fill(channel, [b"a\n"])
    async with running(MemorySink(said, store)):
        await eventually(lambda: said.troubles)
    assert "which is no id" in said.troubles[0]
    assert not published(store.files)
    assert channel.entries(OUTPUT)


async def published_once(channel: Channel) -> tuple[MemoryStore, str]:
    """A store that this channel has written to, and its id."""
    store = MemoryStore()
    await fill(channel, [b"a\n"])
    sink = MemorySink(Said(channel), store)
    async with running(sink):
        await emptied(channel)
    return store, sink.store_id()


@pytest.mark.parametrize("found", ["", "f" * 32])
async def test_another_store_in_its_place_is_not_written_to(
    channel: Channel, impatient: None, found: str
) -> None:
    """A file system that was not mounted at this start, or another cluster."""
    _, store_id = await published_once(channel)
    await fill(channel, [b"b\n"], 2)
    other, said = MemoryStore(), Said(channel)
    if found:
        other.files[".tiers/store-id"] = found.encode()
    async with running(MemorySink(said, other)):
        await eventually(lambda: said.troubles)
        assert f"its id was {store_id}, and it is {found or 'gone'} now" in said.troubles[0]
        assert not published(other.files)
        other.files[".tiers/store-id"] = store_id.encode() + b"\n"  # as it says
        await emptied(channel)
    assert list(published(other.files).values()) == [b"b\n"]


async def test_a_store_whose_id_alone_was_removed_gets_it_again(
    channel: Channel, impatient: None
) -> None:
    """By one who tidies up what is old."""
    store, store_id = await published_once(channel)
    del store.files[".tiers/store-id"]
    await fill(channel, [b"b\n"], 2)
    async with running(MemorySink(Said(channel), store)):
        await emptied(channel)
    assert store.files[".tiers/store-id"].decode().strip() == store_id


async def test_a_store_at_another_place_may_be_another(channel: Channel, impatient: None) -> None:
    await published_once(channel)
    await fill(channel, [b"b\n"], 2)
    elsewhere = MemoryStore()
    elsewhere.where = lambda: "moved"  # type: ignore[method-assign]
    async with running(MemorySink(Said(channel), elsewhere)):
        await emptied(channel)
    assert list(published(elsewhere.files).values()) == [b"b\n"]


async def test_a_strangers_file_in_our_place_is_not_replaced(
    channel: Channel, impatient: None
) -> None:
    store, said = MemoryStore(), Said(channel)
    name = f"{writer(channel)}-0000000001.log"
    store.files[name] = b"theirs\n"
    store.directories.add("")
    await fill(channel, [b"ours\n"])
    async with running(MemorySink(said, store, path="")):
        await emptied(channel)
    assert sorted(published(store.files).values()) == [b"ours\n", b"theirs\n"]
    assert store.files[name] == b"theirs\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "/%Q"}, "unknown time code"),
        ({"codec": "lzma"}, "codec"),
        ({"extension": "../x"}, "extension"),
        ({"writers": 0}, "writers"),
        ({"roll_sized": 1}, "roll_sized"),
    ],
)
def test_wrong_options(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FileOptions.model_validate({"type": "x", **options})
