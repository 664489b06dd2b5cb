"""Random lives of log files over the shipped tail source. More of them: `scripts/tailing`."""

import logging

import pytest

from tests.tailing.__main__ import play_seeds
from tests.tailing.planted import BUGS
from tests.tailing.play import random_play
from tests.tailing.shrinking import shrink, violation

SEEDS_PER_TEST = 1500
TESTS = 10

# A seed that shows the bug: `scripts/tailing --bug NAME` finds others where sequences have changed.
KNOWN: dict[str, int] = {
    "positions skip what failed": 150,
    "what failed is never tried again": 577,
    "done while its writer still writes": 2102,
    "opened by its path": 68,
    "known by its inode alone": 9,
    "deleted and closed for the limit": 4599,
    "long enough is a copy": 9,
    "same size is unchanged": 41,
    "what was read is not proven": 967,
    "no history": 0,
    "any agreement is strong": 157,
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("tiers.tail").setLevel(logging.ERROR)


@pytest.mark.parametrize("part", range(TESTS))
def test_each_line_is_taken_once_whatever_is_done_to_the_files(part: int) -> None:
    first = part * SEEDS_PER_TEST
    wrong = play_seeds(range(first, first + SEEDS_PER_TEST))
    assert not wrong, f"scripts/tailing --seed {wrong[0][0]} shrinks and replays: {wrong}"


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen(bug: str) -> None:
    assert bug in KNOWN, f"scripts/tailing --bug {bug!r}"
    assert play_seeds(range(KNOWN[bug], KNOWN[bug] + 1), bug)


def test_a_failing_sequence_is_shrunk() -> None:
    def fails(_: object, deeds: list[object]) -> str:
        return "wrong" if ("truncate",) in deeds else ""

    setting, deeds = random_play(1)
    assert shrink(setting, [*deeds, ("truncate",)], fails) == [("truncate",)]  # type: ignore[arg-type]
    assert violation(setting, [("no such deed",)]).startswith("raised")
