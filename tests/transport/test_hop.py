"""One hop over real sockets and real channels: batches move, once; peers come, go and come back
as others."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from tests.core.batches import a_record
from tests.metering import number
from tests.transport.hop import Hop, a_hop, flows
from tests.transport.parts import (
    PEER_LIMITS,
    ReceiverSide,
    SenderSide,
    Swallower,
    a_free_address,
)
from tests.waiting import eventually
from tiers.channel.channel import Channel
from tiers.channel.meters import NEWEST
from tiers.core.batch import BatchId, verify
from tiers.core.change import Change, ChannelLimits, Put
from tiers.core.dedupe import Content
from tiers.core.hop.arriving import Arrived
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import (
    HEAD_BYTES_MAX,
)
from tiers.errors import ChannelUnavailable
from tiers.transport import meters


@pytest.fixture
async def hop(tmp_path: Path) -> AsyncIterator[Hop]:
    async with a_hop(tmp_path) as made:
        yield made


# -- batches move --------------------------------------------------------------------------------


async def test_batches_move_from_channel_to_channel(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await sender.put(range(1, 301), size=2000)
    await sender.empty()
    assert receiver.seqs() == list(range(1, 301))
    entry = receiver.channel.entries("out")[0]
    assert [stop.agent for stop in entry.hops] == ["edge-1", "agg-1"]
    assert not entry.flagged
    assert (receiver.end.events_in, sender.outlet.counts.events_out) == (900, 900)
    assert receiver.end.bytes_in == sender.outlet.counts.bytes_out > 600_000
    (upstream,) = receiver.end.status()["senders"]
    assert (upstream["agent"], upstream["batches"], upstream["events"]) == ("edge-1", 300, 900)
    (peer,) = sender.group.status()["peers"]
    assert (peer["agent"], peer["state"]) == ("agg-1", "up")
    of_peer = (sender.group.output, "agg-1")
    assert number(sender.group, meters.PEER_UP, *of_peer) == 1
    assert number(sender.group, meters.PEER_BATCHES, *of_peer) == 300
    assert number(sender.group, meters.PEER_IN_FLIGHT, *of_peer) == 0
    assert number(sender.group, NEWEST, sender.group.output) == entry.begun_ms / 1000
    assert receiver.end.ages.count == 300, "each batch says when it began"


async def test_a_receiver_that_comes_late_is_found(hop: Hop) -> None:
    sender = await hop.sender()
    await sender.put(range(1, 11))
    await eventually(lambda: sender.state() == "down", "the peer is down")
    receiver = await hop.receiver()
    await sender.empty()
    assert receiver.stored() == [(seq, False) for seq in range(1, 11)]


async def test_what_is_here_already_is_acked_and_not_stored_again(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    origin = sender.channel.origin
    here = a_record(5, b"x" * 100, origin=origin)
    await receiver.channel.submit(
        Change(puts=[Put(BatchId(origin, 5), here, 3, ("out",), arrived=True)])
    )
    await sender.put(range(1, 11))
    await sender.empty()
    assert receiver.seqs() == list(range(1, 11))
    assert number(receiver.end, meters.DUPLICATES) == 1


async def test_load_is_spread_over_peers(hop: Hop) -> None:
    other = a_free_address()
    one, two = await hop.receiver("r"), await hop.receiver("t", other, name="agg-2")
    sender = await hop.sender(peers={"agg-1": hop.address, "agg-2": other})
    await eventually(lambda: sender.state("agg-1") == sender.state("agg-2") == "up", "both are up")
    for first in range(1, 401, 20):
        await sender.put(range(first, first + 20), size=10_000)
    await sender.empty()
    assert sorted(one.seqs() + two.seqs()) == list(range(1, 401))
    assert 140 <= len(one.seqs()) <= 260


# -- restarts ------------------------------------------------------------------------------------


async def swallowed(hop: Hop, channel: bytes, count: int) -> tuple[SenderSide, Swallower]:
    """A sender that has sent `count` batches to a peer with that channel, and got no ack."""
    peer = Swallower(hop.context, hop.address, channel)
    sender = await hop.sender(limits=replace(PEER_LIMITS, failover_after_s=60.0))
    await sender.put(range(1, count + 1))
    await eventually(lambda: peer.batches() == count, "all are sent")
    return sender, peer


async def test_a_receiver_that_restarts_is_asked_and_nothing_doubles(hop: Hop) -> None:
    channel = await Channel.open(hop.directory / "r", ChannelLimits(free_floor_bytes=0), ("out",))
    sender, peer = await swallowed(hop, channel.channel_id, 20)
    # Half of them it had stored before it died.
    records = [bytes(batch.record) for bundle in peer.bundles for batch in bundle.carried][:10]
    await channel.submit(
        Change(puts=[Put(verify(r).id, r, 3, ("out",), arrived=True) for r in records])
    )
    await channel.close()
    peer.close()
    receiver = await hop.receiver()
    await sender.empty()
    # What it does not know goes on flagged: its disk may have gone back since it was sent there.
    assert sorted(receiver.stored()) == [(seq, seq > 10) for seq in range(1, 21)]
    assert (receiver.end.receiver.duplicates, sender.group.sender.flagged) == (0, 10)


async def test_a_receiver_with_another_disk_gets_them_flagged(
    hop: Hop, caplog: pytest.LogCaptureFixture
) -> None:
    sender, peer = await swallowed(hop, b"gone" * 4, 20)
    peer.close()
    receiver = await hop.receiver()
    await sender.empty()
    assert sorted(receiver.stored()) == [(seq, True) for seq in range(1, 21)]
    assert sender.group.flagged == 20
    await eventually(lambda: "flagged 20 batches" in caplog.text)


async def test_a_peer_that_stays_away_loses_them_to_another_flagged(hop: Hop) -> None:
    other = a_free_address()
    peer = Swallower(hop.context, hop.address, b"gone" * 4)
    sender = await hop.sender(peers={"agg-1": hop.address})
    await sender.put(range(1, 21))
    await eventually(lambda: peer.batches() == 20, "all are sent")
    receiver = await hop.receiver("r", other, name="agg-2")
    sender.group.set_peers({"agg-1": hop.address, "agg-2": other})
    await eventually(lambda: sender.state("agg-2") == "up", "agg-2 is up")
    peer.close()
    await sender.empty()
    assert sorted(receiver.stored()) == [(seq, True) for seq in range(1, 21)]


async def test_a_restarted_sender_flags_what_it_may_have_sent(
    hop: Hop, caplog: pytest.LogCaptureFixture
) -> None:
    sender, peer = await swallowed(hop, b"gone" * 4, 20)
    await hop.stop(sender)
    peer.close()
    sender = await hop.sender()
    await sender.put(range(21, 31))
    await eventually(lambda: sender.group.flagged == 20)
    await eventually(lambda: "flagged 20 batches" in caplog.text)
    receiver = await hop.receiver()
    await sender.empty()
    assert sorted(receiver.stored()) == [(seq, seq <= 20) for seq in range(1, 31)]


def more_than(receiver: ReceiverSide, batches: int) -> bool:
    return receiver.channel.stats().batches > batches


async def test_a_receiver_restarted_in_mid_stream(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    for turn in range(4):
        done = sender.put(range(turn * 300 + 1, turn * 300 + 301), size=5000)
        await eventually(partial(more_than, receiver, turn * 300), "some have arrived")
        await hop.stop(receiver)
        receiver = await hop.receiver()
        await done
    await sender.empty()
    assert receiver.seqs() == list(range(1, 1201))


async def test_an_address_that_changes_is_followed(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await sender.put(range(1, 6))
    await sender.empty()
    await hop.stop(receiver)
    hop.address = a_free_address()
    receiver = await hop.receiver()
    sender.group.set_peers({"agg-1": hop.address})
    await sender.put(range(6, 11))
    await sender.empty()
    assert receiver.seqs() == list(range(1, 11))
    assert sender.group.status()["peers"][0]["address"] == str(hop.address)


# -- dead letters --------------------------------------------------------------------------------


async def test_what_is_too_large_goes_to_the_dead_letters(hop: Hop) -> None:
    limits = ReceiverLimits(message_size_max=HEAD_BYTES_MAX + 50_000)
    receiver, sender = await hop.receiver(limits=limits), await hop.sender()
    await sender.put([1])
    await sender.put([2], size=60_000)
    await sender.put([3])
    await sender.empty()
    assert receiver.seqs() == [1, 3]
    (letter,) = sender.channel.dead_letters()
    assert "agg-1 takes at most 50000" in letter.reason
    assert verify(letter.record).seq == 2


async def test_a_damaged_record_goes_to_the_dead_letters_and_the_rest_flows(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    origin = sender.channel.origin
    records = [bytearray(a_record(seq, b"x" * 100, origin=origin)) for seq in range(1, 11)]
    records[3][-1] ^= 1  # its body: found when it is read to be sent
    records[6][10] ^= 1  # its envelope: found when it is queued
    await sender.put_records({n: bytes(one) for n, one in enumerate(records, 1)})
    await sender.empty()
    assert receiver.seqs() == [1, 2, 3, 5, 6, 8, 9, 10]
    letters = sender.channel.dead_letters()
    assert sorted(letter.position for letter in letters) == [4, 7]
    assert all(letter.reason for letter in letters)
    assert len(sender.troubles) == 2
    await flows(sender, receiver)


async def test_nothing_but_damaged_records(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    damaged = bytearray(a_record(1, origin=sender.channel.origin))
    damaged[-1] ^= 1
    await sender.put_records({1: bytes(damaged)})
    await sender.empty()
    assert len(sender.channel.dead_letters()) == 1
    await flows(sender, receiver)


# -- credit, leaving -----------------------------------------------------------------------------


async def test_a_full_share_of_a_channel_stops_the_sender_until_there_is_room(hop: Hop) -> None:
    receiver = await hop.receiver(
        limits=ReceiverLimits(window_bytes_max=200_000),
        channel_limits=ChannelLimits(size_bytes_max=4 << 20, high=0.5, low=0.3, free_floor_bytes=0),
    )
    sender = await hop.sender()
    for first in range(1, 401, 50):
        await sender.put(range(first, first + 50), size=20_000)  # 8 MB
    await eventually(lambda: receiver.channel.over() == ["edge-1"], "it has its share")
    assert receiver.channel.free_bytes() > 0, "others find room"
    await eventually(
        lambda: (
            number(sender.group, meters.PEER_CREDIT, sender.group.output, "agg-1") == 0
            and sender.group.sender.in_flight() == 0
        ),
        "the sender waits",
    )
    held = len(receiver.seqs())
    assert 50 < held < 150
    await eventually(lambda: sender.left() == 400 - held, "what was acked is released")
    assert sender.state() == "up"  # waiting is not failing
    arrived: set[int] = set()
    while sender.left() or receiver.stored():
        positions = [entry.position for entry in receiver.channel.entries("out")]
        arrived |= {verify(receiver.channel.record(position)).seq for position in positions}
        await receiver.channel.submit(Change(releases=[("out", each) for each in positions]))
        await asyncio.sleep(0)
    assert arrived == set(range(1, 401))


async def test_a_draining_receiver_is_left_by_its_senders(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await flows(sender, receiver)
    receiver.end.drain()
    await eventually(receiver.end.settled, "the senders have left")
    assert "draining" in sender.error()
    await sender.put(range(1, 6))
    await eventually(lambda: sender.group.sender.outstanding() == 5, "they wait")
    assert sender.group.sender.in_flight() == 0
    assert not set(receiver.seqs()) & set(range(1, 6))


async def test_a_group_without_peers_settles_and_says_goodbye(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await sender.put(range(1, 101), size=10_000)
    await eventually(receiver.seqs, "some have arrived")
    sender.group.set_peers({})
    await asyncio.wait_for(sender.group.settled(), 20)
    assert sender.group.status()["peers"] == []
    await eventually(lambda: not receiver.end.receiver.senders, "it was told")
    # What was sent was acked and is gone; the rest is still here, and nothing is in between.
    await eventually(lambda: len(receiver.seqs()) + sender.left() == 100, "released")
    sender.group.set_peers({"agg-1": hop.address})
    await sender.empty()
    assert receiver.stored() == [(seq, False) for seq in range(1, 101)]


# -- a channel that cannot be read for a while ---------------------------------------------------


@pytest.mark.parametrize("which", ["sender", "receiver"])
async def test_a_channel_that_cannot_be_read_for_a_while_costs_nothing(
    hop: Hop, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its file is to be opened anew after a failed write, and that fails too."""
    receiver = await hop.receiver()
    sender = await hop.sender(limits=replace(PEER_LIMITS, ack_timeout_s=0.5))
    await flows(sender, receiver)
    channel = sender.channel if which == "sender" else receiver.channel
    failures = 0
    escaped: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))

    def failing() -> NoReturn:
        nonlocal failures
        failures += 1
        raise ChannelUnavailable("the channel file is not open at the moment")

    with monkeypatch.context() as patch:
        patch.setattr(channel, "_reading", failing)
        await sender.put(range(1, 51))
        await eventually(lambda: failures > 5, "it was tried")
    await sender.empty()
    assert set(range(1, 51)) <= set(receiver.seqs())
    await flows(sender, receiver)
    assert escaped == []


