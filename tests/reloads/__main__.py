"""`scripts/reloads`: every setting of a topology at work changes, again and again."""

import random
import tempfile
import time
from pathlib import Path

import click

from tests.faults.cluster import Writer
from tests.reloads.scene import Scene, counted, play


@click.command()
@click.option("--times", default=20, show_default=True, help="Reloads of each kind.")
@click.option("--seed", type=int, help="Of their order.  [default: random]")
def main(times: int, seed: int | None) -> None:
    """Reload everything that can be reloaded, under load, and count every line.

    Exit status 0 when nothing is missing and nothing doubled.
    """
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"--seed {seed}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tiers-reloads-") as directory:
        scene = Scene(Path(directory), edges=2, sinks=2)
        try:
            scene.start()
            scene.wait_running()
            with Writer(scene, 12, 0.01):
                play(
                    scene,
                    times,
                    random.Random(seed),
                    lambda text: click.echo(f"{time.monotonic() - begun:7.1f} s  {text}"),
                )
            counted(scene)
        finally:
            scene.close()


if __name__ == "__main__":
    main()
