"""`tiers demo`: tiers survive a killed aggregator, on this machine."""

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tiers.cli.kinds import DIRECTORY
from tiers.cli.up import rows_of
from tiers.fleet.child import Phase
from tiers.trial.demo import Demo, DemoResult

if TYPE_CHECKING:
    from rich.table import Table

_REFRESH_S = 0.2


@click.command(epilog="Example: tiers demo --events 2000000 --json")
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Deliver the lines of this file in place of generated ones.",
)
@click.option("--events", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--data", type=DIRECTORY, help="An empty directory to work in.")
@click.option("--kill/--no-kill", default=True, help="SIGKILL an aggregator in mid-stream.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--keep", is_flag=True, help="Keep logs and agents' files, not only what came out.")
def command(
    source: Path | None, events: int, data: Path | None, kill: bool, as_json: bool, keep: bool
) -> None:
    """Deliver access-log lines through three tiers, and kill one of their agents meanwhile.

    Runs the shipped topologies/quickstart.toml (1 edge, 2 aggregators, 2 sinks, a local directory)
    on this machine, kills an aggregator with SIGKILL in mid-stream, lets it be started again,
    drains, audits, and compares what was published with what was written, line by line. Exit
    status 1 when a line is missing or doubled.
    """
    root = data or Path(tempfile.mkdtemp(prefix="tiers-demo-"))
    screen = _Screen(quiet=as_json)
    demo = Demo(root, events=events, source=source, kill=kill, report=screen.report)
    demo.prepare()
    outcome = asyncio.run(_run(demo, screen))
    if outcome.ok and not keep:
        demo.place.clear()
    if as_json:
        click.echo(json.dumps(outcome.to_json()))
    else:
        click.echo("\n".join(result_lines(outcome)))
    sys.exit(0 if outcome.ok else 1)


def result_lines(outcome: DemoResult) -> list[str]:
    """The result for a person."""
    lines = [
        f"accepted   {outcome.accepted:>12,} lines",
        f"published  {outcome.published:>12,} lines",
        f"missing    {outcome.missing:>12,}",
        f"doubled    {outcome.doubled:>12,}",
    ]
    if outcome.foreign:
        lines.append(f"damaged    {outcome.foreign:>12,} published lines that nobody wrote")
    lines += [
        f"speed      {outcome.events_per_second:>12,} events/s over {outcome.seconds:g} s"
        f"{f', {outcome.killed} killed on the way' if outcome.killed else ''}",
        f"audit      {'nothing missing, nothing doubled' if outcome.audit_ok else 'NOT WELL':>12}",
        *(f"           {trouble}" for trouble in outcome.troubles),
        f"files      {outcome.files}",
    ]
    return lines


async def _run(demo: Demo, screen: "_Screen") -> DemoResult:
    loop = asyncio.get_running_loop()
    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        demo.stop(now=signals > 1)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    showing = asyncio.create_task(screen.follow(demo))
    try:
        return await demo.run()
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


class _Screen:
    """Live on a terminal; else a line for each thing that happens; with --json nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._print: Callable[[str], None] = click.echo

    def report(self, line: str) -> None:
        if not self._quiet:
            self._print(f"{time.strftime('%H:%M:%S')} {line}")

    async def follow(self, demo: Demo) -> None:
        """Until cancelled."""
        if self._quiet or not sys.stdout.isatty():
            return
        from rich.live import Live

        with Live(auto_refresh=False, transient=True) as live:
            self._print = lambda line: live.console.print(line, markup=False, highlight=False)
            try:
                while True:
                    live.update(progress(demo), refresh=True)
                    await asyncio.sleep(_REFRESH_S)
            finally:
                self._print = click.echo


def progress(demo: Demo) -> "Table":
    """Lines written, what waits in each agent, lines published."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("agent", "state", "events in", "queued", "events out"):
        table.add_column(heading, justify="left" if heading in ("agent", "state") else "right")
    table.add_row("(log files)", "", f"{demo.written:,}", "", "")
    published = 0
    rows = rows_of(demo.supervisor) if demo.supervisor is not None else []
    for row in rows:
        counts = (row.events_in, row.queued_events, row.events_out)
        table.add_row(row.agent, row.state, *(f"{count:,}" for count in counts))
        if demo.publishes(row.tier):
            # A sink's last word comes before it publishes its last file.
            published += row.events_in if row.state == Phase.DRAINED else row.events_out
    table.add_row("published", "", "", "", f"{published:,}")
    return table
