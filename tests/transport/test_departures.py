"""Bundles whose records have to come from the disk leave in their turn, and hold up nobody else."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.transport.hop import Hop, a_hop
from tests.transport.parts import SenderSide
from tests.waiting import eventually
from tiers.errors import ChannelUnavailable


@pytest.fixture
async def hop(tmp_path: Path) -> AsyncIterator[Hop]:
    async with a_hop(tmp_path) as made:
        yield made


class Disk:
    """Below a sender: its records come as they are let go."""

    def __init__(self, sender: SenderSide, patch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.asked: list[int] = []
        self.on_loop = 0
        read = sender.channel.record

        def record(position: int) -> bytes:
            self.on_loop += threading.current_thread() is threading.main_thread()
            self.asked.append(position)
            if threading.current_thread() is not threading.main_thread():
                assert self.free.wait(90)
            return read(position)

        patch.setattr(sender.channel, "record", record)


async def test_a_slow_disk_holds_up_no_turn_of_the_loop_and_no_order(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    disk = Disk(sender, monkeypatch)
    await sender.put(range(1, 101), size=2000)
    await eventually(lambda: disk.asked)
    pongs = len(sender.group.sender.peers)
    heard_s = sender.group.sender.peers["agg-1"].heard_s
    await eventually(lambda: sender.group.sender.peers["agg-1"].heard_s > heard_s + 0.2)
    assert (receiver.seqs(), len(sender.group.sender.peers)) == ([], pongs)
    # What is fresh waits behind what is not.
    sender.begun_ms = sender.now_ms()
    await sender.put(range(101, 111), size=2000)
    disk.free.set()
    await sender.empty()
    assert [seq for seq, _ in receiver.stored()] == list(range(1, 111))
    assert not any(flagged for _, flagged in receiver.stored())
    assert disk.on_loop == 0


async def test_what_is_fresh_is_read_on_the_loop(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    disk = Disk(sender, monkeypatch)
    sender.begun_ms = sender.now_ms()
    await sender.put(range(1, 101), size=2000)
    await sender.empty()
    assert receiver.seqs() == list(range(1, 101))
    assert disk.on_loop == len(disk.asked) == 100


async def test_what_was_read_for_a_session_that_is_over_does_not_leave(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    disk = Disk(sender, monkeypatch)
    await sender.put(range(1, 11))
    await eventually(lambda: disk.asked)
    await hop.stop(receiver)
    await eventually(lambda: sender.state() != "up")
    disk.free.set()
    receiver = await hop.receiver()
    await sender.empty()
    assert receiver.seqs() == list(range(1, 11)), "each once"
    assert receiver.end.receiver.discarded == 0, "the bundle of the old session"


async def test_who_is_muted_lets_nothing_leave(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    disk = Disk(sender, monkeypatch)
    await sender.put(range(1, 11))
    await eventually(lambda: disk.asked)
    sender.group.mute()
    disk.free.set()
    assert await sender.outlet.in_thread(lambda: True), "what was being read has been"
    await asyncio.sleep(0)
    assert receiver.end.events_in == 0
    assert sender.left() == 10


async def test_a_channel_that_does_not_answer_in_between_costs_nothing(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    read = sender.channel.record
    fails = [3]

    def record(position: int) -> bytes:
        if position == 5 and fails[0]:
            fails[0] -= 1
            raise ChannelUnavailable("not now")
        return read(position)

    monkeypatch.setattr(sender.channel, "record", record)
    await sender.put(range(1, 11))
    await sender.empty()
    assert sorted(receiver.stored()) == [(seq, False) for seq in range(1, 11)], "each once"
    assert fails == [0]
