"""`tiers up`: every agent of a topology on this machine."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

import click

from tiers.cli.kinds import DIRECTORY
from tiers.cli.tables import agents_table, row_line, row_object
from tiers.core.printable import printable_lines, printable_text
from tiers.fleet.child import Phase
from tiers.fleet.supervisor import Supervisor
from tiers.host.printer import Printer, standard_output
from tiers.observe.rows import Row, row

if TYPE_CHECKING:
    from rich.live import Live

_REFRESH_S: Final = 0.5  # of the live table, and of `--json`
_LINES_S: Final = 10.0  # between reports where there is no terminal


@click.command(
    epilog="Example: tiers up topologies/quickstart.toml --data /var/lib/tiers",
)
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--data", type=DIRECTORY, help="Agents keep files in DATA/NAME.")
@click.option("--drain", is_flag=True, help="End once all that is there is published.")
@click.option("--strict", is_flag=True, help="Do not start by the last accepted file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(topology: Path, data: Path | None, drain: bool, strict: bool, as_json: bool) -> None:
    """Run every agent of TOPOLOGY on this machine, one process each.

    Agents that die are started again, after growing waits. Agents added to the file are started,
    those taken out drain and end. Control-C or SIGTERM stops all; a second one kills. What an
    agent prints is in DATA/NAME/agent.log. Where TOPOLOGY is wrong at the start, it and its agents
    begin by what they last accepted; with --strict they refuse.

    With --drain: sources that have an end are read to it, others close, and each tier ends once
    its channels are empty. Exit status 0 when all is published, 1 when dead letters are left,
    or batches of an output that is no longer in TOPOLOGY.
    """
    from tiers.topology.findings import findings

    printer = standard_output()
    screen = (_Json if as_json else _Terminal if printer.isatty() else _Lines)(printer)
    try:
        supervisor = Supervisor(topology, data, drain=drain, strict=strict, report=screen.report)
        for warning in findings(supervisor.topology, data, together=True):
            screen.report(f"warning: {warning}")
        sys.exit(asyncio.run(_run(supervisor, screen)))
    finally:
        printer.close()


def rows_of(supervisor: Supervisor) -> list[Row]:
    """A row for each agent; where it does not answer, what it last said of itself with the
    supervisor's word on its state."""
    rows = []
    for name, child in supervisor.children.items():
        tier = child.place.tier
        if isinstance(child.answer, dict):
            rows.append(row(name, tier, child.answer))
            continue
        fine = child.phase in (Phase.DRAINED, Phase.STOPPED)
        last = row(name, tier, child.status) if child.status else Row(name, tier, "", healthy=fine)
        error = "" if fine else printable_text(child.answer)
        said = replace(last, state=str(child.phase), healthy=fine, peers=(), error=error)
        if child.phase is Phase.DRAINED:  # it said so in ending, after it was last asked
            said = replace(said, queued_events=0, oldest_s=0.0)
        rows.append(said)
    return rows


async def _run(supervisor: Supervisor, screen: "_Screen") -> int:
    loop = asyncio.get_running_loop()
    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        screen.report("stopping" if signals == 1 else "killing")
        supervisor.stop(now=signals > 1)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    with screen.open():
        show = asyncio.create_task(_refresh(supervisor, screen))
        try:
            return await supervisor.run()
        finally:
            show.cancel()
            screen.show(rows_of(supervisor), supervisor)


async def _refresh(supervisor: Supervisor, screen: "_Screen") -> None:
    while True:
        await asyncio.sleep(screen.every_s)
        screen.show(rows_of(supervisor), supervisor)


class _Screen:
    """Where `up` shows what it does. It goes on doing it where nobody can see."""

    every_s = _REFRESH_S

    def __init__(self, printer: Printer) -> None:
        self._printer = printer

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def report(self, line: str) -> None:
        """Something happened."""

    def show(self, rows: list[Row], supervisor: Supervisor) -> None:
        """How things are."""


class _Lines(_Screen):
    every_s = _LINES_S

    def report(self, line: str) -> None:
        self._printer.write("".join(f"{each}\n" for each in _at_this_time(line)))

    def show(self, rows: list[Row], supervisor: Supervisor) -> None:
        for each in rows:
            self.report(row_line(each))


class _Json(_Screen):
    def report(self, line: str) -> None:
        self._printer.write(f"{json.dumps({'at_ms': _now_ms(), 'event': line})}\n")

    def show(self, rows: list[Row], supervisor: Supervisor) -> None:
        agents = [
            row_object(each)
            | {"pid": child.pid, "phase": child.phase, "restarts": max(0, child.starts - 1)}
            for each in rows
            for child in (supervisor.children[each.agent],)
        ]
        told = {"at_ms": _now_ms(), "topology": supervisor.topology.name, "agents": agents}
        self._printer.write(f"{json.dumps(told)}\n")


class _Terminal(_Screen):
    """A live table; what happens scrolls by above it."""

    _live: "Live | None" = None

    @contextmanager
    def open(self) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=cast("IO[str]", self._printer))
        with Live(console=console, auto_refresh=False, redirect_stdout=False) as self._live:
            yield
        self._live = None

    def report(self, line: str) -> None:
        for each in _at_this_time(line):
            if self._live is None:
                self._printer.write(f"{each}\n")
            else:
                self._live.console.print(each, markup=False, highlight=False)

    def show(self, rows: list[Row], supervisor: Supervisor) -> None:
        if self._live is not None:
            verb = "draining" if supervisor.draining else "running"
            if supervisor.stopping:
                verb = "stopping"
            title = f"{supervisor.topology.name}: {verb}"
            if supervisor.topology_error:
                title += " (changed file refused)"
            self._live.update(agents_table(rows, title), refresh=True)


def _at_this_time(text: str) -> list[str]:
    return [f"{time.strftime('%H:%M:%S')} {line}" for line in printable_lines(text)]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
