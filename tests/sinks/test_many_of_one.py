"""Whatever one sender leaves to a sink, in whatever kind and number, the others' batches are
published in their turn, and what is in memory stays below its limit."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.sinks.parts import AT, OUTPUT, MemorySink, MemoryStore, Said, published, record, running
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId, Hop
from tiers.core.change import Change, ChannelLimits, Put
from tiers.core.commit import store_names
from tiers.core.commit.claim import Claim, encode_claim
from tiers.errors import StoreRefused
from tiers.sinks import meters

MANY: Final = 100
DAY_MS: Final = 86_400_000
NEVER = 2**53  # no calendar has it
FLOOD, EDGE = b"f" * 16, b"e" * 16
SMALL = ChannelLimits(size_bytes_max=1 << 20, free_floor_bytes=0)


class Kind(NamedTuple):
    """The n-th batch of the flood: its headers, when it was sealed, its framing, its flag."""

    headers: Callable[[int], dict[str, str]] = lambda n: {"service": "flood"}
    at: Callable[[int], int] = lambda n: AT
    framing: str = "lines"
    flagged: bool = False
    claimed: bytes = b"by another"  # what is in the claim, where it is flagged
    most_before: int = 25  # files of the flood that may be published before the others' one


KINDS = {
    "a bucket for each batch": Kind(headers=lambda n: {"service": f"flood {n}"}),
    "a day for each batch": Kind(at=lambda n: AT - (n + 1) * DAY_MS),
    "nothing that a file can take": Kind(at=lambda n: NEVER),
    "all sealed by a newer version": Kind(framing="columns"),
    "all flagged": Kind(headers=lambda n: {"service": f"flood {n}"}, flagged=True, claimed=b""),
    "all claimed by a sink that is gone": Kind(flagged=True),
    "all claimed by nobody can read whom": Kind(flagged=True, claimed=b"?"),
    "all claimed, a bucket for each": Kind(
        headers=lambda n: {"service": f"flood {n}"}, flagged=True
    ),
}


def a_put(seq: int, origin: bytes, agent: str, kind: Kind) -> Put:
    line = b"%s %d\n" % (agent.encode(), seq)
    sealed = record(
        line, seq, origin=origin, headers=kind.headers(seq), at=kind.at(seq), framing=kind.framing
    )
    hops = (Hop(agent, AT), Hop("agg-1", AT))
    return Put(BatchId(origin, seq), sealed, 1, [OUTPUT], flagged=kind.flagged, hops=hops)


def claim_all(store: MemoryStore, kind: Kind) -> None:
    for seq in range(1, MANY + 1):
        batch = BatchId(FLOOD, seq)
        text = encode_claim(Claim("sink-9.out", batch, 7)) if kind.claimed != b"?" else b"?"
        store._put(store_names.claim_path("2026-11-23", batch), text)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_a_flood_of_one_takes_nobodys_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setattr("tiers.sinks.outlet.HELD_MAX", 40)
    monkeypatch.setattr("tiers.sinks.files.sink.BUCKETS_MAX", 12)
    monkeypatch.setattr("tiers.sinks.files.sink.LOAD_MAX", 10)
    store, most = MemoryStore(), 0
    if kind.flagged and kind.claimed:
        claim_all(store, kind)
    channel = await Channel.open(tmp_path, SMALL, [OUTPUT])
    flood = [a_put(seq, FLOOD, "flood", kind) for seq in range(1, MANY + 1)]
    await channel.submit(Change(puts=flood))
    ours = Kind(headers=lambda n: {"service": "web"})
    await channel.submit(Change(puts=[a_put(seq, EDGE, "edge-1", ours) for seq in range(1, 4)]))

    sink = MemorySink(Said(channel), store, path="{service}/%Y%m%d", takeover_after="1h", writers=1)

    def lines() -> list[bytes]:
        nonlocal most
        most = max(most, sink.number(meters.HELD))
        texts = published(dict(store.files)).values()
        return [line for text in texts for line in text.splitlines()]

    async with running(sink):
        await eventually(lambda: b"edge-1 3" in lines(), "the others are published")
        in_order = lines()
        before = sum(
            1 for line in in_order[: in_order.index(b"edge-1 3")] if line.startswith(b"flood")
        )
        assert before <= kind.most_before, "by turns, and not after all of them"
        assert most <= 60, "references in memory"
        if kind.framing != "lines":
            assert sink.number(meters.HELD) > 0, "what waits is counted"
        elif not kind.flagged or not kind.claimed:
            await eventually(lambda: not channel.entries(OUTPUT), "all has an end")
    left = sum(1 for entry in channel.entries(OUTPUT) if entry.agent == "flood")
    dead = channel.stats().dead
    published_lines = [line for line in lines() if line.startswith(b"flood")]
    assert left + dead + len(published_lines) == MANY, "nothing is lost"
    assert len(set(published_lines)) == len(published_lines)
    await channel.close()


async def test_what_a_store_refuses_of_one_leaves_room_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for those that came after a restart, which finds the refused ones planned."""
    monkeypatch.setattr("tiers.sinks.files.at_work.REFUSED_MAX", 10)
    store = MemoryStore()

    def refuse(_number: int, name: str) -> None:
        if name.startswith("move") and " flood" in name:
            raise StoreRefused("permission denied")

    store.before = refuse
    channel = await Channel.open(tmp_path, SMALL, [OUTPUT])
    kind = Kind(headers=lambda n: {"service": f"flood{n}"})
    await channel.submit(Change(puts=[a_put(n, FLOOD, "flood", kind) for n in range(1, MANY + 1)]))
    ours = Kind(headers=lambda n: {"service": "web"})
    for seq in range(1, 6):
        sink = MemorySink(Said(channel), store, path="{service}", writers=1)
        async with running(sink):
            await eventually(lambda: sink.number(meters.PLANNED) >= 8)  # noqa: B023
            await channel.submit(Change(puts=[a_put(seq, EDGE, "edge-1", ours)]))
            line = b"edge-1 %d" % seq
            await eventually(lambda: line in b"".join(published(dict(store.files)).values()))  # noqa: B023
            await eventually(lambda: len(channel.entries(OUTPUT)) == MANY, "it is let go of")
    assert len(channel.entries(OUTPUT)) == MANY, "all that was refused waits"
    await channel.close()


