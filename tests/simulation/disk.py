"""A node's disk: tables in memory in place of LMDB (tests/channel/memory.py), with commits in
virtual time and failures made of the seed."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.channel.memory import MemoryDisk, MemoryEnvironment, Tables
from tests.simulation.published import Violation
from tiers.channel.accounts import Accounts
from tiers.channel.channel import Channel
from tiers.channel.environment import Environment, Panicked, Transaction
from tiers.channel.home import Home
from tiers.channel.layout import QUEUE_KEY, ChannelState
from tiers.channel.living import ChannelLife
from tiers.channel.writer import Done, Submitted, Writer, WriterReport
from tiers.contracts import Clock
from tiers.core.batch import Envelope
from tiers.core.change import ChannelLimits
from tiers.errors import BatchError, ChannelUnavailable

if TYPE_CHECKING:
    from tests.simulation.nodes import Boot

DISK_BYTES = 1 << 30
LOOK_EVERY_S = 1.0
HANDS_MAX = 64  # groups that a closing channel may still need


class WriterFailed(Exception):
    """The writer ends in mid-stream: what was submitted never will be on disk."""


class SimEnvironment(MemoryEnvironment):
    """Whose commits fail when the node's disk does."""

    def __init__(self, boot: "Boot", tables: Tables, path: Path, map_bytes: int) -> None:
        self.boot = boot
        self.world = boot.node.world
        self.kept = False  # the last commit is there although it failed
        self.panicked = False  # until it is opened anew
        super().__init__(tables, path, map_bytes)
        self.boot.environments.append(self)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        try:
            with self._writing() as txn:
                yield txn
        except ChannelUnavailable:
            self.boot.disturbed = True
            raise

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        node, world = self.boot.node, self.world
        self.kept = False
        if self.panicked:
            raise Panicked("LMDB has given up on the environment: simulated")
        if node.disk_full:
            raise ChannelUnavailable("disk full: simulated")
        fails = node.fsync_fails > 0
        kept = fails and world.chance(0.5)
        node.fsync_fails -= fails
        with super().writing() as txn:
            yield txn
            if fails and not kept:
                self.panicked = world.chance(0.5)
                raise ChannelUnavailable("fsync failed: simulated")
        if kept:
            # Of the meta page, which is there nevertheless: from now on LMDB says PANIC.
            self.kept = self.panicked = True
            raise ChannelUnavailable("fsync failed, yet it is there: simulated")

    def reopen(self) -> None:
        super().reopen()
        self.panicked = False

    def damaged(self, position: int, *, envelope: bool = False) -> bool:
        """Whether that record, or its envelope, cannot be read, from now on if not before."""
        node = self.boot.node
        if node.damage and node.damage_envelope == envelope:
            node.damage -= 1
            if not node.damage and position not in node.damaged:
                what = "envelope" if envelope else "record"
                self.world.say(f"{node.machine}: the {what} at {position} is damaged")
                node.damaged.add(position)
                if envelope:
                    node.blind.add(position)
                self.world.ledger.damaged(node.machine, position)
        return position in (node.blind if envelope else node.damaged)

    def disk_free_bytes(self) -> int:
        return 0 if self.boot.node.disk_full else DISK_BYTES


class SimDisk(MemoryDisk):
    """Of one boot. It is locked by nobody, since no dead boot would let go of it."""

    def __init__(self, boot: "Boot") -> None:
        super().__init__(boot.node.tables)
        self._boot = boot

    def lock(self, directory: Path) -> int:
        return os.open(os.devnull, os.O_RDONLY)

    def open(self, path: Path, map_bytes: int) -> SimEnvironment:
        return SimEnvironment(self._boot, self.at(path, map_bytes), path, map_bytes)

    def home(self, path: Path) -> Home:
        return Home("simulated", self._boot.node.place, 0)


class _GiveUp:
    """In place of the writer's event: says how long it would have waited."""

    def __init__(self) -> None:
        self.given = False
        self.delay_s = 0.0

    def wait(self, delay_s: float) -> bool:
        self.delay_s = delay_s
        return self.given

    def set(self) -> None:
        self.given = True


