"""`guarantee = "end"` over real sockets and channels: batches are kept until they are published,
while channels are full, disks are full, ends restart, and the guarantee changes."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.channel.making import fill, tmpfs
from tests.metering import number
from tests.transport.hop import Hop, a_hop
from tests.transport.parts import PEER_LIMITS, ReceiverSide, SenderSide
from tests.waiting import eventually
from tiers.core.change import Change, ChannelLimits
from tiers.core.hop.assigning import SenderEffects
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import Guarantee
from tiers.core.hop.peers import Pending
from tiers.core.hop.sender import Sender
from tiers.transport import meters

SMALL = ChannelLimits(size_bytes_max=4 << 20, high=0.5, low=0.3, free_floor_bytes=0)
ASKING = replace(PEER_LIMITS, ask_again_s=1.0)


@pytest.fixture
async def hop(tmp_path: Path) -> AsyncIterator[Hop]:
    async with a_hop(tmp_path) as made:
        yield made


def handed(sender: SenderSide) -> int:
    return int(number(sender.group, meters.HANDED, sender.group.output))


async def all_handed(sender: SenderSide, count: int) -> None:
    await eventually(lambda: handed(sender) == count, f"{count} batches are handed on")


async def publish(receiver: ReceiverSide, most: int = 10_000) -> list[int]:
    """As a sink would: seqs of what the receiver's channel held and does no more."""
    entries = receiver.channel.entries("out", limit=most)
    releases = [("out", entry.position) for entry in entries]
    await receiver.channel.submit(Change(releases=releases))
    return [entry.id.seq for entry in entries]


async def publish_all(sender: SenderSide, receiver: ReceiverSide) -> list[int]:
    """Until the sender has nothing left: all that was published, in order of seq."""
    published = []
    async with asyncio.timeout(60):
        while sender.left():
            published += await publish(receiver)
            await asyncio.sleep(0)
    return sorted(published)


def flagged(receiver: ReceiverSide) -> list[int]:
    return [seq for seq, flag in receiver.stored() if flag]


async def put(sender: SenderSide, seqs: Iterable[int], size: int = 100) -> None:
    await sender.put(seqs, size=size)


async def test_a_full_edge_before_a_full_tier_flows_on(hop: Hop) -> None:
    """Each waits for the other: the edge for receipts, which need commits at both."""
    receiver = await hop.receiver(
        guarantee="end", channel_limits=SMALL, limits=ReceiverLimits(window_bytes_max=200_000)
    )
    sender = await hop.sender(guarantee="end", channel_limits=SMALL)
    count = 0
    while sender.channel.free_bytes() > 0:
        await put(sender, range(count + 1, count + 11), size=20_000)
        count += 10
    await eventually(lambda: receiver.channel.over() or handed(sender) == count, "full")
    assert sender.left() == count, "nothing was published, so nothing is let go of"
    assert sender.state() == "up"
    more = asyncio.ensure_future(sender.channel.wait_room())
    assert await publish_all(sender, receiver) == [*range(1, count + 1)]
    await asyncio.wait_for(more, 20)
    await put(sender, [count + 1])
    assert await publish_all(sender, receiver) == [count + 1]


async def test_a_full_disk_keeps_what_was_handed_on_and_flows_on(hop: Hop, tmp_path: Path) -> None:
    receiver = await hop.receiver(guarantee="end")
    with tmpfs(tmp_path / "disk", 24 << 20) as disk:
        sender = await hop.sender("disk/s", guarantee="end", limits=ASKING)
        await put(sender, range(1, 201), size=20_000)
        await all_handed(sender, 200)
        fill(disk / "filled")
        assert len(await publish(receiver)) == 200
        late = sender.put(range(201, 601), size=20_000)
        await eventually(lambda: late.done() or sender.channel.stats().trouble, "it was tried")
        (disk / "filled").unlink()
        await late
        assert await publish_all(sender, receiver) == [*range(201, 601)]
        assert not sender.channel.stats().trouble
        await hop.stop(sender)


