"""Arithmetic of runs, against plain sets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.runs import Runs, common, minus, runs_of, show, total, union

numbers = st.sets(st.integers(0, 40))


def numbers_of(runs: Runs) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}


@given(numbers)
def test_runs_are_the_numbers_and_have_one_form(some: set[int]) -> None:
    runs = runs_of(some)
    assert numbers_of(runs) == some
    assert total(runs) == len(some)
    assert all(one[1] + 1 < two[0] for one, two in pairwise(runs))


@given(numbers, numbers, numbers)
def test_the_arithmetic_is_that_of_sets(a: set[int], b: set[int], c: set[int]) -> None:
    assert union(runs_of(a), runs_of(b), runs_of(c)) == runs_of(a | b | c)
    assert minus(runs_of(a), runs_of(b), runs_of(c)) == runs_of(a - b - c)
    assert common(runs_of(a), runs_of(b)) == runs_of(a & b)


def test_runs_that_overlap_are_joined() -> None:
    assert union([[5, 9], [1, 3]], [[2, 4]]) == [[1, 9]]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, ""),
        (1, "0-1"),
        (2, "0-1, 4-5"),
        (3, "0-1, 4-5, 8"),
        (4, "0-1, 4-5, 8, and 1 runs more"),
        (10, "0-1, 4-5, 8, and 7 runs more"),
    ],
)
def test_show(count: int, shown: str) -> None:
    runs = [[4 * n, 4 * n + (n < 2)] for n in range(count)]
    assert show(runs, most=3) == shown
