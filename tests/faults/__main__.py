"""`scripts/faults`: every fault test on real processes, and the table of what each found."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import click

ROOT: Final = Path(__file__).resolve().parents[2]
WHERE: Final = ("tests/faults", "tests/hadoop/test_faults.py", "tests/hadoop/test_nodes.py")
NETWORK: Final = "tests/net"
_TEST: Final = re.compile(r"^(tests/\S+::\S+)")
_COUNTS: Final = re.compile(
    r"accepted (\d+), published (\d+), missing (\d+), doubled (\d+)"
    r"(?:, longest pause in publishing ([\d.]+) s)?"
)


class Row(NamedTuple):
    """What one test printed."""

    test: str
    accepted: str
    published: str
    missing: str
    doubled: str
    pause_s: str


def rows(output: str) -> list[Row]:
    """The lines of counts, each with the test that was running."""
    found, test = [], ""
    for line in output.splitlines():
        if named := _TEST.match(line):
            test = named[1].rpartition("/")[2]
        if counts := _COUNTS.search(line):
            found.append(Row(test, *(value or "" for value in counts.groups())))
    return found


@click.command()
@click.option("--net/--no-net", default=True, help="Also between network namespaces (needs root).")
def main(net: bool) -> None:
    """Run every fault test and print its table. Exit status 1 where one failed."""
    where = (*WHERE, NETWORK) if net else WHERE
    command = [sys.executable, "-m", "pytest", "-v", "-s", "--no-header", *where]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    click.echo("| test | accepted | published | missing | doubled | longest pause, s |")
    click.echo("|---|---|---|---|---|---|")
    for row in rows(ended.stdout):
        click.echo(f"| {' | '.join(row)} |")
    click.echo(ended.stdout.strip().splitlines()[-1])
    sys.exit(1 if ended.returncode else 0)


if __name__ == "__main__":
    main()
