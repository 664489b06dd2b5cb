"""`scripts/simulate`: bad days of a whole topology, each from a seed. See --help."""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tests.simulation import twice
from tests.simulation.planted import BUGS, KNOWN, RARE
from tests.simulation.runs import Run, chosen, shrink
from tests.simulation.topology import Shape, shapes
from tests.simulation.world import LINES, Outcome
from tiers.errors import TiersError

SEEDS_PER_PROCESS = 50
SEEDS_PER_POOL = 200
TRACE_SHOWN = 60
PLANTED_SEEDS_MAX = 300


def _play(run: Run) -> Outcome:
    outcome = run.play()
    if not outcome.violation:
        outcome.trace = []
    return outcome


def report(run: Run, outcome: Outcome) -> None:
    print(f"seed {outcome.seed}: {outcome.violation}", flush=True)
    best, found = shrink(run, outcome)
    few = f"{len(found.faults)} of its {len(outcome.faults)} faults and {best.lines} lines a reader"
    print(f"with {few}: {found.violation}")
    show(found)
    print(f"replay: {best.command()}")
    print(f"whole: {run.command()}", flush=True)


def show(outcome: Outcome) -> None:
    for fault in outcome.faults:
        print(f"  {fault}")
    print(f"the last {TRACE_SHOWN} lines of that run:")
    for line in outcome.trace[-TRACE_SHOWN:]:
        print(f"  {line}")


def outcomes(seeds: Iterator[int], jobs: int, run: Run) -> Iterator[Outcome]:
    """Of that run with each of these seeds."""
    if run.noted:
        yield from twice.outcomes(list(seeds), jobs, run)
        return
    runs = (replace(run, seed=seed) for seed in seeds)
    with multiprocessing.Pool(jobs, maxtasksperchild=SEEDS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(_play, runs)


def count_up(first: int, seeds: int) -> Iterator[int]:
    yield from range(first, first + seeds)


def simulate(run: Run, seeds: int | None, jobs: int) -> int:
    """Plays seeds from that of `run` on until all are played, one fails, or it is interrupted. Exit
    status."""
    begun, played, virtual_s = time.perf_counter(), 0, 0.0
    injected: Counter[str] = Counter()
    failed: Outcome | None = None
    try:
        # Without an end in batches, since a pool takes all of its jobs at once.
        while failed is None and (seeds is None or played < seeds):
            share = SEEDS_PER_POOL if seeds is None else min(SEEDS_PER_POOL, seeds - played)
            for outcome in outcomes(count_up(run.seed + played, share), jobs, run):
                injected += outcome.injected
                virtual_s += outcome.virtual_s
                if (outcome.violation or outcome.unlike) and failed is None:
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
    if failed is None:
        return 0
    one = replace(run, seed=failed.seed)
    if failed.unlike:
        print(f"seed {failed.seed} is not the same run twice: {failed.unlike}")
        print(f"again: {one.command()}")
    if failed.violation:
        report(replace(one, noted=False), failed)
    return 1


def planted(run: Run, jobs: int, most: int, names: list[str], *, known: bool) -> int:
    """The table of bugs. Exit status 1 where one is not caught. `known` begins each at a seed that
    has shown it before, else all begin at 0."""
    print(f"{'planted bug':36}{'from seed':>10}{'seeds':>6}  caught by")
    missed = 0
    for bug in BUGS:
        if (names and bug.name not in names) or (known and not names and bug.name in RARE):
            continue
        found: Outcome | None = None
        first = KNOWN.get(bug.name, 0) if known else 0
        share = jobs if known else 4 * jobs
        for begin in range(first, first + most, share):
            bugged = replace(
                run,
                bug=bug.name,
                lives=bug.lives,
                reloads=bug.reloads,
                topology=run.topology or bug.topology,
            )
            several = outcomes(count_up(begin, share), jobs, bugged)
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


def replay(run: Run, *, shrunk: bool) -> int:
    """One run, with its trace. Exit status."""
    outcome = run.play()
    if not outcome.violation:
        print("\n".join(outcome.trace))
        return 0
    if shrunk:
        print(f"seed {outcome.seed}: {outcome.violation}")
        show(outcome)
    else:
        report(run, outcome)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many (default: until told to stop)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and show its trace")
    parser.add_argument(
        "--topology",
        default="",
        metavar="NAME|FILE",
        help=f"{', '.join(shapes())}, or a file of your own (default: by seed)",
    )
    parser.add_argument(
        "--faults", metavar="N,N:SECONDS", help="with --seed: only these, perhaps for so long"
    )
    parser.add_argument("--lines", type=int, default=LINES, help="with --seed: of each reader")
    parser.add_argument("--until", type=float, default=0.0, help="with --seed: end of all faults")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--planted", action="store_true", help="the table of planted bugs")
    parser.add_argument(
        "--known", action="store_true", help="... from seeds that showed them, but for rare ones"
    )
    parser.add_argument("--bug", default="", help="this planted bug")
    parser.add_argument(
        "--lives", action="store_true", help="disks go back in time, or exist twice"
    )
    parser.add_argument(
        "--reloads", action="store_true", help="the topology file changes all the time"
    )
    parser.add_argument(
        "--twice", action="store_true", help="each seed in two processes: it must be the same run"
    )
    options = parser.parse_args()
    if options.topology:
        try:
            Shape.of(options.topology)
        except TiersError as error:
            parser.error(str(error))
    if options.planted:
        names = [options.bug] if options.bug else []
        most = options.seeds or PLANTED_SEEDS_MAX
        run = Run(0, options.topology)
        return planted(run, options.jobs, most, names, known=options.known)
    if options.seed is None or options.twice:
        first = options.first if options.seed is None else options.seed
        run = Run(
            first,
            options.topology,
            lives=options.lives,
            reloads=options.reloads,
            noted=options.twice,
        )
        seeds = options.seeds if options.seed is None else 1
        return simulate(replace(run, bug=options.bug), seeds, options.jobs)
    some = None if options.faults is None else chosen(options.faults)
    words = (options.topology, options.bug, some, options.lines, options.until, options.lives)
    run = Run(options.seed, *words, reloads=options.reloads)
    return replay(run, shrunk=some is not None)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # without collecting dead agents, whose `finally` would run
