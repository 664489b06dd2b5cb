"""A log that is copied and truncated while it is looked at, and nothing else: not a line may come
twice, and none be in doubt."""

import random
from typing import Any, Final

from tests.tailing.deeds import Deed
from tests.tailing.play import GLOBS, Setting
from tests.tailing.shrinking import played

_SIZES: Final = (0, 0, 300, 700)


def violation_of_copies(setting: Setting, deeds: list[Deed]) -> str:
    outcome = played(setting, deeds)
    doubt = outcome.counts["bytes_perhaps_doubled"]
    return outcome.violation or (f"in doubt: {doubt} bytes" if doubt else "")


def random_copies(seed: int) -> tuple[Setting, list[Deed]]:
    r = random.Random(seed)
    setting = Setting(
        births=r.random() < 0.7,
        globs=r.randrange(len(GLOBS)),
        block_size_max=r.choice([1 << 20, 1 << 20, 40, 800]),
        open_files_max=r.choice([100, 100, 1]),
    )
    deeds: list[Deed] = [("lines", r.randint(1, 4), r.choice(_SIZES)), ("look",)]
    for _ in range(r.randint(4, 12)):
        deeds.append(r.choice([_look(r), ("read",), _write(r), _copy(r), _copy(r)]))
    return setting, [*deeds, ("copytruncate",)]


def _look(r: random.Random) -> Deed:
    within: tuple[Any, ...] = ()
    if r.random() < 0.35:
        within = tuple((r.randint(1, 40), r.choice([_write, _copy])(r)) for _ in range(2))
    steps = r.choice([1000, 1000, 1000, 1, 2, 3])
    return ("look", steps, r.choice([0.2, 2.0, 2.0]), within)


def _write(r: random.Random) -> Deed:
    size = r.choice(_SIZES)
    return r.choice([("lines", r.randint(1, 4), size), ("half", size)])


def _copy(r: random.Random) -> Deed:
    return ("copytruncate",) if r.random() < 0.2 else ("copytruncate_slowly", r.random())
