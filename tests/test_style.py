"""A function fits the eye, a module a sitting, and no name hides what a thing is. (A line's length
is ruff's to check.) What is over the limit today is listed with its length, and may only shrink."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
# A contract and what keeps it have one name.
CONTRACTS = {"Channel", "Clock", "Socket", "Workers"}
EMPTY_WORDS = re.compile(r"Manager|Helpers?(?![a-z])|Utils?(?![a-z])|Factory|^Abstract")


def modules() -> list[Path]:
    return sorted(file for room in ("tiers", "scripts") for file in (ROOT / room).rglob("*.py"))


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def definitions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Every class and function with its full name."""
    for node in ast.iter_child_nodes(tree):
        path = within
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            path = f"{within}.{node.name}".lstrip(".")
            yield path, node
        yield from definitions(node, path)


def functions() -> Iterator[tuple[str, int]]:
    """With their lines, from `def` to the last one."""
    for file in modules():
        for path, node in definitions(ast.parse(file.read_text())):
            if not isinstance(node, ast.ClassDef):
                assert node.end_lineno is not None
                yield f"{name(file)}: {path}", node.end_lineno - node.lineno + 1


def faults(lengths: Mapping[str, int], listed: Mapping[str, int], most: int) -> list[str]:
    """What is longer than it may be, and what need not be listed any more."""
    long = [
        f"{one}: {length} lines of {limit} at most"
        for one, length in lengths.items()
        if length > (limit := max(most, listed.get(one, 0)))
    ]
    short = [
        f"{one}: {lengths.get(one, 0)} lines: take it from the list"
        for one in listed
        if lengths.get(one, 0) <= most
    ]
    return long + short


def test_no_module_is_longer_than_a_sitting() -> None:
    lengths = {name(file): len(file.read_text().splitlines()) for file in modules()}
    assert faults(lengths, LONG_FILES, FILE_LINES_MAX) == []


def test_no_function_is_longer_than_the_eye_sees() -> None:
    assert faults(dict(functions()), LONG_FUNCTIONS, FUNCTION_LINES_MAX) == []


def test_no_name_is_an_empty_word() -> None:
    found = [
        f"{name(file)}: {path}"
        for file in modules()
        for path, node in definitions(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and EMPTY_WORDS.search(node.name)
    ]
    assert found == []
    assert not [name(f) for f in modules() if f.stem in ("util", "utils", "helpers", "misc")]


def test_a_name_is_of_one_class() -> None:
    """Who reads one of them must not think of the other."""
    places: dict[str, list[str]] = {}
    for file in (ROOT / "tiers").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name(file))
    assert not {one: at for one, at in places.items() if len(at) > 1 and one not in CONTRACTS}


@pytest.mark.parametrize(
    ("length", "listed", "told"),
    [
        (50, {}, []),
        (51, {}, ["a: 51 lines of 50 at most"]),
        (60, {"a": 61}, []),
        (62, {"a": 61}, ["a: 62 lines of 61 at most"]),
        (50, {"a": 61}, ["a: 50 lines: take it from the list"]),
    ],
)
def test_what_is_listed_may_only_shrink(
    length: int, listed: dict[str, int], told: list[str]
) -> None:
    assert faults({"a": length}, listed, 50) == told


def test_what_is_listed_and_gone_is_told() -> None:
    assert faults({}, {"a": 61}, 50) == ["a: 0 lines: take it from the list"]
