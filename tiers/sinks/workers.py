"""Threads for calls that block: a few, kept, and never waited for longer than asked.

Kept, since a store may hold a connection for each thread. Daemons, since a call that hangs in a
dead store must not hold up the end of the process: whoever waited for it treats it as lost.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Workers:
    """`count` threads, started with the first call."""

    def __init__(self, name: str, count: int) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(count)
        ]
        self._started = False

    async def run(self, call: Callable[[], T]) -> T:
        """What `call()` returns or raises. When cancelled, a call that has begun runs on."""
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, call))
        return await future

    def close(self, timeout_s: float) -> bool:
        """No further calls. Blocks until those under way have ended, at most `timeout_s`;
        False where some have not."""
        if not self._started:
            return True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout_s / len(self._threads))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            if future.cancelled():
                continue
            try:
                result = call()
            except BaseException as error:
                _tell(loop, future, error, None)
            else:
                _tell(loop, future, None, result)


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[Any]",
    error: BaseException | None,
    result: object,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
