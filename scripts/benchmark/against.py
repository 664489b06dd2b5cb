"""`scripts/bench against`: another revision and this tree, turn by turn.

Both are measured by this tree's scripts, so that the other one needs none: only its agents run,
with its own needs. They take turns, and who begins changes from turn to turn.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmark.local import CODECS, make_input, measure_latency, measure_run
from benchmark.meter import cpu_s
from benchmark.pairs import Pairs
from benchmark.revision import TREE, Code, checked_out
from benchmark.tiers_local import running

_SETTLE_S: Final = 2.0  # after all are connected
_ROLL_AFTER_IDLE: Final = "10min"


def measure_idle(root: Path, code: Code, seconds: float, extra: str = "") -> dict[str, float]:
    """The share of a core, in percent, that each agent takes while nothing comes."""
    with running(root, "zstd", _ROLL_AFTER_IDLE, extra, code) as tiers:
        time.sleep(_SETTLE_S)
        before = {name: cpu_s(pid) for name, pid in tiers.pids.items()}
        began = time.monotonic()
        time.sleep(seconds)
        passed_s = time.monotonic() - began
        return {
            name: 100 * (cpu_s(pid) - before[name]) / passed_s for name, pid in tiers.pids.items()
        }


class Comparison:
    """`run` fills the pairs; `say` is told what was measured as it goes."""

    def __init__(
        self,
        root: Path,
        revision: str,
        *,
        lines: int,
        only: str | None,
        idle_s: float,
        extra: str,
        say: Callable[[str], None],
    ) -> None:
        self.pairs: dict[str, Pairs] = {}
        self._root = root
        self._revision = revision
        self._lines = lines
        self._only = only
        self._idle_s = idle_s
        self._extra = extra
        self._say = say

    def run(self, runs: int) -> None:
        """Raises TiersError when a revision cannot be made ready, or loses a line."""
        other = checked_out(self._revision)
        self._say(f"{self._revision}: {other.source.name}, by {other.python}")
        make_input(self._root / "input.log", self._lines, seed=1)
        for turn in range(runs):
            sides = [(self._revision, other), ("tree", TREE)]
            measured = {}
            for name, code in sides if turn % 2 == 0 else reversed(sides):
                began = time.monotonic()
                measured[name] = list(self._measure(code))
                self._say(f"{turn + 1}. {name}: {time.monotonic() - began:.0f} s")
            for name, _ in sides:
                for figure, unit, value in measured[name]:
                    pairs = self.pairs.setdefault(figure, Pairs(unit))
                    (pairs.after if name == "tree" else pairs.before).append(value)

    def _measure(self, code: Code) -> Iterator[tuple[str, str, float]]:
        """Each figure with its unit."""
        place = self._root / "turn"
        for kind in CODECS:
            if self._only in (None, kind):
                run = measure_run(
                    kind, self._root / "input.log", self._lines, place, self._extra, code
                )
                shutil.rmtree(place)
                yield f"{kind}: events/s", "", run.events_per_second
                yield f"{kind}: CPU per million", "s", run.cpu_s_per_million
                for agent, peak in run.memory_bytes.items():
                    yield f"{kind}: memory of {agent}", "MB", peak / 1e6
        if self._only in (None, "latency"):
            latencies_s = measure_latency(place, self._extra, code)
            shutil.rmtree(place)
            yield "latency", "ms", statistics.median(latencies_s) * 1e3
        if self._only in (None, "idle"):
            for agent, percent in measure_idle(place, code, self._idle_s, self._extra).items():
                yield f"idle CPU of {agent}", "%", percent
            shutil.rmtree(place)

    def to_json(self) -> dict[str, Any]:
        figures = {}
        for figure, pairs in self.pairs.items():
            spread = pairs.spread()
            figures[figure] = {
                "unit": pairs.unit,
                self._revision: pairs.before,
                "tree": pairs.after,
                "ratio": spread.ratio,
                "from": spread.low if len(pairs.before) > 1 else None,
                "to": spread.high if len(pairs.before) > 1 else None,
            }
        return {"revision": self._revision, "lines": self._lines, "figures": figures}

    def table(self) -> Iterator[str]:
        """Medians, the ratios' geometric mean, and its interval at 95 %."""
        yield f"{'figure':<32} {self._revision:>12.12} {'tree':>12}  ratio   from     to"
        for figure, pairs in self.pairs.items():
            name = f"{figure} ({pairs.unit})" if pairs.unit else figure
            before, after = pairs.medians()
            spread = pairs.spread()
            line = f"{name:<32} {_short(before):>12} {_short(after):>12} {spread.ratio:>6.3f}"
            known = len(pairs.before) > 1
            yield f"{line} {spread.low:>6.3f} {spread.high:>6.3f}" if known else line


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.1f}"
