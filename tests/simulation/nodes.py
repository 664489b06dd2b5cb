"""The machines of a world, and the lives of their agents."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.channel.memory import Tables
from tests.simulation.ledger import Disk
from tests.simulation.loop import OWNER
from tests.simulation.store import SimStore, Tape
from tests.simulation.topology import with_credit
from tiers.agent.agent import Agent
from tiers.topology import Topology

CREDIT_BYTES: Final = 500  # of one sender

if TYPE_CHECKING:
    from tests.simulation.disk import SimEnvironment
    from tests.simulation.world import World


class SimAgent(Agent):
    """Whatever its file says, a sender waits for credit after every batch."""

    async def apply(self, topology: Topology) -> None:
        await super().apply(with_credit(topology, CREDIT_BYTES))


class Boot:
    """One life of a node."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.name = node.name
        self.machine = node.machine
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []
        self.environments: list[SimEnvironment] = []
        self.tape = Tape()
        self.agent: Agent | None = None
        self.put_upto = 0  # the last line that its source has put
        self.disturbed = False  # a commit failed, or it was stopped for a while
        self.channel_ended = False

    def store(self, name: str) -> SimStore:
        """Its handle on the store of that name ("tier/output")."""
        return SimStore(self.node.world.ledger.outputs[name].files, self.tape)


def booted() -> Boot:
    """Whose code runs now."""
    boot = OWNER.get()
    assert isinstance(boot, Boot), "outside of any node"
    return boot


@dataclass
class Image:
    """A copy of a node's disk, as a crash at that moment would have left it."""

    files: Path
    tables: dict[Path, Tables]
    disk: Disk | None  # what the ledger knows of it; None: nothing was there yet
    damaged: set[int]
    blind: set[int]


@dataclass
class Node:
    """A machine: what survives a crash of its agent. `label` begins the lines that it reads: those
    that a machine finds after its disk went back are others."""

    world: "World"
    name: str
    machine: str
    label: str
    boot: Boot | None = None
    lives: int = 1  # one more each time that its disk went back
    back_to: Image | None = None  # what is on its disk at the next start
    tables: dict[Path, Tables] = field(default_factory=dict)  # of its channel, by directory
    place: int = 1  # another one: the disk is another file, or is in another machine
    twin: bool = False  # the other of its name is to stay
    skew_ms: int = 0
    disk_full: bool = False
    fsync_fails: int = 0
    crash_at_store: int = 0  # so many store calls from now
    crash_at_commit: int = 0
    crash_at_send: int = 0
    pause_at_store: int = 0
    pause_s: float = 0.0
    crash_after: str = ""  # the step of commit.md after which it is to crash
    down_s: float | None = None  # it is being stopped, and started again so long after its end
    stop_at: str = ""  # the step of commit.md before which it is to stop
    commit_s: float = 0.0  # how much longer commits take
    channel_ends: int = 0  # so many commits with batches from now
    disk_lost: bool = False
    gone: bool = False  # for good
    damage: int = 0  # so many reads of records from now on
    damage_envelope: bool = False  # and not the body
    damaged: set[int] = field(default_factory=set)  # positions of records that cannot be read
    blind: set[int] = field(default_factory=set)  # of those whose envelope cannot be read

    @property
    def home(self) -> Path:
        """Where its data directory is."""
        return self.world.directory / self.machine
