"""`scripts/hostile`: attacks beside a flow, and the table of what each cost."""

import shutil
import sys
import tempfile
from pathlib import Path

import click

from tests.hostile.attacks import ATTACKS
from tests.hostile.scene import AGENTS, Measured, Scene

FLOW_MIN = 0.8
MEMORY_MB_MAX = 300


@click.command()
@click.option("--only", multiple=True, help="An attack by its name; may be repeated.")
@click.option("--seconds", default=12.0, help="How long each is measured, at least.")
def command(only: tuple[str, ...], seconds: float) -> None:
    """Plays each attack on agents of its own, on loopback, beside a flow of 5,000 lines a second.

    Exit status 1 where a flow fell below 80 %, an agent died or took 300 MB, or a line is missing
    or doubled.
    """
    if unknown := set(only) - set(ATTACKS):
        raise click.UsageError(f"no attack {', '.join(unknown)}; there are {', '.join(ATTACKS)}")
    click.echo("| attack | flow | memory, MB (edge, aggregator, sink) | descriptors | lines |")
    click.echo("|---|---|---|---|---|")
    good = [play(name, seconds) for name in only or ATTACKS]
    sys.exit(0 if all(good) else 1)


def play(name: str, seconds: float) -> bool:
    directory = Path(tempfile.mkdtemp(prefix="tiers-hostile-"))
    try:
        with Scene(directory) as scene:
            measured = scene.measure(ATTACKS[name], seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    click.echo(row(name, measured))
    calm = measured.flow >= FLOW_MIN and max(measured.memory_mb.values()) < MEMORY_MB_MAX
    return calm and not (measured.missing or measured.doubled or measured.died)


def row(name: str, measured: Measured) -> str:
    memory = ", ".join(str(measured.memory_mb[agent]) for agent in AGENTS)
    descriptors = ", ".join(str(measured.descriptors[agent]) for agent in AGENTS)
    lines = f"{measured.missing} missing, {measured.doubled} doubled"
    died = f"; died: {', '.join(measured.died)}" if measured.died else ""
    return f"| {name} | {measured.flow:.0%} | {memory} | {descriptors} | {lines}{died} |"


if __name__ == "__main__":
    command(prog_name="scripts/hostile")