class SimWriter(Writer):
    """The writer without its thread: a group is durable at one moment, and told of later."""

    def __init__(
        self,
        environment: Environment,
        state: ChannelState,
        life: ChannelLife,
        limits: ChannelLimits,
        accounts: Accounts,
        clock: Clock,
        report: Callable[[WriterReport], None],
    ) -> None:
        super().__init__(environment, state, life, limits, accounts, clock, self._tell_later)
        assert isinstance(environment, SimEnvironment)
        self.boot, self.world = environment.boot, environment.world
        self._to_loop = report
        self._sim_loop = asyncio.get_running_loop()
        self._told_s = 0.0
        self._planned = False
        self._ended = False
        self._give_up = _GiveUp()  # type: ignore[assignment]
        self._sim_begun = False
        self._last_done: Done = ()
        self._recorded: set[Submitted] = set()  # those of commits that failed and were kept

    def start(self) -> None:
        self._sim_begun = True
        self._sim_loop.call_later(LOOK_EVERY_S, self._idle)

    def _tell_later(self, report: WriterReport) -> None:
        if not self._sim_begun or self._ended:
            self._to_loop(report)
            return
        slow = self.world.chance(0.02)
        wait_s = self.world.random.uniform(0.0, 1.0) if slow else self.world.delay()
        self._told_s = max(self._told_s + 1e-6, self._sim_loop.time() + wait_s)
        self._sim_loop.call_at(self._told_s, self._to_loop, report)

    def submit(self, item: Submitted) -> None:
        super().submit(item)
        self._plan(self.world.delay())

    def _plan(self, wait_s: float) -> None:
        if not self._planned and not self._ended:
            self._planned = True
            self._sim_loop.call_later(wait_s + self.boot.node.commit_s, self._step)

    def _idle(self) -> None:
        if not self._ended:
            self._plan(0.0)
            self._sim_loop.call_later(LOOK_EVERY_S, self._idle)

    def _receive(self) -> None:
        while not self._inbox.empty():
            item = self._inbox.get_nowait()
            if item is None:
                self._stopping = True
            else:
                self._waiting.append(item)

    def _step(self) -> None:
        self._planned = False
        if self._ended:
            return
        self._give_up.delay_s = 0.0  # type: ignore[attr-defined]
        try:
            more = self._turn()
        except Violation as violation:
            self.world.fail(violation)
            self._ended = True
            return
        except Exception as error:
            self._tell(failed=error)
            self._ended = True
            return
        if not more:
            self._ended = True
        elif self._waiting or self._adopted or not self._inbox.empty():
            self._plan(self.world.delay() + self._give_up.delay_s)  # type: ignore[attr-defined]

    def _tell(self, **what: Any) -> None:
        self._last_done += what.get("done", ())
        super()._tell(**what)

    def _commit(self, group: list[Submitted]) -> None:
        """Checked, and perhaps the last deed of this boot."""
        ledger, node = self.world.ledger, self.boot.node
        self._last_done = ()
        if node.channel_ends and any(item.change.puts for item in group):
            node.channel_ends -= 1
            if not node.channel_ends:
                self.world.channel_ended(self.boot)
                raise WriterFailed("the writer's thread has ended: simulated")
        try:
            super()._commit(group)
        except ChannelUnavailable:
            if isinstance(self._environment, SimEnvironment) and self._environment.kept:
                done: Done = self._doubtful[1]
                self._recorded.update(one[0] for one in done)
                ledger.committed(self.boot, self._life.channel, done, self._queues)
            raise
        told: Done = self._last_done
        if self.world.journal.open:
            for one in told:
                # Records may be views, which are shown as addresses.
                puts = [replace(put, record=bytes(put.record)) for put in one.item.change.puts]
                change = replace(one.item.change, puts=puts)
                self.world.journal.note(self.boot.machine, "commits", one.positions, change)
        fresh = tuple(pair for pair in told if pair[0] not in self._recorded)
        ledger.committed(self.boot, self._life.channel, fresh, self._queues)
        if node.crash_at_commit and self.boot.alive:
            node.crash_at_commit -= 1
            if not node.crash_at_commit:
                self.world.crash(node, self.world.random.uniform(0.1, 20.0))

    def _queues(self, position: int) -> list[str]:
        """Outputs that wait for what is at a position."""
        queue = self._environment.db["queue"]
        with self._environment.reading() as txn:
            return [
                name
                for name, totals in self._state.outputs.items()
                if txn.get(QUEUE_KEY.pack(totals.id, position), db=queue) is not None
            ]

    def join(self, timeout: float | None = None) -> None:
        for _ in range(HANDS_MAX):
            self._planned = True
            if self._ended:
                return
            self._step()

    def is_alive(self) -> bool:
        return not self._ended


class SimChannel(Channel):
    """Of which some records and envelopes have rotted."""

    _writer_of = SimWriter

    def _is_damaged(self, position: int, *, envelope: bool = False) -> bool:
        assert isinstance(self._environment, SimEnvironment)
        return self._environment.damaged(position, envelope=envelope)

    def record(self, position: int) -> bytes:
        if self._is_damaged(position):
            raise BatchError("its checksum is another: simulated")
        return super().record(position)

    def envelope(self, position: int) -> Envelope:
        if self._is_damaged(position, envelope=True):
            raise BatchError("its envelope is no map: simulated")
        return super().envelope(position)

    def renew(self, why: str) -> None:
        assert isinstance(self._environment, SimEnvironment)
        boot, world = self._environment.boot, self._environment.world
        world.say(f"{boot.machine} is to be renewed: {why}")
        world.count("renewed")
        super().renew(why)
