"""Tries a mutant: a copy of the tree with the bug in it, and in a child process those fast tests of
its room that have to do with the file, the nearest first."""

import ast
import functools
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Final

from tests.mutation.covering import Chosen, Covering
from tests.mutation.mutants import Mutant

ROOT: Final = Path(__file__).resolve().parents[2]
_LOOK_S: Final = 0.05
# Of one test. With many examples it may take long without that any mutant is to blame.
_TIMEOUT_S: Final = {"brief": 30, "long": 600}
_CHOSEN: Final = ("tiers/core", "tiers/channel", "tiers/sources", "tiers/entry/intake.py")
_ROOMS: Final = {
    "core": ["tests/core", "tests/test_defaults.py"],
    "channel": [
        *("tests/channel", "tests/audit/test_published.py", "tests/entry/test_intake.py"),
        "tests/test_defaults.py",
    ],
    "sources": [
        *("tests/sources", "tests/tailing", "tests/contracts/test_source.py"),
        *("tests/topology/test_findings.py", "tests/agent/test_descriptors.py"),
    ],
    "entry": ["tests/entry/test_intake.py", "tests/test_running.py", "tests/sources"],
}
# Long, or of real processes, or with Java.
_SLOW: Final = {
    *("test_publication_search.py", "test_kill.py", "test_damage_places.py", "test_damage.py"),
    *("test_log4j.py", "test_salvaging.py", "test_purity.py"),
}
# Tried after all others of the room, as they take long to see little that those do not see.
_LATE: Final = (
    *(
        "tests/channel/test_model.py",
        "tests/sources/test_logrotate.py",
        "tests/audit/test_published.py",
    ),
    *(
        "tests/topology/test_findings.py",
        "tests/agent/test_descriptors.py",
        "tests/contracts/test_source.py",
    ),
)
# A mutant is tried with the first lives of log files alone, and who survives with more. The bugs
# planted there are looked for in lives that a mutant may change: their tests tell nothing here.
_LIVES: Final = "tests/tailing/test_model.py"
_LIVES_TEST: Final = f"{_LIVES}::test_each_line_is_taken_once_whatever_is_done_to_the_files"
_LIVES_PARTS: Final = {"brief": (0,), "long": (1, 2, 3)}


def sources() -> list[str]:
    """The files into which bugs are planted."""
    found: list[Path] = []
    for place in _CHOSEN:
        path = ROOT / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"]


def suites_of(path: str) -> list[str]:
    """Test files of its room that import a source, or import what imports it: the nearest first."""
    room = _ROOMS[path.split("/")[1]]
    files: list[Path] = []
    for place in room:
        at = ROOT / place
        files += sorted(at.glob("test_*.py")) if at.is_dir() else [at] if at.exists() else []
    module = path.removesuffix(".py").replace("/", ".")
    near = {
        file: steps
        for file in files
        if file.name not in _SLOW and (steps := _steps_between(file, module)) is not None
    }
    names = {str(file.relative_to(ROOT)): steps for file, steps in near.items()}
    return sorted(names, key=lambda name: (name in _LATE, names[name]))


def judges_of(path: str, profile: str) -> list[str]:
    """What pytest is given. The long profile is of use where something is drawn at random."""
    tests: list[str] = []
    for name in suites_of(path):
        if name == _LIVES:
            tests += [f"{_LIVES_TEST}[{part}]" for part in _LIVES_PARTS[profile]]
        elif profile == "brief" or "hypothesis" in (ROOT / name).read_text():
            tests.append(name)
    return tests


def _steps_between(file: Path, module: str) -> int | None:
    """1: the file imports that module; None: nothing that it imports does."""
    seen: set[str] = set()
    ahead, steps = set(_imports_of(file)), 1
    while ahead:
        if module in ahead:
            return steps
        seen |= ahead
        ahead = {other for one in ahead for other in _imported_by(one)} - seen
        steps += 1
    return None