async def look_at_all(channel: Channel, store: MemoryStore) -> None:
    waiting = len(channel.entries(OUTPUT, limit=5000))
    sink = MemorySink(Said(channel), store, path="{service}")
    async with running(sink):
        await eventually(lambda: sink.outlet.counts.dead == waiting)
        await channel.submit(Change())


async def test_undeliverable_ones_wait_once_the_dead_letters_of_their_agent_are_full(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    channel = await Channel.open(tmp_path, SMALL, [OUTPUT])
    flood = Kind(at=lambda n: NEVER)
    seq = 0
    while channel.room_of("flood"):
        puts = [a_put(seq + n, FLOOD, "flood", flood) for n in range(1, 101)]
        seq += 100
        await channel.submit(Change(puts=puts))
        await look_at_all(channel, store)
        assert seq < 100_000, "its room has no end"
    stats = channel.stats()
    assert stats.undeliverable["flood"] + stats.dead == seq
    assert stats.dead_bytes <= stats.dead_bytes_max
    ours = Kind(headers=lambda n: {"service": "web"})
    assert channel.room_of("edge-1") > 0
    await channel.submit(Change(puts=[a_put(1, EDGE, "edge-1", ours)]))
    async with running(MemorySink(Said(channel), store, path="{service}")):
        await eventually(lambda: b"edge-1 1\n" in published(dict(store.files)).values())
    await channel.close()
