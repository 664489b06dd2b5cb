"""A whole topology of real agents on a virtual clock, with everything around them simulated.

Real: agents with their reloading, intakes, channels, senders, receivers, file sinks. Simulated:
time, chance, threads, sockets, the store, what is below a channel, and the disk's failures. Every
commit and every store call is checked against delivery.md and commit.md.
"""

import asyncio
import contextlib
import contextvars
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.channel.memory import Tables
from tests.simulation.ending import Ending
from tests.simulation.faults import (
    CLOCK,
    CLOSING_UNTIL_S,
    FAULTS_UNTIL_S,
    Fault,
    draw,
    draw_closing,
    draw_lives,
    draw_reloads,
)
from tests.simulation.injecting import Injector, step_of
from tests.simulation.journal import Journal, Told
from tests.simulation.ledger import Ledger
from tests.simulation.loop import OWNER, VirtualLoop
from tests.simulation.machine import SimMachine, staged
from tests.simulation.network import SILENCE_S, Network
from tests.simulation.nodes import CREDIT_BYTES, Boot, Image, Node, SimAgent
from tests.simulation.published import Violation
from tests.simulation.store import Files, Wanted
from tests.simulation.topology import Shape, with_credit
from tiers.agent.agent import AGAIN
from tiers.agent.reloading import begin
from tiers.core.hop.messages import Guarantee
from tiers.errors import ChannelUnavailable, UsageError

BEGINNING_MS = 1_795_391_985_000  # 15 s before midnight, UTC
BATCH_BYTES_MAX = 1000  # a sender may overshoot its credit by one batch
LINES = 60
LEAVE_AFTER_S = 2.0
Chosen = tuple[tuple[int, float], ...]  # numbers of faults, and seconds; 0.0: as drawn
GRAVES: list[Any] = []  # of worlds that are over: a process plays a bounded number of them


def _below(home: Path, tables: dict[Path, Tables]) -> dict[Path, Tables]:
    return {home / path: one.copy() for path, one in tables.items()}


@dataclass
class Outcome:
    """How a run ended."""

    seed: int
    violation: str
    trace: list[str]
    faults: list[Fault]
    chosen: Chosen
    injected: Counter[str]
    virtual_s: float
    steps: int
    told: Told | None = None  # where it was noted
    unlike: str = ""  # in what another run of the seed differed


