"""What a first agent takes of a channel's room, and that nobody else goes without for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.channel.making import LIMITS, opened, record
from tiers.channel.accounts import AccountChange, counted
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId, Hop
from tiers.core.change import Change, Put
from tiers.core.quota import SHARE

SMALL = replace(LIMITS, size_bytes_max=8 << 20)
BOTH = ("out", "archive")


def from_agents(
    *agents: str, seq: int, size: int = 50_000, outputs: Sequence[str] = ("out",)
) -> Put:
    """A batch that came over these agents, the first first."""
    origin = agents[0].encode().ljust(16, b"\0") if agents else b"?" * 16
    hops = tuple(Hop(agent, 1) for agent in agents)
    sealed = record(origin, seq, bytes(size - 1) + b"\n")
    return Put(BatchId(origin, seq), sealed, 1, outputs, hops=hops, arrived=True)


async def recounted(channel: Channel) -> dict[str, AccountChange]:
    environment = channel._environment
    with environment.reading() as txn:
        found = counted(environment, txn, channel._limits.size_bytes_max)
    return found.by_agent


def without_kept(channel: Channel) -> dict[str, AccountChange]:
    there = channel.accounts.by_agent.items()
    moves = {agent: move._replace(kept=0, seen=0) for agent, move in there}
    return {agent: move for agent, move in moves.items() if any(move)}


async def bury_all(channel: Channel, puts: Sequence[Put], how: str) -> None:
    positions = await channel.submit(Change(puts=puts))
    letters = [("out", position, "it has no day") for position in positions]
    await channel.submit(Change(**{how: letters}))  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["dead", "damaged"])
@pytest.mark.parametrize("over", [(), ("agg-1",), ("agg-1", "agg-2")])
async def test_dead_letters_of_one_leave_room_for_all_others(
    tmp_path: Path, how: str, over: tuple[str, ...]
) -> None:
    async with opened(tmp_path, SMALL) as channel:
        most = SMALL.size_bytes_max // 4
        flood = [from_agents("flood", *over, seq=seq) for seq in range(1, 80)]
        await bury_all(channel, flood, how)
        stats = channel.stats()
        assert most // 2 < stats.dead_bytes <= most * SHARE // (SHARE + 1)
        kept = stats.undeliverable["flood"]
        assert stats.dead + kept == 79, "not one is rejected, buried or forgotten"
        assert stats.queues["out"].batches == kept
        assert channel.room_of("flood") == 0 and "flood" in channel.over()

        await bury_all(channel, [from_agents("edge-1", *over, seq=seq) for seq in (1, 2)], how)
        assert channel.stats().dead == stats.dead + 2, "it has room of its own"
        assert channel.room_of("edge-1") > 0 and "edge-1" not in channel.over()
        before = without_kept(channel)
    async with opened(tmp_path, SMALL) as channel:
        assert channel.accounts.by_agent == before


async def test_dead_letters_in_all_have_an_end(tmp_path: Path) -> None:
    async with opened(tmp_path, SMALL) as channel:
        for number in range(12):
            puts = [from_agents(f"edge-{number}", seq=seq) for seq in range(1, 12)]
            await bury_all(channel, puts, "dead")
        stats = channel.stats()
        assert stats.dead_bytes <= stats.dead_bytes_max == SMALL.size_bytes_max // 4
        assert stats.dead + sum(stats.undeliverable.values()) == 132
        assert channel.free_bytes() > 0


async def test_one_that_fills_its_share_leaves_room_for_others(tmp_path: Path) -> None:
    async with opened(tmp_path, SMALL) as channel:
        seq = 0
        while channel.room_of("hog"):
            seq += 1
            await channel.submit(Change(puts=[from_agents("hog", "agg-1", seq=seq)]))
        assert channel.over() == ["hog"]
        free = channel.free_bytes()
        assert free > SMALL.size_bytes_max * SMALL.high / (SHARE + 3)
        assert channel.room_of("edge-1") == free * SHARE // (SHARE + 1)
        assert channel.room_of("agg-1") == channel.room_of("edge-1"), "it only carried them"
        releases = [("out", position) for position in range(1, seq // 2)]
        await channel.submit(Change(releases=releases))
        assert channel.room_of("hog") and not channel.over()


@pytest.mark.parametrize("seed", range(6))
async def test_accounts_are_what_is_there(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    async with opened(tmp_path, SMALL, BOTH) as channel:
        waiting: list[tuple[str, int]] = []
        for step in range(60):
            agents = random.choice([("a",), ("b", "agg"), ("c", "agg"), ()])
            outputs = random.choice([BOTH, ("out",), ("archive",)])
            size = random.choice([100, 30_000, 90_000])
            put = from_agents(*agents, seq=step + 1, size=size, outputs=outputs)
            (position,) = await channel.submit(Change(puts=[put, put][:1]))
            waiting += [(output, position) for output in outputs]
            random.shuffle(waiting)
            gone = [waiting.pop() for _ in range(random.randrange(min(4, len(waiting) + 1)))]
            if random.random() < 0.5:
                await channel.submit(Change(releases=gone))
            else:
                await channel.submit(Change(dead=[(*one, "why") for one in gone]))
            assert await recounted(channel) == without_kept(channel)
            dead = sum(move.dead for move in channel.accounts.by_agent.values())
            assert dead == channel.accounts.dead_bytes


async def test_ids_of_thousands_of_origins_take_no_more_than_a_share(tmp_path: Path) -> None:
    """What is remembered of batches that are long gone is room, too."""
    limits = replace(SMALL, size_bytes_max=1 << 20, dedupe_retention_s=600.0)
    async with opened(tmp_path, limits) as channel:
        count = 0
        while channel.room_of("flood"):
            puts = []
            for number in range(count + 1, count + 101):
                origin = number.to_bytes(16, "big")
                hops = (Hop("flood", 1),)
                sealed = record(origin, 1)
                puts.append(Put(BatchId(origin, 1), sealed, 1, ("out",), hops=hops, arrived=True))
            positions = await channel.submit(Change(puts=puts))
            await channel.submit(Change(releases=[("out", one) for one in positions]))
            count += 100
            assert count < 20_000, "there is no end to it"
        assert channel.room_of("edge-1") > 0 and channel.over() == ["flood"]
        channel.accounts.fade(0.5)
        assert channel.room_of("flood") > 0, "what is forgotten makes room"
        channel.accounts.fade(1.0)
        assert not channel.accounts.by_agent


async def test_ids_in_a_row_cost_next_to_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, SMALL) as channel:
        for seq in range(1, 200):
            (position,) = await channel.submit(Change(puts=[from_agents("a", seq=seq, size=100)]))
            await channel.submit(Change(releases=[("out", position)]))
        assert channel.accounts.by_agent["a"].room <= 512
