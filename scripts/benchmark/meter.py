"""CPU time and memory of running processes, from /proc (proc(5))."""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SCHEDULED: Final = 2  # CPUCLOCK_SCHED, linux/posix-timers.h
_SAMPLE_S: Final = 0.05


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, its threads and the children it has waited for."""
    # Of the process to the nanosecond (clock_getcpuclockid(3)); of children in ticks: fields 16
    # and 17 of /proc/PID/stat, of which the second is a name that may hold spaces.
    own_s = time.clock_gettime(~pid << 3 | _SCHEDULED)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own_s + sum(int(ticks) for ticks in fields[13:15]) / _TICKS


def memory_bytes(pid: int) -> int:
    """RssAnon and RssShmem. Pages of mapped files, such as LMDB's, are cache."""
    total = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssShmem"):
            total += int(value.split()[0]) * 1024
    return total


@contextmanager
def peak_memory(pids: Iterable[int]) -> Iterator[dict[int, int]]:
    """Bytes by process: the most seen while the context is open, looking 20 times a second."""
    peaks = dict.fromkeys(pids, 0)
    over = threading.Event()

    def look() -> None:
        for pid in peaks:
            peaks[pid] = max(peaks[pid], memory_bytes(pid))

    def watch() -> None:
        while not over.wait(_SAMPLE_S):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
        look()
    finally:
        over.set()
        thread.join()
