"""`tiers agent`: one node of a topology, in the foreground."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from tiers.errors import TiersError


@click.command(name="agent")
@click.argument("topology", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path), help="Keep the files in DATA/NAME.")
@click.option("--drain", is_flag=True, help="Take nothing new, and leave when all is handed on.")
def command(topology: Path, name: str, data: Path | None, drain: bool) -> None:
    """Run agent NAME of the file TOPOLOGY until it is stopped.

    \b
    SIGTERM  stop: what is not handed on stays on disk (exit status 0)
    SIGHUP   read the topology file again (it is also watched)

    \b
    Exit status of an agent that drains: 0 drained, 1 drained but for dead
    letters or for batches of an output that is no longer in TOPOLOGY, 3
    stopped before it had drained.

    \b
    Example:
      tiers agent web-logs.toml edge-1 --data /var/lib/tiers
    """
    from tiers.agent import Agent
    from tiers.reloading import begin

    _log_to_stderr(name)

    async def run() -> int:
        loaded, directory, reloading = begin(topology, name, data)
        agent = Agent(loaded, name, directory, reloading)
        if drain:
            agent.drain()
        return await agent.run()

    try:
        sys.exit(asyncio.run(run()))
    except ExceptionGroup as group:
        # What ends an agent in mid-work (a channel found damaged) is for a person to read.
        known, unknown = group.split(TiersError)
        if known is None or unknown is not None:
            raise
        raise TiersError("; ".join(dict.fromkeys(map(str, _leaves(known))))) from group


def _leaves(group: BaseExceptionGroup[TiersError]) -> Iterator[TiersError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _log_to_stderr(agent: str) -> None:
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s {agent} %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    # Of libraries only warnings: one tells of each client it makes, another of each change of a
    # tailed file, a few lines a second for as long as the agent lives.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tiers").setLevel(logging.INFO)
