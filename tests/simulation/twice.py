"""Each seed twice, in two processes that have nothing in common: the hashes of strings are others,
addresses are others, and the second plays the seeds in the reverse order."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.pool import Pool
from typing import Final

from tests.simulation.journal import difference
from tests.simulation.runs import Run
from tests.simulation.world import Outcome

HASHES: Final = ("0", "1")  # PYTHONHASHSEED of the first run, and of the second
SHARE: Final = 50  # seeds that a process plays


def outcomes(seeds: Sequence[int], jobs: int, run: Run) -> Iterator[Outcome]:
    """Of the first run with each of these seeds; `unlike` says how the second differed."""
    for begin in range(0, len(seeds), SHARE):
        runs = [replace(run, seed=seed, noted=True) for seed in seeds[begin : begin + SHARE]]
        several = max(1, jobs // len(HASHES))
        with _pool(HASHES[0], several) as once, _pool(HASHES[1], several) as again:
            second = again.imap(_play, reversed(runs))
            first = list(once.imap(_play, runs))
            for one, other in zip(first, reversed(list(second)), strict=True):
                assert one.told is not None and other.told is not None
                yield replace(one, unlike=difference(one.told, other.told), told=None)


def _play(run: Run) -> Outcome:
    outcome = run.play()
    return replace(outcome, trace=outcome.trace if outcome.violation else [])


@contextmanager
def _pool(hashes: str, jobs: int) -> Iterator[Pool]:
    before = os.environ.get("PYTHONHASHSEED", "0")
    os.environ["PYTHONHASHSEED"] = hashes
    try:
        # Not forked: a process takes its hashes from the environment it is begun with.
        pool = multiprocessing.get_context("spawn").Pool(jobs)
    finally:
        os.environ["PYTHONHASHSEED"] = before
    with pool:
        yield pool
