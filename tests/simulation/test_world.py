"""Whole topologies on bad days. Replay one: scripts/simulate --seed 7"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENOUGH_S = 280


def simulate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """In processes of its own: what is left of dead agents must not be collected in ours."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=ENOUGH_S,
        check=False,
    )


def test_every_line_is_published_once_whatever_happens() -> None:
    ended = simulate("--seeds", "80", "--jobs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "80 seeds" in ended.stdout


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = simulate("--seed", "5"), simulate("--seed", "5")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "fault:" in first.stdout
    assert first.stdout == second.stdout
    assert first.stdout != simulate("--seed", "6").stdout
