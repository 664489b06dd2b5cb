"""Threads for blocking calls."""

import asyncio
import threading

import pytest

from tests.waiting import wait_for
from tiers.sinks.workers import Workers


async def test_results_and_errors_come_back() -> None:
    workers = Workers("w", 2)
    assert await workers.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    assert workers.close(5)


async def test_calls_run_side_by_side_in_kept_threads() -> None:
    workers, both = Workers("w", 2), threading.Barrier(2)

    def meet() -> int:
        both.wait(10)
        return threading.get_ident()

    first = await asyncio.gather(workers.run(meet), workers.run(meet))
    second = await asyncio.gather(workers.run(meet), workers.run(meet))
    assert set(first) == set(second)
    assert workers.close(5)


async def test_a_cancelled_call_that_waits_is_not_made_and_one_under_way_is_not_waited_for() -> (
    None
):
    workers, let_go, begun = Workers("w", 1), threading.Event(), threading.Event()
    made: list[int] = []

    def hang() -> None:
        begun.set()
        let_go.wait(10)

    first = asyncio.create_task(workers.run(hang))
    second = asyncio.create_task(workers.run(lambda: made.append(1)))
    await asyncio.to_thread(begun.wait, 10)
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert not workers.close(0.01)
    let_go.set()
    assert await asyncio.to_thread(workers.close, 5)
    assert not made


def test_a_call_that_ends_after_its_loop_is_nobodys_trouble() -> None:
    workers, let_go, begun = Workers("after-loop", 1), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        let_go.wait(10)

    async def leave() -> None:
        task = asyncio.create_task(workers.run(hang))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()

    asyncio.run(leave())
    let_go.set()
    wait_for(lambda: workers.close(1))


def test_closing_what_never_ran() -> None:
    assert Workers("w", 3).close(0)
