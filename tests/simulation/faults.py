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
BUSY_S: Final = (2.0, 16.0)  # while lines flow, and what is stopped then wakes before all is well
KINDS: Final = (
    *("crash", "crash at store", "crash at commit", "crash at commit", "all crash", "back late"),
    *("pause", "cut", "cut off", "one-way cut", "half-open", "reset", "weather", "weather"),
    *("stopped and started", "topology changes", "clock jumps", "pause at store"),
    *("store fails", "store late", "store answers lost", "store away", "store slow"),
    *("store fails over", "store publishes late"),
    *("disk full", "fsync fails", "damaged", "damaged", "gone for good", "channel ends"),
)
AIMED: Final = (  # where lines have to be under way for any harm to be done
    *("crash at send", "crash at send", "crash after intent", "crash after publish"),
    *("stopped at intent", "stopped at publish", "stopped at question", "stopped at question"),
    *("zombie", "zombie", "disk lost", "disk lost", "disk slow", "disk slow"),
    *("stale messages", "stale messages", "envelope damaged", "envelope damaged"),
)
LIVES: Final = ("set back", "cloned")
LIVES_MAX: Final = 2  # of one run
RELOAD: Final = "other settings"
RELOADS: Final = (2, 7)  # of one run
OTHERS_OF_RELOADS: Final = 0.3
CLOCKS_DIFFER: Final = 0.15  # of the nodes
LATE_S: Final = 10.0  # longer than what makes a peer lost
CLOCK: Final = "clock differs"  # from the start
SINKS: Final = ("store", "zombie", "stopped at", "crash after", "crash at store", "pause at store")
DISKS: Final = (
    "disk lost",
    "gone for good",
    "damaged",
    "envelope damaged",
)  # of a reader: all there is of a line


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
    found = [
        Fault(0.0, CLOCK, node, node, 0.0, chance.random())
        for node in shape.nodes
        if chance.random() < CLOCKS_DIFFER
    ]
    receivers = [name for name in shape.nodes if shape.upstream(name)]
    replaceable = [name for name in shape.nodes if name not in shape.readers]
    sinks = [name for name in replaceable if name in shape.writers]
    redundant = [name for name in replaceable if len(shape.topology.tier_of(name).agents) > 1]
    for _ in range(chance.randrange(24)):
        node, other = _two(chance, shape.nodes)
        at_s = chance.uniform(0.5, FAULTS_UNTIL_S)
        for_s = chance.choice((0.3, 1.0, 3.0, 8.0, 30.0)) * chance.uniform(0.5, 1.5)
        kind = chance.choice((*KINDS, *AIMED))
        if kind in AIMED:
            at_s = chance.uniform(*BUSY_S)
        if kind.startswith(SINKS):
            node = chance.choice(shape.writers)
        elif kind == "crash at send":
            node = chance.choice(shape.senders or shape.nodes)
        elif kind in ("disk slow", "stale messages", "channel ends"):
            node = chance.choice(receivers or shape.nodes)
        elif kind == "back late":
            at_s, for_s = at_s / 2, LATE_S + for_s / 4
        elif kind in DISKS:
            able = {"gone for good": redundant, "envelope damaged": sinks}.get(kind, replaceable)
            node, kind = (chance.choice(able), kind) if able else (node, "crash")
        found.append(Fault(at_s, kind, node, other, for_s, chance.random()))
    return sorted(found, key=lambda fault: fault.at_s)


def _two(chance: random.Random, nodes: list[str]) -> list[str]:
    return chance.sample(nodes, 2) if len(nodes) > 1 else [nodes[0]] * 2


def draw_lives(chance: random.Random, shape: Shape, others: list[Fault]) -> list[Fault]:
    """Disks that go back in time or exist twice, among other faults, but for those that lose disks
    or days: two machines may not be lost at once."""
    some = [one for one in others if one.kind not in DISKS and chance.random() < 0.5]
    node = chance.choice(shape.nodes)
    for _ in range(chance.randint(1, LIVES_MAX)):
        at_s, for_s = chance.uniform(1.0, 14.0), chance.choice((0.5, 2.0, 8.0))
        for_s *= chance.uniform(0.5, 1.5)
        some.append(Fault(at_s, chance.choice(LIVES), node, node, for_s, chance.random()))
    return sorted(some, key=lambda one: one.at_s)


def draw_reloads(chance: random.Random, shape: Shape, others: list[Fault]) -> list[Fault]:
    """Other settings in the topology file, among other faults: some of them take long, and nothing
    else is to be seen then."""
    some = [one for one in others if chance.random() < OTHERS_OF_RELOADS]
    for _ in range(chance.randint(*RELOADS)):
        node = chance.choice(shape.nodes)
        at_s, for_s = chance.uniform(*BUSY_S), chance.choice((0.5, 3.0, 8.0))
        some.append(Fault(at_s, RELOAD, node, node, for_s, chance.random()))
    return sorted(some, key=lambda one: one.at_s)


def draw_closing(chance: random.Random, shape: Shape) -> list[Fault]:
    """A sink falls asleep in the middle of a file, and wakes up when its day is closed. Nothing
    else takes long: what comes back after its day was forgotten is outside of the promise."""
    at_s = chance.uniform(6.0, 13.0)
    for_s = AWAKE_S - at_s + chance.uniform(-2.0, 3.0)
    node, other = _two(chance, shape.writers)
    kind = chance.choice(("stopped at intent", "stopped at intent", "stopped at publish"))
    short = [one for one in draw(chance, shape) if one.for_s < SHORT_S and one.node != node]
    calm = [one for one in short if one.kind in ("crash", "pause", "reset")]
    asleep = Fault(at_s, kind, node, other, for_s, chance.random())
    return sorted([*calm, asleep], key=lambda one: one.at_s)
