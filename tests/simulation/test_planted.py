"""The simulator can see: bugs on purpose, each caught within a few seeds. All of them:
scripts/simulate --planted"""

import pytest

from tests.simulation.test_world import simulate

SEEDS_MAX = 8
AT_ONCE = (
    "ack before commit",
    "no dedupe on disk",
    "delete before ack",
    "no look",
    "released before published",
    "no check",
    "check of flagged ones only",
    "flag lost on restart",
    "mark behind what was sent",
    "peers rotated without a flag",
    "day taken from the local clock",
    "rename's answer believed",
)


@pytest.mark.parametrize("bug", AT_ONCE)
def test_a_planted_bug_is_caught(bug: str) -> None:
    ended = simulate("--planted", "--bug", bug, "--seeds", str(SEEDS_MAX), "--jobs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert bug in ended.stdout
