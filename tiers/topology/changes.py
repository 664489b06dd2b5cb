"""What a changed topology file means to one running agent.

Peers come and go while an agent runs. Anything else that concerns it asks for a restart, and is
named by its key so that the agent can say so. What concerns only others is no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from tiers.core.routes import Branch
from tiers.topology.address import Address
from tiers.topology.draft import agent_key, tier_key
from tiers.topology.model import Tier, Topology
from tiers.topology.settings import Table, key_of


@dataclass(frozen=True, slots=True)
class PeerChanges:
    """Of one output: agents of the next tier that joined, left, or moved to another address."""

    added: Mapping[str, Address] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    changed: Mapping[str, Address] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Differences:
    """False when there are none. `peers` has only outputs whose peers differ."""

    left: bool = False  # the agent is no longer in the file: it drains, by the old one
    peers: Mapping[str, PeerChanges] = field(default_factory=dict)
    restart: tuple[str, ...] = ()  # keys whose change takes effect with a restart

    def __bool__(self) -> bool:
        return bool(self.left or self.peers or self.restart)


def differences(old: Topology, new: Topology, agent: str) -> Differences:
    """What `agent`, in force with `old`, has to do about `new`. Raises UsageError when it is not
    in `old`."""
    was = old.tier_of(agent)
    if not any(agent in tier.agents for tier in new.tiers.values()):
        return Differences(left=True)
    peers: dict[str, PeerChanges] = {}
    for output in was.next:
        if output in new.tiers and output in new.tier_of(agent).next:
            changes = _peer_changes(old.peers(output), new.peers(output))
            if changes:
                peers[output] = changes
    return Differences(peers=peers, restart=_restart(old, new, agent))


def _peer_changes(old: Mapping[str, Address], new: Mapping[str, Address]) -> PeerChanges:
    return PeerChanges(
        added={name: at for name, at in new.items() if name not in old},
        removed=tuple(name for name in old if name not in new),
        changed={name: at for name, at in new.items() if name in old and old[name] != at},
    )


def _restart(old: Topology, new: Topology, agent: str) -> tuple[str, ...]:
    was, now = old.tier_of(agent), new.tier_of(agent)
    a, b = old.settings(agent), new.settings(agent)
    tier = tier_key(now.name)
    moved = a.data != b.data or (b.data is None and old.data != new.data)
    keys = [
        (old.name != new.name, "name"),
        (moved and a.data == b.data, "data"),
        (moved and a.data != b.data, agent_key(agent, "data")),
        (was.name != now.name, f"{tier}.agents"),
        (_branches(was) != _branches(now), f"{tier}.next"),
        (was.first != now.first, f"{tier}.route"),
        (was.unrouted != now.unrouted, f"{tier}.unrouted"),
        (was.sources != now.sources, f"{tier}.sources"),
        (was.sinks != now.sinks, f"{tier}.sinks"),
        (was.interceptors != now.interceptors, f"{tier}.interceptors"),
        (was.agents[agent] != now.agents[agent], f"{tier}.agents.{agent}"),
        (a.listen != b.listen, agent_key(agent, "listen")),
        (a.status != b.status, agent_key(agent, "status")),
        (a.sources != b.sources, agent_key(agent, "sources")),
    ]
    limits: tuple[tuple[str, Table, Table], ...] = (
        ("batch", old.batch, new.batch),
        ("channel", old.channel, new.channel),
        ("delivery", old.delivery, new.delivery),
    )
    return (
        *(key for changed, key in keys if changed),
        *(f"{table}.{key}" for table, x, y in limits for key in unlike(x, y)),
    )


def _branches(tier: Tier) -> list[Branch]:
    """Those of `next`; in whatever order, where it makes no difference."""
    found = tier.route.branches[: len(tier.next)]
    return list(found) if tier.first else sorted(found, key=lambda branch: branch.output)


def unlike(a: BaseModel, b: BaseModel) -> list[str]:
    """Keys, as in the file, in which two tables of one kind differ."""
    fields = type(a).model_fields.items()
    return [key_of(name, each) for name, each in fields if getattr(a, name) != getattr(b, name)]
