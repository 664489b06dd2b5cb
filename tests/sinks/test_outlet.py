"""What drains a queue, on a real channel: `Outlet` of tiers/contracts."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.sinks.parts import AT, LIMITS, OUTPUT, record
from tests.waiting import move_on
from tiers.agent.world import Machine
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId, Hop
from tiers.core.change import Bad, Change, Put
from tiers.errors import BatchError, ChannelUnavailable, StoreRefused, StoreUnavailable
from tiers.sinks.outlet import WARM_MS, ChannelOutlet


class Drain:
    """An outlet, and what it said."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.troubles: list[str] = []
        self.events: list[str] = []
        self.world = Machine()
        self.outlet = ChannelOutlet(
            OUTPUT, channel, self.world, trouble=self.troubles.append, event=self.events.append
        )
        self.seq = 0

    async def put(self, *agents: str) -> None:
        puts = []
        for agent in agents:
            self.seq += 1
            hops = (Hop(agent, AT),)
            sealed = record(b"line\n", self.seq)
            puts.append(Put(BatchId(b"o" * 16, self.seq), sealed, 1, [OUTPUT], hops=hops))
        await self.channel.submit(Change(puts=puts))

    async def take(self, most: int = 100, *closed: str) -> list[int]:
        return [one.position for one in await self.outlet.take(most, closed.__contains__)]

    def queued(self) -> list[int]:
        return [entry.position for entry in self.channel.entries(OUTPUT)]


@pytest.fixture
async def drain(tmp_path: Path) -> AsyncIterator[Drain]:
    channel = await Channel.open(tmp_path, LIMITS, [OUTPUT])
    drain = Drain(channel)
    yield drain
    drain.outlet.close()
    await channel.close()


async def test_what_is_there_and_what_comes_is_taken_once_in_its_order(drain: Drain) -> None:
    await drain.put("a", "a", "b")
    assert await drain.take(2) == [1, 2]
    assert await drain.take(2) == [3]
    assert await drain.take() == []
    waiting = asyncio.create_task(drain.outlet.more())
    while not drain.outlet.rests():
        await asyncio.wait_for(drain.outlet.more(), 30)
        assert await drain.take() == []
    await drain.put("a")
    await asyncio.wait_for(waiting, 30)
    assert await drain.take() == [4]
    assert drain.outlet.held() == 4
    await drain.outlet.release([2, 4], Change(records={b"mark": b"1"}))
    assert (drain.queued(), drain.outlet.held()) == ([1, 3], 2)
    assert drain.channel.records(b"mark") == {b"mark": b"1"}, "in the same change"
    assert await drain.take() == [], "what is held does not come again"


async def test_what_a_restart_finds_comes_again(drain: Drain) -> None:
    await drain.put("a", "a")
    assert await drain.take() == [1, 2]
    await drain.outlet.release([1])
    assert await Drain(drain.channel).take() == [2]


async def test_shares_and_who_is_closed_out(drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.sinks.outlet.HELD_MAX", 20)
    drain = Drain(drain.channel)
    await drain.put(*["flood"] * 30, "edge-1", "edge-2")
    assert await drain.take(100, "edge-1") == [*range(1, 17), 32]
    assert drain.outlet.passed() == ["flood", "edge-1"]
    assert not drain.outlet.rests(), "there is more, for who has room"
    assert await drain.take(100, "edge-1") == []
    assert await drain.take() == [31], "who was closed out is looked for"
    await drain.outlet.release([1, 2])
    assert await drain.take() == [], "the flood has its share still"
    await drain.outlet.release([3, 4, 5])
    assert await drain.take() == [17, 18, 19], "and no more than that"
    assert not drain.outlet.is_full()


async def test_room_ends_the_wait_of_who_has_taken_all_that_it_may(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.sinks.outlet.HELD_MAX", 10)
    drain = Drain(drain.channel)
    await drain.put(*["flood"] * 20)
    taken = await drain.take()
    while not await drain.take() and drain.outlet._more.is_set():
        await drain.outlet.more()
    waiting = asyncio.create_task(drain.outlet.more())
    drain.outlet.release(taken[:5])
    await asyncio.wait_for(waiting, 30)
    assert await drain.take() != []


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreRefused("forbidden")])
async def test_what_was_not_delivered_comes_first_after_a_while(
    drain: Drain, error: StoreUnavailable | StoreRefused, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[int, bool]] = []

    def wait(failures: int, refused: bool, _random: float) -> float:
        waits.append((failures, refused))
        return 3600.0

    monkeypatch.setattr("tiers.sinks.outlet.backoff_s", wait)
    await drain.put("a", "a", "a", "a")
    first, second, third = await drain.outlet.take(3)
    drain.outlet.troubles.where = lambda: "store"
    drain.outlet.again([second, third], error)
    assert drain.troubles == [f"store: {error}"]
    assert await drain.take() == [], "nothing, before the while is over"
    drain.outlet.again([first], error)
    move_on(monkeypatch, 3601.0)
    while not (taken := await drain.take(2)):
        await asyncio.wait_for(drain.outlet.more(), 30)
    assert taken == [1, 2], "in its order"
    assert await drain.take(2) == [3]
    assert await drain.take(2) == [4]
    refused = isinstance(error, StoreRefused)
    assert waits == [(1, refused), (2, refused)], "it grows"
    await drain.outlet.release([1])
    assert drain.troubles[-1] == ""
    drain.outlet.again([second], error)
    assert waits[-1] == (1, refused), "what was delivered ends the row"


