"""What an agent's process says of itself: who it is, what it runs by, what it takes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tiers import __version__
from tiers.core.meters import Meter, MeterKind, Sample
from tiers.host.heap import own_bytes

if TYPE_CHECKING:
    from tiers.agent.agent import Agent

GAUGE: Final = MeterKind.GAUGE

AGENT: Final = Meter(
    "agent_info",
    "",
    GAUGE,
    "1: which agent this is, and of which version",
    ("topology", "tier", "agent", "version"),
)
STARTED: Final = Meter(
    "start_timestamp_seconds", "seconds", GAUGE, "When this process began; it changes at a restart"
)
GENERATION: Final = Meter(
    "topology_generation", "", GAUGE, "How many topology files were in force since the start"
)
TOPOLOGY: Final = Meter(
    "topology_info",
    "",
    GAUGE,
    "1: the file in force, by the first 16 digits of its sha256",
    ("hash",),
)
HEALTHY: Final = Meter("healthy", "", GAUGE, "1 where the agent is healthy, else 0")
CONDITIONS: Final = Meter(
    "conditions", "conditions", GAUGE, "What is the matter now: see Health", ("code",)
)
DESCRIPTORS: Final = Meter("open_descriptors", "descriptors", GAUGE, "Descriptors that are open")
DESCRIPTORS_MAX: Final = Meter("max_descriptors", "descriptors", GAUGE, "As many there may be")
MEMORY: Final = Meter(
    "memory_bytes", "bytes", GAUGE, "Memory of its own, without pages of the channel's file"
)
CPU: Final = Meter("cpu_seconds", "seconds", MeterKind.COUNTER, "CPU time of all its threads")
LONGEST_TURN: Final = Meter(
    "loop_longest_turn_seconds", "seconds", GAUGE, "The longest turn of the loop since the start"
)
LONG_TURNS: Final = Meter(
    "loop_long_turns",
    "turns",
    MeterKind.COUNTER,
    "Turns of the loop that were too long: see Strangers",
)
METERS: Final = (
    *(AGENT, STARTED, GENERATION, TOPOLOGY, HEALTHY, CONDITIONS),
    *(DESCRIPTORS, DESCRIPTORS_MAX, MEMORY, CPU, LONGEST_TURN, LONG_TURNS),
)


class Process:
    """Of one agent."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def meters(self) -> Iterator[Sample]:
        agent = self._agent
        tier = agent.topology.tier_of(agent.name).name
        yield AGENT.of(1, agent.topology.name, tier, agent.name, __version__)
        yield STARTED.of(agent.started_ms / 1000)
        yield GENERATION.of(agent.reloading.generation)
        yield TOPOLOGY.of(1, agent.reloading.hash)
        yield DESCRIPTORS.of(_descriptors())
        yield DESCRIPTORS_MAX.of(agent.shares.limit)
        yield MEMORY.of(own_bytes(Path("/proc/self/statm").read_bytes()))
        yield CPU.of(time.process_time())
        if agent.watch is not None:
            yield LONGEST_TURN.of(agent.watch.longest_s)
            yield LONG_TURNS.of(agent.watch.long)


def _descriptors() -> int:
    """Linux tells it as the size of that directory from 6.2 on; before, they are listed."""
    directory = "/proc/self/fd"
    return os.stat(directory).st_size or len(os.listdir(directory)) - 1  # noqa: PTH116, PTH208
