"""`scripts/bench local`: a file of access-log lines through three tiers, beside the limit.

    plain    files of plain text: the sink opens the batches
    zstd     the batches' own zstd, kept as it is
    limit    zstd level 1 of the same file in one thread, and an fsynced write of the result

The three take turns, since the machine may be shared: what one turn suffers the next one does as
well. The clock of a run starts when the file is renamed into the directory that a connected edge
tails, and ends when the last file with the last line has come into view in the output directory.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import zstandard

from benchmark.meter import cpu_s, peak_memory
from benchmark.revision import TREE, Code
from benchmark.tiers_local import Tiers, running
from tiers.errors import TiersError
from tiers.observe.status import socket_path
from tiers.trial.numbered_lines import AccessLog

CODECS: Final = {"plain": "none", "zstd": "zstd"}
_ROLL_AFTER: Final = "200ms"  # so that the last file is not long in coming
_LOOK_S: Final = 0.05
_LATENCY_EVENTS: Final = 30
_LINE: Final = b'127.0.0.1 - - [23/Nov/2026:09:00:00 +0000] "GET / HTTP/1.1" 200 1\n'

# What the issue asks for: events/s, or else the share of the limit.
EVENTS_PER_SECOND_MIN: Final = {"plain": 600_000, "zstd": 1_000_000}
RATIO_MIN: Final = {"plain": 0.20, "zstd": 0.30}
CPU_S_PER_MILLION_MAX: Final = 2.0
MEMORY_BYTES_MAX: Final = 200_000_000
LATENCY_S_MAX: Final = 0.050


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of the file through the tiers."""

    kind: str
    seconds: float
    events_per_second: float
    raw_mb_per_second: float
    cpu_s_per_million: float
    cpu_s: dict[str, float]  # by agent
    memory_bytes: dict[str, int]  # by agent, the peak


@dataclass(slots=True)
class Result:
    """All turns."""

    lines: int
    size_bytes: int
    runs: list[Run] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)  # lines/s, before each run and after all
    latencies_s: list[float] = field(default_factory=list)

    def median(self, kind: str, value: Callable[[Run], float]) -> float:
        return statistics.median(value(run) for run in self.runs if run.kind == kind)

    @property
    def limit(self) -> float:
        return statistics.median(self.limits)

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(run.kind for run in self.runs))

    def ratio(self, kind: str) -> float:
        """The median share of the limit, each run beside the limits measured around it."""
        around = zip(self.runs, self.limits, self.limits[1:], strict=False)
        return statistics.median(
            run.events_per_second / statistics.mean((before, after))
            for run, before, after in around
            if run.kind == kind
        )

    def missed(self) -> Iterator[str]:
        """Each figure that falls short of what was asked for."""
        for kind in self.kinds:
            speed = self.median(kind, lambda run: run.events_per_second)
            if speed < EVENTS_PER_SECOND_MIN[kind] and self.ratio(kind) < RATIO_MIN[kind]:
                yield f"{kind}: {speed:,.0f} events/s, {self.ratio(kind):.2f} of the limit"
            cpu = self.median(kind, lambda run: run.cpu_s_per_million)
            if cpu > CPU_S_PER_MILLION_MAX:
                yield f"{kind}: {cpu:.2f} CPU seconds per million events"
        for run in self.runs:
            for agent, peak in run.memory_bytes.items():
                if peak > MEMORY_BYTES_MAX:
                    yield f"{run.kind}: {agent} took {peak / 1e6:.0f} MB"
        if self.latencies_s and statistics.median(self.latencies_s) > LATENCY_S_MAX:
            yield f"latency: {statistics.median(self.latencies_s) * 1e3:.0f} ms at the median"

    def to_json(self) -> dict[str, Any]:
        kinds = {
            kind: {
                "events_per_second": round(self.median(kind, lambda r: r.events_per_second)),
                "raw_mb_per_second": round(self.median(kind, lambda r: r.raw_mb_per_second), 1),
                "cpu_s_per_million": round(self.median(kind, lambda r: r.cpu_s_per_million), 3),
                "memory_bytes_max": max(
                    max(run.memory_bytes.values()) for run in self.runs if run.kind == kind
                ),
                "ratio_to_limit": round(self.ratio(kind), 3),
            }
            for kind in self.kinds
        }
        latency = statistics.median(self.latencies_s) if self.latencies_s else None
        return {
            "lines": self.lines,
            "bytes": self.size_bytes,
            "limit_events_per_second": round(self.limit) if self.limits else None,
            **kinds,
            "latency_s_median": latency,
            "missed": list(self.missed()),
            "runs": [asdict(run) for run in self.runs],
            "limits": self.limits,
            "latencies_s": self.latencies_s,
        }


