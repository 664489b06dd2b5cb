"""`tiers status`: asks every agent of a topology what it is doing."""

import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from tiers.agent.reloading import KEPT, hash_of
from tiers.cli.kinds import DIRECTORY
from tiers.cli.tables import agents_lines, agents_table, row_object
from tiers.errors import TiersError, UsageError
from tiers.observe.client import Answer, ask_all
from tiers.observe.rows import Row, all_healthy, row
from tiers.topology import Topology, load
from tiers.topology.load import data_directory, look

_WATCH_S = 1.0


@click.command(
    epilog="Example: tiers status topologies/quickstart.toml --data /var/lib/tiers",
)
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--data", type=DIRECTORY, help="Agents' files are in DATA/NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Ask again every second until Control-C.")
def command(topology: Path, data: Path | None, as_json: bool, watch: bool) -> None:
    """Show what every agent of TOPOLOGY is doing.

    Each agent is asked over HTTP: through the Unix socket in its data directory, and over TCP
    where its `[agents.NAME] status` is set. One that cannot be reached is a row with the reason.
    Where TOPOLOGY is wrong or gone, they are those of the copy that was last accepted, in DATA.
    Exit status 0 when all are healthy, 1 when not.
    """
    loaded = _load(topology, data)
    if not watch:
        sys.exit(_show(loaded, data, as_json))
    try:
        _watch(loaded, data, as_json)
    except KeyboardInterrupt:
        sys.exit(0)


def _load(file: Path, data: Path | None) -> Topology:
    """A wrong file is the moment to look at agents: then by what they or `tiers up` keep."""
    try:
        return load(file)
    except TiersError as wrong:
        directory = data_directory(look(file), "", data)
        for kept in _kept(directory) if directory is not None else ():
            with suppress(TiersError):
                topology = load(kept)
                click.echo(f"Warning: {wrong}\nThese are the agents of {kept}:", err=True)
                return topology
        raise


def _kept(directory: Path) -> list[Path]:
    """What was accepted there, that of `tiers up` first, then the newest."""
    with suppress(OSError):
        copies = [(copy.stat().st_mtime, copy) for copy in directory.glob(f"*/{KEPT}")]
        return [directory / KEPT, *(copy for _, copy in sorted(copies, reverse=True))]
    return []


def reach(topology: Topology, data: Path | None) -> dict[str, tuple[Path | None, str | None]]:
    """Directory and TCP address at which each agent may be asked, upstream first."""
    return {
        name: (_directory(topology, name, data), _address(topology, name))
        for name in topology.agent_names()
    }


def _directory(topology: Topology, name: str, data: Path | None) -> Path | None:
    try:
        return topology.data_of(name, data)
    except UsageError:  # its files are on another machine: there is TCP
        return None


def _address(topology: Topology, name: str) -> str | None:
    address = topology.status_reached_at(name)
    return None if address is None else str(address)


def _ask(topology: Topology, data: Path | None) -> tuple[list[Row], dict[str, Answer]]:
    answers = asyncio.run(ask_all(reach(topology, data)))
    asked_by = hash_of(topology)
    rows = [
        row(name, topology.tier_of(name).name, answer, asked_by) for name, answer in answers.items()
    ]
    return rows, answers


def _show(topology: Topology, data: Path | None, as_json: bool) -> int:
    rows, answers = _ask(topology, data)
    healthy = all_healthy(rows)
    if as_json:
        click.echo(json.dumps(_object(topology, rows, answers), indent=2))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(agents_table(rows, topology.name))
    else:
        click.echo("\n".join(agents_lines(rows)))
    return 0 if healthy else 1


def _watch(topology: Topology, data: Path | None, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        while True:
            rows, answers = _ask(topology, data)
            told = _object(topology, rows, answers)
            click.echo(json.dumps(told) if as_json else "\n".join([*agents_lines(rows), ""]))
            time.sleep(_WATCH_S)
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            rows, _ = _ask(topology, data)
            live.update(agents_table(rows, topology.name), refresh=True)
            time.sleep(_WATCH_S)


def _object(topology: Topology, rows: list[Row], answers: dict[str, Answer]) -> dict[str, Any]:
    """`status` is the agent's own answer, null where it gave none."""
    agents = [
        row_object(each)
        | {"status": answer if isinstance(answer := answers[each.agent], dict) else None}
        for each in rows
    ]
    return {"topology": topology.name, "healthy": all_healthy(rows), "agents": agents}
