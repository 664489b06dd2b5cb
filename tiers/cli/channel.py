"""`tiers channel`: looks into the channel of a stopped agent, damaged or not."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from tiers.channel import inspection
from tiers.channel.inspection import Inspection
from tiers.core.printable import printable_text
from tiers.units import show_duration, show_size

_DIRECTORY = click.argument(
    "directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group(epilog="Example: tiers channel info data/edge-1")
def command() -> None:
    """Look into the channel of a stopped agent. DIR is the agent's directory (DATA/NAME), its
    channel directory, or a channel that was set aside (channel.damaged-...)."""


@command.command(epilog="Example: tiers channel info data/edge-1")
@_DIRECTORY
@_JSON
def info(directory: Path, as_json: bool) -> None:
    """Show what a channel holds."""
    with inspection.stopped(directory) as path:
        found = inspection.look(path)
    if as_json:
        click.echo(json.dumps(_as_json(found)))
    else:
        _show(found)


@command.command(epilog="Example: tiers channel check data/edge-1")
@_DIRECTORY
@_JSON
def check(directory: Path, as_json: bool) -> None:
    """Check a channel: its structure, then every checksum. Exit status 1 if anything is wrong."""
    with inspection.stopped(directory) as path:
        problems = inspection.problems(path)
    if as_json:
        click.echo(json.dumps({"channel": str(path), "ok": not problems, "problems": problems}))
    elif problems:
        for problem in problems:
            _say(problem)
        _say(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", err=True)
    else:
        _say(f"{path}: nothing is wrong")
    if problems:
        raise click.exceptions.Exit(1)


@command.command(epilog="Example: tiers channel salvage data/edge-1/channel.damaged-2026...")
@_DIRECTORY
@_JSON
def salvage(directory: Path, as_json: bool) -> None:
    """Show what can be read of a damaged channel. An agent that has set one aside reads it and
    puts what it holds into its new channel by itself, at every start until it is done: this
    command changes nothing. Exit status 1 if something is lost, or may be."""
    with inspection.stopped(directory) as path:
        found = inspection.salvageable(path)
    if as_json:
        click.echo(json.dumps({"channel": str(path), **asdict(found)}))
    else:
        _say(f"batches      {found.batches} ({found.events} events)")
        _say(f"dead letters {found.dead} of them")
        _say(f"lost         {found.lost} ({found.lost_events} events)")
        _say(f"positions    {found.positions} of sources")
        if not found.exact:
            _say("what else it held cannot be told: pages that say so are damaged")
        _say(f"salvaged     {'yes' if found.salvaged else 'not yet'}")
    if found.lost or not found.exact:
        raise click.exceptions.Exit(1)


def _as_json(found: Inspection) -> dict[str, object]:
    state = found.head.state
    return {
        "channel": str(found.path),
        "id": found.head.identity.channel_id.hex(),
        "format": found.head.identity.format,
        "begun_ms": found.head.identity.begun_ms,
        "next_seq": state.next_seq,
        "batches": state.batches,
        "dead": state.dead,
        "used_bytes": found.used_bytes,
        "file_bytes": found.file_bytes,
        "windows": found.windows,
        "outputs": [
            {
                "name": name,
                "batches": totals.batches,
                "events": totals.events,
                "bytes": totals.size_bytes,
                "oldest_ms": found.oldest_ms[name],
            }
            for name, totals in state.outputs.items()
        ],
        "records": {_text(key): _text(value) for key, value in found.records.items()},
        "set_aside": found.set_aside,
    }


def _show(found: Inspection) -> None:
    state = found.head.state
    begun = datetime.fromtimestamp(found.head.identity.begun_ms / 1000, UTC)
    _say(f"channel      {found.path}")
    _say(f"id           {found.head.identity.channel_id.hex()}")
    _say(f"begun        {begun:%Y-%m-%d %H:%M:%S} UTC")
    _say(f"next seq     {state.next_seq}")
    used, file = show_size(found.used_bytes), show_size(found.file_bytes)
    _say(f"size         {used} used of a file of {file}")
    _say(f"batches      {state.batches}")
    _say(f"dead letters {state.dead}")
    _say(f"windows      {found.windows}")
    for name, totals in state.outputs.items():
        oldest_ms = found.oldest_ms[name]
        age = show_duration(max(0.0, time.time() - oldest_ms / 1000)) if oldest_ms else ""
        oldest = f", oldest {age} ago" if age else ""
        _say(
            f"output       {name}: {totals.batches} batches, {totals.events} events, "
            f"{show_size(totals.size_bytes)}{oldest}"
        )
    for key in found.records:
        _say(f"record       {_text(key)} ({show_size(len(found.records[key]))})")
    if found.set_aside:
        _say(f"before       {found.set_aside}")


def _say(line: str, *, err: bool = False) -> None:
    click.echo(printable_text(line), err=err)


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")
