"""What a glob in a topology file says by itself: whether it can mean what its author means, and
whether another one may find the same files. No file is looked at.

A glob is taken as `glob.glob(recursive=True)` takes it: `*`, `?` and `[a-z]` within a name, `**`
alone for any directories; none of them finds a name that begins with a dot.
"""

import re
from collections.abc import Callable, Sequence
from glob import has_magic
from typing import Final, Literal, TypeAlias, TypeVar

from tiers.core.commit.store_names import OWN
from tiers.host.path_names import wrong_path

_COMPRESSED: Final = ("gz", "bz2", "xz", "zst", "Z", "lz4", "zip", "br", "lzma", "tgz", "7z")

T = TypeVar("T")
Token: TypeAlias = "str | Literal['*', '?'] | tuple[bool, frozenset[str], tuple[str, ...]]"


def wrong(path: str) -> str:
    """What is wrong with it as a path of files to read, and what to write; empty if nothing is."""
    if why := wrong_path(path, "/var/log/nginx/*.log"):
        return why
    if path.endswith(("/", "/.", "/..")):
        return f"is a directory: write which of its files, such as {path.rstrip('/.')}/*.log"
    return ""


def finds_compressed(pattern: str) -> bool:
    """Whether it may find what rotation has compressed."""
    name = pattern.rpartition("/")[2]
    return any(_names_overlap(name, f"*.{end}") for end in _COMPRESSED)


def overlap(a: str, b: str) -> bool:
    """Whether there may be a file that both (absolute) find. Links are not known here."""
    return _meet(_parts(a), _parts(b), "**", _names_overlap, lambda part: part[0] != ".")


def finds_below(pattern: str, directory: str) -> bool:
    """Whether it may find files in a directory or below (both absolute), sinks' own among them."""
    below = glob_free(directory)
    return any(overlap(pattern, f"{below}/{any_}**/*") for any_ in ("", f"{OWN}/"))


def without_marks(pattern: str) -> tuple[str, str]:
    """The directory that it names in full, and the rest."""
    parts = pattern.split("/")
    first = next((at for at, part in enumerate(parts) if has_magic(part)), len(parts) - 1)
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def glob_free(path: str) -> str:
    """A path that is taken as it is: its marks of globs are none."""
    return re.sub(r"([*?[])", r"[\1]", path)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _names_overlap(a: str, b: str) -> bool:
    for one, other in ((a, b), (b, a)):
        if one.startswith(".") and other[:1] in ("*", "?", "["):
            return False
    return _meet(_tokens(a), _tokens(b), "*", _share_char, lambda token: True)


def _meet(
    a: Sequence[T],
    b: Sequence[T],
    any_number: str,
    share: Callable[[T, T], bool],
    stands_for: Callable[[T], bool],
) -> bool:
    """Whether there is a sequence that both describe, where `any_number` stands for none or more
    of what it may stand for: a walk through all pairs of places in the two."""
    todo, seen = [(0, 0)], set()
    while todo:
        i, j = place = todo.pop()
        if place in seen or i > len(a) or j > len(b):
            continue
        seen.add(place)
        if place == (len(a), len(b)):
            return True
        one = a[i] if i < len(a) else None
        other = b[j] if j < len(b) else None
        if one == any_number:
            todo += [(i + 1, j)] + ([(i, j + 1)] if other and stands_for(other) else [])
        if other == any_number:
            todo += [(i, j + 1)] + ([(i + 1, j)] if one and stands_for(one) else [])
        if one and other and any_number not in (one, other) and share(one, other):
            todo.append((i + 1, j + 1))
    return False


def _tokens(name: str) -> list[Token]:
    """`*` and `?` as they are, a set of characters as such, anything else a set of one."""
    found: list[Token] = []
    at = 0
    while at < len(name):
        char, at = name[at], at + 1
        if char in "*?":
            found.append(char)
            continue
        # As fnmatch: a "]" right at the beginning belongs to the set; without an end it is a "[".
        end = name.find("]", at + 1 + (name[at : at + 1] == "!")) if char == "[" else -1
        if end < 0:
            found.append((True, frozenset(char), ()))
            continue
        found.append(_set(name[at:end]))
        at = end + 1
    return found


def _set(text: str) -> Token:
    """`a-z_`, or `!a-z_`: whether its characters are in or out, single ones, ranges."""
    inside = not text.startswith("!")
    text = text.removeprefix("!")
    ranges = re.findall(r".-.", text, re.DOTALL)
    rest = re.sub(r".-.", "", text, flags=re.DOTALL)
    return inside, frozenset(rest), tuple(ranges)


def _has(token: Token, char: str) -> bool:
    if isinstance(token, str):
        return True
    inside, chars, ranges = token
    return (char in chars or any(r[0] <= char <= r[2] for r in ranges)) == inside


def _share_char(a: Token, b: Token) -> bool:
    """Ends of ranges and what lies beside them are all that can tell two sets apart."""
    tried: set[str] = {"a", "\U0010fffe"}
    for token in (a, b):
        if not isinstance(token, str):
            _, chars, ranges = token
            edges = [*chars, *(edge for one in ranges for edge in (one[0], one[2]))]
            tried.update(_beside(edges))
    return any(_has(a, char) and _has(b, char) for char in tried if char != "/")


def _beside(chars: Sequence[str]) -> set[str]:
    near = {ord(char) + step for char in chars for step in (-1, 0, 1)}
    return {chr(code) for code in near if 0 < code < 0x110000}
