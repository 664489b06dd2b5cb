"""Whether anything came over any connection since the last look, for the price of a clock.

Only libzmq's own thread reads from connections, and no read costs it nothing: while its CPU time
stands still, nothing came. (A descriptor does not tell: libzmq has read it empty before anybody
else could look.)
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")
_NAME: Final = "ZMQbg/IO/"
_SEEK_EVERY: Final = 20  # times
_OF_THREAD: Final = 6  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED, linux/posix-timers.h


class Stir:
    """Of all of libzmq's threads in this process. To be asked from one thread."""

    def __init__(self) -> None:
        self._clocks: list[int] = []
        self._used_s: list[float] = []
        self._asked = 0  # times, without an answer

    def is_new(self) -> bool:
        """Whether libzmq did anything since this was asked last; true where that is not known."""
        try:
            used_s = [time.clock_gettime(clock) for clock in self._clocks]
        except OSError:  # one of them has ended
            used_s = []
        if not used_s:
            if self._asked % _SEEK_EVERY == 0:
                self._clocks = [~thread << 3 | _OF_THREAD for thread in _threads()]
            self._asked += 1
            return True
        self._asked = 0
        before, self._used_s = self._used_s, used_s
        return used_s != before


def _threads() -> list[int]:
    found = []
    for task in _TASKS.iterdir():
        with suppress(OSError):  # it has ended
            if (task / "comm").read_text().startswith(_NAME):
                found.append(int(task.name))
    return found