async def test_what_a_commit_did_not_store_is_not_acked(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few seeds of the simulator show it: an agent ends with its channel, mostly before an ack."""
    receiver = await hop.receiver()
    sender = await hop.sender(limits=replace(PEER_LIMITS, ack_timeout_s=0.5))
    await flows(sender, receiver)
    stored = len(receiver.stored())
    failed = 0

    def fails(_change: Change) -> "asyncio.Future[tuple[int, ...]]":
        nonlocal failed
        failed += 1
        future: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        future.set_exception(ChannelUnavailable("the disk is gone"))
        return future

    monkeypatch.setattr(receiver.channel, "submit", fails)
    await sender.put(range(1, 51))
    # Nothing is acked, so the session is given up: by then an ack would have come.
    peer = sender.group.sender.peers["agg-1"]
    session = peer.session
    await eventually(lambda: failed and peer.session != session, "its acks are late")
    assert sender.left() == 50
    assert len(receiver.stored()) == stored


async def test_acks_of_a_large_commit_take_several_turns_of_the_loop(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = await hop.receiver()
    end, tell, told = receiver.end, receiver.end._stored, list[tuple[int, int]]()
    turns = 0

    def in_this_turn(contents: Iterable[Content]) -> None:
        taken = list(contents)
        told.append((turns, len(taken)))
        tell(taken)

    def next_turn() -> None:
        nonlocal turns
        turns += 1
        if sum(count for _, count in told) < 600:
            asyncio.get_running_loop().call_soon(next_turn)

    monkeypatch.setattr(end, "_stored", in_this_turn)
    records = [a_record(seq) for seq in range(1, 601)]
    opened = [(record, verify(record)) for record in records]
    arrived = [Arrived(Content(e.id, e.crc), record, e, False, ()) for record, e in opened]
    end._append(arrived[:400])
    end._append(arrived[400:])
    next_turn()
    await eventually(lambda: sum(count for _, count in told) == 600, "all are told of")
    assert max(count for _, count in told) == 256
    assert len({turn for turn, _ in told}) == len(told)
    assert receiver.seqs() == list(range(1, 601))
