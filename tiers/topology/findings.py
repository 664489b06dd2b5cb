"""What is no error in a topology, and will surprise: lines read twice, what is written read again.

Whether it happens depends on which agents share a machine. Those whose addresses are on one host
do; all of them, where every address is of loopback; and all that `tiers up` runs.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Final, NamedTuple

from tiers.sources import globs
from tiers.sources.source import SourceOptions
from tiers.topology.model import Topology
from tiers.topology.problems import nearest

_NAMED_MAX: Final = 3  # agents named in one text


class _Reader(NamedTuple):
    """A source, and those agents of one machine that have it."""

    agents: tuple[str, ...]
    source: SourceOptions
    real: dict[str, str]  # each of its globs without the links that are on this machine


def findings(topology: Topology, data: Path | None, *, together: bool = False) -> list[str]:
    """One text each, with what to do. `data` is that of `--data`; `together`: on one machine."""
    found = dict.fromkeys(text for tier in topology.tiers for text in _of_routes(topology, tier))
    for agents in _machines(topology, together=together or _all_on_loopback(topology)):
        readers = _readers(topology, agents)
        written = dict(_written(topology, agents, data))
        found |= dict.fromkeys(_in_each_others(topology, agents, data))
        for reader in readers:
            found |= dict.fromkeys(_of_one(reader, written))
        for one, other in combinations_with_replacement(readers, 2):
            found |= dict.fromkeys(_read_twice(one, other))
    return list(found)


def findings_of(topology: Topology, agent: str, data: Path | None) -> list[str]:
    """Those of one agent alone, which it can be sure of."""
    readers, written = _readers(topology, [agent]), dict(_written(topology, [agent], data))
    found = list(_of_routes(topology, topology.tier_of(agent).name))
    found += [text for reader in readers for text in _of_one(reader, written)]
    for one, other in combinations_with_replacement(readers, 2):
        found += _read_twice(one, other)
    return found


def _machines(topology: Topology, *, together: bool) -> Iterable[list[str]]:
    """Agents that are known to share one; each of the others has its own."""
    if together:
        return [list(topology.agent_names())]
    hosts: dict[str, list[str]] = defaultdict(list)
    for tier in topology.tiers.values():
        for agent, address in tier.agents.items():
            hosts[f"host {address.host}" if address else f"where {agent} runs"].append(agent)
    return hosts.values()


def _all_on_loopback(topology: Topology) -> bool:
    addresses = [at for tier in topology.tiers.values() for at in tier.agents.values() if at]
    return bool(addresses) and all(address.loopback for address in addresses)


def _readers(topology: Topology, agents: Iterable[str]) -> list[_Reader]:
    by_tier: dict[str, list[str]] = defaultdict(list)
    for agent in agents:
        by_tier[topology.tier_of(agent).name].append(agent)
    found = [
        _reader(tuple(names), source)
        for tier, names in by_tier.items()
        for source in topology.tiers[tier].sources
    ]
    for agent in agents:
        found += (_reader((agent,), source) for source in topology.settings(agent).sources)
    return [reader for reader in found if reader.real]


def _reader(agents: tuple[str, ...], source: SourceOptions) -> _Reader:
    return _Reader(agents, source, {pattern: _real(pattern) for pattern in source.reads()})


def _written(
    topology: Topology, agents: Iterable[str], data: Path | None
) -> Iterator[tuple[str, str]]:
    """Directories of this machine below which these agents write, and what is there."""
    for agent in agents:
        for sink in topology.sinks(agent):
            if directory := sink.writes():
                tier = topology.tier_of(agent).name
                yield directory, f"what sink {sink.name} of tier {tier} writes"
        if data or topology.settings(agent).data or topology.data:
            directory = os.path.abspath(topology.data_of(agent, data))  # noqa: PTH100
            yield directory, f"the files of {agent}, its own log among them"


def _in_each_others(topology: Topology, agents: Iterable[str], data: Path | None) -> Iterator[str]:
    """Sinks that write where agents keep their channels: who tidies up there takes both."""
    roots = {
        root: f"sink {sink.name} of tier {tier}"
        for tier in {topology.tier_of(agent).name for agent in agents}
        for sink in topology.tiers[tier].sinks
        if (root := sink.writes())
    }
    for agent in agents if roots else ():
        if data or topology.settings(agent).data or topology.data:
            own = os.path.abspath(topology.data_of(agent, data))  # noqa: PTH100
            for root, what in roots.items():
                if f"{root}/".startswith(f"{own}/"):
                    yield (
                        f"{what} writes to {root}, where {agent} keeps its channel; give it a "
                        "directory of its own"
                    )


def _of_routes(topology: Topology, name: str) -> Iterator[str]:
    """Outputs that get nothing, or ask for what no batch has."""
    route = topology.tiers[name].route
    for output, earlier in route.unreachable().items():
        yield (
            f"tier {name}: {output} never gets a batch: {earlier}, before it, wants all of its "
            'batches, and `route` is "first"'
        )
    known = topology.headers_at(name)
    for branch in route.branches:
        for header in sorted(branch.when.keys() - known):
            hint = f"; {near}" if (near := nearest(header, sorted(known))) else ""
            yield (
                f"tier {name}: {branch.output} asks for header {header!r}, which no source of "
                f"{name} or of a tier before it sets{hint}"
            )


def _of_one(reader: _Reader, written: dict[str, str]) -> Iterator[str]:
    for pattern, real in reader.real.items():
        it = f"{_names(reader.agents)}: {reader.source.name} reads {pattern}, which may find"
        if globs.finds_compressed(pattern):
            yield f"{it} compressed files: lines are read of gzip, zstd, xz and bzip2"
        for directory, what in written.items():
            if globs.finds_below(real, os.path.realpath(directory)):
                yield f"{it} {what}, below {directory}: that would go round for ever"


def _read_twice(one: _Reader, other: _Reader) -> Iterator[str]:
    if one is other and len(one.agents) == 1:
        return
    who = f"{_names(one.agents)} ({one.source.name})"
    if one is not other:
        who += f" and {_names(other.agents)} ({other.source.name})"
    for pattern, real in one.real.items():
        for also, also_real in other.real.items():
            if globs.overlap(real, also_real):
                what = pattern if pattern == also else f"what {pattern} and {also} find"
                yield (
                    f"{who} may all read {what}, on one machine: each line comes more than once; "
                    "give each agent its own sources, in [agents.NAME]"
                )


def _real(pattern: str) -> str:
    """Without the links that are on this machine, as far as it names its directories in full."""
    directory, below = globs.without_marks(pattern)
    return f"{os.path.realpath(directory).rstrip('/')}/{below}"


def _names(agents: tuple[str, ...]) -> str:
    more = len(agents) - _NAMED_MAX
    shown = ", ".join(agents[:_NAMED_MAX])
    return f"{shown} and {more} more" if more > 0 else shown
