"""Whether the tiers fit together: every event has one way in to each tier, and a way out."""

from tiers.topology.draft import tier_key
from tiers.topology.model import Topology
from tiers.topology.problems import Problems


def check_graph(topology: Topology, problems: Problems) -> None:
    """Cycles, two routes to one tier, and tiers without a way in or out."""
    cycles = _cycles(topology)
    for cycle in cycles:
        problems.add(tier_key(cycle[0], "next"), "no way back to a tier", " -> ".join(cycle))
    if not cycles:
        _check_routes(topology, problems)
    _check_inputs(topology, problems)
    _check_outputs(topology, problems)


def _cycles(topology: Topology) -> list[tuple[str, ...]]:
    """Each way from a tier back to itself, once, beginning with the tier named first."""
    names = list(topology.tiers)
    found: list[tuple[str, ...]] = []
    for start in names:
        way = _way(topology, start, start)
        if way and not any(set(way) == set(other) for other in found):
            found.append(way)
    return found


def _way(topology: Topology, start: str, end: str) -> tuple[str, ...]:
    """The shortest way over at least one hop; empty where there is none."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    for way in ways:
        for following in topology.tiers[way[-1]].next:
            if following == end:
                return (*way, end)
            if following not in seen:
                seen.add(following)
                ways.append((*way, following))
    return ()


def _check_routes(topology: Topology, problems: Problems) -> None:
    """Two routes would bring every batch twice, and the second copy would be lost as a double."""
    for tier in topology.tiers.values():
        met: set[str] = set()
        for index, first in enumerate(tier.next):
            for second in tier.next[index + 1 :]:
                both = _downstream(topology, first) & _downstream(topology, second)
                meetings = {m for m in both if not any(_way(topology, b, m) for b in both - {m})}
                for meeting in sorted(meetings - met):
                    met.add(meeting)
                    routes = [_route(topology, tier.name, via, meeting) for via in (first, second)]
                    wanted = f"one route from {tier.name} to {meeting}"
                    problems.add(tier_key(tier.name, "next"), wanted, " and ".join(routes))


def _route(topology: Topology, start: str, via: str, end: str) -> str:
    rest = (via,) if via == end else _way(topology, via, end)
    return " -> ".join((start, *rest))


def _downstream(topology: Topology, tier: str) -> set[str]:
    return {name for name in topology.tiers if name == tier or _way(topology, tier, name)}


def _check_inputs(topology: Topology, problems: Problems) -> None:
    for tier in topology.tiers.values():
        key = tier_key(tier.name)
        without = [agent for agent in tier.agents if not topology.sources(agent)]
        if topology.upstream(tier.name) or not without:
            continue
        own = [f"agents.{agent}.sources" for agent in without]
        if problems.under(f"{key}.sources", *own) or problems.suggests("sources", key):
            continue
        if problems.suggests(tier.name, "tiers") or problems.suggests("next", "tiers"):
            continue
        found = "neither" if len(without) == len(tier.agents) else f"neither for {without[0]}"
        problems.add(key, f"a source, or a tier whose next is {tier.name}", found)


def _check_outputs(topology: Topology, problems: Problems) -> None:
    for tier in topology.tiers.values():
        key = tier_key(tier.name)
        wrong = problems.under(f"{key}.next", f"{key}.sinks")
        if tier.outputs or wrong or problems.suggests("next", key):
            continue
        if not problems.suggests("sinks", key):
            problems.add(key, "a next tier, or a sink", "neither")
