"""A topology that was read and checked, and what agents and commands ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tiers.core.entry.routes import Branch, Route, Unrouted, When
from tiers.errors import UsageError
from tiers.interceptors.interceptor import InterceptorOptions
from tiers.sources.source import SourceOptions
from tiers.topology.address import Address
from tiers.topology.problems import nearest
from tiers.topology.settings import BatchSettings, ChannelSettings, DeliverySettings

if TYPE_CHECKING:  # importing it at run time would bring LMDB along
    from tiers.sinks.sink import SinkOptions


@dataclass(frozen=True, slots=True)
class Tier:
    """Agents that do the same job. `next` names the tiers that they send to, `conditions` what
    those of them want that do not want everything."""

    name: str
    agents: Mapping[str, Address | None]
    next: tuple[str, ...] = ()
    conditions: Mapping[str, When] = field(default_factory=dict)
    first: bool = False  # of all outputs that want a batch, the first alone gets it
    unrouted: Unrouted = "dead"
    sources: tuple[SourceOptions, ...] = ()
    sinks: tuple[SinkOptions, ...] = ()
    interceptors: tuple[InterceptorOptions, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the queues in each agent's channel: next tiers, then sinks."""
        return (*self.next, *(sink.name for sink in self.sinks))

    @property
    def route(self) -> Route:
        """Which of the outputs get a batch."""
        branches = [Branch(name, self.conditions.get(name, {})) for name in self.next]
        branches += [Branch(sink.name, sink.when) for sink in self.sinks]
        return Route(branches, first=self.first, unrouted=self.unrouted)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`[agents.NAME]`: what is different on one node. `data` is that node's DIR."""

    listen: Address | None = None
    data: Path | None = None
    status: Address | None = None
    sources: tuple[SourceOptions, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole file, valid. `text` is the file as it was read, variables not filled in."""

    name: str
    tiers: Mapping[str, Tier]
    agents: Mapping[str, AgentSettings] = field(default_factory=dict)
    batch: BatchSettings = field(default_factory=BatchSettings)
    channel: ChannelSettings = field(default_factory=ChannelSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    insecure: bool = False
    data: Path | None = None
    file: str = ""
    text: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)  # that were filled in

    def agent_names(self) -> tuple[str, ...]:
        """Every agent, tiers upstream first."""
        return tuple(name for tier in self.order() for name in self.tiers[tier].agents)

    def tier_of(self, agent: str) -> Tier:
        """Raises UsageError, with the nearest name, for an agent that is not in the file."""
        for tier in self.tiers.values():
            if agent in tier.agents:
                return tier
        hint = nearest(agent, self.agent_names())
        raise UsageError(f"no agent {agent!r} in {self.file or self.name}; {hint}")

    def settings(self, agent: str) -> AgentSettings:
        return self.agents.get(agent) or AgentSettings()

    def peers(self, tier: str) -> dict[str, Address]:
        """Agents of `tier` and where they are reached: the peers of those that send to it."""
        return {name: at for name, at in self.tiers[tier].agents.items() if at is not None}

    def listen(self, agent: str) -> Address | None:
        """Where the agent binds its data port; None for one that receives nothing."""
        return self.settings(agent).listen or self.tier_of(agent).agents[agent]

    def status_address(self, agent: str) -> Address | None:
        """Where the agent answers `tiers status` over TCP, if it does."""
        return self.settings(agent).status

    def status_reached_at(self, agent: str) -> Address | None:
        """Where to ask it: with `status = "0.0.0.0:PORT"`, on the host of its address."""
        status = self.status_address(agent)
        if status is None or not status.wildcard:
            return status
        address = self.tier_of(agent).agents[agent]
        loopback = "::1" if ":" in status.host else "127.0.0.1"
        return Address(address.host if address else loopback, status.port)

    def sources(self, agent: str) -> list[SourceOptions]:
        """Those of its tier, then its own."""
        return [*self.tier_of(agent).sources, *self.settings(agent).sources]

    def interceptors(self, tier: str, source: SourceOptions) -> tuple[InterceptorOptions, ...]:
        """What blocks of a source of that tier come through, in this order."""
        of_tier = self.tiers[tier].interceptors if tier in self.tiers else ()
        return (*source.interceptors, *of_tier)

    def header_names(self, tier: str, source: SourceOptions) -> frozenset[str]:
        """Of all headers that batches of a source of that tier may have."""
        names = source.header_names()
        for interceptor in self.interceptors(tier, source):
            names = interceptor.header_names(names)
        return names

    def headers_at(self, tier: str) -> set[str]:
        """Names of all headers that batches in that tier may have."""
        found: set[str] = set()
        for name in self.reaching(tier):
            of_agents = (self.settings(agent).sources for agent in self.tiers[name].agents)
            for source in (*self.tiers[name].sources, *chain.from_iterable(of_agents)):
                found |= self.header_names(name, source)
        return found

    def sinks(self, agent: str) -> list[SinkOptions]:
        return list(self.tier_of(agent).sinks)

    def outputs(self, agent: str) -> tuple[str, ...]:
        return self.tier_of(agent).outputs

    def data_of(self, agent: str, override: Path | None = None) -> Path:
        """Where the agent's files are: DIR/NAME. DIR is `override` (`--data`), else the node's
        own `data`, else that of the file. Raises UsageError where none is given."""
        self.tier_of(agent)
        directory = override or self.settings(agent).data or self.data
        if directory is None:
            raise UsageError(
                f"where shall {agent} keep its files? Give --data DIR, or write "
                f'data = "DIR" at the top of {self.file or "the topology file"}'
            )
        return directory / agent

    def upstream(self, tier: str) -> tuple[str, ...]:
        """Tiers that send to `tier`."""
        return tuple(other.name for other in self.tiers.values() if tier in other.next)

    def carries(self, agent: str) -> bool:
        """Whether batches of other agents come through this one."""
        return any(
            agent in tier.agents and self.upstream(tier.name) for tier in self.tiers.values()
        )

    def reaching(self, tier: str) -> set[str]:
        """`tier` and every tier whose batches come to it, over any number of hops."""
        reached, found = {tier}, [tier]
        while found:
            more = set(self.upstream(found.pop())) - reached
            reached |= more
            found.extend(sorted(more))
        return reached

    def order(self) -> tuple[str, ...]:
        """All tiers, upstream first; else as in the file. Tiers of a cycle come last."""
        ordered: list[str] = []
        waiting = list(self.tiers)
        while waiting:
            ready = [t for t in waiting if all(up in ordered for up in self.upstream(t))]
            ordered.extend(ready[:1] or waiting)
            waiting = [tier for tier in waiting if tier not in ordered]
        return tuple(ordered)