async def test_after_the_while_the_wait_for_more_is_over(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drain.put("a")
    [entry] = await drain.outlet.take(1)
    monkeypatch.setattr("tiers.sinks.outlet.backoff_s", lambda *_: 0.001)
    drain.outlet.again([entry], StoreUnavailable("away"))
    while not (taken := await drain.take()):
        await asyncio.wait_for(drain.outlet.more(), 30)
    assert taken == [1]


async def test_a_channel_that_cannot_be_read_is_asked_again(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drain.put("a")
    asked = 0
    entries = drain.channel.entries

    def failing(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise ChannelUnavailable("it does not answer")
        return entries(*args)

    monkeypatch.setattr(drain.channel, "entries", failing)
    while not (taken := await drain.take()):
        await asyncio.wait_for(drain.outlet.more(), 30)
    assert (taken, asked) == ([1], 4)
    assert drain.troubles == [], "the channel says so itself"


async def test_what_is_buried_is_said_and_counted(drain: Drain) -> None:
    await drain.put(*"a" * 20)
    await drain.take()
    bad = [Bad(position, "no events", whole=True) for position in range(1, 19)]
    await drain.outlet.bury([*bad, Bad(19, "checksum", whole=False)], Change(flags=[(OUTPUT, 20)]))
    assert drain.queued() == [20]
    assert drain.channel.entries(OUTPUT)[0].flagged, "in the same change"
    assert [letter.position for letter in drain.channel.letters()] == list(range(1, 20))
    assert drain.outlet.counts.dead == 19
    assert drain.events[0] == "batch at 1 goes to the dead letters: no events"
    assert drain.events[-1] == "3 more batches go to the dead letters"
    assert len(drain.events) == 17


async def test_what_is_newer_is_kept_and_said(drain: Drain) -> None:
    await drain.put("a", "a")
    await drain.take()
    drain.outlet.keep(["framing 'x'"])
    drain.outlet.keep(["codec 'y'", "framing 'x'"])
    told = "3 batches wait, sealed by a newer version (framing 'x', codec 'y'): upgrade this agent"
    assert drain.troubles[-1] == told
    assert (drain.queued(), drain.outlet.held()) == ([1, 2], 2)


async def test_an_old_queue_is_read_beside_the_loop_and_a_new_one_on_it(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []
    entries = drain.channel.entries

    def watched(*args: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return entries(*args)

    monkeypatch.setattr(drain.channel, "entries", watched)
    await drain.put("a", "a", "a")
    assert await drain.take(2) == [1, 2]
    assert await drain.take(2) == [3]
    await drain.put("a")
    assert await drain.take(2) == [4]
    assert threads == [False, True, True], "nobody knows how old the first are"
    now_ms = drain.world.now_ms()
    monkeypatch.setattr(drain.world, "now_ms", lambda: now_ms + WARM_MS + 1000)
    await drain.put("a", "a", "a")
    assert await drain.take(2) == [5, 6]
    assert await drain.take(2) == [7]
    assert threads[3:] == [True, False], "it is behind"


async def test_a_read_that_is_cut_off_is_made_up_for(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drain.put("a")
    free = threading.Event()
    entries = drain.channel.entries

    def slow(*args: Any) -> Any:
        assert free.wait(30)
        return entries(*args)

    with monkeypatch.context() as patch:
        patch.setattr(drain.channel, "entries", slow)
        task = asyncio.create_task(drain.take())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        free.set()
    assert await drain.take() == [1]


async def test_a_record_is_whole_or_an_error(drain: Drain) -> None:
    await drain.put("a")
    assert drain.outlet.record(1) == drain.channel.record(1)
    assert await drain.outlet.in_thread(threading.current_thread) is not threading.main_thread()
    with pytest.raises(BatchError):
        drain.outlet.record(2)
