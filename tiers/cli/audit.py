"""`tiers audit`: proves from manifests what was delivered."""

import asyncio
import json
import sys
from pathlib import Path

import click

from tiers.audit.audit import OriginAccount, Orphan, OutputAccount, Report, audit
from tiers.audit.published import Double
from tiers.cli.kinds import DIRECTORY
from tiers.cli.status import reach
from tiers.core import runs
from tiers.core.printable import printable_text
from tiers.topology import load
from tiers.units import show_size

_EXIT_UNKNOWN = 3
_SHOWN_MAX = 10  # doubles and problems listed one by one


@click.command(
    epilog="Example: tiers audit topologies/quickstart.toml --data /var/lib/tiers",
)
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--data", type=DIRECTORY, help="Agents' files are in DATA/NAME.")
@click.option("--files", is_flag=True, help="Open published files, too, and count their events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(topology: Path, data: Path | None, files: bool, as_json: bool) -> None:
    """Say of every batch that TOPOLOGY accepted where it is.

    Reads the manifests of every store and asks the agents what their channels hold (the channel of
    a stopped agent is read where it is on this machine): per origin
    what was published, what is under way and where, what is in dead letters, what is missing, and
    what is in two published files. With --files published files are opened as well, and their
    events counted. Exit status 1 on a gap that nothing explains, on a double, where a manifest
    cannot be read, or where a file is not what its manifest says; 3 where nothing is wrong and not
    every agent could be asked: what is missing then is unknown, and no gap. Batches that wait for
    an output which the topology no longer has are listed, and count nowhere; so are batches of days
    that the store has forgotten, and files that somebody has removed since.
    """
    loaded = load(topology)
    report = asyncio.run(audit(loaded, reach(loaded, data), files=files))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        click.echo("\n".join(map(printable_text, lines(report))))
    sys.exit(_EXIT_UNKNOWN if report.ok and not report.proven else 0 if report.ok else 1)


def lines(report: Report) -> list[str]:
    """The report for a person."""
    shown = []
    for output in report.outputs:
        shown += _output_lines(output)
    shown += [f"{output}: not proven: {why}" for output, why in report.unproven.items()]
    for orphan in report.orphans:
        shown += _orphan_lines(orphan)
    shown += [f"{agent}: {news}" for agent, news in report.news.items()]
    for agent, reason in report.unasked.items():
        shown.append(f"{agent} could not be asked: {reason}")
    return [*shown, _verdict(report)]


def _verdict(report: Report) -> str:
    if report.proven:
        return "nothing missing, nothing doubled" if report.outputs else "no output has a store"
    said = ["NOT ALL IS WELL, see above"]
    if report.ok:
        said = ["NOT PROVEN: nothing missing, nothing doubled as far as could be asked"]
    if report.unasked:
        said.append(f"{len(report.unasked)} of {report.agents} agents could not be asked")
    if report.unknown:
        said.append(f"of {report.unknown} batches nothing is known")
    return "; ".join(said)


def _output_lines(output: OutputAccount) -> list[str]:
    shelf = output.shelf
    events = sum(origin.events for origin in output.origins)
    size = show_size(sum(one.size_bytes for one in shelf.published))
    shown = [
        f"{output.output}: {shelf.where}",
        f"  {len(shelf.published)} files published with {events} events in {size}; "
        f"{shelf.pending} pending, {shelf.void} void",
    ]
    if shelf.counted is not None:
        shown.append(f"  {shelf.counted} files opened: their events are those of their manifests")
    if shelf.removed:
        shown.append(f"  {len(shelf.removed)} files removed since, such as {shelf.removed[0]}")
    shown += [f"  PROBLEM {problem}" for problem in shelf.problems[:_SHOWN_MAX]]
    if len(shelf.problems) > _SHOWN_MAX:
        shown.append(f"  PROBLEM and {len(shelf.problems) - _SHOWN_MAX} more")
    for origin in output.origins:
        shown += _origin_lines(origin)
    return shown


def _orphan_lines(orphan: Orphan) -> list[str]:
    where = f"{orphan.agent} for output {orphan.output!r}, which the topology no longer has"
    words = (("waiting", orphan.queue.held), ("dead letters", orphan.queue.dead))
    return [
        f"ORPHANS at {where}: {what} of {origin[:16]}: {runs.show(found)}"
        for what, origins in words
        for origin, found in origins.items()
    ]


def _origin_lines(origin: OriginAccount) -> list[str]:
    accepted = "" if origin.accepted is None else f"{origin.accepted} batches accepted, "
    shown = [
        f"  {origin.agent or 'an agent not asked'} ({origin.origin[:16]}): {accepted}"
        f"{runs.total(origin.published)} published: {runs.show(origin.published) or 'none'}"
    ]
    for agent, held in origin.held.items():
        under_way = runs.minus(held, origin.published)
        if under_way:
            shown.append(f"    under way at {agent}: {runs.show(under_way)}")
    for agent, dead in origin.dead.items():
        shown.append(f"    dead letters of {agent}: {runs.show(dead)}")
    for agent, dropped in origin.dropped.items():
        shown.append(f"    dropped on purpose at {agent}: {runs.show(dropped)}")
    for agent, skipped in origin.skipped.items():
        shown.append(f"    not routed here by {agent}: {runs.show(skipped)}")
    if origin.gaps:
        shown.append(f"    GAP of {runs.total(origin.gaps)} batches: {runs.show(origin.gaps)}")
    if origin.unknown:
        count = runs.total(origin.unknown)
        shown.append(f"    unknown: {count} batches: {runs.show(origin.unknown)}")
    shown += _double_lines("DOUBLE", origin.doubles)
    if origin.forgotten:
        forgotten = runs.show(origin.forgotten)
        shown.append(f"    perhaps of days that the store has forgotten: {forgotten}")
    return shown


def _double_lines(what: str, doubles: list[Double]) -> list[str]:
    shown = [
        f"    {what}: batch {double.seq}, {double.events} events, in {' and '.join(double.files)}"
        for double in doubles[:_SHOWN_MAX]
    ]
    if len(doubles) > _SHOWN_MAX:
        events = sum(double.events for double in doubles[_SHOWN_MAX:])
        shown.append(f"    {what}: {len(doubles) - _SHOWN_MAX} batches more, {events} events")
    return shown
