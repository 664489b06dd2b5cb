"""The core is pure: no sockets, files, clocks, randomness or threads. What a module of it may
import is listed here; whoever needs more passes it in as an argument."""

import ast
from pathlib import Path

import pytest

import tiers.core

ALLOWED = {
    # values, types and structures
    "array",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "datetime",
    "enum",
    "fnmatch",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "reprlib",
    "string",
    "struct",
    "typing",
    "types",
    "zlib",
    "__future__",
    # bytes to bytes
    "isal",
    "isal.isal_zlib",
    "msgpack",
    "zstandard",
    # ours
    "tiers.core",
    "tiers.errors",
    "tiers.units",
}
CALLS_FORBIDDEN = {"open", "exec", "eval", "compile", "input", "print", "__import__", "breakpoint"}
# Ways of otherwise pure types to look at the clock.
CLOCKS = {"now", "utcnow", "today"}
CLOCK_OWNERS = {"datetime", "date"}


def core_modules() -> list[Path]:
    return sorted(path for place in tiers.core.__path__ for path in Path(place).rglob("*.py"))


def impurities(source: str) -> list[str]:
    """What a module's text does that the core may not, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imported = [name.name for name in names]
            case ast.ImportFrom(module=None, lineno=line):
                found.append(f"{line}: a relative import")
                continue
            case ast.ImportFrom(module=str(module)):
                imported = [module]
            case ast.Call(func=ast.Name(id=name), lineno=line) if name in CALLS_FORBIDDEN:
                found.append(f"{line}: calls {name}()")
                continue
            case ast.Attribute(value=ast.Name(id=owner), attr=attr, lineno=line) if (
                owner in CLOCK_OWNERS and attr in CLOCKS
            ):
                found.append(f"{line}: reads the clock by {owner}.{attr}")
                continue
            case _:
                continue
        for name in imported:
            if name not in ALLOWED and not name.startswith("tiers.core."):
                found.append(f"{node.lineno}: imports {name}")
    return found


def test_the_walk_finds_the_modules() -> None:
    names = {path.stem for path in core_modules()}
    assert {"batch", "codecs", "messages", "peers", "sender", "receiver", "cutting"} <= names


@pytest.mark.parametrize("path", core_modules(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_core_is_pure(path: Path) -> None:
    assert impurities(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from time import monotonic",
        "import os.path",
        "import asyncio as a",
        "def f():\n    import random",
        "from . import batch",
        "from tiers.channel.channel import Channel",
        "import lmdb, struct",
        "with open('x') as f: pass",
        "from datetime import datetime\ndatetime.now()",
        "import logging",
        "__import__('socket')",
    ],
)
def test_each_impurity_is_seen(text: str) -> None:
    assert impurities(text)
