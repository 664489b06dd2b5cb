"""`scripts/bench`."""

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmark.against import Comparison
from benchmark.headers import measure_headers
from benchmark.local import (
    CODECS,
    Result,
    Run,
    make_input,
    measure_latency,
    measure_limit,
    measure_run,
)
from benchmark.senders import measure_senders
from tiers.errors import TiersError


@click.group(epilog="Example: scripts/bench local --runs 3")
def main() -> None:
    """Measure tiers on this machine."""


@main.command(epilog="Example: scripts/bench local --lines 3000000 --runs 3 --json")
@click.option("--lines", default=3_000_000, show_default=True, type=click.IntRange(min=1))
@click.option("--runs", default=1, show_default=True, help="Turns; medians of them are shown.")
@click.option("--only", type=click.Choice([*CODECS, "latency"]), help="Measure this alone.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Work here (a real disk)."
)
@click.option("--set", "extra", multiple=True, help="A line to add to the topology, as '[batch]'.")
@click.option("--keep", is_flag=True, help="Keep the files of the runs.")
@click.option("--check", is_flag=True, help="Exit status 1 when a figure falls short.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def local(
    lines: int,
    runs: int,
    only: str | None,
    directory: Path | None,
    extra: tuple[str, ...],
    keep: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Send a file of access-log lines through edge, aggregator and sink on this machine.

    Prints events/s, raw MB/s, CPU seconds per million events over all three agents, the peak
    memory of each (RssAnon and RssShmem), the ratio to the limit (zstd -1 of the same file in one
    thread and an fsynced write of the result, turn by turn with the runs), and the latency of one
    event through all three.
    """
    root = _fresh(directory)

    def say(line: str) -> None:
        if not as_json:
            click.echo(line)

    try:
        result = measure(root, lines, runs, only, "\n".join(extra), keep=keep, say=say)
    except TiersError as error:
        keep = True
        raise click.ClickException(str(error)) from error
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    click.echo(json.dumps(result.to_json())) if as_json else show(result)
    if keep:
        say(f"files: {root}")
    sys.exit(1 if check and any(result.missed()) else 0)


@main.command(epilog="Example: scripts/bench against HEAD~5 --runs 5")
@click.argument("revision")
@click.option("--lines", default=3_000_000, show_default=True, type=click.IntRange(min=1))
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="Pairs.")
@click.option("--only", type=click.Choice([*CODECS, "latency", "idle"]), help="This alone.")
@click.option("--idle-s", default=10.0, show_default=True, help="Seconds of idleness, each time.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Work here (a real disk)."
)
@click.option("--set", "extra", multiple=True, help="A line to add to the topology, as '[batch]'.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def against(
    revision: str,
    lines: int,
    runs: int,
    only: str | None,
    idle_s: float,
    directory: Path | None,
    extra: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure another revision of git and this tree, turn by turn, and print the ratios.

    Each turn of each: a file of access-log lines through edge, aggregator and sink as in `local`,
    in both kinds; the latency of one event; and the CPU that idle agents take. A ratio is this
    tree's figure to the other's: the geometric mean over the pairs, with the interval in which it
    lies in 95 of 100 cases.
    """

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    with _place(directory) as root:
        comparison = Comparison(
            root,
            revision,
            lines=lines,
            only=only,
            idle_s=idle_s,
            extra="\n".join(extra),
            say=say,
        )
        comparison.run(runs)
    if as_json:
        click.echo(json.dumps(comparison.to_json()))
        return
    for line in ("", *comparison.table()):
        click.echo(line)


@main.command(epilog="Example: scripts/bench senders --senders 200 --rate 1000")
@click.option("--senders", default=1000, show_default=True, type=click.IntRange(min=1))
@click.option("--rate", default=1000, show_default=True, help="Batches a second, of all.")
@click.option("--at-once", default=1, show_default=True, help="Batches of a sender in its turn.")
@click.option("--seconds", default=10.0, show_default=True, help="How long they come.")
@click.option("--within", default=30.0, show_default=True, help="Seconds for all to be in session.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Work here (a real disk)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def senders(
    senders: int,
    rate: int,
    at_once: int,
    seconds: float,
    within: float,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Let many senders with small batches connect to one aggregator over ZeroMQ.

    Prints how long it takes until all have a session, at first and after the aggregator was killed
    and started again; the batches/s that it acks of those that come; its CPU, memory and longest
    turn. Exit status 1 where a sender has no session in time, or a batch no ack.
    """
    with _place(directory) as root:
        figures = measure_senders(root, senders, rate, at_once, seconds, within)
    for line in [json.dumps(figures.to_json())] if as_json else figures.lines():
        click.echo(line)


@main.command(epilog="Example: scripts/bench headers --hosts 500 --rate 50000")
@click.option("--hosts", default=500, show_default=True, type=click.IntRange(1, 2000))
@click.option("--rate", default=50_000, show_default=True, help="Lines a second, of all.")
@click.option("--seconds", default=10.0, show_default=True, help="How long they come, each time.")
@click.option("--runs", default=3, show_default=True, help="Turns; medians of them are shown.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Work here (a real disk)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def headers(
    hosts: int, rate: int, seconds: float, runs: int, directory: Path | None, as_json: bool
) -> None:
    """Send the syslog messages of many hosts through edge, aggregator and sink, turn by turn with
    and without a header for each host.

    Prints CPU seconds per million events over all three agents, events per batch, and the ratio.
    Exit status 1 where a line is lost.
    """
    with _place(directory) as root:
        figures = measure_headers(root, hosts, rate, seconds, runs)
    for line in [json.dumps(figures.to_json())] if as_json else figures.lines():
        click.echo(line)


def _fresh(directory: Path | None) -> Path:
    """A new directory there, or where temporary ones are."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="tiers-bench-", dir=directory)).resolve()


@contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    """Such a directory. It is gone in the end; where that is a TiersError, it stays and is told."""
    root = _fresh(directory)
    try:
        yield root
    except TiersError as error:
        raise click.ClickException(f"{error} (files: {root})") from error
    shutil.rmtree(root)


def measure(
    root: Path,
    lines: int,
    runs: int,
    only: str | None,
    topology: str,
    *,
    keep: bool,
    say: Callable[[str], None],
) -> Result:
    """All turns. Raises TiersError when a line is lost."""

    def limit() -> float:
        speed = lines / measure_limit(file, root / "limit.zst")
        say(f"limit       {speed:>11,.0f} lines/s")
        return speed

    file, began = root / "input.log", time.monotonic()
    make_input(file, lines, seed=1)
    result = Result(lines, file.stat().st_size)
    mean = result.size_bytes / lines
    say(f"{lines:,} lines of {mean:.0f} bytes made in {time.monotonic() - began:.0f} s")
    for turn in range(runs):
        for kind in [kind for kind in CODECS if only in (None, kind)]:
            result.limits.append(limit())
            place = root / f"{kind}-{turn}"
            result.runs.append(measure_run(kind, file, lines, place, topology))
            say(show_run(result.runs[-1]))
            if not keep:
                shutil.rmtree(place)
    if result.runs:
        result.limits.append(limit())
    if only in (None, "latency"):
        result.latencies_s = measure_latency(root / "latency", topology)
    return result


def show_run(run: Run) -> str:
    """One pass in two lines."""
    memory = ", ".join(f"{name} {peak / 1e6:.0f} MB" for name, peak in run.memory_bytes.items())
    cpu = ", ".join(f"{name} {seconds:.2f}" for name, seconds in run.cpu_s.items())
    return (
        f"{run.kind:<11} {run.events_per_second:>11,.0f} events/s, "
        f"{run.raw_mb_per_second:.0f} MB/s raw, {run.seconds:.2f} s; "
        f"{run.cpu_s_per_million:.2f} CPU s per million\n"
        f"            CPU s: {cpu}; memory: {memory}"
    )


def show(result: Result) -> None:
    """The medians, and what falls short."""
    click.echo()
    for kind in result.kinds:
        speed = result.median(kind, lambda run: run.events_per_second)
        mb = result.median(kind, lambda run: run.raw_mb_per_second)
        cpu = result.median(kind, lambda run: run.cpu_s_per_million)
        click.echo(
            f"{kind:<7} {speed:>11,.0f} events/s  {mb:>6.0f} MB/s raw  {cpu:.2f} CPU s/million  "
            f"{result.ratio(kind):.2f} of the limit"
        )
    if result.limits:
        click.echo(f"limit   {result.limit:>11,.0f} lines/s (zstd -1, one thread, fsync)")
    if result.latencies_s:
        latencies = sorted(result.latencies_s)
        click.echo(
            f"latency {statistics.median(latencies) * 1e3:.1f} ms at the median of "
            f"{len(latencies)}, {latencies[0] * 1e3:.1f} to {latencies[-1] * 1e3:.1f}"
        )
    for line in sorted(set(result.missed())):
        click.echo(f"falls short: {line}")


if __name__ == "__main__":
    main(prog_name="scripts/bench")
