"""`tiers agent`: one node of a topology, in the foreground."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tiers.cli.kinds import DIRECTORY
from tiers.errors import TiersError

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from tiers.host.printer import Printer
    from tiers.observe.watch import Watch

log = logging.getLogger("tiers")


@click.command(name="agent")
@click.argument("topology", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--data", type=DIRECTORY, help="Keep the files in DATA/NAME.")
@click.option("--drain", is_flag=True, help="Take nothing new, and leave when all is handed on.")
@click.option("--strict", is_flag=True, help="Do not start by the last accepted file.")
def command(topology: Path, name: str, data: Path | None, drain: bool, strict: bool) -> None:
    """Run agent NAME of the file TOPOLOGY until it is stopped.

    \b
    SIGTERM  stop: what is not handed on stays on disk (exit status 0)
    SIGHUP   read the topology file again (it is also watched)

    Where TOPOLOGY is wrong or gone at the start, the agent begins by the file it last accepted,
    which it keeps in DATA/NAME, and is unhealthy until TOPOLOGY is right; with --strict it refuses.

    \b
    Exit status of an agent that drains: 0 drained, 1 drained but for dead
    letters or for batches of an output that is no longer in TOPOLOGY, 3
    stopped before it had drained.

    \b
    Example:
      tiers agent web-logs.toml edge-1 --data /var/lib/tiers
    """
    from tiers.agent.logs import log_to
    from tiers.host.heap import keep_freed
    from tiers.host.printer import Printer
    from tiers.observe.watch import Watch

    keep_freed()
    watch = Watch()
    printer = Printer(2)
    log_to(printer, name)
    try:
        with asyncio.Runner(loop_factory=watch.new_loop) as runner:
            run = _run(topology, name, data, watch, printer, drain=drain, strict=strict)
            sys.exit(runner.run(run))
    except ExceptionGroup as group:
        # What ends an agent in mid-work (a channel found damaged) is for a person to read.
        known, unknown = group.split(TiersError)
        if known is None or unknown is not None:
            raise
        raise TiersError("; ".join(dict.fromkeys(map(str, _leaves(known))))) from group
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Python ends its own handlers before itself
        printer.close()


async def _run(
    topology: Path,
    name: str,
    data: Path | None,
    watch: "Watch",
    printer: "Printer",
    *,
    drain: bool,
    strict: bool,
) -> int:
    """The agent's life; its exit status."""
    from tiers.agent.agent import AGAIN, Agent
    from tiers.agent.reloading import begin
    from tiers.topology.findings import findings_of

    loaded, directory, reloading = begin(topology, name, data, strict=strict)
    for finding in findings_of(loaded, name, directory.parent):
        log.warning(finding)
    agent = Agent(loaded, name, directory, reloading, watch)
    _take_hangups(reloading.wake)
    if drain:
        agent.drain()
    status = await agent.run()
    if status == AGAIN:
        printer.close()
        _start_again(draining=agent.draining)
    return status


def _start_again(*, draining: bool) -> None:
    """This process becomes a new one of the same command: nothing of its memory goes on. (Where
    that is not possible, it ends with a status that says the same to whoever began it.)"""
    command = [sys.executable, *sys.orig_argv[1:]]
    if draining and "--drain" not in command:
        command.append("--drain")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # stays so until it has a handler of its own
    with suppress(OSError):
        os.execv(sys.executable, command)


def _leaves(group: BaseExceptionGroup[TiersError]) -> Iterator[TiersError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _take_hangups(wake: Callable[[], None]) -> None:
    """SIGHUP calls `wake` on the loop, and nothing once that is closed: a handler of asyncio's goes
    with its loop, and the next SIGHUP would kill who is just leaving."""
    loop = asyncio.get_running_loop()

    def hung_up(*_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(wake)

    signal.signal(signal.SIGHUP, hung_up)
