"""The topology file: tiers, their agents, and every setting, read and checked as a whole.

`load` reads a file and either returns a `Topology` that can be run, or raises one ConfigError
that carries everything wrong with the file. Nothing here opens a socket or a channel.
"""

from tiers.topology.address import Address
from tiers.topology.changes import Differences, PeerChanges, differences, reloaded
from tiers.topology.examples import example_names, find_topology
from tiers.topology.load import load, parse
from tiers.topology.model import AgentSettings, Tier, Topology
from tiers.topology.settings import BatchSettings, ChannelSettings, DeliverySettings
from tiers.topology.tables import settings_table

__all__ = [
    "Address",
    "AgentSettings",
    "BatchSettings",
    "ChannelSettings",
    "DeliverySettings",
    "Differences",
    "PeerChanges",
    "Tier",
    "Topology",
    "differences",
    "example_names",
    "find_topology",
    "load",
    "parse",
    "reloaded",
    "settings_table",
]
