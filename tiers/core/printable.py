"""Names and words of others, as they may stand in a terminal, a log or a page.

A name may hold anything: escape sequences, line breaks, marks that turn the direction of what
follows, bytes that are no UTF-8. What is not printable is shown escaped, and nothing else; but who
logs in by a URL is not shown. Lines of the log, rows of status and what commands print go through
here, so that whoever makes a text need not think of it.
"""

import re
from collections.abc import Callable
from typing import Any, Final

NAME_CHARS_MAX: Final = 200
TEXT_CHARS_MAX: Final = 4096
_USER_INFO: Final = re.compile(r"(?<=://)[^\s/?#]+@")


def printable(name: str | bytes, chars_max: int = NAME_CHARS_MAX) -> str:
    """`name` on one line, cut with "…" at `chars_max`: `"a\\nb"` -> `"a\\\\nb"`, a byte that is no
    UTF-8 (in bytes, or as `os.fsdecode` keeps it) -> `"\\\\xff"`."""
    text = name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
    text = without_user(text)
    shown = text[: chars_max + 1]  # escaping makes it longer, never shorter
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else _escape(char) for char in shown)
    return shown if len(shown) <= chars_max else shown[: chars_max - 1] + "…"


def printable_text(text: str) -> str:
    """A whole line of words, names among them."""
    return printable(text, TEXT_CHARS_MAX)


def printable_lines(text: str) -> list[str]:
    """Each line of a text of ours that has several on purpose."""
    return [printable_text(line) for line in text.splitlines()]


def map_texts(told: Any, change: Callable[[str], str]) -> Any:
    """An object as JSON knows them, each of its texts changed but for the names of keys."""
    if isinstance(told, dict):
        return {key: map_texts(value, change) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [map_texts(each, change) for each in told]
    return change(told) if isinstance(told, str) else told


def without_user(text: str) -> str:
    """`http://user:password@host` -> `http://***@host`."""
    return _USER_INFO.sub("***@", text) if "://" in text else text


def _escape(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # PEP 383: a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
