"""How long the loop's turns take, and what held it when one took too long.

A turn is what the loop does between two waits for events: while it lasts nothing else is heard. It
is measured at the selector. A thread looks at the loop's stack when a turn has become long: after
the turn nothing tells any more what it was. A loop that rests is looked at less often: it is most
of what that thread would take, and of the first long turn after a rest the place may not be seen.
"""

import asyncio
import logging
import selectors
import sys
import threading
import time
from types import FrameType
from typing import Any, Final

from tiers.core.repeats import TELL_EVERY_S
from tiers.units import show_duration

TURN_S_MAX: Final = 0.02  # of the loop's own CPU time
_CPU_READ_S: Final = 0.005  # a thread's CPU clock costs a system call, and turns are many
_WAIT_S_MAX: Final = 0.2  # of any: waiting for a disk, or for a busy machine
BEGIN_AFTER_S: Final = 3.0
_RESTS_AFTER: Final = 10  # looks in a row that met no turn
_REST_S: Final = 0.2
_PACKAGE: Final = "/tiers/"
_log = logging.getLogger("tiers")


class Watch:
    """Of one loop, which `new_loop` makes; from `begin` on."""

    def __init__(self) -> None:
        self.long = 0  # turns that took longer than TURN_S_MAX
        self.longest_s = 0.0
        self.longest_at = ""
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._loop_thread = 0  # 0: not begun
        self._began_s = 0.0  # the turn that is on; 0.0: none
        self._began_cpu_s = 0.0  # as read then, or up to _CPU_READ_S before
        self._cpu_read_s = 0.0
        self._restful = 0  # looks in a row that met no turn
        self._at = ""  # where it was when it had become long
        # Since it was last told:
        self._told_s = -TELL_EVERY_S
        self._untold = 0
        self._worst_s = 0.0
        self._worst = ""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(_Watched(self))

    def begin_after(self, wait_s: float = BEGIN_AFTER_S) -> None:
        """On the loop, as the agent begins to work: at first it reads files and imports."""
        asyncio.get_running_loop().call_later(wait_s, self.begin)

    def begin(self) -> None:
        """On the loop: from the next turn on."""
        self._loop_thread = threading.get_ident()
        self._thread.start()

    def status(self) -> dict[str, Any]:
        return {
            "long_turns": self.long,
            "longest_turn_s": round(self.longest_s, 3),
            "longest_turn_at": self.longest_at,
        }

    # -- the loop's thread -------------------------------------------------------------------

    def turn_begins(self) -> None:
        if self._loop_thread:
            self._at, self._began_s = "", time.perf_counter()
            if self._began_s - self._cpu_read_s > _CPU_READ_S:
                self._cpu_read_s, self._began_cpu_s = self._began_s, time.thread_time()

    def turn_ends(self) -> None:
        if not self._began_s:
            return
        now = time.perf_counter()
        took_s, self._began_s = now - self._began_s, 0.0
        if took_s > TURN_S_MAX:
            cpu_s = min(took_s, time.thread_time() - self._began_cpu_s)
            if cpu_s > TURN_S_MAX or took_s > _WAIT_S_MAX:
                self._note(took_s, cpu_s)
        if self._untold and now - self._told_s >= TELL_EVERY_S:
            times = f" (the longest of {self._untold:,})" if self._untold > 1 else ""
            _log.info("a turn of the loop took %s%s", self._worst, times)
            self._told_s, self._untold, self._worst_s = now, 0, 0.0

    def _note(self, took_s: float, cpu_s: float) -> None:
        at = self._at or "a place not seen"
        self.long += 1
        self._untold += 1
        if took_s > self.longest_s:
            self.longest_s, self.longest_at = took_s, at
        if took_s > self._worst_s:
            cpu = show_duration(cpu_s)
            self._worst_s, self._worst = took_s, f"{show_duration(took_s)}, {cpu} of CPU, in {at}"

    # -- the thread that looks ---------------------------------------------------------------

    def look_after_s(self) -> float:
        """When the loop is to be looked at next; to be asked after each look."""
        self._restful = 0 if self._began_s else self._restful + 1
        return TURN_S_MAX if self._restful <= _RESTS_AFTER else _REST_S

    def _look(self) -> None:
        while True:
            time.sleep(self.look_after_s())
            began_s = self._began_s
            if began_s and not self._at and time.perf_counter() - began_s > TURN_S_MAX:
                self._at = _place(sys._current_frames().get(self._loop_thread))


class _Watched(selectors.DefaultSelector):
    """Tells of each turn."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def select(self, timeout: float | None = None) -> Any:
        self._watch.turn_ends()
        try:
            return super().select(timeout)
        finally:
            self._watch.turn_begins()


def _place(frame: FrameType | None) -> str:
    """The innermost function of ours."""
    innermost = frame
    while frame is not None:
        code = frame.f_code
        if _PACKAGE in code.co_filename:
            file = code.co_filename.rpartition(_PACKAGE)[2]
            return f"{file}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back
    return innermost.f_code.co_qualname if innermost is not None else ""
