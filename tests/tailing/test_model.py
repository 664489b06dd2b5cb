"""Random lives of log files over the shipped tail source. More of them: `scripts/tailing`."""

import logging

import pytest

from tests.tailing.__main__ import COPIES, play_seeds
from tests.tailing.planted import BUGS, BUGS_OF_COPIES
from tests.tailing.play import random_play
from tests.tailing.shrinking import shrink, violation

SEEDS_PER_TEST = 1500
TESTS = 10
COPIES_PER_TEST = 1500
TESTS_OF_COPIES = 2

# A seed that shows the bug: `scripts/tailing --bug NAME` finds others where sequences have changed.
KNOWN: dict[str, int] = {
    "positions skip what failed": 25,
    "what failed is never tried again": 1492,
    "done while its writer still writes": 929,
    "opened by its path": 50,
    "known by its inode alone": 62,
    "deleted and closed for the limit": 220,
    "long enough is a copy": 62,
    "same size is unchanged": 377,
    "what was read is not proven": 1233,
    "no history": 7,
    "any agreement is strong": 391,
}

KNOWN_OF_COPIES: dict[str, int] = {
    "a copy in the making is whole": 3,
    "a copy ends where its log was read to": 25,
    "a copy is made before its log is truncated": 29,
    "a log is not truncated within a look": 4714,
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("tiers.tail").setLevel(logging.ERROR)


@pytest.mark.parametrize("part", range(TESTS))
def test_each_line_is_taken_once_whatever_is_done_to_the_files(part: int) -> None:
    first = part * SEEDS_PER_TEST
    wrong = play_seeds(range(first, first + SEEDS_PER_TEST))
    assert not wrong, f"scripts/tailing --seed {wrong[0][0]} shrinks and replays: {wrong}"


@pytest.mark.parametrize("part", range(TESTS_OF_COPIES))
def test_of_a_log_that_is_copied_and_truncated_no_line_comes_twice(part: int) -> None:
    first = part * COPIES_PER_TEST
    wrong = play_seeds(range(first, first + COPIES_PER_TEST), kind=COPIES)
    assert not wrong, f"scripts/tailing --copies --seed {wrong[0][0]} replays: {wrong}"


@pytest.mark.parametrize("bug", BUGS_OF_COPIES)
def test_a_planted_bug_of_copies_is_seen(bug: str) -> None:
    seed = KNOWN_OF_COPIES[bug]
    assert play_seeds(range(seed, seed + 1), bug, COPIES)


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
