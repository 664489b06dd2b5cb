"""When the turns of a sender group and a receiver come: every tick, and not at rest.

At rest a turn would do nothing, and what wakes the loop for it is most of what an idle agent takes.
So a timer only looks whether there is rest, and less often while there is: who has done something
meanwhile says so by `stir`. Those of an agent, which begin together, stay together.
"""

import asyncio
from collections.abc import Callable
from typing import Final

REST_TICKS: Final = 4  # between looks at rest


class Beat:
    """Made on the loop. `rests` tells whether a turn now would do nothing; it is asked every
    `tick_s`, and every REST_TICKS of them while nothing stirs."""

    def __init__(self, rests: Callable[[], bool], tick_s: float) -> None:
        self._rests = rests
        self._tick_s = tick_s
        self._slow = False  # the next look is not with the next tick
        self._due: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._begun_s = self._loop.time()

    async def next(self) -> None:
        """Until a turn is due. Raises what `rests` raises."""
        self._due = self._loop.create_future()
        self._look_with(1)
        try:
            await self._due
        finally:
            self._timer.cancel()
            self._due = None

    def stir(self) -> None:
        """Something was done, and may be a reason for a turn: it is looked with the next tick."""
        if self._slow and self._due is not None:
            self._timer.cancel()
            self._look_with(1)

    def _look_with(self, ticks: int) -> None:
        self._slow = ticks > 1
        self._timer = self._loop.call_at(self._next_s(ticks), self._look)

    def _look(self) -> None:
        due = self._due
        assert due is not None, "the timer goes with who waits"
        try:
            if self._rests():
                self._look_with(REST_TICKS)
            elif not due.done():
                due.set_result(None)
        except Exception as error:
            due.set_exception(error)

    def _next_s(self, ticks: int) -> float:
        # A little more, so that it is never the present moment once again.
        wait_s = ticks * self._tick_s
        waits = int((self._loop.time() - self._begun_s) / wait_s + 0.01) + 1
        return self._begun_s + waits * wait_s
