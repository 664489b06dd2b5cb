"""What an agent, a tier, a topology, a source or a sink may be called.

A name becomes a directory, a record's key and part of a file's name, and it is shown as it is; so
one that a peer tells is held to the same rule as one in a topology file.
"""

import re
from typing import Final

NAME_CHARS_MAX: Final = 64
NAME_WANTED: Final = (
    f"a name of at most {NAME_CHARS_MAX} letters, digits, '_', '.' and '-', a letter or digit first"
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def is_name(name: object) -> bool:
    """Whether `name` may be one."""
    return (
        isinstance(name, str) and len(name) <= NAME_CHARS_MAX and _NAME.fullmatch(name) is not None
    )
