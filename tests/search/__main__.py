"""`scripts/search`: further than CI searches."""

from typing import Any, Literal, get_args

import click

from tests.search.cast import Fault
from tests.search.commit import Search
from tests.search.explorer import Found, search
from tests.search.hop import Hop
from tests.search.lives import Lives
from tiers.core.hop.messages import Guarantee


@click.command()
@click.option("--sinks", default=2, show_default=True, type=click.IntRange(1, 3))
@click.option("--files", default=2, show_default=True, help="File ids per sink.")
@click.option("--troubles", default=2, show_default=True, help="Crashes and lost answers in all.")
@click.option("--closes/--no-closes", default=False, help="The day may be closed at any moment.")
@click.option("--dies/--no-dies", default=False, help="One sink may lose its disk.")
@click.option(
    "--disk",
    type=click.Choice(["back", "cloned"]),
    help="A sink's disk goes back in time, or is there twice.",
)
@click.option("--limit", default=10_000_000, show_default=True, help="States: 300 bytes each.")
@click.option("--hop", is_flag=True, help="Search the hop instead: a sender and two receivers.")
@click.option(
    "--lives",
    type=click.Choice(get_args(Fault)),
    help="Search the hop where a disk goes back in time, or is there twice.",
)
@click.option("--batches", default=1, show_default=True, help="With --hop or --lives.")
@click.option("--end/--no-end", default=False, help='With those: guarantee = "end".')
@click.option("--receivers", default=2, show_default=True, type=click.IntRange(1, 2))
def main(
    sinks: int,
    files: int,
    troubles: int,
    closes: bool,
    dies: bool,
    disk: Literal["back", "cloned"] | None,
    limit: int,
    hop: bool,
    lives: Fault | None,
    batches: int,
    end: bool,
    receivers: int,
) -> None:
    """Search all interleavings of sinks that hold copies of one batch; or, with --hop, of a sender
    and two receivers (--dies: which may lose their disks). Receivers are alike: a trace may mix
    their names. With --lives, of the same where a disk goes back (--receivers: that are there)."""
    guarantee: Guarantee = "end" if end else "hop"
    if hop or lives:
        found: Found[Any]
        if lives:
            wanted = Lives(
                lives,
                batches=batches,
                troubles=troubles,
                receivers=receivers,
                guarantee=guarantee,
            )
            found = search(wanted, limit)
        else:
            model = Hop(batches=batches, troubles=troubles, disks=dies, guarantee=guarantee)
            found = search(model, limit)
        click.echo(str(found))
        raise SystemExit(1 if found.wrong or found.stuck else 0)
    failed = False
    for unflagged in (1, 2):
        copies = (unflagged, *[2] * (sinks - 1))
        held = search(Search(copies, files, troubles, closes, dies, disk or ""), limit)
        click.echo(f"copies {copies} (1: unflagged, 2: flagged): {held}")
        failed |= bool(held.wrong or held.stuck)
    raise SystemExit(1 if failed else 0)


main()
