"""A flow to attack, on loopback: an edge, an aggregator and a sink of its own; what is measured."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.cluster import Cluster, Writer, free_port_pair
from tests.waiting import wait_for

LINES_PER_STEP: Final = 50  # each 10 ms
SETTLED_WITHIN_S: Final = 90.0
AGENTS: Final = ("edge-1", "agg-1", "sink-1")


@dataclass
class Measured:
    """What an attack cost."""

    flow: float = 0.0  # lines published during it, as a part of those written
    memory_mb: dict[str, int] = field(default_factory=dict)  # RssAnon, the most
    descriptors: dict[str, int] = field(default_factory=dict)  # the most
    missing: int = 0
    doubled: int = 0
    died: list[str] = field(default_factory=list)


class Scene:
    """Started with `with`. `ports`: whose data port, control being the next; `status`: TCP."""

    def __init__(self, directory: Path) -> None:
        self.status_port = free_port_pair()
        self.cluster = Cluster(
            directory,
            edges=1,
            aggregators=1,
            sinks=1,
            roll_after="300ms",
            extra=f'[agents.agg-1]\nstatus = "127.0.0.1:{self.status_port}"\n',
        )
        self.ports = self.cluster.ports
        self.file = self.cluster.file

    def __enter__(self) -> "Scene":
        self.cluster.start()
        self.cluster.wait_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()

    def measure(self, attack: Callable[["Scene"], None], seconds: float) -> Measured:
        """The attack goes on beside the flow, and the flow for `seconds` at least."""
        measured = Measured()
        with Writer(self.cluster, LINES_PER_STEP):
            wait_for(lambda: self.published() > 1000, "the flow has begun", SETTLED_WITHIN_S)
            begun_s, before = time.monotonic(), (self.published(), self.cluster.written.total())
            with self.sampled(measured):
                attack(self)
                time.sleep(max(0.0, begun_s + seconds - time.monotonic()))
            after = (self.published(), self.cluster.written.total())
        measured.flow = (after[0] - before[0]) / max(1, after[1] - before[1])
        children = self.cluster.children
        measured.died = [name for name in AGENTS if children[name].poll() is not None]
        if not measured.died:
            wait_for(self.is_settled, "all is published", SETTLED_WITHIN_S, 0.2)
        count = self.cluster.count()
        measured.missing, measured.doubled = count.missing, count.doubled
        return measured

    def published(self) -> int:
        return self.cluster.so_far().published

    def is_settled(self) -> bool:
        return not self.cluster.so_far().missing

    @contextmanager
    def sampled(self, measured: Measured) -> Iterator[None]:
        """Memory and descriptors are looked at ten times a second."""
        over = threading.Event()

        def look() -> None:
            while True:
                for name in AGENTS:
                    pid = self.cluster.children[name].pid
                    memory, descriptors = anonymous_mb(pid), opened(pid)
                    measured.memory_mb[name] = max(memory, measured.memory_mb.get(name, 0))
                    most = measured.descriptors.get(name, 0)
                    measured.descriptors[name] = max(descriptors, most)
                if over.wait(0.1):
                    return

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def anonymous_mb(pid: int) -> int:
    """RssAnon; 0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


def opened(pid: int) -> int:
    """Descriptors of a process."""
    try:
        return sum(1 for _ in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
