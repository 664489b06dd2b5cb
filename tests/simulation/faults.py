"""What goes wrong, drawn from the seed before the run, so that a failing run can be shrunk by
leaving faults out."""

import random
from dataclasses import dataclass
from typing import Final

from tests.simulation.topology import Shape

FAULTS_UNTIL_S: Final = 24.0
CLOSING_UNTIL_S: Final = 60.0  # of runs in which days are closed
SHORT_S: Final = 5.0
AWAKE_S: Final = 48.0  # when who had fallen asleep in a day finds it closed, and not forgotten yet
KINDS: Final = (
    *("crash", "crash", "crash at store", "crash at store", "crash at commit", "crash at commit"),
    *("pause", "cut", "one-way cut", "half-open", "reset", "weather", "weather"),
    *("crash at send", "crash at send", "pause at store", "zombie", "zombie"),
    *("store fails", "store late", "store answers lost", "store away", "store slow"),
    *("stopped at intent", "stopped at publish", "stopped at question", "store publishes late"),
    *("disk full", "disk slow", "fsync fails", "clock jumps", "topology changes", "all crash"),
    *("disk lost", "disk lost", "gone for good", "damaged", "damaged"),
)
DISKS: Final = ("disk lost", "gone for good", "damaged")  # of a reader: all there is of a line


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `amount` is in (0, 1): what it means is up to the kind."""

    at_s: float
    kind: str
    node: str
    other: str
    for_s: float
    amount: float

    def __str__(self) -> str:
        return f"{self.at_s:7.2f} s  {self.kind} {self.node} ({self.other}) for {self.for_s:.1f} s"


def draw(chance: random.Random, shape: Shape) -> list[Fault]:
    """Between none and two dozen."""
    found = []
    replaceable = [name for name in shape.nodes if name not in shape.readers]
    for _ in range(chance.randrange(24)):
        node, other = _two(chance, shape.nodes)
        at_s = chance.uniform(0.5, FAULTS_UNTIL_S)
        for_s = chance.choice((0.3, 1.0, 3.0, 8.0, 30.0)) * chance.uniform(0.5, 1.5)
        kind = chance.choice(KINDS)
        if "store" in kind or kind == "zombie" or kind.startswith("stopped"):
            node = chance.choice(shape.writers)
        elif kind == "crash at send":
            node = chance.choice(shape.senders or shape.nodes)
        elif kind in DISKS:
            node = chance.choice(replaceable or shape.nodes)
            kind = kind if replaceable else "crash"
        found.append(Fault(at_s, kind, node, other, for_s, chance.random()))
    return sorted(found, key=lambda fault: fault.at_s)


def _two(chance: random.Random, nodes: list[str]) -> list[str]:
    return chance.sample(nodes, 2) if len(nodes) > 1 else [nodes[0]] * 2


def draw_closing(chance: random.Random, shape: Shape) -> list[Fault]:
    """A sink falls asleep in the middle of a file, and wakes up when its day is closed. Nothing
    else takes long: what comes back after its day was forgotten is outside of the promise."""
    at_s = chance.uniform(6.0, 13.0)
    for_s = AWAKE_S - at_s + chance.uniform(-2.0, 3.0)
    node, other = _two(chance, shape.writers)
    kind = chance.choice(("stopped at intent", "stopped at publish"))
    short = [one for one in draw(chance, shape) if one.for_s < SHORT_S and one.node != node]
    calm = [one for one in short if one.kind in ("crash", "pause", "reset")]
    return sorted([*calm, Fault(at_s, kind, node, other, for_s, 0.5)], key=lambda one: one.at_s)
