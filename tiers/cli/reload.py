"""`tiers reload`: has every agent read its topology file now, and say whether it runs by it."""

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import click

from tiers.agent.reloading import hash_of
from tiers.cli.kinds import DIRECTORY
from tiers.cli.status import reach
from tiers.core.printable import printable_text
from tiers.observe.client import Answer, ask_all, tell_reload
from tiers.topology import Topology, load

_WITHIN_S: Final = 10.0
_LOOK_S: Final = 0.2
_NOT_YET: Final = "runs by another file"


class ReloadTold(NamedTuple):
    """What became of the file at one agent."""

    agent: str
    in_force: bool
    text: str
    restart: tuple[str, ...] = ()  # keys that take effect with a restart


@click.command(epilog="Example: tiers reload web-logs.toml --data /var/lib/tiers")
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--data", type=DIRECTORY, help="Agents' files are in DATA/NAME.")
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(0, 3600),
    default=_WITHIN_S,
    show_default=True,
    help="Seconds until who does not run by it yet is said not to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(topology: Path, data: Path | None, within_s: float, as_json: bool) -> None:
    """Have agents read their topology file now, and wait until they run by TOPOLOGY.

    Agents read a changed file by themselves, a second or two after it was changed; this says when
    it is done, and who refused it and why. Those of this machine are told to, through the socket
    in their directory; the others are only asked. A file that is wrong is not told to anybody. Exit
    status 0 when all run by it, 1 when not.
    """
    loaded = load(topology)
    told = asyncio.run(_reload(loaded, data, within_s))
    if as_json:
        agents = [each._asdict() for each in told]
        click.echo(json.dumps({"topology_hash": hash_of(loaded), "agents": agents}, indent=2))
    else:
        click.echo("\n".join(map(_line, told)))
    if not all(each.in_force for each in told):
        raise click.exceptions.Exit(1)


async def _reload(topology: Topology, data: Path | None, within_s: float) -> list[ReloadTold]:
    agents = reach(topology, data)
    here = [directory for directory, _ in agents.values() if directory is not None]
    await asyncio.gather(*map(tell_reload, here))
    wanted, end_s = hash_of(topology), time.monotonic() + within_s
    while True:
        answers = await ask_all(agents)
        told = [_of(name, answer, wanted) for name, answer in answers.items()]
        if all(each.text != _NOT_YET for each in told) or time.monotonic() >= end_s:
            return told
        await asyncio.sleep(_LOOK_S)


def _of(name: str, answer: Answer, wanted: str) -> ReloadTold:
    if isinstance(answer, str):
        return ReloadTold(name, False, printable_text(answer))
    error = answer.get("topology_error")
    if error and answer.get("topology_refused_hash") == wanted:
        return ReloadTold(name, False, f"refused: {printable_text(str(error))}")
    if answer.get("topology_hash") != wanted:
        return ReloadTold(name, False, _NOT_YET)
    restart = tuple(map(printable_text, _texts(answer.get("restart_needed"))))
    return ReloadTold(name, True, f"in force, generation {answer.get('generation')}", restart)


def _texts(found: object) -> Iterable[str]:
    return (each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _line(told: ReloadTold) -> str:
    restart = f"; with a restart: {', '.join(told.restart)}" if told.restart else ""
    return f"{told.agent}: {told.text}{restart}"
