"""The machines of a world, and the lives of their agents."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.store import SimStore, Tape
from tiers.agent import Agent

if TYPE_CHECKING:
    from tests.simulation.disk import SimEnvironment
    from tests.simulation.world import World


class Boot:
    """One life of a node."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.name = node.name
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []
        self.environments: list[SimEnvironment] = []
        self.tape = Tape()
        self.agent: Agent | None = None

    def store(self, name: str) -> SimStore:
        """Its handle on the store of that name ("tier/output")."""
        return SimStore(self.node.world.ledger.outputs[name].files, self.tape)


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
    crash_after: str = ""  # the step of commit.md after which it is to crash
    down_s: float | None = None  # it is being stopped, and started again so long after its end
    stop_at: str = ""  # the step of commit.md before which it is to stop
    commit_s: float = 0.0  # how much longer commits take
    disk_lost: bool = False
    gone: bool = False  # for good
    damage: int = 0  # so many reads of records from now on
    damaged: set[int] = field(default_factory=set)  # positions of records that cannot be read
