"""A hundred senders on real sockets, and a disk that stands still: what they may have sent is
bounded by `receive_memory` and a batch of each, as README says."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq

from tests.core.batches import a_record
from tests.metering import number
from tests.transport.hop import Hop, a_hop
from tests.transport.parts import ReceiverSide, Stranger
from tiers.core.change import Change
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import (
    PROTOCOL,
    Ack,
    Bundle,
    Carried,
    Hello,
    Ping,
    Pong,
    Welcome,
    encode,
    encode_bundle,
)
from tiers.transport import meters

SENDERS = 100
MEMORY_BYTES = 4 << 20
BATCH_BYTES = 100_000


@pytest.fixture
async def hop(tmp_path: Path) -> AsyncIterator[Hop]:
    async with a_hop(tmp_path) as made:
        yield made


class Honest:
    """Sends all that it has credit for, the last batch beyond it, and asks for more."""

    def __init__(self, stranger: Stranger, number: int) -> None:
        self.words = stranger
        self.name = f"edge-{number}"
        self.channel = number.to_bytes(16, "big")
        self.seq = self.acked = self.turns = 0
        self.all_sent = 0
        stranger.push.setsockopt(zmq.SNDHWM, 1)
        self.hello()

    def hello(self) -> None:
        self.limit = self.sent = self.bundles = 0
        self.welcome: Welcome | None = None
        session = self.turns.to_bytes(8, "big")
        hello = Hello(PROTOCOL, "web-logs", self.name, self.channel, session)
        self.words.dealer.send(encode(hello))

    def turn(self) -> None:
        self.turns += 1
        while (word := self.words.heard()) is not None:
            if isinstance(word, Welcome):
                self.welcome = word
            if isinstance(word, Ack):
                self.acked += len(word.stored)
            if isinstance(word, Pong) and not word.session and self.welcome is not None:
                self.hello()  # it was held against it that it had credit and did not use it
            elif isinstance(word, Welcome | Ack | Pong):
                self.limit = max(self.limit, word.limit)
        if self.welcome is None:
            return
        while self.limit > self.sent and self.words.push.poll(0, zmq.POLLOUT):
            self.bundles, self.seq = self.bundles + 1, self.seq + 1
            record = a_record(self.seq, bytes(BATCH_BYTES), origin=self.channel)
            of = (self.welcome.token, self.channel, self.welcome.channel, self.bundles)
            self.words.push.send(encode_bundle(Bundle(*of, [Carried(record, False, ())])))
            self.sent += len(record)
            self.all_sent += len(record)
        if self.turns % 10 == 0 or self.limit <= self.sent:
            self.words.dealer.send(encode(Ping(self.welcome.token, 1, BATCH_BYTES)))


class StandingDisk:
    """Takes what is to be stored, and stores it once it goes on."""

    def __init__(self, receiver: ReceiverSide, patch: pytest.MonkeyPatch) -> None:
        self._submit = receiver.channel.submit
        self._waiting: list[tuple[Change, asyncio.Future[tuple[int, ...]]]] = []
        patch.setattr(receiver.channel, "submit", self._wait)

    def _wait(self, change: Change) -> "asyncio.Future[tuple[int, ...]]":
        done: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        return done

    async def go_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        stored = await asyncio.gather(*(self._submit(change) for change, _ in waiting))
        for (_, done), answer in zip(waiting, stored, strict=True):
            done.set_result(answer)


async def test_what_a_hundred_have_sent_to_a_disk_that_stands_is_bounded(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ReceiverLimits(memory_bytes_max=MEMORY_BYTES)
    # Of a process that is the senders', too, its memory tells nothing of who holds it.
    monkeypatch.setattr("tiers.transport.gate.OwnMemory.read", lambda self: 0)
    receiver = await hop.receiver(limits=limits)
    disk = StandingDisk(receiver, monkeypatch)
    senders = [Honest(hop.stranger(), number) for number in range(1, SENDERS + 1)]

    async def turns(count: int) -> None:
        for _ in range(count):
            for sender in senders:
                sender.turn()
            await asyncio.sleep(0.01)

    async def under_way() -> int:
        await turns(1)
        return sum(one.all_sent for one in senders)

    while await under_way() < MEMORY_BYTES // 2:
        pass
    for _ in range(5):
        await turns(20)
        held = number(receiver.end, meters.MEMORY)
        assert held <= MEMORY_BYTES + SENDERS * BATCH_BYTES
        assert await under_way() <= MEMORY_BYTES + SENDERS * BATCH_BYTES
        assert receiver.end.receiver.pending_bytes() <= MEMORY_BYTES + 2 * BATCH_BYTES

    async def each_had_its_turn() -> bool:
        await disk.go_on()
        await turns(1)
        return all(one.acked for one in senders)

    for _ in range(2000):
        if await each_had_its_turn():
            break
    assert min(one.acked for one in senders), "and each has its turn once it goes on"
    assert receiver.end.gate.turned_away == 0


async def test_who_is_over_its_share_is_not_looked_up_with_each_commit(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer the more agents there are."""
    receiver, asked = await hop.receiver(), 0

    def over() -> list[str]:
        nonlocal asked
        asked += 1
        return ["edge-1"]

    monkeypatch.setattr("tiers.transport.receiving.OVER_EVERY_S", 3600.0)
    receiver.end._over_s = 0.0
    monkeypatch.setattr(receiver.channel, "over", over)
    for _ in range(100):
        receiver.end._tick()
    assert receiver.end.receiver.hosting.over == ("edge-1",)
    assert asked == 1
