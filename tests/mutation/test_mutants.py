"""Every mutant is one small change of code that still can be read; what no test should see is left
alone."""

import ast
from pathlib import Path

from tests.mutation.covering import statement
from tests.mutation.mutants import mutants
from tests.mutation.trial import ROOT, judges_of, sources, suites_of

SOURCE = '''"""A docstring with 1 in it."""
from typing import Final
LIMIT: Final = 3
def f(a: "int", b: int = 2) -> int:
    assert a < 1
    log.info("1", a + 1)
    if a <= b and not (blå := "å") or b is not None:
        raise ValueError(f"{a + 1}")
    b += 1
    return max(a, b)
'''


def test_what_is_planted() -> None:
    changes = {(SOURCE[one.begin : one.end], one.text, one.line) for one in mutants("x.py", SOURCE)}
    test = SOURCE[SOURCE.index("a <= b") : SOURCE.index(":\n        raise")]
    assert changes == {
        ("3", "4", 3),
        ("2", "3", 4),
        (test, f"(not ({test}))", 7),
        ("<=", "<", 7),
        ("and", "or", 7),
        ("or", "and", 7),
        ('not (blå := "å")', 'bool(blå := "å")', 7),
        ("is not", "is", 7),
        ("+=", "-=", 9),
        ("b += 1", "pass", 9),
        ("1", "2", 9),
        ("max", "min", 10),
    }


def test_every_mutant_of_ours_can_be_read() -> None:
    for path in sources():
        source = (ROOT / path).read_text()
        found = mutants(path, source)
        assert len(set(found)) == len(found)
        for one in found[:: max(1, len(found) // 10)]:
            ast.parse(one.plant(source))


def test_the_nearest_tests_come_first() -> None:
    assert suites_of("tiers/core/runs.py")[0] == "tests/core/test_runs.py"
    assert suites_of("tiers/sources/mixed.py")[0] != "tests/sources/test_tail.py"
    assert "tests/entry/test_intake.py" in suites_of("tiers/entry/intake.py")


def test_tail_is_judged_by_lives_of_files_too() -> None:
    for profile, lives in (("brief", 1), ("long", 3)):
        tests = judges_of("tiers/sources/tail/matching.py", profile)
        assert sum(test.startswith("tests/tailing/test_model.py::") for test in tests) == lives
    assert "tests/channel/test_model.py" in judges_of("tiers/channel/applying.py", "long")
    assert not judges_of("tiers/sources/generate.py", "long")  # nothing there is drawn at random


def test_a_line_is_run_with_its_statement_and_not_with_what_that_is_the_head_of(
    tmp_path: Path,
) -> None:
    file = tmp_path / "x.py"
    file.write_text("if (a\n    or b):\n    c = [\n        1,\n    ]\n")
    assert [list(statement(file, line)) for line in (2, 4)] == [[1, 2], [3, 4, 5]]
