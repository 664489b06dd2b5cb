"""Runs every agent of a topology on this machine, one process each.

Each agent has a task of its own here that starts it, asks it for its status a few times a second,
and starts it again when it dies. All else follows from looking again: the topology file (agents
added are started; those taken out drain and end by themselves) and, with `drain`, the tiers
upstream: an agent is told to drain once every agent that feeds its tier is over, since only then
nothing more can come. It is told again whenever it was started again.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

from tiers.agent.reloading import KEPT, LEAVE_AFTER_S, LOOK_S
from tiers.core.backoff import Backoff
from tiers.errors import TiersError, UsageError
from tiers.fleet.child import (
    OVER,
    AgentPlace,
    Child,
    Phase,
    agent_command,
    bound_log,
    describe_end,
    last_words,
)
from tiers.host.durable import write_durably
from tiers.host.own_directory import make_own, who_has
from tiers.observe.client import ask, tell_drain
from tiers.topology import Topology, load
from tiers.topology.load import look, understand
from tiers.topology.steady import Content, Steady

POLL_S: Final = 0.2
_STOP_STEP_S: Final = 0.02
_LEFT_WITHIN_S: Final = 5.0  # for agents of a supervisor before this one, which end with it
_STOP_MARGIN_S: Final = 5.0  # beyond the agents' own time for stopping, before SIGKILL

Command = Callable[[Path, AgentPlace], list[str]]
Report = Callable[[str], None]


def places(topology: Topology, data: Path | None) -> dict[str, AgentPlace]:
    """Every agent of a topology by name, upstream first. `data` wins over what the file says.
    UsageError where neither says anything."""
    return {
        name: AgentPlace(name, topology.tier_of(name).name, topology.data_of(name, data).parent)
        for name in topology.agent_names()
    }


class Supervisor:
    """`run` returns the exit status. `report` is given what happens, a line at a time."""

    def __init__(
        self,
        file: Path,
        data: Path | None,
        *,
        drain: bool = False,
        strict: bool = False,
        report: Report = lambda line: None,
        command: Command = agent_command,
        backoff: Callable[[], Backoff] = Backoff,
        random: Random | None = None,
        poll_s: float = POLL_S,
        look_s: float = LOOK_S,
    ) -> None:
        content = look(file)
        self._steady = Steady(content)
        self.topology_error = ""
        self.topology = self._begin(content, file, data, report, strict=strict)
        self.children: dict[str, Child] = {}
        self.draining = drain
        self._file = file
        self._data = data
        self._report = report
        self._command = command
        self._backoff = backoff
        self._random = random or Random()
        self._poll_s = poll_s
        self._look_s = look_s
        self._strict = strict
        self._stop = asyncio.Event()
        self._over = asyncio.Event()

    def _begin(
        self, content: Content, file: Path, data: Path | None, report: Report, *, strict: bool
    ) -> Topology:
        """The topology to start with: the file's, or the last one that was in force here. Raises
        ConfigError, UsageError."""
        try:
            return understand(content, file)
        except TiersError as error:
            if strict or data is None or not (data / KEPT).is_file():
                raise
            topology = load(data / KEPT)
            self.topology_error = str(error)
            report(f"topology refused, begins by {data / KEPT}: {error}")
            return topology

    def stop(self, *, now: bool = False) -> None:
        """Begins to stop all agents; `now`: with SIGKILL (nothing that was acked is lost)."""
        self._stop.set()
        if now:
            self._signal_all(signal.SIGKILL)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def drain(self) -> None:
        """From now on as if made with `drain`."""
        self.draining = True

    async def run(self) -> int:
        """Returns when stopped, or when every agent is over: 0, or 1 when dead letters are left
        or draining was cut short. UsageError where agents cannot have their directories, or run
        already."""
        wanted = places(self.topology, self._data)
        for place in wanted.values():
            make_own(place.directory)
        await _let_go_of(wanted)
        async with asyncio.TaskGroup() as tasks:
            self._apply(self.topology, tasks)
            watch = tasks.create_task(self._watch(tasks))
            await _first(self._stop, self._over)
            watch.cancel()
            await self._stop_all()
        ends = [child.phase for child in self.children.values()]
        cut_short = self.draining and Phase.STOPPED in ends
        return 1 if cut_short or Phase.DEAD_LETTERS in ends else 0

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        """Looks at the file again and again, and not by inotify, which sees nothing on network file
        systems and follows no symbolic links."""
        if not self.topology_error:
            await self._keep_topology()
        while True:
            await asyncio.sleep(self._look_s)
            new = self._steady.saw(await asyncio.to_thread(look, self._file))
            if new is not None:
                await self._take_over(new, tasks)

    async def _take_over(self, content: Content, tasks: asyncio.TaskGroup) -> None:
        try:
            topology = await asyncio.to_thread(understand, content, self._file)
            if topology.name != self.topology.name:
                raise UsageError(f"its name is {topology.name!r}, was {self.topology.name!r}")
            self._apply(topology, tasks)
            self.topology_error = ""
            await self._keep_topology()
        except TiersError as error:
            self.topology_error = str(error)
            self._report(f"topology refused, the old one stays in force: {error}")

    async def _keep_topology(self) -> None:
        """For a start when the file is wrong; only where `--data` says where to look then."""
        if self._data is not None:
            with contextlib.suppress(OSError):  # a full disk: with the next change then
                text = self.topology.text.encode()
                await asyncio.to_thread(write_durably, self._data / KEPT, text)

    def _apply(self, topology: Topology, tasks: asyncio.TaskGroup) -> None:
        wanted = places(topology, self._data)
        self.topology = topology
        for name, child in self.children.items():
            left = name not in wanted
            if left and not child.leaving:
                self._report(
                    f"{name}: no longer in the topology; it drains and ends, if that stays so for "
                    f"{LEAVE_AFTER_S:g} s"
                )
            if child.leaving and not left:
                self._report(f"{name}: in the topology again")
            child.leaving = left
        for name, place in wanted.items():
            known = self.children.get(name)
            if known is None or (known.phase in OVER and not self.draining):
                child = self.children[name] = Child(place, self._backoff())
                tasks.create_task(self._keep(child, tasks), name=f"keep {name}")
            else:
                # Its files stay where its process has them, until `up` itself is started again.
                known.place = replace(known.place, tier=place.tier)

    async def _keep(self, child: Child, tasks: asyncio.TaskGroup) -> None:
        """Starts and restarts one agent until it is over."""
        name = child.place.name
        while not self._stop.is_set():
            end = await self._live(child)
            if self._stop.is_set():
                break
            phase = child.over(end) if isinstance(end, int) else None
            if phase is not None:
                child.phase, child.answer = phase, f"over: {phase}"
                self._report(f"{name}: {phase}")
                self._note_over()
                return
            wait_s = child.backoff.wait_s(child.lived_s, self._random.random())
            why = describe_end(end) if isinstance(end, int) else end
            child.phase, child.answer = Phase.WAITING, self._obituary(child, why, wait_s)
            self._report(f"{name}: {child.answer}")
            await _first(self._stop, timeout_s=wait_s)
        child.phase, child.answer = Phase.STOPPED, "stopped"

    async def _live(self, child: Child) -> int | str:
        """One life of an agent: its exit status, or why it could not be started."""
        try:
            strict = ["--strict"] if self._strict else []
            await child.begin([*self._command(self._file, child.place), *strict])
        except (OSError, UsageError) as error:
            return f"cannot be started: {error}"
        assert child.process is not None
        if self._stop.is_set():  # it was stopped while the process was made
            child.signal(signal.SIGTERM)
        follow = asyncio.create_task(self._follow(child))
        try:
            return await child.process.wait()
        except asyncio.CancelledError:
            child.signal(signal.SIGTERM)
            raise
        finally:
            follow.cancel()
            await asyncio.gather(follow, return_exceptions=True)

    async def _follow(self, child: Child) -> None:
        while True:
            child.note(await ask(child.place.directory, agent=child.place.name))
            if isinstance(child.answer, dict) and self._must_drain(child) and not child.told:
                answer = await tell_drain(child.place.directory)
                child.told = isinstance(answer, dict)
            bound_log(child.place.directory)
            await asyncio.sleep(self._poll_s)

    def _must_drain(self, child: Child) -> bool:
        """True once nothing can come from the tiers before it."""
        if not self.draining:
            return False
        before = self.topology.upstream(child.place.tier)
        return all(
            other.phase in OVER for other in self.children.values() if other.place.tier in before
        )

    def _note_over(self) -> None:
        if all(child.phase in OVER for child in self.children.values()):
            self._over.set()

    def _obituary(self, child: Child, why: str, wait_s: float) -> str:
        words = last_words(child.place.directory)
        said = f" (last words: {words})" if words and "SIGKILL" not in why else ""
        return f"{why} after {child.lived_s:.1f} s; started again in {wait_s:.1f} s{said}"

    async def _stop_all(self) -> None:
        """SIGTERM, then SIGKILL for those that take too long."""
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self.topology.delivery.shutdown_timeout_s + _STOP_MARGIN_S
        alive = self._alive()
        while alive and time.monotonic() < deadline:
            await asyncio.sleep(_STOP_STEP_S)
            alive = self._alive()
        for child in alive:
            self._report(f"{child.place.name}: did not stop in time; killed")
            child.signal(signal.SIGKILL)

    def _alive(self) -> list[Child]:
        return [child for child in self.children.values() if child.phase is Phase.RUNNING]

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self.children.values():
            child.signal(number)


async def _let_go_of(wanted: Mapping[str, AgentPlace]) -> None:
    """Agents that run already are not ours: their own supervisor would start them again, and what
    we tell them to do (to drain) nobody has told that one."""
    until = time.monotonic() + _LEFT_WITHIN_S
    while True:
        run = {name: who for name, place in wanted.items() if (who := who_has(place.directory))}
        if not run:
            return
        if time.monotonic() > until:
            said = ", ".join(f"{name} ({who})" for name, who in run.items())
            raise UsageError(
                f"agents run on these directories already: {said}. See `tiers status`; stop them, "
                "or who supervises them, or give another --data"
            )
        await asyncio.sleep(POLL_S)


async def _first(*events: asyncio.Event, timeout_s: float | None = None) -> None:
    """Until one of them is set, or `timeout_s` is over."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