class World:
    """`run` gives the outcome. Where `chosen`, only those of the seed's faults happen, and for so
    long; where `until_s`, all is well again by then."""

    def __init__(
        self,
        seed: int,
        shape: Shape,
        chosen: Chosen | None = None,
        *,
        lines: int = LINES,
        guarantee: Guarantee = "hop",
        closing: bool = False,
        until_s: float = 0.0,
        lives: bool = False,
        reloads: bool = False,
        noted: bool = False,
    ) -> None:
        self.seed = seed
        self.shape = shape
        self.random = random.Random(seed)
        self.chance_of_calls: random.Random | None = None
        self.loop = VirtualLoop(self.delay)
        self.loop.set_exception_handler(self.unhandled)
        self.journal = Journal(self.loop.time, open=noted)
        self.net = Network()
        self.injected: Counter[str] = Counter()
        self.trace: list[str] = []
        self.guarantee = guarantee
        self.ledger = Ledger(shape, guarantee)
        self.injector = Injector(self)
        for published in self.ledger.outputs.values():
            published.files = Files(self.now_ms, published.changed)
        self.lines = lines
        self.nodes = {name: Node(self, name, name, name) for name in shape.nodes}  # by machine
        self.closing = closing  # days are closed while faults are on
        self.until_s = until_s or (CLOSING_UNTIL_S if closing else FAULTS_UNTIL_S)
        drawn = (draw_closing if closing else draw)(self.random, shape)
        if lives:
            drawn = draw_lives(self.random, shape, drawn)
        if reloads:
            drawn = draw_reloads(self.random, shape, drawn)
        self.chosen = tuple((n, fault.for_s) for n, fault in enumerate(drawn))
        if chosen is not None:
            self.chosen = tuple((n, for_s or drawn[n].for_s) for n, for_s in chosen)
        self.faults = [replace(drawn[n], for_s=for_s) for n, for_s in self.chosen]
        self.ending = Ending(self)
        self._images = 0
        self._over = self.loop.create_future()
        self._grave: list[Any] = []
        self.directory = Path(tempfile.mkdtemp(prefix="tiers-sim-", dir="/dev/shm"))

    # -- what parts ask --------------------------------------------------------------------

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
        text = text.replace(str(self.directory), "")
        self.trace.append(f"{self.loop.time():7.2f} s  {text}")
        self.journal.note(text)

    def fail(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)
            self._over.exception()

    def carry_out(self, boot: Boot, wanted: Wanted) -> Any:
        """A store call is carried out; its caller may be dead, or may die of it."""
        try:
            answer = getattr(wanted.files, wanted.name)(*wanted.args)
        except Violation as violation:
            self.fail(violation)
            raise
        self.journal.note(boot.machine, wanted.name, wanted.args, "->", answer)
        if not boot.alive:
            self.count("store call after its caller died")
        if wanted.name in ("write", "move", "replace"):
            shown = ", ".join(str(arg)[:90] for arg in wanted.args if isinstance(arg, str))
            self.say(f"{boot.name}: {wanted.name} {shown} -> {answer}")
        node = boot.node
        if node.pause_at_store and boot.alive:
            node.pause_at_store -= 1
            if not node.pause_at_store and (resume := self.injector.pause(node)) is not None:
                self.say(f"{node.name} is stopped for {node.pause_s:.1f} s")
                self.later(node.pause_s, resume)
        if node.crash_after and boot.alive and node.crash_after == step_of(wanted):
            self.crash(node, self.random.choice((0.1, 3.0, 12.0)))
        if node.crash_at_store and boot.alive:
            node.crash_at_store -= 1
            if not node.crash_at_store:
                self.crash(node, self.random.uniform(0.1, 20.0))
        return answer

    # -- nodes -----------------------------------------------------------------------------

    def start(self, node: Node) -> None:
        if node.gone or (node.boot is not None and node.boot.alive):
            return
        if node.disk_lost or node.back_to is not None:
            self._lay_disk(node, node.back_to)
        boot = node.boot = Boot(node)
        context = contextvars.Context()
        context.run(OWNER.set, boot)
        self._grave.append(boot)
        self.loop.call_soon(self._launch, boot, context=context)

    def _lay_disk(self, node: Node, image: Image | None) -> None:
        """What a node finds on its disk when it starts."""
        node.disk_lost, node.back_to = False, None
        node.damaged, node.blind = set(), set()
        shutil.rmtree(node.home, ignore_errors=True)
        node.tables = {}
        if image is not None:
            node.tables = _below(node.home, image.tables)
            node.damaged, node.blind = set(image.damaged), set(image.blind)
            shutil.copytree(image.files, node.home)

    def _launch(self, boot: Boot) -> None:
        task = self.loop.create_task(self._live(boot))
        self._grave.append(task)

    async def _live(self, boot: Boot) -> None:
        name = boot.name
        try:
            topology, directory, reloading = begin(
                self._file(), name, boot.node.home, leave_after_s=LEAVE_AFTER_S
            )
            topology = with_credit(topology, CREDIT_BYTES)
            boot.agent = SimAgent(topology, name, directory, reloading, world=SimMachine(boot))
            self.say(f"{boot.machine} starts")
            status = await boot.agent.run()
            self.say(f"{boot.machine} ends with status {status}")
            if status != AGAIN:  # such an end is like a crash
                self._check_stop(boot)
            elif boot.node.down_s is None:
                boot.node.down_s = 0.1
        except asyncio.CancelledError:
            raise
        except (UsageError, ChannelUnavailable) as error:
            # With an empty disk: out of the topology, or full. Whoever looks after it tries again.
            self.say(f"{name} does not start: {error}")
            self.later(2.0, self.start, boot.node)
        except Violation as violation:
            self.fail(violation)
        except BaseException as error:
            self.say(f"{name} fails: {error!r}")
            for one in getattr(error, "exceptions", ()):
                self.say(f"    {one!r}")
            if not boot.channel_ended:
                self.fail(Violation(f"an agent's error: {error!r}"))
        boot.alive = False
        if boot.node.twin and boot.agent is not None and boot.agent.state == "drained":
            boot.node.gone = True
        self._release(boot)
        if boot.node.down_s is not None:
            self.later(boot.node.down_s, self.start, boot.node)
            boot.node.down_s = None

    def _check_stop(self, boot: Boot) -> None:
        """What the source had put is on disk, if nothing kept it from there. Raises Violation."""
        if boot.name in self.shape.readers and not (boot.disturbed or boot.channel_ended):
            self.ledger.check_stored(boot.machine, boot.put_upto, "was put before a stop")

    def channel_ended(self, boot: Boot) -> None:
        """Nothing more comes on its disk. Whoever looks after the agent starts it again, should it
        not have ended."""
        self.say(f"the channel of {boot.machine} has ended")
        boot.channel_ended = True
        self.later(2.0, self.crash, boot.node, 0.1)
        self.later(3.0, self.start, boot.node)

    def _release(self, boot: Boot) -> None:
        for environment in boot.environments:
            environment.close()
        for connection in self.net.of(boot.machine):
            connection.close(told_after_s=0.01 if self.chance(0.7) else SILENCE_S)
        for bound in self.net.bound.values():
            bound[:] = [socket for socket in bound if socket.boot is not boot]

    def crash(self, node: Node, down_s: float, *, disk_lost: bool = False) -> None:
        boot = node.boot
        if boot is None or not boot.alive:
            return
        self.say(f"{node.machine} crashes for {down_s:.2f} s")
        self.count("crash")
        boot.alive = False
        if disk_lost:
            self._lose_disk(node)
        node.crash_at_store = node.crash_at_commit = node.channel_ends = 0
        node.crash_after, node.down_s = "", None
        self.loop.call_soon(self._release, boot, context=contextvars.Context())
        self.later(down_s, self.start, node)

    def stop(self, node: Node, down_s: float) -> None:
        """SIGTERM; once it has ended, it is started again."""
        agent = node.boot.agent if node.boot is not None and node.boot.alive else None
        if agent is not None and node.down_s is None:
            node.down_s = down_s
            agent.stop()

    def lose(self, node: Node) -> None:
        """It never comes back; at most one node of a world."""
        if not any(one.gone for one in self.nodes.values()):
            node.gone = True
            self.crash(node, 0.0)
            self._lose_disk(node)

    def _lose_disk(self, node: Node) -> None:
        node.disk_lost, node.back_to = True, None
        try:
            self.ledger.lost(node.machine)
        except Violation as violation:
            self.fail(violation)

    # -- disks that go back, or exist twice --------------------------------------------------

    def image(self, node: Node) -> Image:
        """What is on its disk now, which a crash would leave."""
        if node.back_to is not None:
            return node.back_to
        self._images += 1
        files = self.directory / "images" / str(self._images)
        tables: dict[Path, Tables] = {}
        if node.home.exists() and not node.disk_lost:
            shutil.copytree(node.home, files)
            tables = {path.relative_to(node.home): one.copy() for path, one in node.tables.items()}
        else:
            files.mkdir(parents=True)
        disk = self.ledger.image(node.machine)
        return Image(files, tables, disk, set(node.damaged), set(node.blind))

    def set_back(self, node: Node, image: Image, down_s: float, *, elsewhere: bool) -> None:
        """Its disk is what it was; `elsewhere`: as another file, or in another machine."""
        if node.gone or self.loop.time() > self.until_s:
            return
        self.say(f"the disk of {node.machine} goes back")
        self.crash(node, down_s)
        self.later(down_s, self.start, node)
        self._another_life(node, image, elsewhere=elsewhere)
        try:
            self.ledger.went_back(node.machine, image.disk)
        except Violation as violation:
            self.fail(violation)

    def _another_life(self, node: Node, image: Image, *, elsewhere: bool) -> None:
        node.disk_lost, node.back_to = False, image
        node.lives += 1
        node.place += elsewhere
        node.label = f"{node.machine}.{node.lives}"

    def clone(self, node: Node, image: Image, *, elsewhere: bool) -> None:
        """There is another machine with that disk, under the same name and address."""
        if node.gone or self.loop.time() > self.until_s or f"{node.name}'" in self.nodes:
            return
        twin = self.nodes[f"{node.name}'"] = Node(self, node.name, f"{node.name}'", "", twin=True)
        self.say(f"{node.machine} is there twice")
        twin.place = node.place
        self._another_life(twin, image, elsewhere=elsewhere)
        self.ledger.cloned(twin.machine, image.disk)
        self.start(twin)

    # -- faults ----------------------------------------------------------------------------

    def sent(self, node: Node) -> None:
        """A bundle has left, or is about to."""
        if node.crash_at_send:
            node.crash_at_send -= 1
            if not node.crash_at_send:
                down_s = self.random.choice((0.1, 1.0, 5.0))
                self.later(self.random.uniform(0.0, 0.03), self.crash, node, down_s)
        agent = node.boot.agent if node.boot is not None else None
        for group in agent.parts.groups.values() if agent is not None else ():
            for peer in group.sender.peers.values():
                if peer.in_session and peer.sent > peer.limit + BATCH_BYTES_MAX:
                    what = f"{peer.sent} of {peer.limit} bytes"
                    raise Violation(f"{node.name} sends {peer.name} beyond its credit: {what}")

    def _file(self) -> Path:
        return self.directory / "topology.toml"

    def write_topology(self, *, without: str = "", other: frozenset[str] = frozenset()) -> None:
        fresh = self.directory / "topology.new"
        text = self.shape.text(self.guarantee, closing=self.closing, without=without, other=other)
        fresh.write_text(text)
        fresh.rename(self._file())

    def ensure_all(self) -> None:
        """Whoever had left is started again, as a person would."""
        for node in self.nodes.values():
            self.start(node)

    # -- a run -----------------------------------------------------------------------------

    def run(self) -> Outcome:
        violation = ""
        with staged():
            try:
                self.write_topology()
                for node in self.nodes.values():
                    self.loop.call_soon(self.start, node, context=contextvars.Context())
                for fault in self.faults:
                    if fault.kind == CLOCK:
                        self.injector.inject(fault)
                        continue
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
        self.journal.note("after", self.loop.steps, "steps: chance is at", self.random.random())
        return Outcome(
            self.seed,
            violation,
            self.trace,
            self.faults,
            self.chosen,
            self.injected,
            now_s,
            self.loop.steps,
            self.journal.close() if self.journal.open else None,
        )

    def _heal(self) -> None:
        self.say("all is well from now on")
        self.injector.heal()
        self.write_topology()

    def _look(self) -> None:
        """Is it over?"""
        if (self.loop.time() < self.until_s + 5.0 and self.faults) or not self.ending.is_over():
            self.later(1.0, self._look)
        elif not self._over.done():
            self._over.set_result(None)

    def _bury(self) -> None:
        for node in self.nodes.values():
            if node.boot is not None:
                node.boot.alive = False
                self._release(node.boot)
        with contextlib.suppress(Exception):
            self.loop.close()
        GRAVES.append((self._grave, self.loop))  # collecting them would run their `finally`
        shutil.rmtree(self.directory, ignore_errors=True)

    def now_ms(self) -> int:
        """By the store's clock."""
        return BEGINNING_MS + int(self.loop.time() * 1000)

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Violation):
            self.fail(error)
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            self.fail(Violation(f"an agent's error: {error!r} ({context.get('message')})"))
