"""`tiers diff`: what changes when one topology file takes the place of another?"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiers.core.printable import map_texts, printable_text

if TYPE_CHECKING:
    from tiers.topology import Topology
    from tiers.topology.changes import Differences, PeerChanges

_NAMED_MAX = 8  # agents for which the same changes, in a line


@click.command(epilog="Example: tiers diff web-logs.toml web-logs.new.toml")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(old: Path, new: Path, as_json: bool) -> None:
    """Show what running agents would do if NEW took the place of OLD.

    Which agents join, leave, put what in force by themselves, and which have to be started anew for
    what. Exit status 0 where nothing changes for any agent, 1 where something does, 2 where one of
    the files is wrong.
    """
    from tiers.topology import load
    from tiers.topology.veil import Veil

    was, now = load(old), load(new)
    facts = map_texts(_facts(was, now), Veil({**was.variables, **now.variables}).hide)
    shown = _lines(map_texts(facts, printable_text))
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(shown))
    if facts["joined"] or facts["changed"]:
        raise click.exceptions.Exit(1)


def _facts(was: "Topology", now: "Topology") -> dict[str, Any]:
    from tiers.topology.changes import differences

    there = was.agent_names()
    found = {agent: differences(was, now, agent) for agent in there}
    return {
        "old": was.file,
        "new": now.file,
        "joined": [
            {"agent": agent, "tier": now.tier_of(agent).name}
            for agent in now.agent_names()
            if agent not in there
        ],
        "changed": [_agent(agent, each) for agent, each in found.items() if each],
    }


def _agent(name: str, found: "Differences") -> dict[str, Any]:
    return {
        "agent": name,
        "leaves": found.left,
        "peers": {output: _peers(changes) for output, changes in found.peers.items()},
        "at_once": list(found.at_once),
        "restart": list(found.restart),
    }


def _peers(changes: "PeerChanges") -> dict[str, Any]:
    return {
        "join": {name: str(at) for name, at in changes.added.items()},
        "leave": list(changes.removed),
        "move": {name: str(at) for name, at in changes.changed.items()},
    }


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Agents for which the same changes share their lines."""
    yield f"{facts['old']} -> {facts['new']}"
    tiers: dict[str, list[str]] = {}
    for one in facts["joined"]:
        tiers.setdefault(one["tier"], []).append(one["agent"])
    for tier, agents in tiers.items():
        yield f"\n{_named(agents)}: new in tier {tier}; to be started"
    same: dict[tuple[str, ...], list[str]] = {}
    for one in facts["changed"]:
        same.setdefault(tuple(_changes(one)), []).append(one["agent"])
    for lines, agents in same.items():
        yield f"\n{_named(agents)}:"
        yield from (f"  {line}" for line in lines)
    if not tiers and not same:
        yield "nothing changes for any agent"


def _changes(one: Mapping[str, Any]) -> Iterator[str]:
    if one["leaves"]:
        yield "leaves: passes on what it has, and ends"
    for output, peers in one["peers"].items():
        said = [f"{name} joins at {at}" for name, at in peers["join"].items()]
        said += [f"{name} leaves" for name in peers["leave"]]
        said += [f"{name} moves to {at}" for name, at in peers["move"].items()]
        yield f"peers of {output}, at once: {', '.join(said)}"
    if one["at_once"]:
        yield f"at once: {', '.join(one['at_once'])}"
    if one["restart"]:
        yield f"with a restart: {', '.join(one['restart'])}"


def _named(agents: Sequence[str]) -> str:
    more = f" and {len(agents) - _NAMED_MAX} more" if len(agents) > _NAMED_MAX else ""
    return f"{', '.join(agents[:_NAMED_MAX])}{more}"
