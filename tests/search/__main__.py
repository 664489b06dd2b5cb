"""`scripts/search`: further than CI searches."""

import click

from tests.search.commit import Search
from tests.search.explorer import search


@click.command()
@click.option("--sinks", default=2, show_default=True, type=click.IntRange(1, 3))
@click.option("--files", default=2, show_default=True, help="File ids per sink.")
@click.option("--troubles", default=2, show_default=True, help="Crashes and lost answers in all.")
@click.option("--closes/--no-closes", default=False, help="The day may be closed at any moment.")
@click.option("--dies/--no-dies", default=False, help="One sink may lose its disk.")
@click.option("--limit", default=3_000_000, show_default=True, help="States: about 2 KB each.")
def main(sinks: int, files: int, troubles: int, closes: bool, dies: bool, limit: int) -> None:
    """Search all interleavings of sinks that hold copies of one batch."""
    failed = False
    for unflagged in (1, 2):
        copies = (unflagged, *[2] * (sinks - 1))
        found = search(Search(copies, files, troubles, closes, dies), limit)
        click.echo(f"copies {copies} (1: unflagged, 2: flagged): {found}")
        failed |= bool(found.wrong or found.stuck)
    raise SystemExit(1 if failed else 0)


main()
