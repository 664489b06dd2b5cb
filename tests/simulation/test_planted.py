"""The simulator can see: bugs on purpose, each caught within a few seeds. All of them:
scripts/simulate --planted"""

import pytest

from tests.simulation.test_world import simulate

SEEDS = {
    "ack before commit": 8,
    "no dedupe on disk": 8,
    "delete before ack": 8,
    "no look": 8,
    "released before published": 8,
}


@pytest.mark.parametrize("bug", SEEDS)
def test_a_planted_bug_is_caught(bug: str) -> None:
    ended = simulate("--planted", "--bug", bug, "--seeds", str(SEEDS[bug]), "--jobs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert bug in ended.stdout
