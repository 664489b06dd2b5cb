"""`scripts/simulate`: bad days of a whole topology, each from a seed. See --help."""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext

from tests.simulation.faults import Fault
from tests.simulation.planted import BUGS, KNOWN
from tests.simulation.world import LINES, Outcome, World

SEEDS_PER_PROCESS = 50
TRACE_SHOWN = 60
SHRINK_RUNS_MAX = 120
PLANTED_SEEDS_MAX = 300


def play(
    seed: int,
    sinks: int = 2,
    bug: str = "",
    faults: list[Fault] | None = None,
    *,
    lines: int = LINES,
) -> Outcome:
    """One seed: the odd ones with `guarantee = "end"`; in every fourth pair days are closed; every
    third with three sinks unless told otherwise."""
    planted = next((one.planted() for one in BUGS if one.name == bug), nullcontext())
    with planted:
        guarantee = "end" if seed % 2 else "hop"
        closing = (seed // 2) % 4 == 3
        sinks = sinks or 2 + (seed % 3 == 0)
        return World(
            seed, faults, lines=lines, sinks=sinks, guarantee=guarantee, closing=closing
        ).run()


def _play(job: tuple[int, int, str]) -> Outcome:
    outcome = play(*job)
    if not outcome.violation:
        outcome.trace = []
    return outcome


def shrink(outcome: Outcome, sinks: int, bug: str) -> tuple[Outcome, int]:
    """A violation with as few faults, and then as few lines, as can be found; how many lines."""
    best, runs = outcome, 0
    size = max(1, len(best.faults) // 2)
    while runs < SHRINK_RUNS_MAX:
        for begin in range(0, len(best.faults), size):
            fewer = best.faults[:begin] + best.faults[begin + size :]
            runs += 1
            tried = play(outcome.seed, sinks, bug, fewer)
            if tried.violation:
                best = tried
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
    lines = LINES
    for fewer_lines in (LINES // 12, LINES // 4, LINES // 2):
        tried = play(outcome.seed, sinks, bug, best.faults, lines=fewer_lines)
        if tried.violation:
            return tried, fewer_lines
    return best, lines


def report(outcome: Outcome, sinks: int, bug: str) -> None:
    best, lines = shrink(outcome, sinks, bug)
    print(f"seed {outcome.seed}: {outcome.violation}")
    few = f"{len(best.faults)} of its {len(outcome.faults)} faults and {lines} lines per edge"
    print(f"with {few}: {best.violation}")
    for fault in best.faults:
        print(f"  {fault}")
    print(f"the last {TRACE_SHOWN} lines of that run:")
    for line in best.trace[-TRACE_SHOWN:]:
        print(f"  {line}")
    extra = f" --sinks {sinks}" if sinks else ""
    extra += f' --bug "{bug}"' if bug else ""
    print(f"replay: scripts/simulate --seed {outcome.seed}{extra}", flush=True)


def outcomes(seeds: Iterator[int], jobs: int, sinks: int, bug: str) -> Iterator[Outcome]:
    with multiprocessing.Pool(jobs, maxtasksperchild=SEEDS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(_play, ((seed, sinks, bug) for seed in seeds))


def count_up(first: int, seeds: int | None) -> Iterator[int]:
    seed = first
    while seeds is None or seed < first + seeds:
        yield seed
        seed += 1


def simulate(first: int, seeds: int | None, jobs: int, sinks: int) -> int:
    """Plays seeds until all are played, one fails, or it is interrupted. Exit status."""
    begun, played, virtual_s = time.perf_counter(), 0, 0.0
    injected: Counter[str] = Counter()
    failed: Outcome | None = None
    try:
        # Without an end in batches, since a pool takes all of its jobs at once.
        while failed is None and (seeds is None or played < seeds):
            share = 200 if seeds is None else min(200, seeds - played)
            for outcome in outcomes(count_up(first + played, share), jobs, sinks, ""):
                injected += outcome.injected
                virtual_s += outcome.virtual_s
                if outcome.violation and failed is None:
                    failed = outcome
            played += share
            took_s = time.perf_counter() - begun
            print(
                f"{played} seeds, {played / took_s:.2f} a second, "
                f"{virtual_s / 3600:.2f} virtual hours",
                flush=True,
            )
    except KeyboardInterrupt:
        pass
    for kind, count in sorted(injected.items()):
        print(f"  {kind:24}{count:8}")
    if failed is not None:
        report(failed, sinks, "")
        return 1
    return 0


def planted(jobs: int, most: int, names: list[str], *, known: bool) -> int:
    """The table of bugs. Exit status 1 where one is not caught. `known` begins each at a seed that
    has shown it before, else all begin at 0."""
    print(f"{'planted bug':36}{'from seed':>10}{'seeds':>6}  caught by")
    missed = 0
    for bug in BUGS:
        if names and bug.name not in names:
            continue
        found: Outcome | None = None
        first = KNOWN.get(bug.name, 0) if known else 0
        share = jobs if known else 4 * jobs
        for begin in range(first, first + most, share):
            several = outcomes(count_up(begin, share), jobs, 0, bug.name)
            caught = [one for one in several if one.violation]
            if caught:
                found = min(caught, key=lambda one: one.seed)
                break
        if found is None:
            missed += 1
            print(f"{bug.name:36}{first:10}{'-':>6}  not caught by {most} seeds", flush=True)
        else:
            needed = found.seed - first + 1
            print(f"{bug.name:36}{first:10}{needed:6}  {found.violation[:90]}", flush=True)
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many (default: until told to stop)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and show its trace")
    parser.add_argument("--sinks", type=int, default=0, help="2 or 3 (default: both, by seed)")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--planted", action="store_true", help="the table of planted bugs")
    parser.add_argument("--known", action="store_true", help="... from seeds that showed them")
    parser.add_argument("--bug", default="", help="with --seed or --planted: this planted bug")
    options = parser.parse_args()
    if options.planted:
        names = [options.bug] if options.bug else []
        most = options.seeds or PLANTED_SEEDS_MAX
        return planted(options.jobs, most, names, known=options.known)
    if options.seed is None:
        return simulate(options.first, options.seeds, options.jobs, options.sinks)
    outcome = play(options.seed, options.sinks, options.bug)
    if outcome.violation:
        report(outcome, options.sinks, options.bug)
        return 1
    print("\n".join(outcome.trace))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # without collecting dead agents, whose `finally` would run
