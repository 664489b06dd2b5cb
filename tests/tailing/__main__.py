"""`scripts/tailing`: lives of log files, each from a seed. See --help."""

import argparse
import ast
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.tailing.copies import random_copies, violation_of_copies
from tests.tailing.deeds import Deed
from tests.tailing.planted import BUGS, planted
from tests.tailing.play import Setting, random_play
from tests.tailing.shrinking import shrink, violation

SEEDS_PER_SHARE = 200


class Kind(NamedTuple):
    draw: Callable[[int], tuple[Setting, list[Deed]]]
    violation: Callable[[Setting, list[Deed]], str]


LIVES = Kind(random_play, violation)
COPIES = Kind(random_copies, violation_of_copies)


def play_seeds(seeds: range, bug: str = "", kind: Kind = LIVES) -> list[tuple[int, str]]:
    """The seeds that go wrong, each with what."""
    logging.getLogger("tiers.tail").setLevel(logging.ERROR)
    with planted(bug):
        found = ((seed, kind.violation(*kind.draw(seed))) for seed in seeds)
        return [(seed, wrong) for seed, wrong in found if wrong]


def play(first: int, seeds: int, jobs: int, bug: str, kind: Kind) -> list[tuple[int, str]]:
    """Ends with the share of the first that goes wrong."""
    shares = [
        range(begin, min(begin + SEEDS_PER_SHARE, first + seeds))
        for begin in range(first, first + seeds, SEEDS_PER_SHARE)
    ]
    with multiprocessing.Pool(jobs) as pool:
        for wrong in pool.starmap(play_seeds, [(share, bug, kind) for share in shares]):
            if wrong:
                return wrong
    return []


def report(setting: Setting, deeds: list[Deed], bug: str, kind: Kind) -> None:
    with planted(bug):
        print(f"  whole: {kind.violation(setting, deeds)}")
        deeds = shrink(setting, deeds, kind.violation)
        print(f"  {setting}")
        for deed in deeds:
            print(f"    {deed}")
        print(f"  shrunk: {kind.violation(setting, deeds)}")
        copies = "--copies " if kind is COPIES else ""
        print(f"  replay: scripts/tailing {copies}--deeds {str((setting.as_tuple(), deeds))!r}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/tailing", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--deeds", help="what a replay line says")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bug", default="", help=f"planted: {', '.join(map(str, BUGS))}")
    parser.add_argument(
        "--copies", action="store_true", help="a log that is copied and truncated, nothing else"
    )
    arguments = parser.parse_args()
    kind = COPIES if arguments.copies else LIVES
    logging.getLogger("tiers.tail").setLevel(logging.ERROR)
    if arguments.deeds:
        setting, deeds = ast.literal_eval(arguments.deeds)
        report(Setting(*setting), deeds, arguments.bug, kind)
        return 0
    first, seeds = arguments.first, arguments.seeds
    if arguments.seed is not None:
        first, seeds = arguments.seed, 1
    began = time.perf_counter()
    wrong = play(first, seeds, arguments.jobs, arguments.bug, kind)
    for seed, what in wrong[:3]:
        print(f"seed {seed}: {what}")
        report(*kind.draw(seed), arguments.bug, kind)
    print(f"{seeds} seeds from {first}, {time.perf_counter() - began:.1f} s, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
