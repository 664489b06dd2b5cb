"""What a changed topology file means to one running agent.

Nearly all of it is put in force while the agent runs. What is not waits for a restart, and is named
by its key so that the agent can say so: where its files are, what it is in the topology, and what
agents must agree on or would break their promise. What concerns only others is no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tiers.core.entry.routes import Branch
from tiers.topology.address import Address
from tiers.topology.draft import agent_key, tier_key
from tiers.topology.model import Tier, Topology
from tiers.topology.settings import Table, key_of

if TYPE_CHECKING:  # importing it at run time would bring LMDB along
    from tiers.sinks.sink import SinkOptions

# Of `[delivery]`: what one agent cannot change alone while others run.
_OF_ALL_AGENTS: Final = ("guarantee", "dedupe_retention_s")


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
    at_once: tuple[str, ...] = ()  # other keys whose change it puts in force while it runs
    restart: tuple[str, ...] = ()  # keys whose change takes effect with a restart

    def __bool__(self) -> bool:
        return bool(self.left or self.peers or self.at_once or self.restart)


def differences(old: Topology, new: Topology, agent: str) -> Differences:
    """What `agent`, in force with `old`, has to do about `new`. Raises UsageError when it is not
    in `old`."""
    was = old.tier_of(agent)
    if not any(agent in tier.agents for tier in new.tiers.values()):
        return Differences(left=True)
    restart = _restart(old, new, agent)
    now = new.tier_of(agent)
    if was.name != now.name:
        return Differences(restart=restart)
    peers: dict[str, PeerChanges] = {}
    for output in was.next:
        if output in now.next:
            changes = _peer_changes(old.peers(output), new.peers(output))
            if changes:
                peers[output] = changes
    return Differences(peers=peers, at_once=_at_once(old, new, agent), restart=restart)


def reloaded(old: Topology, new: Topology, agent: str) -> Topology:
    """What `agent`, in force with `old`, can put in force of `new`: what wants a restart stays as
    it was. It is in both."""
    tier, was = new.tier_of(agent), old.tier_of(agent)
    if tier.name != was.name:
        return old
    delivery = new.delivery.model_copy(
        update={key: getattr(old.delivery, key) for key in _OF_ALL_AGENTS}
    )
    settings = replace(new.settings(agent), data=old.settings(agent).data)
    moving = _moving(was, tier)
    sinks = tuple(moving.get(one.name, one) for one in tier.sinks)
    tiers = {**new.tiers, tier.name: replace(tier, sinks=sinks)}
    agents = new.agents if settings == new.settings(agent) else {**new.agents, agent: settings}
    return replace(new, tiers=tiers, agents=agents, delivery=delivery, data=old.data)


def _moving(was: Tier, now: Tier) -> dict[str, "SinkOptions"]:
    """Sinks that are to write to another store, by name, as they were."""
    places = {sink.name: sink.place() for sink in now.sinks}
    return {s.name: s for s in was.sinks if places.get(s.name, s.place()) != s.place()}


def _peer_changes(old: Mapping[str, Address], new: Mapping[str, Address]) -> PeerChanges:
    return PeerChanges(
        added={name: at for name, at in new.items() if name not in old},
        removed=tuple(name for name in old if name not in new),
        changed={name: at for name, at in new.items() if name in old and old[name] != at},
    )


def _at_once(old: Topology, new: Topology, agent: str) -> tuple[str, ...]:
    was, now = old.tier_of(agent), new.tier_of(agent)
    a, b = old.settings(agent), new.settings(agent)
    tier = tier_key(now.name)
    moving = _moving(was, now)
    stayed, stay = ([s for s in tier.sinks if s.name not in moving] for tier in (was, now))
    keys = [
        (old.listen(agent) != new.listen(agent), _listen_key(new, agent)),
        (_branches(was) != _branches(now), f"{tier}.next"),
        (was.first != now.first, f"{tier}.route"),
        (was.unrouted != now.unrouted, f"{tier}.unrouted"),
        (was.sources != now.sources, f"{tier}.sources"),
        (stayed != stay, f"{tier}.sinks"),
        (was.interceptors != now.interceptors, f"{tier}.interceptors"),
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
        *(
            f"{table}.{key_of(name, each)}"
            for table, x, y in limits
            for name, each in unlike(x, y)
            if name not in _OF_ALL_AGENTS
        ),
    )


def _listen_key(topology: Topology, agent: str) -> str:
    if topology.settings(agent).listen is not None:
        return agent_key(agent, "listen")
    return f"{tier_key(topology.tier_of(agent).name)}.agents.{agent}"


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
        *((True, f"{tier}.sinks.{name}") for name in _moving(was, now)),
        *(
            (name in _OF_ALL_AGENTS, f"delivery.{key_of(name, each)}")
            for name, each in unlike(old.delivery, new.delivery)
        ),
    ]
    return tuple(key for changed, key in keys if changed)


def _branches(tier: Tier) -> list[Branch]:
    """Those of `next`; in whatever order, where it makes no difference."""
    found = tier.route.branches[: len(tier.next)]
    return list(found) if tier.first else sorted(found, key=lambda branch: branch.output)


def unlike(a: BaseModel, b: BaseModel) -> list[tuple[str, FieldInfo]]:
    """The fields in which two tables of one kind differ."""
    fields = type(a).model_fields.items()
    return [(name, each) for name, each in fields if getattr(a, name) != getattr(b, name)]
