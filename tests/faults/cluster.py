"""A whole topology of real processes that a test writes lines into and kills nodes of."""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.faults.counting import LINE, Count, Pauses, Published
from tests.faults.nursery import Child, Nursery
from tests.waiting import wait_for
from tiers.observe.client import ask_now, tell_drain
from tiers.trial.numbered_lines import read_blocks

_PYTHON: Final = (sys.executable, "-m", "tiers")
_nursery: Final = Nursery()


def _own_ports() -> Iterator[int]:
    """Even ones, each once, then from the beginning. They lie below those that scripts/hdfs and
    the kernel take, and each worker of pytest has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = 12_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) // 2 * 2
    ports = range(8000 + share * worker, 8000 + share * (worker + 1), 2)
    return itertools.cycle(random.sample(ports, len(ports)))


_ports: Final = _own_ports()


def free_port_pair() -> int:
    """A port that is free, with the one after it; none that was given before, as who has it may
    not listen yet, or again."""
    while True:
        port = next(_ports)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def published_files(root: Path) -> list[Path]:
    """Below the root of a store, or of several, but for what is the stores' own."""
    files: list[Path] = []
    for folder, below, names in os.walk(root):
        if ".tiers" in below:
            below.remove(".tiers")
        files += (Path(folder) / name for name in names)
    return files


def begin(command: Sequence[str], log: Path) -> Child | subprocess.Popen[bytes]:
    """An agent; within pytest as a fork of a process that has imported all."""
    if "PYTEST_CURRENT_TEST" in os.environ and tuple(command[: len(_PYTHON)]) == _PYTHON:
        return _nursery.start(command[len(_PYTHON) :], log)
    with log.open("ab") as said:
        return subprocess.Popen(command, stdout=said, stderr=said)


class Cluster:
    """Edges, aggregators and sinks; each edge tails a directory of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        edges: int = 2,
        aggregators: int = 2,
        sinks: int = 2,
        sink: str = "",
        more: str = "",  # keys of the sink
        head: str = "",  # keys at the top
        extra: str = "",
        roll_after: str = "1s",
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.out = directory / "out"
        self.file = directory / "topology.toml"
        self.edges = [f"edge-{n + 1}" for n in range(edges)]
        self.ports = {f"agg-{n + 1}": free_port_pair() for n in range(aggregators)}
        self.ports |= {f"sink-{n + 1}": free_port_pair() for n in range(sinks)}
        self.sink = f"{sink or self._directory()}\n{more}"
        self.extra = extra
        self.head = head
        self.roll_after = roll_after
        self.children: dict[str, Child | subprocess.Popen[bytes]] = {}
        self.written: Counter[bytes] = Counter()
        self.stores = [""]  # their names, where there are several
        self.pauses = Pauses(lambda: {store: self.count_files(store) for store in self.stores})
        self._seen: dict[str, Published] = {}
        for edge in self.edges:
            (directory / edge).mkdir()
        self.write_topology()

    def _directory(self) -> str:
        return f'type = "directory"\nroot = "{self.out}"'

    @property
    def agents(self) -> list[str]:
        return [*reversed(list(self.ports)), *self.edges]

    def write_topology(self) -> None:
        """The file as it is now, put in place whole."""

        def addresses(tier: str) -> str:
            named = {n: p for n, p in self.ports.items() if n.startswith(tier)}
            return ", ".join(f'{name} = "{self.address(name)}"' for name in named)

        text = f"""
name = "faults"
{self.head}
[tiers.edge]
agents = {json.dumps(self.edges)}
next = "aggregator"
[tiers.aggregator]
agents = {{ {addresses("agg")} }}
next = "sink"
[tiers.sink]
agents = {{ {addresses("sink")} }}
[[tiers.sink.sinks]]
path = "{{service}}/%Y/%m/%d/%H"
roll_after = "{self.roll_after}"
{self.sink}
"""
        for edge in self.edges:
            text += f"""
