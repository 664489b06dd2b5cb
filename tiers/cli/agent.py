"""`tiers agent`: one node of a topology, in the foreground."""

import asyncio
import logging
import sys
import time
from pathlib import Path

import click


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

    sys.exit(asyncio.run(run()))


def _log_to_stderr(agent: str) -> None:
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s {agent} %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
