"""An asyncio loop on a virtual clock, on which nodes may die or be stopped at any await.

Time never passes by itself: when nothing is ready, the clock leaps to the next timer. Each handle
belongs to the node (and its boot) in whose context it was made. Handles of a dead boot are dropped,
so no `finally` runs, as after SIGKILL; those of a stopped node wait, as under SIGSTOP. What would
run in a thread runs at once, and its answer comes after a while.
"""

import asyncio
import contextvars
import heapq
from collections.abc import Callable
from typing import Any, Protocol


class Owner(Protocol):
    """One boot of a node."""

    alive: bool
    paused: bool
    held: list[asyncio.Handle]


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("owner", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """`steps` counts the handles that were run: two runs of a seed must agree on it."""

    def __init__(self, thread_delay_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = 0.0
        self._thread_delay_s = thread_delay_s
        self.steps = 0
        self._timers: list[tuple[float, asyncio.TimerHandle]] = []  # a heap
        self.tasks: list[asyncio.Task[Any]] = []  # kept: collecting one would run its `finally`
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now_s

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        # Beside its time a handle is compared only with one of the same moment, which is slow.
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, handle))
        return handle

    def _make_task(self, loop: Any, coroutine: Any, **options: Any) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.tasks.append(task)
        return task

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if not ready and self._timers:
            when, timer = heapq.heappop(self._timers)
            if when > self._now_s:
                self._now_s = when
            if not timer.cancelled():
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is not None and not owner.alive:
                continue
            if owner is not None and owner.paused:
                owner.held.append(handle)
                continue
            self.steps += 1
            handle._run()

    def resume(self, owner: Owner) -> None:
        """What waited while a node was stopped is run now."""
        held, owner.held = owner.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future: asyncio.Future[Any] = self.create_future()

        def settle(put: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                put(value)

        try:
            result = func(*args)
        except Exception as error:
            self.call_later(self._thread_delay_s(), settle, future.set_exception, error)
        else:
            self.call_later(self._thread_delay_s(), settle, future.set_result, result)
        return future

    def add_signal_handler(self, *args: Any) -> None:  # type: ignore[override]
        pass

    def _process_events(self, event_list: Any) -> None:
        pass