[[agents.{edge}.sources]]
type = "tail"
paths = ["{self.directory / edge}/*.log"]
headers = {{ service = "web" }}
"""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text + self.extra)
        fresh.replace(self.file)

    def address(self, name: str) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.ports[name]}"

    def agent_command(self, name: str) -> list[str]:
        command = [*_PYTHON, "agent", str(self.file), name]
        return [*command, "--data", str(self.data)]

    # -- processes ---------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        for name in names or self.agents:
            self.children[name] = begin(self.agent_command(name), self.directory / f"{name}.txt")

    def kill(self, *names: str) -> None:
        """SIGKILL, of all of them at one moment, and gone."""
        for name in names:
            self.children[name].kill()
        for name in names:
            self.children.pop(name).wait()

    def wait_exit(self, name: str, deadline_s: float = 60) -> int:
        child = self.children[name]
        wait_for(lambda: child.poll() is not None, f"{name} exits", deadline_s)
        del self.children[name]
        return child.wait()

    def stop(self, name: str, deadline_s: float = 20) -> int:
        """SIGTERM; its exit status."""
        self.children[name].terminate()
        return self.wait_exit(name, deadline_s)

    def close(self) -> None:
        self.pauses.close()
        for child in self.children.values():
            child.send_signal(signal.SIGKILL)
        for child in self.children.values():
            child.wait()

    def status(self, name: str) -> dict[str, Any] | None:
        answer = ask_now(self.data / name, timeout_s=5)
        return answer if isinstance(answer, dict) else None

    def wait_running(self, *names: str) -> None:
        for name in names or self.agents:
            wait_for(partial(self.is_healthy, name), f"{name} is healthy: {self.log(name)}")

    def is_healthy(self, name: str) -> bool:
        status = self.status(name)
        return bool(status and status["healthy"])

    def is_empty(self) -> bool:
        """No batch is under way anywhere."""
        statuses = [self.status(name) for name in self.agents]
        return all(status and not status["channel"]["batches"] for status in statuses)

    def log(self, name: str) -> str:
        file = self.directory / f"{name}.txt"
        return file.read_text()[-2000:] if file.exists() else ""

    def events_in(self, tier: str) -> int:
        statuses = [self.status(name) for name in self.ports if name.startswith(tier)]
        return sum(status["events_in"] for status in statuses if status)

    def drain(self) -> dict[str, int]:
        """Upstream tiers first; exit statuses by agent."""
        ended: dict[str, int] = {}
        for tier in ("edge", "agg", "sink"):
            names = [name for name in self.children if name.startswith(tier)]
            for name in names:
                answer = asyncio.run(tell_drain(self.data / name))
                assert isinstance(answer, dict), (name, answer)
            ended |= {name: self.wait_exit(name, 120) for name in names}
        return ended

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`tiers COMMAND topology --data ... `."""
        name, *rest = arguments
        return self.tiers(name, str(self.file), "--data", str(self.data), *rest)

    @staticmethod
    def tiers(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tiers", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    # -- lines -------------------------------------------------------------------------------

    def write(self, edge: str, count: int, file: str = "access.log") -> None:
        """Append `count` lines, numbered on."""
        tag = edge.encode()
        first = self.written[tag]
        self.written[tag] += count
        lines = b"".join(LINE % (tag, n) for n in range(first, first + count))
        with (self.directory / edge / file).open("ab") as log:
            log.write(lines)
        self.pauses.lines_wait()

    def wanted(self) -> set[bytes]:
        return {LINE % (tag, n) for tag, count in self.written.items() for n in range(count)}

    def published(self, store: str = "") -> Counter[bytes]:
        """Every published line, with how often."""
        self.fetch()
        lines: Counter[bytes] = Counter()
        for file in self.published_files(store):
            for block in read_blocks(file):
                lines.update(block.splitlines(keepends=True))
        return lines

    def so_far(self, store: str = "") -> Count:
        """What is published by now; to wait by, as it reads each file once."""
        self.fetch()
        seen = self._seen.setdefault(store, Published())
        return seen.look(self.published_files(store)).against(self.written)

    def count(self, store: str = "") -> Count:
        """What is published, from the files as they are now."""
        self.fetch()
        found = Published().look(self.published_files(store)).against(self.written)
        found.store, found.longest_pause_s = store, self.pauses.longest_s.get(store, 0.0)
        return found

    def fetch(self) -> None:
        """Bring what is published elsewhere to `out`; nothing to do for a directory sink."""

    def count_files(self, store: str = "") -> int:
        """How many files are published by now."""
        return len(self.published_files(store))

    def published_files(self, store: str = "") -> list[Path]:
        return published_files(self.out / store)


class Writer:
    """Writes lines at each edge at an even pace until stopped, with a rotation now and then."""

    def __init__(self, cluster: Cluster, lines_per_step: int = 150, step_s: float = 0.01) -> None:
        self._cluster = cluster
        self._lines = lines_per_step
        self._step_s = step_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        steps: Counter[str] = Counter()  # by edge: a log that is new is not renamed before its look
        while not self._end.wait(self._step_s):
            for edge in self._cluster.edges:
                self._cluster.write(edge, self._lines)
                steps[edge] += 1
                if steps[edge] % 200 == 0:
                    log = self._cluster.directory / edge / "access.log"
                    log.rename(f"{log}.{steps[edge]}")
