"""`${VAR}` and `${VAR:-default}` in the texts of a topology file.

As in a shell, a default also stands in for an empty variable. `$${` is a plain `${`. What a
variable holds is not looked through again, and keys are taken as they are.
"""

import re
from collections.abc import Mapping

from tiers.topology.problems import Problems, join, nearest, show

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{)[^}])*))?\})?")


def expand(value: object, env: Mapping[str, str], problems: Problems, key: str = "") -> object:
    """`value` with the variables of all texts in it filled in."""
    if isinstance(value, dict):
        return {name: expand(v, env, problems, join(key, name)) for name, v in value.items()}
    if isinstance(value, list):
        return [expand(v, env, problems, join(key, i)) for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    malformed = ("${VAR} or ${VAR:-default}", show(value), "write $${ for a plain ${")
    wrong: list[tuple[str, str, str]] = []

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            wrong.append(malformed)
            return match[0]
        if default is None and name not in env:
            hint = nearest(name, env, listed=False) or f"or give a default: ${{{name}:-...}}"
            wrong.append((f"the variable {name} in the environment", "none of that name", hint))
            return match[0]
        if held := env.get(name):
            if not held.isprintable() and any("\ud800" <= char <= "\udfff" for char in held):
                wrong.append((f"text in UTF-8 in the variable {name}", "other bytes", ""))
            problems.veil.note(name, held)
        return held or default or ""

    filled = _REFERENCE.sub(fill, value)
    for wanted, found, hint in [malformed] if malformed in wrong else wrong:
        problems.add(key, wanted, found, hint)
    if wrong:
        problems.hush(key)
    return filled
