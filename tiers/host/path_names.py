"""Paths as people write them in a topology file or on a command line: what cannot be meant.

What a shell would fill in, nobody does here; an empty variable is no path, and a NUL is in none.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_BRACES: Final = re.compile(r"\{[^{}/]*,[^{}/]*\}")
_DRIVE: Final = re.compile(r"[A-Za-z]:\\")
# Another absolute path behind what ends one in lists of other programs. A directory may be called
# "c:", so a colon counts behind what looks like a file.
_SEVERAL: Final = re.compile(r"[,;|]\s*/|\s/|[.*?][^/]*:/")
_QUOTES: Final = ("'", '"', "`")
_NAME_BYTES_MAX: Final = 255  # of each part of a path
_PATH_BYTES_MAX: Final = 3500  # what is put below it has room within PATH_MAX, 4096


def wrong_path(path: str, example: str) -> str:
    """What is wrong with it as a path, and what to write; empty when nothing is."""
    if not path or path != path.strip():
        return f"is empty, or has blanks at an end: write a path, such as {example}"
    if not path.isprintable():
        odd = next(char for char in path if not char.isprintable())
        return f"has {odd!r} in it: write a path, such as {example}"
    if path[0] in _QUOTES and path[0] == path[-1]:
        return f"has quotation marks of its own: write {path.strip(path[0])!r}"
    if scheme := _SCHEME.match(path):
        plain = f": write {scheme[2]!r}" if scheme[1] == "file" else ""
        return f"is a URL, and a path is wanted{plain}"
    if path.startswith("~"):
        return "has a '~', which is not filled in: write ${HOME}, or the path in full"
    if variable := _VARIABLE.search(path):
        return f"has a '$', which is not filled in: write ${{{variable[1]}}}"
    if braces := _BRACES.search(path):
        return f"has {braces[0]!r}, which is not filled in: write a path for each"
    if _SEVERAL.search(path):
        return "names several paths: write each as a text of its own"
    if _DRIVE.match(path):
        return f"is no path of this system: write one such as {example}"
    if max(map(len, (os.fsencode(part) for part in path.split("/")))) > _NAME_BYTES_MAX:
        return f"has a name of more than {_NAME_BYTES_MAX} bytes, which no file has"
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        return f"has more than {_PATH_BYTES_MAX} bytes, which is too long for a path"
    return ""


def parse_directory(value: object) -> Path:
    """A directory to write below. Raises ValueError, whose text is what was wanted."""
    wanted = "the path of a directory, such as /var/lib/tiers"
    if not isinstance(value, str | Path):
        raise ValueError(wanted)
    text = str(value)
    why = wrong_path(text, "/var/lib/tiers")
    if not why and _is_pattern(text):
        why = "has '*' or '?': it is one directory, named in full"
    if why:
        raise ValueError(f"{wanted} ({text!r} {why})")
    return Path(text)


def _is_pattern(path: str) -> bool:
    """Not where there is a directory that is called so."""
    marked = next(
        (p for p in reversed([Path(path), *Path(path).parents]) if {*"*?"} & {*p.name}), None
    )
    return marked is not None and not marked.exists()


Directory = Annotated[Path, BeforeValidator(parse_directory)]