def make_input(file: Path, lines: int, seed: int) -> None:
    """Writes the lines, and waits for the disk so that no run pays for it."""
    with file.open("wb") as out:
        for block in AccessLog(seed).blocks(lines):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())


def measure_limit(file: Path, out: Path) -> float:
    """Seconds of `zstd -1` in one thread with an fsynced write of the result."""
    began = time.perf_counter()
    with file.open("rb") as raw, out.open("wb") as packed:
        zstandard.ZstdCompressor(level=1).copy_stream(raw, packed, read_size=1 << 20)
        packed.flush()
        os.fsync(packed.fileno())
    seconds = time.perf_counter() - began
    out.unlink()
    return seconds


def measure_run(
    kind: str, file: Path, lines: int, root: Path, extra: str = "", code: Code = TREE
) -> Run:
    """One pass; TiersError when the published lines are not as many as went in."""
    size = file.stat().st_size
    with running(root, CODECS[kind], _ROLL_AFTER, extra, code) as tiers:
        waiting = root / "waiting.log"
        waiting.hardlink_to(file)
        before = {name: cpu_s(pid) for name, pid in tiers.pids.items()}
        with peak_memory(tiers.pids.values()) as peaks:
            began = time.time()
            waiting.rename(tiers.logs / "access.log")
            tiers.until(lambda told: told["sink"]["events_out"] >= lines, _LOOK_S)
            used = {name: cpu_s(pid) - before[name] for name, pid in tiers.pids.items()}
        seconds = tiers.last_published_s() - began
        found = tiers.lines_published()
    if found != lines:
        raise TiersError(f"{found} lines published of {lines}; see {root}")
    return Run(
        kind=kind,
        seconds=seconds,
        events_per_second=lines / seconds,
        raw_mb_per_second=size / seconds / 1e6,
        cpu_s_per_million=sum(used.values()) / lines * 1e6,
        cpu_s=used,
        memory_bytes={name: peaks[pid] for name, pid in tiers.pids.items()},
    )


def measure_latency(root: Path, extra: str = "", code: Code = TREE) -> list[float]:
    """Seconds from the append of one line to a quiet file until the sink's channel has it on
    disk, as its status says; asking takes a millisecond or two, which is counted in."""
    with running(root, "zstd", "10min", extra, code) as tiers:
        log = tiers.logs / "quiet.log"
        log.touch()
        return asyncio.run(_latencies(tiers, log))


async def _latencies(tiers: Tiers, log: Path) -> list[float]:
    latencies = []
    with socket_path(tiers.root / "agents" / "sink") as path:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=path)) as session:

            async def stored() -> int:
                async with session.get("http://agent/status") as response:
                    return int((await response.json())["channel"]["puts"])

            for _ in range(_LATENCY_EVENTS + 1):
                # Long enough to be quiet, and never in step with anybody's timer.
                await asyncio.sleep(random.uniform(0.3, 0.5))
                before = await stored()
                with log.open("ab", buffering=0) as out:
                    began = time.perf_counter()
                    out.write(_LINE)
                while await stored() == before:
                    if time.perf_counter() - began > 30:
                        raise TiersError(f"a line was not stored within 30 s; see {tiers.root}")
                latencies.append(time.perf_counter() - began)
    return latencies[1:]  # the first one finds the file
