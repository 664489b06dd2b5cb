"""Three agents on this machine: edge, aggregator, sink, each a process."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmark.revision import TREE, Code
from tiers.core.meters import Meter
from tiers.errors import TiersError
from tiers.fleet import supervised
from tiers.observe.client import ask_all
from tiers.trial.demo import free_loopback, published_files
from tiers.trial.numbered_lines import read_blocks

AGENTS: Final = ("edge", "aggregator", "sink")
_PORTS: Final = (7400, 7410)
_STALL_S: Final = 120.0
_TOPOLOGY: Final = """
name = "bench"
data = "{root}/agents"
[tiers.edge]
agents = ["edge"]
next = "aggregator"
{source}
[tiers.aggregator]
agents = {{ aggregator = "{host}:7400" }}
next = "sink"
[tiers.sink]
agents = {{ sink = "{host}:7410" }}
[[tiers.sink.sinks]]
type = "directory"
root = "{root}/published"
path = "%Y/%m/%d"
codec = "{codec}"
roll_after = "{roll_after}"
roll_size = "64MiB"
"""
_TAIL: Final = """
[[tiers.edge.sources]]
type = "tail"
paths = ["{root}/logs/*.log"]
"""


@dataclass(frozen=True, slots=True)
class Tiers:
    """The running agents."""

    root: Path
    host: str
    pids: dict[str, int]

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def published(self) -> Path:
        return self.root / "published"

    def ask(self) -> dict[str, dict[str, Any]]:
        """The status of each that answers."""
        places = {name: (self.root / "agents" / name, None) for name in self.pids}
        answers = asyncio.run(ask_all(places))
        return {name: a for name, a in answers.items() if isinstance(a, dict)}

    def told(self, agent: str, meter: Meter) -> float:
        """The sum of what an agent tells of that meter. Raises TiersError where it is silent."""
        if (answer := self.ask().get(agent)) is None:
            raise TiersError(f"{agent} does not answer; see {self.root}")
        return float(sum(one["value"] for one in answer["meters"].get(meter.shown, ())))

    def until(self, reached: Callable[[dict[str, dict[str, Any]]], bool], step_s: float) -> None:
        """Until all agents answer and `reached` is content with what they say."""
        deadline = time.monotonic() + _STALL_S
        while True:
            answers = self.ask()
            if len(answers) == len(AGENTS) and reached(answers):
                return
            if time.monotonic() > deadline:
                raise TiersError(f"not reached within {_STALL_S:g} s; see {self.root}: {answers}")
            time.sleep(step_s)

    def lines_published(self) -> int:
        """Counted in the files themselves."""
        return sum(
            block.count(b"\n")
            for file in published_files(self.published)
            for block in read_blocks(file)
        )

    def last_published_s(self) -> float:
        """When the last file came into view (its inode's ctime, which a rename sets)."""
        return max(file.stat().st_ctime_ns for file in published_files(self.published)) / 1e9


@contextmanager
def running(
    root: Path,
    codec: str,
    roll_after: str,
    extra: str = "",
    code: Code = TREE,
    *,
    source: str = _TAIL,
) -> Iterator[Tiers]:
    """Agents in a fresh directory, all connected; stopped in the end."""
    (root / "logs").mkdir(parents=True)
    host = free_loopback(list(_PORTS))
    file = root / "bench.toml"
    source = source.format(root=root, host=host)
    tiers_of = _TOPOLOGY.format(
        root=root, host=host, codec=codec, roll_after=roll_after, source=source
    )
    file.write_text(tiers_of + extra)
    processes = {name: start(file, name, root, code) for name in AGENTS}
    try:
        tiers = Tiers(root, host, {name: process.pid for name, process in processes.items()})
        tiers.until(lambda told: all(each["healthy"] for each in told.values()), 0.05)
        yield tiers
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def start(file: Path, name: str, root: Path, code: Code = TREE) -> "subprocess.Popen[bytes]":
    # By its path: an earlier revision may have it elsewhere, or not at all.
    own = [str(code.python), "-P", supervised.__file__, str(os.getpid()), "tiers"]
    environment = os.environ | {"PYTHONPATH": str(code.source)}
    with (root / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [*own, "agent", str(file), name],
            cwd=code.source,
            env=environment,
            stdout=log,
            stderr=log,
        )
