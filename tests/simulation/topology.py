"""Which topology is simulated: one of `shapes/`, or a user's own file.

Tiers, agents, `next`, sinks and the guarantee are the file's. Its sources, stores, sizes and times
are replaced by simulated ones, so that a run of a minute meets every limit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tiers.core.entry.routes import When
from tiers.core.hop.messages import Guarantee
from tiers.topology import Tier, Topology, load
from tiers.topology.conditions import in_file, write

SHAPES: Final = Path(__file__).parent / "shapes"
DEFAULT: Final = "default"
ROOT: Final = Path("/simulated")  # of all stores
SETTINGS: Final = """
name = "sim"
insecure = true
[batch]
linger = "50ms"
size = "1KiB"
open_max = 2
codec = "none"
[channel]
size = "16MiB"
free_floor = "1MiB"
[delivery]
guarantee = "{guarantee}"
lost_after = "6s"
window = "136KiB"
bundle_size = "4KiB"
reconnect_max = "2s"
failover_after = "2s"
"""
RETENTION: Final = 'dedupe_retention = "20s"\n'  # where days are closed
SOURCE: Final = """[[{of}.sources]]
type = "numbers"
[[{of}.sources.interceptors]]
type = "split"
"""
SINK: Final = """[[tiers."{tier}".sinks]]
type = "directory"
name = "{name}"
root = "{root}"
path = "%Y/%m/%d"
roll_after = "2s"
takeover_after = "{takeover_after}"
"""


# What a reload changes, by what is made anew or changed in place for it.
MARKS: Final = "interceptors"
MARKED: Final = 'interceptors = [{ type = "static", headers = { mark = "other" } }]\n'
OTHER: Final = {
    MARKS: ("", ""),
    "sources": ('linger = "50ms"', 'linger = "70ms"'),
    "senders": ('bundle_size = "4KiB"', 'bundle_size = "3KiB"'),
    "hops": ("[delivery]\n", '[delivery]\nmessage_size = "31MiB"\n'),
    "sinks": ('roll_after = "2s"', 'roll_after = "3s"'),
    "channel": ('size = "16MiB"', 'size = "15MiB"'),
}


def shapes() -> list[str]:
    """Names of the built-in topologies."""
    return sorted(path.stem for path in SHAPES.glob("*.toml"))


def with_credit(topology: Topology, credit_bytes: int) -> Topology:
    """Less than a file may say: a sender waits for credit after every batch."""
    delivery = topology.delivery.model_copy(update={"window_bytes_max": credit_bytes})
    return replace(topology, delivery=delivery)


class Shape:
    """A topology as it is simulated."""

    def __init__(self, topology: Topology, guarantee: Guarantee | None = None) -> None:
        """`guarantee` is that of the file; None lets each run choose."""
        self.topology = topology
        self.guarantee = guarantee
        self.nodes = list(topology.agent_names())
        self.readers = [name for name in self.nodes if topology.sources(name)]
        self.senders = [name for name in self.nodes if topology.tier_of(name).next]
        self.writers = [name for name in self.nodes if topology.sinks(name)]

    @classmethod
    def of(cls, wanted: str) -> "Shape":
        """A built-in one by its name, or that of a file. Raises ConfigError, UsageError."""
        if wanted in shapes():
            return cls(load(SHAPES / f"{wanted}.toml"))
        topology = load(Path(wanted))
        return cls(topology, topology.delivery.guarantee)

    def upstream(self, agent: str) -> list[str]:
        """Agents that send to `agent`."""
        tiers = self.topology.upstream(self.topology.tier_of(agent).name)
        return [name for tier in tiers for name in self.topology.tiers[tier].agents]

    def stores(self, tier: str, output: str | None = None) -> tuple[str, ...]:
        """Every store that a batch in that output's queue, or in any of the tier's, may come to."""
        found = self.topology.tiers[tier].outputs if output is None else (output,)
        return tuple(self._stores(tier, found, lambda below: below.outputs))

    def wanting(self, tier: str, headers: Mapping[str, str]) -> frozenset[str]:
        """Every store in which a batch with these headers, which is stored in that tier, is to be
        published once."""

        def routed(tier: Tier) -> tuple[str, ...]:
            return tier.route.of(headers).outputs

        return frozenset(self._stores(tier, routed(self.topology.tiers[tier]), routed))

    def _stores(
        self, tier: str, outputs: Iterable[str], of: Callable[[Tier], Iterable[str]]
    ) -> Iterator[str]:
        for name in outputs:
            if name in self.topology.tiers[tier].next:
                yield from self._stores(name, of(self.topology.tiers[name]), of)
            else:
                yield f"{tier}/{name}"

    def readers_of(self, store: str) -> list[str]:
        """Agents whose lines are published there."""
        return [
            name for name in self.readers if store in self.stores(self.topology.tier_of(name).name)
        ]

    def spare(self) -> str:
        """An agent that can be taken out of the topology, since others do the same; may be empty.
        Better none that writes."""
        found = [
            list(tier.agents)[-1]
            for name in self.topology.order()
            if (tier := self.topology.tiers[name]) and tier.name not in self._entries()
            if len(tier.agents) > 1 and list(tier.agents)[-1] not in self.readers
        ]
        return next((name for name in found if name not in self.writers), (*found, "")[0])

    def _entries(self) -> set[str]:
        return {tier for tier in self.topology.tiers if not self.topology.upstream(tier)}

    def text(
        self,
        guarantee: Guarantee,
        *,
        closing: bool = False,
        without: str = "",
        other: frozenset[str] = frozenset(),
    ) -> str:
        """The topology file. With short retention where days are `closing`, `without` one agent,
        and with `other` settings, of OTHER."""
        parts = [SETTINGS.format(guarantee=guarantee), RETENTION if closing else ""]
        for tier in self.topology.tiers.values():
            parts.append(f'[tiers."{tier.name}"]\nagents = {self._agents(tier.name, without)}\n')
            if MARKS in other and set(self.readers) & set(tier.agents):
                parts.append(MARKED)
            if tier.next:
                entries = (_next(name, tier.conditions.get(name, {})) for name in tier.next)
                parts.append(f"next = [{', '.join(entries)}]\n")
            parts.append(f'route = "{"first" if tier.first else "all"}"\n')
            parts.append(f'unrouted = "{tier.unrouted}"\n')
            if tier.sources:
                parts.append(SOURCE.format(of=f'tiers."{tier.name}"'))
            for sink in tier.sinks:
                parts.append(
                    SINK.format(
                        tier=tier.name,
                        name=sink.name,
                        root=ROOT / tier.name / sink.name,
                        takeover_after="5s" if closing else "15s",
                    )
                )
                parts.append(f"when = {_when(sink.when)}\n" if sink.when else "")
        for name in self.readers:
            if not self.topology.tier_of(name).sources:
                parts.append(SOURCE.format(of=f'agents."{name}"'))
        text = "".join(parts)
        for what in sorted(other - {MARKS}):
            text = text.replace(*OTHER[what])
        return text

    def _agents(self, tier: str, without: str) -> str:
        agents = self.topology.tiers[tier].agents
        named = [(name, at) for name, at in agents.items() if name != without]
        if any(at is None for _, at in named):
            return str([name for name, _ in named])
        return "{ " + ", ".join(f'"{name}" = "{at}"' for name, at in named) + " }"


def _next(tier: str, when: When) -> str:
    return f'{{ tier = "{tier}", when = {_when(when)} }}' if when else f'"{tier}"'


def _when(when: When) -> str:
    return write({header: in_file(one) for header, one in when.items()})
