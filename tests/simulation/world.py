"""A whole topology of real agents on a virtual clock, with everything around them simulated.

Real: agents with their reloading, intakes, channels on LMDB, senders, receivers, file sinks.
Simulated: time, chance, threads, sockets, the store, and the disk's failures. Every commit and
every store call is checked against delivery.md and commit.md.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.simulation.disk import SimEnvironment, SimWriter, damaging
from tests.simulation.faults import CLOSING_UNTIL_S, FAULTS_UNTIL_S, Fault, draw, draw_closing
from tests.simulation.injecting import Injector
from tests.simulation.ledger import Ledger, Violation, show
from tests.simulation.loop import OWNER, VirtualLoop
from tests.simulation.network import SILENCE_S, Network, SimSocket
from tests.simulation.store import Files, SimStore, SimWorkers, Wanted
from tiers import sources
from tiers.agent import Agent
from tiers.channel.reader import Reader
from tiers.core.receiver import ReceiverLimits
from tiers.errors import ChannelUnavailable, UsageError
from tiers.reloading import begin

BEGINNING_MS = 1_795_391_985_000  # 15 s before midnight, UTC
HEAL_S = 400.0
LOSSY_S = 100.0  # after which no more lines are expected
BATCH_BYTES_MAX = 1000  # a sender may overshoot its credit by one batch
CREDIT_BYTES = 500  # of one sender
TOPOLOGY = """
name = "sim"
insecure = true
[batch]
linger = "50ms"
size = "1KiB"
codec = "none"
[channel]
size = "16MiB"
free_floor = "1MiB"
[delivery]
window = "136KiB"
bundle_size = "4KiB"
reconnect_max = "2s"
failover_after = "2s"
[tiers.edge]
agents = ["edge-1", "edge-2"]
next = "aggregator"
[[tiers.edge.sources]]
type = "numbers"
[tiers.aggregator]
agents = { AGGREGATORS }
next = "store"
[tiers.store]
agents = { sink-1 = "10.0.2.1:7400", sink-2 = "10.0.2.2:7400" SINKS }
[[tiers.store.sinks]]
type = "directory"
root = "/simulated"
path = "%Y/%m/%d"
roll_after = "2s"
takeover_after = "15s"
"""
RETENTION = '[delivery]\ndedupe_retention = "20s"\n'
END = '[delivery]\nguarantee = "end"\nlost_after = "6s"\n'
AGGREGATORS = ('agg-1 = "10.0.1.1:7400"', 'agg-2 = "10.0.1.2:7400"')
LINES = 60
GRAVES: list[Any] = []  # of worlds that are over: a process plays a bounded number of them


class Boot:
    """One life of a node."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.name = node.name
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []
        self.environments: list[SimEnvironment] = []
        self.store = SimStore(node.world.files)
        self.agent: Agent | None = None


@dataclass
class Node:
    """A machine: what survives a crash of its agent."""

    world: "World"
    name: str
    boot: Boot | None = None
    skew_ms: int = 0
    disk_full: bool = False
    fsync_fails: int = 0
    crash_at_store: int = 0  # so many store calls from now
    crash_at_commit: int = 0
    crash_at_send: int = 0
    pause_at_store: int = 0
    pause_s: float = 0.0
    stop_at: str = ""  # the step of commit.md before which it is to stop
    commit_s: float = 0.0  # how much longer commits take
    disk_lost: bool = False
    gone: bool = False  # for good
    damage: int = 0  # so many reads of records from now on
    damaged: set[int] = field(default_factory=set)  # positions of records that cannot be read


@dataclass
class Outcome:
    """How a run ended."""

    seed: int
    violation: str
    trace: list[str]
    faults: list[Fault]
    injected: Counter[str]
    virtual_s: float
    steps: int
    fingerprint: int = 0
    notes: list[str] = field(default_factory=list)


