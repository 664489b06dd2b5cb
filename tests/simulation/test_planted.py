"""The simulator can see: each planted bug is caught within so many seeds from a known one.
All from seed 0 on: scripts/simulate --planted"""

from tests.simulation.planted import BUGS, RARE
from tests.simulation.test_world import simulate

SEEDS_MAX = 32


def test_every_planted_bug_is_caught() -> None:
    ended = simulate("--planted", "--known", "--seeds", str(SEEDS_MAX), "--jobs", "2")
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert all(bug.name in ended.stdout for bug in BUGS if bug.name not in RARE)
