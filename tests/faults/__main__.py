"""`scripts/faults`: every fault test on real processes, and the table of what each counted."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import click

ROOT: Final = Path(__file__).resolve().parents[2]
HADOOP: Final = ("delivery", "faults", "fenced", "nodes")
WHERE: Final = (
    *("tests/faults", "tests/power", "tests/trial/test_demo.py"),
    *(f"tests/hadoop/test_{name}.py" for name in HADOOP),
)
NETWORK: Final = "tests/net"
# These ask what is said and how it is counted, or leave out a sync to see that it is found.
COUNT_NOTHING: Final = re.compile(r"test_(misuse|counting|demo)\.py|is_left_out")
_TEST: Final = re.compile(r"^tests/(?:\w+/)?test_(\w+\.py::\S+)")
_COUNTS: Final = re.compile(
    r"(?:(?P<store>[\w-]+): )?accepted (?P<accepted>\d+), published (?P<published>\d+), "
    r"missing (?P<missing>\d+), doubled (?P<doubled>\d+), "
    r"longest pause in publishing (?P<pause_s>[\d.]+) s(?: \((?P<outside>[^)]*)\))?"
)


class Row(NamedTuple):
    """What one test printed of one store."""

    test: str
    accepted: str
    published: str
    missing: str
    doubled: str
    pause_s: str


def rows(lines: Iterable[str], tests: set[str]) -> Iterable[Row]:
    """From what `pytest -v -s` prints. The tests that ran and gave no row are left in `tests`."""
    test = ""
    for line in lines:
        if (named := _TEST.match(line)) and test != named[1]:
            test = named[1]
            tests.add(test)
        # A count that is not right, and not outside the promise, fails its test.
        if (found := _COUNTS.search(line)) and not test.startswith("counting."):
            tests.discard(test)
            file, _, name = test.partition(".py::test_")
            name = f"{file}: {name.replace('_', ' ')}"
            if found["store"]:
                name += f", {found['store']}"
            outside = f" ({found['outside']})" if found["outside"] else ""
            yield Row(
                name,
                f"{int(found['accepted']):,}",
                f"{int(found['published']):,}",
                f"{int(found['missing']):,}{outside}",
                found["doubled"],
                found["pause_s"],
            )


@click.command()
@click.option("--net/--no-net", default=True, help="Also between network namespaces (needs root).")
def main(net: bool) -> None:
    """Run every fault test and print its table. Exit status 1 where one failed or counted
    nothing."""
    where = (*WHERE, NETWORK) if net else WHERE
    command = [sys.executable, "-m", "pytest", "-v", "-s", "--no-header", *where]
    said: list[str] = []
    silent: set[str] = set()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as tests:
        assert tests.stdout is not None

        def lines() -> Iterable[str]:
            for line in tests.stdout or ():
                said.append(line)
                yield line

        click.echo("| test | accepted | published | missing | doubled | longest pause, s |")
        click.echo("|---|---|---|---|---|---|")
        for row in rows(lines(), silent):
            click.echo(f"| {' | '.join(row)} |")
    silent = {test for test in silent if not COUNT_NOTHING.search(f"test_{test}")}
    if tests.returncode:
        click.echo("".join(said))
    for test in sorted(silent):
        click.echo(f"counted nothing: test_{test}")
    click.echo(said[-1].strip())
    sys.exit(1 if tests.returncode or silent else 0)


if __name__ == "__main__":
    main()
