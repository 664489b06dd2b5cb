"""`scripts/damage`, a sample of it."""

import os
import random
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PLACES = 100  # of each kind of node


def test_damage_at_many_places_is_never_believed_and_costs_one_batch_at_most() -> None:
    seed = os.environ.get("TIERS_SEED", str(random.randrange(2**32)))
    command = [str(ROOT / "scripts" / "damage"), "--places", str(PLACES), "--seed", seed]
    # A process of its own: LMDB could take the tests along.
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stderr[-3000:]
    kinds = [line.partition(":")[0] for line in ended.stdout.splitlines()[1:]]
    assert kinds == ["edge", "aggregator", "sink"]
    counts = [int(count) for count in re.findall(r": (\d+)", ended.stdout)]
    assert sum(counts) == 3 * PLACES
    assert ended.stdout.count("set aside, all salvaged") == 3