async def test_both_restart_and_nothing_is_sent_again(hop: Hop) -> None:
    receiver = await hop.receiver(guarantee="end")
    sender = await hop.sender(guarantee="end", limits=ASKING)
    await put(sender, range(1, 51))
    await all_handed(sender, 50)
    await hop.stop(sender)
    await hop.stop(receiver)
    receiver = await hop.receiver(guarantee="end")
    await publish(receiver, 20)  # while nobody waits for the receipts
    sender = await hop.sender(guarantee="end", limits=ASKING)
    await all_handed(sender, 30)
    await eventually(lambda: sender.left() == 30, "what was published is let go of")
    assert receiver.end.receiver.duplicates == 0
    assert await publish_all(sender, receiver) == [*range(21, 51)]


async def test_a_peer_with_an_empty_disk_gets_it_again_flagged(hop: Hop) -> None:
    receiver = await hop.receiver(guarantee="end")
    sender = await hop.sender(guarantee="end")
    await put(sender, range(1, 21))
    await all_handed(sender, 20)
    await hop.stop(receiver)
    receiver = await hop.receiver("t", guarantee="end")
    await eventually(lambda: flagged(receiver) == [*range(1, 21)], "all of it came again")
    assert await publish_all(sender, receiver) == [*range(1, 21)]


@pytest.mark.parametrize("taken_out", [True, False])
async def test_a_peer_that_moves_or_is_taken_out_and_put_back(hop: Hop, taken_out: bool) -> None:
    receiver = await hop.receiver(guarantee="end")
    sender = await hop.sender(guarantee="end")
    await put(sender, range(1, 21))
    await all_handed(sender, 20)
    if taken_out:
        sender.group.set_peers({})
        assert sender.group.sender.peers["agg-1"].leaving
    else:
        await hop.stop(receiver)
        hop.move()
        receiver = await hop.receiver(guarantee="end")
    sender.group.set_peers({"agg-1": hop.address})
    await eventually(lambda: sender.state() == "up", "the session is on")
    assert await publish_all(sender, receiver) == [*range(1, 21)]
    assert receiver.end.receiver.duplicates == 0


@pytest.mark.parametrize("steps", [("hop", "end"), ("end", "hop"), ("end", "hop", "end")])
async def test_the_guarantee_changes_with_batches_in_the_channels(
    hop: Hop, steps: tuple[Guarantee, ...]
) -> None:
    """Every end is restarted for it, first the receiver."""
    count = 0
    published: list[int] = []
    for step in steps:
        receiver = await hop.receiver(guarantee=step)
        sender = await hop.sender(guarantee=step)
        await put(sender, range(count + 1, count + 21))
        count += 20
        what = "all of it is there"
        await eventually(lambda: len(receiver.seqs()) + len(published) == count, what)  # noqa: B023
        published += await publish(receiver, 7)
        if step == "hop":
            await sender.empty()
        await hop.stop(sender)
        await hop.stop(receiver)
    receiver = await hop.receiver(guarantee=steps[-1])
    sender = await hop.sender(guarantee=steps[-1])
    published += await publish_all(sender, receiver)
    published += await publish(receiver)
    assert sorted(published) == [*range(1, count + 1)]


async def test_very_many_that_were_handed_on_are_read_in_several_turns(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once they would hold up the loop, and with it every peer's heartbeat."""
    await hop.receiver(guarantee="end")
    sender = await hop.sender(guarantee="end")
    await put(sender, range(1, 26))
    await all_handed(sender, 25)
    await hop.stop(sender)
    for module in ("tiers.core.hop.sender", "tiers.transport.sending"):
        monkeypatch.setattr(f"{module}.QUEUE_BATCHES_MAX", 10)
    offered: list[int] = []
    offer = Sender.offer

    def counting(self: Sender, batches: Sequence[Pending], now: float) -> SenderEffects:
        offered.append(len(batches))
        return offer(self, batches, now)

    monkeypatch.setattr(Sender, "offer", counting)
    sender = await hop.sender(guarantee="end")
    await all_handed(sender, 25)
    assert offered == [10, 10, 5]
