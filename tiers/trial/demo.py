"""`tiers demo`: the shipped quickstart topology on this machine, with an aggregator killed.

    lines --> logs/ --> edge-1 --> agg-1, agg-2 --> sink-1, sink-2 --> published/

All is in one directory, made for it. The lines are written in two parts, so that the kill comes in
mid-stream on a machine of any speed: the second part waits until it has happened. In the end what
was published is compared with what was written, line by line, and not with anybody's counters.
"""

import asyncio
import glob
import json
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from tiers.audit.audit import audit
from tiers.core.commit.store_names import OWN
from tiers.errors import TiersError, UsageError
from tiers.fleet.child import Child
from tiers.fleet.supervisor import Supervisor
from tiers.observe.rows import Row, row
from tiers.sources.blocks import cut
from tiers.topology import find_topology, load
from tiers.trial.numbered_lines import BLOCK_BYTES, AccessLog, Difference, Tally, read_blocks
from tiers.units import show_size

_FIRST_PART: Final = 0.6  # of the input, written without waiting for the kill
_LOGS: Final = 2  # files that the edge tails
_LOOK_S: Final = 0.05
_LINE_BYTES: Final = 180
_COPIES: Final = 5  # generated, in the logs, in channels, staged and published
_FREE_FLOOR_BYTES: Final = 512 * 1024 * 1024  # what the agents leave free
_STALL_S: Final = 120.0
_PORTS: Final = re.compile(r":(\d{4,5})\"")
_VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")


@dataclass(slots=True)
class DemoResult:
    """What became of the lines. All but the last three are numbers of lines."""

    accepted: int
    published: int
    missing: int
    doubled: int  # beyond the first copy
    foreign: int  # published, and never written: damaged on the way
    events_per_second: int  # from the first line written to the last agent drained
    seconds: float
    killed: str  # the agent, empty for none
    audit_ok: bool
    files: str  # where the published ones are
    troubles: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.missing or self.doubled or self.foreign) and self.audit_ok

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Layout:
    """The directory of a demo."""

    root: Path

    @property
    def topology(self) -> Path:
        return self.root / "quickstart.toml"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def agents(self) -> Path:
        return self.root / "agents"

    @property
    def published(self) -> Path:
        return self.root / "published"

    @property
    def generated(self) -> Path:
        return self.root / "generated.log"

    def make(self) -> None:
        """Raises UsageError when there is something already."""
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            if any(self.root.iterdir()):
                raise UsageError(f"{self.root} is not empty: the demo wants a directory of its own")
            self.logs.mkdir()

    def clear(self) -> None:
        """Leaves the published files and the topology."""
        for directory in (self.logs, self.agents):
            shutil.rmtree(directory, ignore_errors=True)
        self.generated.unlink(missing_ok=True)


