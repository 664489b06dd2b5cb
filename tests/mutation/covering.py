"""Which tests run a line at all, and how long each takes: only those can see a mutant of it, and
the short ones are asked first."""

import ast
import json
import time
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Final

import pytest
from coverage import CoverageData

_CONFIG: Final = "[run]\nsource = tiers\nbranch = false\n"


class Covering:
    """What one run of the tests in a copy of the tree has told. A line that no test is known to
    run (it runs at import, or in a process of its own) is asked of all."""

    def __init__(self, place: Path) -> None:
        self._place = place.resolve()
        self._lines: dict[str, dict[int, set[str]]] = {}
        self._durations: dict[str, float] = {}

    @property
    def options(self) -> list[str]:
        """For pytest, in the run that tells."""
        (self._place / "coveragerc").write_text(_CONFIG)
        return ["--cov", "--cov-config=coveragerc", "--cov-context=test", "--cov-report="]

    def learn(self) -> None:
        data = CoverageData(str(self._place / ".coverage"))
        data.read()
        for file in data.measured_files():
            self._lines[str(Path(file).relative_to(self._place))] = {
                line: {context.rsplit("|", 1)[0] for context in contexts if context}
                for line, contexts in data.contexts_by_lineno(file).items()
            }
        self._durations = json.loads((self._place / "durations").read_text())

    def tests_that_run(self, path: str, line: int) -> set[str]:
        """Empty where nothing is known of the line."""
        lines = self._lines.get(path, {})
        return {test for one in statement(self._place / path, line) for test in lines.get(one, ())}

    def duration_s(self, test: str) -> float:
        return self._durations.get(test, 0.0)


def statement(file: Path, line: int) -> Iterable[int]:
    """The lines of the smallest statement that has that line, without what it is the head of."""
    best = range(line, line + 1)
    least = None
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.stmt) and node.end_lineno is not None:
            body = getattr(node, "body", None)
            end = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            if node.lineno <= line <= end and (least is None or end - node.lineno < least):
                best, least = range(node.lineno, end + 1), end - node.lineno
    return best


class Chosen:
    """A plugin of pytest: the tests of that name alone, the shortest first; all where none is
    named. Writes what each took."""

    def __init__(self, tests: Set[str], covering: Covering, place: Path) -> None:
        self._tests = tests
        self._covering = covering
        self._place = place
        self._took: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._tests:
            items[:] = [item for item in items if item.nodeid in self._tests]
        items.sort(key=lambda item: self._covering.duration_s(item.nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        begun = time.monotonic()
        try:
            return (yield)
        finally:
            self._took[item.nodeid] = time.monotonic() - begun

    def pytest_sessionfinish(self) -> None:
        (self._place / "durations").write_text(json.dumps(self._took))
