"""Turns come while there is something to do, and a look costs little while there is not."""

import asyncio
from contextlib import suppress

import pytest
import zmq

from tests.hostile.speaking import Stranger
from tests.transport.parts import a_context, a_free_address
from tests.waiting import eventually
from tiers.transport.beat import Beat
from tiers.transport.sockets import Socket
from tiers.transport.stir import Stir


async def test_turns_come_only_where_there_is_no_rest() -> None:
    rests, looks, turns = True, 0, 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return rests

    async def run() -> None:
        nonlocal turns
        beat = Beat(look, 0.001)
        while True:
            await beat.next()
            turns += 1

    running = asyncio.create_task(run())
    await eventually(lambda: looks > 5, "it is looked, again and again")
    assert turns == 0
    rests = False
    await eventually(lambda: turns > 5, "and then turns come")
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    before = looks
    await asyncio.sleep(0)
    assert looks == before, "who has left is not asked any more"


async def test_at_rest_it_is_looked_less_often_and_soon_again_once_something_stirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tiers.transport.beat.REST_TICKS", 10**9)
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return looks < 4

    beat = Beat(look, 0.001)
    turn = asyncio.create_task(beat.next())
    for count in (1, 2, 3):
        await eventually(lambda count=count: looks == count, "a look")  # type: ignore[misc]
        beat.stir()
    await asyncio.wait_for(turn, 60)
    beat.stir()
    assert looks == 4, "and nobody waits for another turn"


async def test_what_a_look_raises_ends_the_run() -> None:
    def fails() -> bool:
        raise ValueError("a mistake of ours")

    with pytest.raises(ValueError, match="a mistake of ours"):
        await Beat(fails, 0.001).next()


class StandingClock(asyncio.SelectorEventLoop):
    """Of a simulation: time goes on only from one timer to the next."""

    now = 0.0

    def time(self) -> float:
        return self.now


def test_the_next_look_is_never_at_the_present_moment() -> None:
    """A simulated clock would stand still for ever."""
    with asyncio.Runner(loop_factory=StandingClock) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, StandingClock)

        async def made() -> Beat:
            loop.now = 46.3
            return Beat(lambda: True, 0.2)

        beat = runner.run(made())
        for _ in range(10_000):
            before, loop.now = loop.now, beat._next_s(1)
            assert 0.19 < loop.now - before < 0.21


async def test_what_comes_stirs_also_where_no_message_tells_of_it() -> None:
    async with a_context() as context:
        address = a_free_address()
        pull = Socket(context, zmq.PULL, {}, lambda parts: None)
        pull.bind(address.data)
        with Stranger(address.port, b"PUSH") as stranger:
            stir = Stir()
            await eventually(lambda: not stir.is_new(), "nothing comes")
            stranger.send(b"\x01\x00")  # a part of a message of which the last never comes
            await eventually(stir.is_new, "it stirs")
            await eventually(lambda: not stir.is_new(), "and nothing more comes")
        pull.close()


def test_where_no_thread_of_libzmq_is_it_may_always_be_new() -> None:
    stir = Stir()
    stir._clocks = [~(1 << 21) << 3 | 6]  # of a thread that there is not
    assert stir.is_new()
