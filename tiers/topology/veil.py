"""What the environment holds is shown by its name: it may be a password."""

import re
from collections.abc import Mapping
from typing import Final

_ANYWHERE_CHARS_MIN: Final = 4  # a shorter value is hidden where it stands alone


class Veil:
    """`values` are those that were filled in, by the names of their variables."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = dict(values or {})

    def note(self, name: str, value: str) -> None:
        """It was filled in somewhere."""
        self.values[name] = value

    def hide(self, text: str) -> str:
        """`text` with `${NAME}` wherever it has the value of that variable, as it is or escaped."""
        names: dict[str, str] = {}
        for name, value in self.values.items():
            if value:
                names.setdefault(value, name)
                names.setdefault(repr(value)[1:-1], name)
        if not any(value in text for value in names):
            return text
        # In one go, the longest first: what stands for one value is not looked through for others.
        found = "|".join(_pattern(value) for value in sorted(names, key=len, reverse=True))
        return re.sub(found, lambda match: f"${{{names[match[0]]}}}", text)


def _pattern(value: str) -> str:
    if len(value) >= _ANYWHERE_CHARS_MIN:
        return re.escape(value)
    return f"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])"
