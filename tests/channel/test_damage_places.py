"""`scripts/damage`, a sample of it."""

import re
import subprocess
from pathlib import Path

from tests.seeds import a_seed

ROOT = Path(__file__).parent.parent.parent
PLACES = 100  # of each kind of node


def test_damage_at_many_places_is_never_believed_and_costs_one_batch_at_most() -> None:
    command = [str(ROOT / "scripts" / "damage"), "--places", str(PLACES), "--seed", str(a_seed())]
    # A process of its own: LMDB could take the tests along.
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stderr[-3000:]
    kinds = [line.partition(":")[0] for line in ended.stdout.splitlines()[1:]]
    assert kinds == ["edge", "aggregator", "sink"]
    counts = [int(count) for count in re.findall(r": (\d+)", ended.stdout)]
    assert sum(counts) == 3 * PLACES
    assert ended.stdout.count("set aside, all salvaged") == 3
