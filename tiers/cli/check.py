"""`tiers check`: is this file right, and what does it mean?"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiers.cli.kinds import DIRECTORY
from tiers.core.printable import map_texts, printable_text
from tiers.errors import ConfigError

if TYPE_CHECKING:
    from tiers.topology import Tier, Topology


@click.command(
    epilog="Example: tiers check topologies/quickstart.toml",
)
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--data", type=DIRECTORY, help="Directory of the agents' files.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(topology: Path, data: Path | None, as_json: bool) -> None:
    """Check the file TOPOLOGY and show what it means.

    Says everything that is wrong with it at once, with exit status 2; else prints tiers, agents
    and their addresses, sources, outputs and peers, and the limits that are not the default. Exit
    status 1 where it can be run, and will surprise: lines that are read twice, a sink's files or
    an agent's own that a source would read, compressed files, directories.
    """
    from tiers.topology import load
    from tiers.topology.veil import Veil

    try:
        read = load(topology)
    except ConfigError as error:
        if as_json:
            problems = [
                {"key": p.key, "wanted": p.wanted, "found": p.found, "hint": p.hint}
                for p in error.problems
            ]
            click.echo(json.dumps({"ok": False, "file": str(topology), "problems": problems}))
        raise
    facts = map_texts(_facts(read, data), Veil(read.variables).hide) | {"file": read.file}
    shown = _lines(map_texts(facts, printable_text))
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(shown))
    if facts["warnings"]:
        raise click.exceptions.Exit(1)


def _facts(topology: "Topology", data: Path | None) -> dict[str, Any]:
    from tiers.topology.findings import findings

    return {
        "ok": True,
        "file": topology.file,
        "name": topology.name,
        "insecure": topology.insecure,
        "tiers": [_tier(topology, topology.tiers[name], data) for name in topology.order()],
        "limits": _limits(topology),
        "notes": _notes(topology),
        "warnings": [*findings(topology, data), *_here(topology)],
    }


def _tier(topology: "Topology", tier: "Tier", data: Path | None) -> dict[str, Any]:
    from tiers.topology.conditions import in_file

    when = {
        branch.output: {header: in_file(one) for header, one in branch.when.items()}
        for branch in tier.route.branches
    }
    return {
        "name": tier.name,
        "from": list(topology.upstream(tier.name)),
        "agents": [_agent(topology, agent, data) for agent in tier.agents],
        "outputs": [
            *(
                {"name": n, "kind": "sender", "peers": _peers(topology, n), "when": when[n]}
                for n in tier.next
            ),
            *(
                {
                    "name": sink.name,
                    "kind": "sink",
                    "type": sink.type,
                    "place": sink.place(),
                    "path": sink.path_template(),
                    "unproven": sink.unproven(),
                    "when": when[sink.name],
                }
                for sink in tier.sinks
            ),
        ],
        "route": "first" if tier.first else "all",
        "unrouted": tier.unrouted,
    }


def _peers(topology: "Topology", tier: str) -> dict[str, str]:
    return {agent: str(address) for agent, address in topology.peers(tier).items()}


def _agent(topology: "Topology", agent: str, data: Path | None) -> dict[str, Any]:
    tier = topology.tier_of(agent).name
    address = topology.tiers[tier].agents[agent]
    listen, status = topology.listen(agent), topology.status_address(agent)
    known = data or topology.settings(agent).data or topology.data
    return {
        "name": agent,
        "address": str(address) if address else None,
        "listen": str(listen) if listen else None,
        "status": str(status) if status else None,
        "data": str(topology.data_of(agent, data)) if known else None,
        "sources": [
            {
                "name": s.name,
                "type": s.type,
                "headers": dict(s.headers),
                "interceptors": [i.name for i in topology.interceptors(tier, s)],
            }
            for s in topology.sources(agent)
        ],
    }


def _limits(topology: "Topology") -> dict[str, dict[str, str]]:
    """Settings that are not the default: what they are, and what they would be."""
    from tiers.topology.settings import key_of, write

    found: dict[str, dict[str, str]] = {}
    tables = {"batch": topology.batch, "channel": topology.channel, "delivery": topology.delivery}
    for table, values in tables.items():
        for name, field in type(values).model_fields.items():
            value, default = getattr(values, name), field.get_default()
            if value != default:
                found[f"{table}.{key_of(name, field)}"] = {
                    "value": write(field, value),
                    "default": write(field, default),
                }
    return found


def _notes(topology: "Topology") -> list[str]:
    """What is no error, and worth knowing."""
    notes: list[str] = []
    for tier in topology.tiers.values():
        hosts = {address.host for address in tier.agents.values() if address}
        for sink in tier.sinks:
            if sink.type == "directory" and len(hosts) > 1:
                notes.append(
                    f"tiers.{tier.name}: {sink.place()} must be one and the same directory for "
                    f"all of {', '.join(tier.agents)}, on {len(hosts)} hosts"
                )
    if topology.insecure:
        notes.append("insecure = true: whoever reaches an agent's port can send to it")
    return notes


def _here(topology: "Topology") -> Iterator[str]:
    """What is seen on this machine alone."""
    found = {p: s for a in topology.agent_names() for s in topology.sources(a) for p in s.reads()}
    for path, source in found.items():
        if os.path.isdir(path):  # noqa: PTH112 one that may not be seen is none, and no error
            yield f"{source.name} reads {path}, which is a directory here: name its files"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    agents = sum(len(tier["agents"]) for tier in facts["tiers"])
    counts = f"{_counted(len(facts['tiers']), 'tier')}, {_counted(agents, 'agent')}"
    yield f"{facts['file']}: {facts['name']} is right: {counts}"
    for tier in facts["tiers"]:
        origin = f", from {', '.join(tier['from'])}" if tier["from"] else ""
        yield f"\ntier {tier['name']}{origin}"
        for agent in tier["agents"]:
            yield from _agent_lines(agent)
        for output in tier["outputs"]:
            yield f"  {_output_line(output)}"
        if any(output["when"] for output in tier["outputs"]):
            fate = {"dead": "goes to the dead letters", "drop": "is dropped"}[tier["unrouted"]]
            whom = {"all": "each output that wants it", "first": "the first output that wants it"}
            yield f"  a batch goes to {whom[tier['route']]}; what none wants {fate}"
    if facts["limits"]:
        yield "\nlimits that are not the default"
        for key, each in facts["limits"].items():
            yield f"  {key} = {each['value']} (default {each['default']})"
    for note in facts["notes"]:
        yield f"\nnote: {note}"
    for warning in facts["warnings"]:
        yield f"\nwarning: {warning}"


def _output_line(output: dict[str, Any]) -> str:
    from tiers.topology.conditions import write

    if output["kind"] == "sender":
        peers = ", ".join(f"{name} {at}" for name, at in output["peers"].items())
        line = f"to tier {output['name']}: {peers}"
    else:
        path = f", path {output['path']}" if output["path"] else ""
        where = (output["place"] + path, output["unproven"])
        line = f"to sink {output['name']}: {'; '.join(filter(None, where))}"
    return f"{line}, when {write(output['when'])}" if output["when"] else line


def _agent_lines(agent: dict[str, Any]) -> Iterator[str]:
    parts = [agent["name"]]
    if agent["address"]:
        parts.append(f"at {agent['address']}")
    if agent["listen"] != agent["address"]:
        parts.append(f"listens on {agent['listen']}")
    if agent["status"]:
        parts.append(f"status on {agent['status']}")
    if agent["data"]:
        parts.append(f"files in {agent['data']}")
    yield f"  agent {', '.join(parts)}"
    for source in agent["sources"]:
        kind = "" if source["type"] == source["name"] else f" ({source['type']})"
        headers = ", ".join(f"{name}={value}" for name, value in source["headers"].items())
        through = ", ".join(source["interceptors"])
        yield (
            f"    source {source['name']}{kind}{f', headers {headers}' if headers else ''}"
            f"{f', through {through}' if through else ''}"
        )