class Demo:
    """One run. `report` is given what happens; the attributes may be shown while it runs."""

    def __init__(
        self,
        root: Path,
        *,
        events: int,
        source: Path | None = None,
        kill: bool = True,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.place = Layout(root.absolute())
        self.written = 0  # lines, so far
        self.events = events
        self.supervisor: Supervisor | None = None
        self._source = source
        self._kill = kill
        self._report = report
        self._killed = ""
        self._may_go_on = asyncio.Event()
        self._stopped = False

    def prepare(self) -> None:
        """Writes the topology, and the lines unless there is an input. UsageError where it
        cannot."""
        place = self.place
        if self._source is not None:
            if not self._source.is_file():
                raise UsageError(f"{self._source}: no such file")
            if not self._source.stat().st_size:
                self._kill = False  # nothing will come by for an aggregator to lose
        place.make()
        with disk_errors(place.root):
            self._write_files()

    def _write_files(self) -> None:
        place = self.place
        size = self._source.stat().st_size if self._source else self.events * _LINE_BYTES
        needed = _COPIES * size + _FREE_FLOOR_BYTES
        if (free := shutil.disk_usage(place.root).free) < needed:
            raise UsageError(
                f"{place.root}: {show_size(free)} are free, and this takes up to "
                f"{show_size(needed)}; choose another place with --data, or fewer lines"
            )
        text = find_topology("quickstart").read_text()
        values = {
            "DATA": str(place.agents),
            "LOG": f"{glob.escape(str(place.logs))}/access-*.log",
            "OUT": str(place.published),
            "LOOPBACK": free_loopback([int(port) for port in _PORTS.findall(text)]),
        }
        place.topology.write_text(fill_in(text, values))
        if self._source is None:
            self._report(f"generating {self.events:,} access-log lines")
            with place.generated.open("wb") as file:
                for block in AccessLog(seed=1).blocks(self.events):
                    file.write(block)

    async def run(self) -> DemoResult:
        """Feeds, kills, drains and compares. Raises TiersError when it gets nowhere."""
        self.supervisor = Supervisor(self.place.topology, None, report=self._report)
        supervising = asyncio.create_task(self.supervisor.run())
        try:
            await self._until_up(self.supervisor)
            began = time.monotonic()
            tally = await self._feed_and_kill(self.supervisor)
            if not self._stopped:
                self._report(f"all {tally.written:,} lines are written; draining")
            self.supervisor.drain()
            await self._until_over(self.supervisor, supervising)
            seconds = time.monotonic() - began
        finally:
            self.supervisor.stop()
            await supervising
        if self._stopped:
            raise UsageError(f"stopped before all was drained; its files are in {self.place.root}")
        self._report("comparing line by line")
        return await self._outcome(tally, seconds)

    def publishes(self, tier: str) -> bool:
        """Whether agents of a tier write to the store."""
        return self.supervisor is not None and bool(self.supervisor.topology.tiers[tier].sinks)

    def stop(self, *, now: bool = False) -> None:
        """Cuts it short."""
        self._stopped = True
        self._may_go_on.set()
        if self.supervisor is not None:
            self.supervisor.stop(now=now)

    async def _until_up(self, supervisor: Supervisor) -> None:
        deadline = time.monotonic() + _STALL_S
        children = supervisor.children
        while not self._stopped and not (children and all(map(is_running, children.values()))):
            if time.monotonic() > deadline:
                raise TiersError(_standstill(supervisor))
            await asyncio.sleep(_LOOK_S)
        self._report(f"{len(children)} agents are running")

    async def _feed_and_kill(self, supervisor: Supervisor) -> Tally:
        loop = asyncio.get_running_loop()
        tally = Tally(self.place.root / "tally")
        killing = asyncio.create_task(self._kill_one(supervisor))
        pieces = self._pieces(load(self.place.topology).batch.event_bytes_max)
        try:
            with disk_errors(self.place.root):
                await loop.run_in_executor(None, self._feed, pieces, tally, loop)
            await killing
        finally:
            killing.cancel()
        return tally

    def _pieces(self, event_bytes_max: int) -> Iterator[tuple[bytes, bytes]]:
        """Blocks of the input as they are and as they should come out, too long lines split."""
        file = self._source or self.place.generated
        for block in read_blocks(file, max(1, min(BLOCK_BYTES, file.stat().st_size // 20))):
            ended = block if block.endswith(b"\n") else block + b"\n"
            yield block, bytes(cut(ended, event_bytes_max).block)

    def _feed(
        self,
        pieces: Iterator[tuple[bytes, bytes]],
        tally: Tally,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """In a thread: appends the lines to the logs in turn."""
        size = (self._source or self.place.generated).stat().st_size
        fed = 0
        files = [(self.place.logs / f"access-{n}.log").open("wb") for n in range(1, _LOGS + 1)]
        try:
            for number, (block, lines) in enumerate(pieces):
                if fed >= size * _FIRST_PART and not self._may_go_on.is_set():
                    asyncio.run_coroutine_threadsafe(self._may_go_on.wait(), loop).result()
                if self._stopped:
                    return
                file = files[number % _LOGS]
                file.write(block)
                file.flush()
                tally.add_written(lines)
                self.written, fed = tally.written, fed + len(block)
        finally:
            for file in files:
                file.close()

    async def _kill_one(self, supervisor: Supervisor) -> None:
        """Kills the first aggregator that has something to lose."""
        topology = supervisor.topology
        middle = [t for t in topology.tiers.values() if t.next and topology.upstream(t.name)]
        candidates = [name for tier in middle for name in tier.agents]
        deadline = time.monotonic() + _STALL_S
        try:
            while self._kill and candidates and not self._stopped:
                await asyncio.sleep(_LOOK_S)
                for child in (supervisor.children.get(name) for name in candidates):
                    if child is not None and child.status and row_of(child).events_in > 0:
                        self._killed = child.place.name
                        self._report(f"{self._killed}: SIGKILL, in mid-stream")
                        child.signal(signal.SIGKILL)
                        return
                if time.monotonic() > deadline:
                    raise TiersError(_standstill(supervisor))
        finally:
            self._may_go_on.set()

    async def _until_over(self, supervisor: Supervisor, task: "asyncio.Task[int]") -> None:
        last: object = None
        moved = time.monotonic()
        while not task.done():
            await asyncio.wait([task], timeout=1.0)
            counts = [
                (child.phase, replace(row_of(child), oldest_s=0.0, behind=(), error=""))
                for child in supervisor.children.values()
            ]
            if counts != last:
                last, moved = counts, time.monotonic()
            elif time.monotonic() - moved > _STALL_S:
                raise TiersError(_standstill(supervisor))

    async def _outcome(self, tally: Tally, seconds: float) -> DemoResult:
        topology = load(self.place.topology)
        # The agents are over; what is left in their channels says what they had accepted.
        places = {name: (topology.data_of(name), None) for name in topology.agent_names()}
        report = await audit(topology, places)
        difference = await asyncio.to_thread(self._compare, tally)
        return DemoResult(
            accepted=tally.written,
            published=tally.found,
            missing=difference.missing,
            doubled=difference.surplus,
            foreign=difference.foreign,
            events_per_second=round(tally.written / seconds),
            seconds=round(seconds, 2),
            killed=self._killed,
            audit_ok=report.proven,
            files=str(self.place.published),
            troubles=[p for output in report.outputs for p in output.shelf.problems],
        )

    def _compare(self, tally: Tally) -> Difference:
        for file in published_files(self.place.published):
            for block in read_blocks(file):
                tally.add_found(block)
        return tally.compare()


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """The door to the disk's errors: UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.filename or root}: {error.strerror or error}") from error


def row_of(child: Child) -> Row:
    """What an agent last said of itself."""
    return row(child.place.name, child.place.tier, child.status or child.answer)


def is_running(child: Child) -> bool:
    return isinstance(child.answer, dict) and child.answer.get("state") == "running"


def _standstill(supervisor: Supervisor) -> str:
    said = (
        f"{name}: {child.phase}; {row_of(child).error or 'no error'}"
        for name, child in supervisor.children.items()
    )
    where = next(iter(supervisor.children.values())).place.data
    return f"nothing has moved for {_STALL_S:g} s, see {where}. {'. '.join(said)}"


def published_files(root: Path) -> list[Path]:
    """Every published file beneath a store's root, and nothing of the store's own."""
    return sorted(
        file
        for file in root.rglob("*")
        if file.is_file() and file.relative_to(root).parts[0] != OWN
    )


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """A topology with its variables replaced, so that the file stands for itself."""

    def value(match: re.Match[str]) -> str:
        # A JSON string is a TOML basic string.
        return json.dumps(values.get(match[1], match[2]), ensure_ascii=False)[1:-1]

    return _VARIABLE.sub(value, text)


def free_loopback(ports: list[int]) -> str:
    """An address of 127.0.0.0/8 (all of it is this machine) where these ports and the ones after
    them are free, so that several demos, and a real topology, can run side by side."""
    random = Random()
    for _ in range(20):
        host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        if all(_is_free(host, port) for first in ports for port in (first, first + 1)):
            return host
    raise UsageError(f"ports {sorted(ports)} are in use on every loopback address tried")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