@functools.cache
def _imports_of(file: Path) -> frozenset[str]:
    """Modules of ours that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.split(".")[0] in ("tiers", "tests"))


def _imported_by(module: str) -> frozenset[str]:
    place = ROOT / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return _imports_of(file) if file.exists() else frozenset()


class Trial:
    """A copy of the tree, in which one mutant after the other is planted."""

    def __init__(self, place: Path, seconds_max: float) -> None:
        self._place = place
        self._seconds_max = seconds_max
        self._deselected: list[str] = []
        self._covering = Covering(place)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("tiers", "tests", "topologies", "scripts"):
            shutil.copytree(ROOT / name, place / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, place / name)

    def fail_anyway(self, tests: Sequence[str]) -> list[str]:
        """Tests that fail without any mutant; they are left out from now on. Tells also which test
        runs which line: what fails only since it is watched is not left out."""
        options = ["--maxfail=1000"]
        status = self._run([*tests, *options, *self._covering.options], 60 * self._seconds_max)
        failed = self._failed(status)
        self._covering.learn()
        if failed:
            status = self._run([*failed, *options], 60 * self._seconds_max)
            self._deselected = self._failed(status)
        return self._deselected

    def _failed(self, status: int) -> list[str]:
        said = (self._place / "said").read_text(errors="replace")
        if status not in (0, 1):
            raise SystemExit(f"the tests cannot be run at all: {said[-2000:]}")
        return re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)

    def survives(self, mutant: Mutant) -> bool:
        """No test has seen it. A test that hangs sees it, by its own time limit."""
        source = (ROOT / mutant.path).read_text()
        target = self._place / mutant.path
        chosen = self._covering.tests_that_run(mutant.path, mutant.line)
        if any(test.startswith(_LIVES) for test in chosen):
            chosen |= {f"{_LIVES_TEST}[{part}]" for part in _LIVES_PARTS["long"]}
        target.write_text(mutant.plant(source))
        try:
            for profile in ("brief", "long"):
                files = judges_of(mutant.path, profile)
                near = {test for test in chosen if test.startswith(tuple(files))}
                if not files or (chosen and not near):
                    continue
                tests = [one for one in files if not near or any(n.startswith(one) for n in near)]
                status = self._run([*tests, "--maxfail=1"], self._seconds_max, profile, near)
                if status == -1:
                    raise SystemExit(f"{mutant}: not told in {self._seconds_max} s; see --seconds")
                if status:
                    return False
            return True
        finally:
            target.write_text(source)

    def _run(
        self,
        arguments: Sequence[str],
        seconds_max: float,
        profile: str = "brief",
        chosen: Set[str] = frozenset(),
    ) -> int:
        """pytest's exit status; -1 where it took too long."""
        child = os.fork()
        if not child:
            self._become_pytest(arguments, profile, chosen)
        until = time.monotonic() + seconds_max
        while time.monotonic() < until:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(_LOOK_S)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1

    def _become_pytest(self, arguments: Sequence[str], profile: str, chosen: Set[str]) -> None:
        """Never returns. What the tests need is imported already; our own code is anew, there."""
        status = 3
        try:
            os.setsid()
            said = os.open(self._place / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for descriptor in (1, 2):
                os.dup2(said, descriptor)
            os.chdir(self._place)
            os.environ["PYTHONPATH"] = str(self._place)
            sys.dont_write_bytecode = True
            sys.path[:] = [
                str(self._place),
                *(p for p in sys.path if Path(p or ".").resolve() != ROOT),
            ]
            for name in [name for name in sys.modules if name.split(".")[0] in ("tiers", "tests")]:
                del sys.modules[name]
            import pytest

            left_out = [f"--deselect={name}" for name in self._deselected]
            options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
            options += [f"--hypothesis-profile={profile}", "-p", "tests.mutation.profile"]
            options += [f"--timeout={_TIMEOUT_S[profile]}"]
            plugin = Chosen(chosen, self._covering, self._place)
            status = int(pytest.main([*arguments, *left_out, *options], plugins=[plugin]))
        finally:
            sys.stdout.flush()
            os._exit(status)
