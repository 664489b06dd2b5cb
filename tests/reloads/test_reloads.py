"""Reloads of every kind under load: nothing missing, nothing doubled. More: scripts/reloads."""

import random
from pathlib import Path

from tests.faults.cluster import Writer
from tests.reloads.scene import KINDS, Scene, counted, play
from tests.seeds import a_seed


def test_reloads_of_every_kind_lose_and_double_nothing(tmp_path: Path) -> None:
    dice = random.Random(a_seed())
    scene = Scene(tmp_path, edges=1, sinks=1)
    try:
        scene.start()
        scene.wait_running()
        with Writer(scene, 12, 0.01):
            play(scene, 1, dice, print)
        counted(scene)
        assert set(scene.reloads) == set(KINDS)
    finally:
        scene.close()
