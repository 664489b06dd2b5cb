"""Whole topologies on bad days, most of them twice: a seed must be the same run both times.
Replay one: scripts/simulate --seed 7"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.faults import AIMED, CLOCK, KINDS, LIVES, RELOAD
from tests.simulation.runs import THREE_SINKS, chosen
from tests.simulation.topology import DEFAULT, Shape, shapes

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


@pytest.mark.parametrize(("first", "seeds"), [(0, "36"), (100, "24")])  # fewer miss some fault
def test_every_line_is_published_once_whatever_happens(first: int, seeds: str) -> None:
    ended = simulate("--twice", "--first", str(first), "--seeds", seeds, "--jobs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{seeds} seeds" in ended.stdout
    never = [kind for kind in {*KINDS, *AIMED, CLOCK} if f"  {kind:24}" not in ended.stdout]
    assert not never, "faults of these kinds were never injected"


def test_nothing_is_lost_silently_where_disks_go_back_or_exist_twice() -> None:
    ended = simulate("--twice", "--lives", "--first", "0", "--seeds", "16", "--jobs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    never = [kind for kind in (*LIVES, "renewed") if f"  {kind:24}" not in ended.stdout]
    assert not never, "these never came to pass"


def test_every_line_is_published_once_while_settings_change_all_the_time() -> None:
    ended = simulate("--twice", "--reloads", "--first", "0", "--seeds", "12", "--jobs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"  {RELOAD:24}" in ended.stdout


@pytest.mark.parametrize("name", sorted({*shapes()} - {DEFAULT, THREE_SINKS}))
def test_every_output_of_other_topologies_gets_every_line_once(name: str) -> None:
    ended = simulate("--seeds", "8", "--first", "1000", "--jobs", "2", "--topology", name)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_topology_of_ones_own_is_played_with_its_guarantee(tmp_path: Path) -> None:
    text = (ROOT / "topologies" / "fan-out.toml").read_text()
    own = tmp_path / "own.toml"
    own.write_text(text + '\n[delivery]\nguarantee = "end"\n')
    shape = Shape.of(str(own))
    assert shape.guarantee == "end"
    assert shape.stores("edge") == ("analysis/hdfs", "archive/directory")
    ended = simulate("--seed", "2", "--topology", str(own))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "archive-1 starts" in ended.stdout


def test_a_topology_that_is_none_is_refused() -> None:
    ended = simulate("--seed", "0", "--topology", "no-such")
    assert ended.returncode == 2
    assert "no topology file no-such" in ended.stderr


def test_what_a_failure_is_shrunk_to_is_played_again_by_its_command() -> None:
    failed = simulate("--seed", "3", "--bug", "no look")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    (command,) = (line for line in failed.stdout.splitlines() if line.startswith("replay: "))
    words = shlex.split(command)
    assert words[1] == "scripts/simulate"
    again = simulate(*words[2:])
    assert again.returncode == 1, again.stdout + again.stderr
    shown = again.stdout.splitlines()[1:]
    assert "the last" in again.stdout
    assert "\n".join(shown) in failed.stdout


def test_chosen_faults_are_numbers_with_or_without_seconds() -> None:
    assert chosen("3,7:0.5") == ((3, 0.0), (7, 0.5))
    assert chosen("") == ()
