"""One run, as it can be played again by a command; and the shortest that still goes wrong."""

import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final

from tests.simulation.planted import BUGS, UNLIKE
from tests.simulation.topology import DEFAULT, Shape, shapes
from tests.simulation.world import LINES, Chosen, Outcome, World
from tiers.core.hop.messages import Guarantee

THREE_SINKS: Final = "three-sinks"
ROUTES: Final = "routes"
SHRINK_RUNS_MAX: Final = 200
SHORT_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Run:
    """`topology` is a built-in one or a file; empty: by the seed."""

    seed: int
    topology: str = ""
    bug: str = ""
    chosen: Chosen | None = None
    lines: int = LINES
    until_s: float = 0.0
    lives: bool = False
    reloads: bool = False
    noted: bool = False  # what happens is kept, to be compared

    def play(self) -> Outcome:
        """The odd seeds with `guarantee = "end"`, unless the topology is a file; in every fourth
        pair days are closed. `lives`: disks go back, or exist twice; `reloads`: settings change."""
        shape = Shape.of(self.topology or topology_of(self.seed))
        by_seed: Guarantee = "end" if self.seed % 2 else "hop"
        with next(
            (one.planted() for one in (*BUGS, *UNLIKE) if one.name == self.bug), nullcontext()
        ):
            return World(
                self.seed,
                shape,
                self.chosen,
                lines=self.lines,
                guarantee=shape.guarantee or by_seed,
                closing=(self.seed // 2) % 4 == 3 and not self.lives,
                until_s=self.until_s,
                lives=self.lives,
                reloads=self.reloads,
                noted=self.noted,
            ).run()

    def command(self) -> str:
        """What plays it again."""
        words = ["scripts/simulate", "--seed", str(self.seed)]
        if self.topology:
            words += ["--topology", self.topology]
        if self.lives:
            words += ["--lives"]
        if self.reloads:
            words += ["--reloads"]
        if self.noted:
            words += ["--twice"]
        if self.bug:
            words += ["--bug", self.bug]
        if self.chosen is not None:
            words += ["--faults", ",".join(f"{n}:{for_s!r}" for n, for_s in self.chosen)]
        if self.lines != LINES:
            words += ["--lines", str(self.lines)]
        if self.until_s:
            words += ["--until", repr(self.until_s)]
        return shlex.join(words)


def topology_of(seed: int) -> str:
    """Every third with three sinks, every fifth of another shape; some with routes."""
    if seed % 13 == 12:
        return ROUTES
    others = [name for name in shapes() if name not in (DEFAULT, THREE_SINKS, ROUTES)]
    if seed % 5 == 4:
        return others[seed // 5 % len(others)]
    return DEFAULT if seed % 3 else THREE_SINKS


def chosen(text: str) -> Chosen:
    """From `3,7:0.5`: numbers of faults, and how long they last where not as drawn."""
    pairs = [one.partition(":") for one in text.split(",") if one]
    return tuple((int(number), float(for_s or 0.0)) for number, _, for_s in pairs)


def shrink(run: Run, outcome: Outcome) -> tuple[Run, Outcome]:
    """A violation with as few faults, as short ones, as few lines and as early an end as can be
    found with a bounded number of runs."""
    best, found = replace(run, chosen=outcome.chosen), outcome
    tries = 0
    for shorter in (_fewer, _shorter, _less):
        again = True
        while again:
            again = False
            for tried in shorter(best):
                if tries >= SHRINK_RUNS_MAX:
                    return best, found
                tries += 1
                now = tried.play()
                if now.violation:
                    best, found, again = tried, now, True
                    break
    return best, found


def _fewer(run: Run) -> Iterator[Run]:
    """Without some of the faults: many first, then each."""
    assert run.chosen is not None
    size = len(run.chosen)
    while size:
        for begin in range(0, len(run.chosen), size):
            yield replace(run, chosen=run.chosen[:begin] + run.chosen[begin + size :])
        size //= 2


def _shorter(run: Run) -> Iterator[Run]:
    """One of the faults lasts less long."""
    assert run.chosen is not None
    for index, (number, for_s) in enumerate(run.chosen):
        for less_s in (SHORT_S, round(for_s / 2, 1)):
            if SHORT_S <= less_s < for_s:
                fewer = (*run.chosen[:index], (number, less_s), *run.chosen[index + 1 :])
                yield replace(run, chosen=fewer)


def _less(run: Run) -> Iterator[Run]:
    """Fewer lines, or an earlier end of all faults."""
    for lines in (LINES // 12, LINES // 4, LINES // 2):
        if lines < run.lines:
            yield replace(run, lines=lines)
    for until_s in (5.0, 10.0, 15.0):
        if not run.until_s or until_s < run.until_s:
            yield replace(run, until_s=until_s)
