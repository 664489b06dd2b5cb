"""Seeds of random tests: printed, given by TIERS_SEED, and in CI the same in every run, so that
what fails there is the change's doing. Elsewhere each run draws another."""

import os
import random

_IN_CI = 7


def a_seed() -> int:
    drawn = _IN_CI if os.environ.get("CI") else random.randrange(2**32)
    seed = int(os.environ.get("TIERS_SEED", drawn))
    print(f"replay with TIERS_SEED={seed}")
    return seed


def some_dice() -> random.Random:
    return random.Random(a_seed())
