"""A topology under examination: what could be read of it, and where in the file that stood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tiers.sources.source import SourceOptions
from tiers.topology.model import Topology
from tiers.topology.problems import join

if TYPE_CHECKING:  # importing it at run time would bring LMDB along
    from tiers.sinks.sink import SinkOptions


class PlacedSource(NamedTuple):
    key: str
    tier: str  # empty where its agent is in no tier
    agent: str  # empty where all agents of the tier have it
    options: SourceOptions


class PlacedSink(NamedTuple):
    key: str
    tier: str
    options: SinkOptions


@dataclass(frozen=True, slots=True)
class Draft:
    """`topology` holds only what made sense; tiers may be empty."""

    topology: Topology
    sources: list[PlacedSource] = field(default_factory=list)
    sinks: list[PlacedSink] = field(default_factory=list)


def tier_key(tier: str, *parts: str | int) -> str:
    return join("tiers", tier, *parts)


def agent_key(agent: str, *parts: str | int) -> str:
    return join("agents", agent, *parts)


def address_key(topology: Topology, agent: str) -> str:
    """Where the agent's address stands, or where the agent is listed without one."""
    tier = topology.tier_of(agent)
    parts = ("agents", agent) if tier.agents[agent] else ("agents",)
    return tier_key(tier.name, *parts)
