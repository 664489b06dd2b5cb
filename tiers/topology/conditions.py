"""`when` of an output: conditions on headers, as they stand in a topology file.

when = { service = "web" }                 that value
when = { service = ["web", "api"] }        one of these
when = { service = { glob = "web-*" } }    a value of that form
when = { service = { absent = true } }     no such header
when = { service = { not = "web" } }       the opposite of a condition; also where it is absent
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from tiers.core.batch import HEADER_BYTES_MAX, HEADERS_MAX
from tiers.core.entry.routes import Absent, Condition, Glob, Not, OneOf, When
from tiers.topology.problems import Problems, join, nearest, show

VALUES_MAX: Final = 1000  # of one condition
GLOB_CHARS_MAX: Final = 1000
_WANTED: Final = 'a text, a list of texts, { glob = "web-*" }, { absent = true } or { not = ... }'
_EXAMPLE: Final = 'headers and what is wanted of each, such as { service = "web" }'


def read_when(raw: object, key: str, problems: Problems) -> When:
    """The conditions of a table, what is wrong with it left out."""
    if not isinstance(raw, dict) or not raw:
        problems.add(key, _EXAMPLE, show(raw))
        return {}
    if len(raw) > HEADERS_MAX:
        problems.add(key, f"at most {HEADERS_MAX} headers", str(len(raw)))
        return {}
    found: dict[str, Condition] = {}
    for header, value in raw.items():
        condition = _condition(value, join(key, header), problems)
        if condition is not None:
            found[header] = condition
    return found


def _condition(raw: object, key: str, problems: Problems) -> Condition | None:
    if isinstance(raw, str):
        raw = [raw]
    if isinstance(raw, list):
        return _one_of(raw, key, problems)
    if isinstance(raw, dict) and len(raw) == 1:
        ((word, value),) = raw.items()
        read = _WORDS.get(word)
        if read is None:
            hint = nearest(word, _WORDS, listed=False)
            wanted = f"one of {', '.join(_WORDS)}"
            problems.add(join(key, word), wanted, f"unknown key {word!r}", hint)
            return None
        return read(value, join(key, word), problems)
    hint = f'headers are texts: write "{raw}"' if type(raw) in (int, float) else ""
    found = f"a table of {len(raw)} keys" if isinstance(raw, dict) and raw else show(raw)
    problems.add(key, _WANTED, found, hint)
    return None


def _one_of(raw: list[Any], key: str, problems: Problems) -> Condition | None:
    if not 0 < len(raw) <= VALUES_MAX:
        problems.add(key, f"1 to {VALUES_MAX} texts", show(raw))
        return None
    for value in raw:
        if not isinstance(value, str):
            problems.add(key, "texts", show(value))
            return None
        if len(value.encode(errors="replace")) > HEADER_BYTES_MAX:
            problems.add(key, f"at most {HEADER_BYTES_MAX} bytes, as a header has", show(value))
            return None
    return OneOf(frozenset(raw))


def _glob(raw: object, key: str, problems: Problems) -> Condition | None:
    if not isinstance(raw, str) or not 0 < len(raw) <= GLOB_CHARS_MAX:
        wanted = f"a text of 1 to {GLOB_CHARS_MAX} characters, with `*`, `?` or `[...]`"
        problems.add(key, wanted, show(raw))
        return None
    return Glob(raw)


def _absent(raw: object, key: str, problems: Problems) -> Condition | None:
    if raw is not True:
        hint = "that there is such a header is { not = { absent = true } }" if raw is False else ""
        problems.add(key, "true", show(raw), hint)
        return None
    return Absent()


def _not(raw: object, key: str, problems: Problems) -> Condition | None:
    condition = _condition(raw, key, problems)
    return None if condition is None else Not(condition)


_WORDS: Final[Mapping[str, Callable[[object, str, Problems], Condition | None]]] = {
    "glob": _glob,
    "absent": _absent,
    "not": _not,
}


def in_file(condition: Condition) -> object:
    """A condition as it stands in a file."""
    match condition:
        case OneOf(values):
            return min(values) if len(values) == 1 else sorted(values)
        case Glob(pattern):
            return {"glob": pattern}
        case Absent():
            return {"absent": True}
        case Not(inner):
            return {"not": in_file(inner)}


def write(value: object) -> str:
    """The same in a line: `{ service = "web", env = { not = "dev" } }`."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {write(inner)}' for key, inner in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)