class World:
    """`run` gives the outcome. `faults` replaces those of the seed."""

    def __init__(
        self,
        seed: int,
        faults: list[Fault] | None = None,
        *,
        lines: int = LINES,
        sinks: int = 2,
        guarantee: str = "hop",
        closing: bool = False,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.chance_of_calls: random.Random | None = None
        self.loop = VirtualLoop(self.delay)
        self.net = Network()
        self.injected: Counter[str] = Counter()
        self.trace: list[str] = []
        self.guarantee = guarantee
        self.ledger = Ledger(self.say, guarantee)
        self.injector = Injector(self)
        self.files = Files(lambda: BEGINNING_MS + int(self.loop.time() * 1000), self.ledger.changed)
        self.ledger.files = self.files
        self.lines = lines
        names = ["edge-1", "edge-2", "agg-1", "agg-2", *(f"sink-{n + 1}" for n in range(sinks))]
        self.nodes = {name: Node(self, name) for name in names}
        self.closing = closing  # days are closed while faults are on
        self.until_s = CLOSING_UNTIL_S if closing else FAULTS_UNTIL_S
        drawn = (draw_closing if closing else draw)(self.random, names)
        self.faults = drawn if faults is None else faults
        self._sinks = "".join(f', sink-{n} = "10.0.2.{n}:7400"' for n in range(3, sinks + 1))
        self.lossy = False  # a disk was lost, and what it held with it
        self._over = self.loop.create_future()
        self._grave: list[Any] = []
        self._reboots = 0
        self.directory = Path(tempfile.mkdtemp(prefix="tiers-sim-", dir="/dev/shm"))

    # -- what parts ask --------------------------------------------------------------------

    def current(self) -> Boot:
        boot = OWNER.get()
        assert isinstance(boot, Boot), "outside of any node"
        return boot

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def delay(self) -> float:
        return self.random.uniform(0.0005, 0.01)

    def later(self, wait_s: float, what: Callable[..., None], *args: Any) -> None:
        """In the world's own name: it happens whatever becomes of who asked for it."""
        self.loop.call_later(wait_s, self._guarded, what, *args, context=contextvars.Context())

    def _guarded(self, what: Callable[..., None], *args: Any) -> None:
        try:
            what(*args)
        except Violation as violation:
            self.fail(violation)

    def count(self, what: str) -> None:
        self.injected[what] += 1

    def say(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():7.2f} s  {text}")

    def fail(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)
            self._over.exception()

    def carry_out(self, boot: Boot, wanted: Wanted) -> Any:
        """A store call is carried out; its caller may be dead, or may die of it."""
        try:
            answer = getattr(self.files, wanted.name)(*wanted.args)
        except Violation as violation:
            self.fail(violation)
            raise
        if wanted.name in ("write", "move", "replace"):
            shown = ", ".join(str(arg)[:90] for arg in wanted.args if isinstance(arg, str))
            self.say(f"{boot.name}: {wanted.name} {shown} -> {answer}")
        node = boot.node
        if node.pause_at_store and boot.alive:
            node.pause_at_store -= 1
            if not node.pause_at_store and (resume := self.injector.pause(node)) is not None:
                self.say(f"{node.name} is stopped for {node.pause_s:.1f} s")
                self.later(node.pause_s, resume)
        if node.crash_at_store and boot.alive:
            node.crash_at_store -= 1
            if not node.crash_at_store:
                self.crash(node, self.random.uniform(0.1, 20.0))
        return answer

    # -- nodes -----------------------------------------------------------------------------

    def start(self, node: Node) -> None:
        if node.gone or (node.boot is not None and node.boot.alive):
            return
        if node.disk_lost:
            node.disk_lost = False
            node.damaged.clear()
            shutil.rmtree(self.directory / node.name, ignore_errors=True)
        boot = node.boot = Boot(node)
        context = contextvars.Context()
        context.run(OWNER.set, boot)
        self._grave.append(boot)
        self.loop.call_soon(self._launch, boot, context=context)

    def _launch(self, boot: Boot) -> None:
        task = self.loop.create_task(self._live(boot))
        self._grave.append(task)

    async def _live(self, boot: Boot) -> None:
        name = boot.name
        try:
            topology, directory, reloading = begin(self._file(), name, self.directory)
            boot.agent = Agent(topology, name, directory, reloading)
            self.say(f"{name} starts")
            status = await boot.agent.run()
            self.say(f"{name} ends with status {status}")
        except asyncio.CancelledError:
            raise
        except (UsageError, ChannelUnavailable) as error:
            # With an empty disk: out of the topology, or full. Whoever looks after it tries again.
            self.say(f"{name} does not start: {error}")
            self.later(2.0, self.start, boot.node)
        except BaseException as error:
            self.say(f"{name} fails: {error!r}")
            for one in getattr(error, "exceptions", ()):
                self.say(f"    {one!r}")
            self.fail(Violation(f"an agent's error: {error!r}"))
        boot.alive = False
        self._release(boot)

    def _release(self, boot: Boot) -> None:
        for environment in boot.environments:
            environment.close()
        for connection in self.net.of(boot.name):
            connection.close(told_after_s=0.01 if self.chance(0.7) else SILENCE_S)
        self.net.bound = {a: s for a, s in self.net.bound.items() if s.boot is not boot}

    def crash(self, node: Node, down_s: float, *, disk_lost: bool = False) -> None:
        boot = node.boot
        if boot is None or not boot.alive:
            return
        self.say(f"{node.name} crashes for {down_s:.2f} s")
        self.count("crash")
        boot.alive = False
        node.disk_lost = node.disk_lost or disk_lost
        self.lossy = self.lossy or (disk_lost and self.guarantee == "hop")
        node.crash_at_store = node.crash_at_commit = 0
        self.loop.call_soon(self._release, boot, context=contextvars.Context())
        self.later(down_s, self.start, node)

    def lose(self, node: Node) -> None:
        """It never comes back; at most one node of a world."""
        if not any(one.gone for one in self.nodes.values()):
            node.gone = True
            self.lossy = self.lossy or self.guarantee == "hop"
            self.crash(node, 0.0, disk_lost=True)

    # -- faults ----------------------------------------------------------------------------

    def sent(self, node: Node) -> None:
        """A bundle has left, or is about to."""
        if node.crash_at_send:
            node.crash_at_send -= 1
            if not node.crash_at_send:
                down_s = self.random.choice((0.1, 1.0, 5.0))
                self.later(self.random.uniform(0.0, 0.03), self.crash, node, down_s)
        agent = node.boot.agent if node.boot is not None else None
        for group in agent.groups.values() if agent is not None else ():
            for peer in group.sender.peers.values():
                if peer.in_session and peer.sent > peer.limit + BATCH_BYTES_MAX:
                    what = f"{peer.sent} of {peer.limit} bytes"
                    raise Violation(f"{node.name} sends {peer.name} beyond its credit: {what}")

    def _file(self) -> Path:
        return self.directory / "topology.toml"

    def write_topology(self, *, without: bool = False) -> None:
        aggregators = ", ".join(AGGREGATORS[: 1 if without else 2])
        text = TOPOLOGY.replace("AGGREGATORS", aggregators).replace(" SINKS", self._sinks)
        if self.guarantee == "end":
            text = text.replace("[delivery]\n", END)
        if self.closing:
            text = text.replace("[delivery]\n", RETENTION).replace('"15s"', '"5s"')
        text = text.replace('type = "numbers"', f'type = "numbers"\nlines = {self.lines}')
        fresh = self.directory / "topology.new"
        fresh.write_text(text)
        fresh.rename(self._file())

    def _ensure(self, node: Node) -> None:
        """Whoever had left is started again, as a person would."""
        if node.boot is None or not node.boot.alive:
            self.start(node)

    # -- a run -----------------------------------------------------------------------------

    def run(self) -> Outcome:
        violation = ""
        with self._patched():
            try:
                self.write_topology()
                for node in self.nodes.values():
                    self.loop.call_soon(self.start, node, context=contextvars.Context())
                for fault in self.faults:
                    self.later(fault.at_s, self.injector.inject, fault)
                self.later(self.until_s + 5.0, self._heal)
                self.later(1.0, self._look)
                self.loop.run_until_complete(self._over)
            except Violation as error:
                violation = str(error)
            finally:
                outcome = self._outcome(violation)
                self._bury()
        return outcome

    def _outcome(self, violation: str) -> Outcome:
        now_s = self.loop.time()
        fingerprint = hash((*self.trace, self.loop.steps))
        return Outcome(
            self.seed,
            violation,
            self.trace,
            self.faults,
            self.injected,
            now_s,
            self.loop.steps,
            fingerprint,
        )

    def _heal(self) -> None:
        self.say("all is well from now on")
        self.injector.heal()
        self.write_topology()

    def _look(self) -> None:
        """Is it over?"""
        now_s = self.loop.time()
        if now_s > self.until_s + 8.0:
            for node in self.nodes.values():
                self._ensure(node)
        wanted = 2 * self.lines
        # What a lost disk held is missing with "hop", and must not be doubled.
        enough = len(self.ledger.lines) == wanted or (self.lossy and now_s > self.until_s + LOSSY_S)
        done = enough and self._drained()
        if done and (now_s > self.until_s + 5 or not self.faults):
            self._over.set_result(None) if not self._over.done() else None
        elif now_s > self.until_s + HEAL_S:
            missing = wanted - len(self.ledger.lines)
            if missing and not self.lossy:
                raise Violation(f"missing: {missing} of {wanted} lines are not published")
            raise Violation(f"queues do not drain: {self._left()}")
        else:
            self.later(1.0, self._look)

    def _drained(self) -> bool:
        for node in self.nodes.values():
            if node.gone:
                continue
            agent = node.boot.agent if node.boot is not None and node.boot.alive else None
            if agent is None or agent.state != "running":
                return False
            stats = agent.channel.stats()
            if stats.batches > stats.dead:
                return False
        return True

    def _left(self) -> str:
        """Who still holds something, or is not well."""
        found = []
        for node in self.nodes.values():
            agent = node.boot.agent if node.boot is not None and node.boot.alive else None
            if agent is None or agent.state != "running":
                found.append(f"{node.name} is {agent.state if agent else 'down'}")
            elif agent.channel.stats().batches:
                parts: list[Any] = [*agent.groups.values(), *agent.sinks.values()]
                status = [one.status() for one in parts]
                queues = {
                    name: [show(entry.id) for entry in agent.channel.entries(name)]
                    for name in agent.topology.outputs(node.name)
                }
                found.append(f"{node.name} holds {queues}, {status}")
        return "; ".join(found)

    def _bury(self) -> None:
        for node in self.nodes.values():
            if node.boot is not None:
                node.boot.alive = False
                self._release(node.boot)
        with contextlib.suppress(Exception):
            self.loop.close()
        GRAVES.append((self._grave, self.loop))  # collecting them would run their `finally`
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- patches ---------------------------------------------------------------------------

    def _time_ns(self) -> int:
        boot = OWNER.get()
        skew = boot.node.skew_ms if isinstance(boot, Boot) else 0
        return (BEGINNING_MS + int(self.loop.time() * 1000) + skew) * 1_000_000

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        def rng() -> random.Random:
            return self.chance_of_calls or self.random

        SimSocket.world = SimWorkers.world = SimWriter.world = SimEnvironment.world = self
        lock = os.open("/dev/null", os.O_RDONLY)
        context = SimpleNamespace(Context=lambda: SimpleNamespace(destroy=lambda linger: None))
        patches: list[Any] = [
            mock.patch.object(time, "monotonic", self.loop.time),
            mock.patch.object(time, "perf_counter", self.loop.time),
            mock.patch.object(time, "time_ns", self._time_ns),
            mock.patch.object(time, "time", lambda: self._time_ns() / 1e9),
            mock.patch.object(os, "urandom", lambda size: rng().randbytes(size)),
            mock.patch.object(random, "random", lambda: rng().random()),
            mock.patch.object(secrets, "randbits", lambda bits: rng().getrandbits(bits)),
            mock.patch.object(secrets, "token_hex", lambda size=32: rng().randbytes(size).hex()),
            mock.patch("tiers.transport.sending.Socket", SimSocket),
            mock.patch("tiers.transport.receiving.Socket", SimSocket),
            mock.patch("tiers.transport.sending.TICK_S", 0.2),
            mock.patch("tiers.transport.receiving.TICK_S", 0.2),
            mock.patch("tiers.sinks.file_sink.Workers", SimWorkers),
            mock.patch("tiers.channel.channel.Writer", SimWriter),
            mock.patch("tiers.channel.opening.Environment", SimEnvironment),
            mock.patch("tiers.channel.channel.lock_directory", lambda directory: os.dup(lock)),
            mock.patch("tiers.sinks.directory.LocalStore", lambda root: self.current().store),
            mock.patch("tiers.agent.StatusServer", _NoStatus),
            mock.patch.object(Reader, "record", damaging(Reader.record)),
            mock.patch("tiers.agent.ReceiverLimits", _small_credit),
            mock.patch("tiers.agent.zmq", context),
            mock.patch.dict(sources.BUILTIN, {"numbers": "tests.simulation.source:Numbers"}),
            mock.patch.object(sys, "unraisablehook", lambda _: None),
        ]
        logging.disable(logging.CRITICAL)
        self.loop.set_exception_handler(self._unhandled)
        try:
            with contextlib.ExitStack() as stack:
                for patch in patches:
                    stack.enter_context(patch)
                yield
        finally:
            os.close(lock)
            logging.disable(logging.NOTSET)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Violation):
            self.fail(error)
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            self.fail(Violation(f"an agent's error: {error!r} ({context.get('message')})"))


class _NoStatus:
    """In place of the status server."""

    def __init__(self, *args: object) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


def _small_credit(_: int, message_size_max: int) -> ReceiverLimits:
    return ReceiverLimits(CREDIT_BYTES, message_size_max)
