"""Draws mutants by a seed and tries each: `scripts/mutate --seed 7 --count 100`."""

import argparse
import difflib
import importlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.trial import ROOT, Trial, judges_of, sources

_PRELOADED = "pytest hypothesis pydantic lmdb zmq msgpack zstandard isal.isal_zlib inotify_simple"


def main() -> int:
    options = _options()
    every = [
        one
        for path in sources()
        if not options.only or any(path.startswith(only) for only in options.only)
        for one in mutants(path, (ROOT / path).read_text())
    ]
    drawn = random.Random(options.seed).sample(every, min(options.count, len(every)))
    chosen = list(enumerate(drawn))
    if options.pick is not None:
        chosen = [chosen[options.pick]]
    chosen = chosen[options.first :]
    print(f"{len(every):,} mutants in all; seed {options.seed}, {len(chosen)} of them", flush=True)
    for name in _PRELOADED.split():
        importlib.import_module(name)
    os.nice(10)
    begun, tried, alive = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="tiers-mutate-") as place:
        trial = Trial(Path(place), options.seconds)
        files = sorted({name for _, one in chosen for name in judges_of(one.path, "brief")})
        for name in trial.fail_anyway(files):
            print(f"fails without any: {name}; left out", flush=True)
        for number, one in chosen:
            if options.minutes and time.monotonic() - begun > 60 * options.minutes:
                break
            tried += 1
            if trial.survives(one):
                alive += 1
                print(_shown(one))
                only = "".join(f" --only {path}" for path in options.only)
                again = f"--seed {options.seed} --count {options.count}{only} --pick {number}"
                print(f"survives: scripts/mutate {again}\n", flush=True)
    print(f"{tried} tried, {tried - alive} seen, {alive} survive", flush=True)
    return 1 if alive else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--count", type=int, default=100, help="how many are drawn")
    parser.add_argument("--only", action="append", default=[], help="files that begin so")
    parser.add_argument("--pick", type=int, help="only that one of those drawn")
    parser.add_argument("--first", type=int, default=0, help="as many of those drawn are left out")
    parser.add_argument("--minutes", type=float, default=0, help="no new one after that time")
    parser.add_argument("--seconds", type=float, default=900, help="of tests for one mutant")
    return parser.parse_args()


def _shown(mutant: Mutant) -> str:
    source = (ROOT / mutant.path).read_text()
    before, after = source.splitlines(), mutant.plant(source).splitlines()
    return "\n".join(difflib.unified_diff(before, after, mutant.path, mutant.path, "", "", 2, ""))


sys.exit(main())
