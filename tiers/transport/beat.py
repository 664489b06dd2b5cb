"""When the turns of a sender group and a receiver come: every tick, and not at rest.

At rest a turn would do nothing, and what wakes the loop for it is most of what an idle agent takes.
So a timer only looks whether there is rest. Those of an agent, which begin together, stay together.
"""

import asyncio
from collections.abc import Callable


class Beat:
    """Made on the loop. `rests` tells whether a turn now would do nothing; it is asked every
    `tick_s`."""

    def __init__(self, rests: Callable[[], bool], tick_s: float) -> None:
        self._rests = rests
        self._tick_s = tick_s
        self._loop = asyncio.get_running_loop()
        self._begun_s = self._loop.time()

    async def next(self) -> None:
        """Until a turn is due. Raises what `rests` raises."""
        due: asyncio.Future[None] = self._loop.create_future()
        self._look_again(due)
        try:
            await due
        finally:
            self._timer.cancel()

    def _look_again(self, due: "asyncio.Future[None]") -> None:
        self._timer = self._loop.call_at(self._next_s(), self._look, due)

    def _look(self, due: "asyncio.Future[None]") -> None:
        try:
            if self._rests():
                self._look_again(due)
            elif not due.done():
                due.set_result(None)
        except Exception as error:
            due.set_exception(error)

    def _next_s(self) -> float:
        # A little more, so that it is never the present moment once again.
        ticks = int((self._loop.time() - self._begun_s) / self._tick_s + 0.01) + 1
        return self._begun_s + ticks * self._tick_s
