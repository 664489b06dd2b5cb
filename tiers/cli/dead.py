"""`tiers dead`: what a person does with the dead letters of an agent."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from tiers.cli.kinds import DIRECTORY
from tiers.core.change import LetterHead
from tiers.core.printable import printable_text
from tiers.dead.choosing import Groups, Wanted, wanted
from tiers.dead.doors import LettersDoor, each, opened
from tiers.dead.handling import LETTERS_PER_CALL, Done, Key
from tiers.dead.showing import body_of, first_lines, letter_lines, table_lines, told, write_letter
from tiers.errors import UsageError
from tiers.topology import Topology, load
from tiers.units import show_size

SHOWN_MAX: Final = 100  # letters that `show` shows
LINES_MAX: Final = 1000  # of a body
CHOSEN_MAX: Final = 100_000  # letters that one command retries, drops or exports


@dataclass(frozen=True, slots=True)
class Target:
    """Whose letters, and which of them."""

    directory: Path
    topology: Topology | None
    wanted: Wanted

    @asynccontextmanager
    async def door(self, *, changing: bool = False) -> AsyncIterator[LettersDoor]:
        async with opened(self.directory, self.topology, changing=changing) as door:
            yield door


_OPTIONS: Final = (
    click.argument("place", metavar="TOPOLOGY|DIR", type=click.Path(path_type=Path)),
    click.argument("agent", metavar="[AGENT]", required=False),
    click.option("--data", type=DIRECTORY, help="Agents' files are in DATA/NAME."),
    click.option("--cause", default="", help="Only with such a reason: a part of it, or a glob."),
    click.option("--output", default="", help="Only those of this output."),
    click.option("--ids", multiple=True, help="Only these: letters (7 or 7-9,12) or batches."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)


def _aimed(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _target(
    place: Path, agent: str | None, data: Path | None, cause: str, output: str, ids: Sequence[str]
) -> Target:
    chosen = wanted(cause, output, ids)
    if agent is None:
        if not place.is_dir():
            raise UsageError(
                f"{place}: wanted an agent's directory (DATA/NAME), or a topology file and the "
                "name of an agent"
            )
        return Target(place.resolve(), None, chosen)
    topology = load(place)
    return Target(topology.data_of(agent, data).resolve(), topology, chosen)


@click.group(epilog="Example: tiers dead list web-logs.toml agg-1 --data /var/lib/tiers")
def command() -> None:
    """See what an agent could not deliver, and let it be delivered after all, or drop it.

    The agent is named by a topology file and its name, or by its directory (DATA/NAME). One that
    runs is asked on the status socket in that directory; of one that is stopped the channel is
    opened.
    """


@command.command("list", epilog="Example: tiers dead list data/agg-1 --cause checksum")
@_aimed
def list_(as_json: bool, **named: Any) -> None:
    """Show dead letters by output and reason ("…": what differs from letter to letter)."""
    target = _target(**named)

    async def look() -> Groups:
        groups = Groups()
        async with target.door() as door:
            async for head in each(door, target.wanted):
                groups.take(head)
        return groups

    groups = asyncio.run(look())
    if as_json:
        click.echo(json.dumps({"groups": [asdict(one) for one in groups]}))
    elif groups.by_key:
        _say(*table_lines(groups))
    else:
        _say("no dead letters")


@command.command(epilog="Example: tiers dead show data/agg-1 --ids 7 --lines 20")
@_aimed
@click.option("--limit", type=click.IntRange(1, SHOWN_MAX), default=10, help="At most so many.")
@click.option("--lines", type=click.IntRange(0, LINES_MAX), default=5, help="Lines of each body.")
def show(as_json: bool, limit: int, lines: int, **named: Any) -> None:
    """Show letters in full, with the first lines of what is in them."""
    target = _target(**named)

    async def look() -> None:
        shown: list[dict[str, Any]] = []
        async with target.door() as door:
            heads, more = await _some(door, target.wanted, limit)
            for number, head in enumerate(heads):
                body = await body_of(door, head)
                if as_json:
                    shown.append(told(head, body) | {"lines": first_lines(body, lines)})
                else:
                    _say(*([""] if number else []), *letter_lines(head, body, lines))
        if as_json:
            click.echo(json.dumps({"letters": shown, "more": more}))
        elif not heads:
            _say("no dead letters")
        elif more:
            _say("", f"and more: --limit shows up to {SHOWN_MAX}, --ids and --cause which")

    asyncio.run(look())


@command.command(epilog="Example: tiers dead export data/agg-1 --to letters")
@_aimed
@click.option("--to", type=DIRECTORY, required=True, help="A directory not there yet, or empty.")
def export(as_json: bool, to: Path, **named: Any) -> None:
    """Write letters to files: what is in each as NUMBER-OUTPUT.body, and beside it what is known
    of it as .json. What does not open, or is damaged, is written as it is stored (.record). Nothing
    is removed from the channel."""
    target = _target(**named)

    async def write() -> dict[str, int]:
        written = {"letters": 0, "bytes": 0, "unopened": 0, "damaged": 0}
        async with target.door() as door:
            heads = await _chosen(door, target.wanted)
            _make_empty(to)
            for head in heads:
                body = await body_of(door, head)
                written["bytes"] += write_letter(to, head, body)
                written["letters"] += 1
                written["damaged"] += body.envelope is None
                written["unopened"] += body.envelope is not None and body.data is None
        return written

    written = asyncio.run(write())
    if as_json:
        click.echo(json.dumps({"directory": str(to), **written}))
        return
    words = f"{_letters(written['letters'])} in {to}: {show_size(written['bytes'])}"
    words += f"; {written['damaged']} damaged" if written["damaged"] else ""
    words += f"; {written['unopened']} do not open" if written["unopened"] else ""
    _say(words)


@command.command(epilog="Example: tiers dead retry data/agg-1 --output hdfs --cause quota")
@_aimed
def retry(as_json: bool, **named: Any) -> None:
    """Put letters back into the queue of their output, flagged: of each one copy is published.
    What has the id of another batch goes on as a new one. Exit status 1 where any is refused."""
    target = _target(**named)

    async def put_back() -> Done:
        async with target.door(changing=True) as door:
            heads = await _chosen(door, target.wanted)
            return await _all(door.retry, heads)

    _show_done(asyncio.run(put_back()), "queued again", as_json)


@command.command(epilog="Example: tiers dead drop data/agg-1 --ids 7-9 --yes")
@_aimed
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(as_json: bool, yes: bool, **named: Any) -> None:
    """Remove letters for good. An audit shows their batches as dropped on purpose."""
    target = _target(**named)
    if as_json and not yes:
        raise UsageError("with --json nobody is asked: give --yes as well")

    async def choose() -> list[LetterHead]:
        async with target.door() as door:
            return await _chosen(door, target.wanted)

    async def remove(heads: Sequence[LetterHead]) -> Done:
        async with target.door(changing=True) as door:
            return await _all(door.drop, heads)

    heads = asyncio.run(choose())
    if heads and not yes:
        events = sum(head.count for head in heads)
        size = show_size(sum(head.size for head in heads))
        outputs = ", ".join(sorted({head.output for head in heads}))
        what = f"{_letters(len(heads))} of {outputs} ({events:,} events, {size})"
        question = f"Drop {what} for good?"
        click.confirm(printable_text(question), abort=True)
    done = asyncio.run(remove(heads)) if heads else Done()
    _show_done(done, "dropped for good", as_json)


async def _some(door: LettersDoor, chosen: Wanted, most: int) -> tuple[list[LetterHead], bool]:
    """The first of them, and whether there are more."""
    found: list[LetterHead] = []
    async for head in each(door, chosen):
        if len(found) == most:
            return found, True
        found.append(head)
    return found, False


async def _chosen(door: LettersDoor, chosen: Wanted) -> list[LetterHead]:
    found, more = await _some(door, chosen, CHOSEN_MAX)
    if more:
        click.echo(f"Warning: these are the first {CHOSEN_MAX:,}; run it again for more", err=True)
    return found


async def _all(do: Callable[[Sequence[Key]], Any], heads: Sequence[LetterHead]) -> Done:
    """Some at a time, until none is left."""
    keys = [(head.position, head.output) for head in heads]
    total = Done()
    while keys:
        done: Done = await do(keys[:LETTERS_PER_CALL])
        total.letters += done.letters
        total.events += done.events
        total.size_bytes += done.size_bytes
        total.refused += done.refused
        keys = done.left + keys[LETTERS_PER_CALL:]
    return total


def _make_empty(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty: give a directory that is not there yet")


def _show_done(done: Done, what: str, as_json: bool) -> None:
    whys = Counter(one.why for one in done.refused)
    if as_json:
        refused = [{"why": why, "letters": count} for why, count in whys.items()]
        told = {"letters": done.letters, "events": done.events, "bytes": done.size_bytes}
        click.echo(json.dumps(told | {"refused": refused}))
    else:
        _say(f"{_letters(done.letters)} {what}: {done.events:,} events")
        for why, count in whys.most_common(20):
            _say(f"{count:,} refused: {why}", err=True)
    if done.refused:
        raise click.exceptions.Exit(1)


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def _say(*lines: str, err: bool = False) -> None:
    for line in lines:
        click.echo(printable_text(line), err=err)
