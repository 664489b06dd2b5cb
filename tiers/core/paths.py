"""Path templates: `{service}/%Y/%m/%d/%H` filled with a batch's headers and its bucket time (UTC).

A header's value comes from outside. Whatever it holds, it stays within its place in the path: it
adds no level, names no parent, hides nothing behind a leading dot (`.tiers` is ours), and is a
name that both HDFS and POSIX take. What is not plain is percent-encoded, as in URLs (RFC 3986
section 2.1) and in Hive's partitions.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tiers.errors import BatchError

UNKNOWN: Final = "unknown"  # in place of a header that a batch does not have, or has empty
NAME_BYTES_MAX: Final = 255  # of one name: what POSIX and HDFS take
VALUE_BYTES_MAX: Final = 120  # of an encoded value, so that two fit into a name
_DAY: Final = 86400
# How long, in seconds, the shortest time is for which a code's text stays the same. Months and
# years begin with a day and have no fixed length, so what is sure to stay within one is a day.
CODES: Final[Mapping[str, int]] = {
    "%Y": _DAY,
    "%y": _DAY,
    "%m": _DAY,
    "%d": _DAY,
    "%j": _DAY,
    "%G": _DAY,
    "%V": _DAY,
    "%u": _DAY,
    "%F": _DAY,
    "%H": 3600,
    "%M": 60,
    "%S": 1,
}
_TOKEN: Final = re.compile(r"\{[^{}]*\}|%.?|[^{%}]+|[{}]", re.DOTALL)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# ":" is refused by HDFS in any name; "+" and "%" were mangled by WebHDFS before 3.3 (HDFS-14423).
_ENCODED: Final = frozenset("/\\:%+*?[]{}<>|&;$`'\"!#, ~")


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a template: a literal, a time code, or a header's name."""

    kind: str  # "text", "time" or "header"
    text: str


def problems(template: str) -> list[str]:
    """Everything that is wrong with a template, in words; empty where it can be used."""
    found = []
    literals = []
    for piece in _TOKEN.findall(template):
        if piece in CODES or piece == "%%":
            literals.append("0" * 10)  # as long as the longest of them
        elif piece.startswith("%"):
            found.append(f"unknown time code {piece!r} (there are {' '.join(CODES)} and %%)")
            literals.append("0")
        elif piece in ("{", "}"):
            found.append(f"a {piece!r} without its other half")
        elif piece.startswith("{"):
            if not piece[1:-1].strip():
                found.append("'{}' without a header's name")
            literals.append("0" * VALUE_BYTES_MAX)
        else:
            literals.append(piece)
    text = "".join(literals)
    if text != text.strip("/") or "//" in text:
        found.append("an empty directory name: a '/' at the start or end, or two together")
    if any(segment.startswith(".") for segment in text.split("/")):
        found.append("a name that begins with '.'")
    if any(segment != segment.strip() for segment in text.split("/")):
        found.append("a name with blanks at an end")
    odd = sorted({char for char in text if char in ":\\" or not char.isprintable()})
    if odd:
        found.append(f"characters that not every store takes: {', '.join(map(repr, odd))}")
    if any(len(segment.encode(errors="replace")) > NAME_BYTES_MAX for segment in text.split("/")):
        found.append(f"a name that can have more than {NAME_BYTES_MAX} bytes")
    return found


def header_names(template: str) -> frozenset[str]:
    """Names of the headers that a template asks for."""
    return frozenset(part.text for part in _parts(template) if part.kind == "header")


def granularity(template: str) -> float:
    """Seconds that two times can be apart at most and be sure of one path, when both lie in one
    such stretch aligned to UTC; `inf` for a template without time codes."""
    return min(
        (CODES[part.text] for part in _parts(template) if part.kind == "time"), default=math.inf
    )


def fits(template: str, bucket_s: float) -> bool:
    """Whether all events of one time bucket of `bucket_s` seconds belong to one path."""
    stretch = granularity(template)
    return stretch == math.inf or (bucket_s > 0 and stretch % bucket_s == 0)


def render(template: str, headers: Mapping[str, str], time_ms: int) -> str:
    """The path for a batch: no leading or trailing "/"; empty for an empty template.
    `template` has no problems. BatchError where no calendar has that time."""
    moment: datetime | None = None
    pieces = []
    for part in _parts(template):
        if part.kind == "text":
            pieces.append(part.text)
        elif part.kind == "header":
            pieces.append(safe(headers.get(part.text, "")))
        else:
            moment = moment or _moment(time_ms)
            pieces.append(_format(moment, part.text))
    return "".join(pieces)


def day_name(time_ms: int) -> str:
    """The UTC day of a time in ms: `"2026-11-23"`. BatchError where no calendar has it."""
    return _format(_moment(time_ms), "%F")


def safe(value: str) -> str:
    """A header's value as (part of) one file name: never empty, no "/" and no leading dot.
    A value that becomes too long is cut and ends with "~" and a hash of all of it."""
    if not value:
        return UNKNOWN
    text = "".join(_encode(char) for char in value)
    if text.startswith("."):
        text = "%2E" + text[1:]
    if len(text.encode()) <= VALUE_BYTES_MAX:
        return text
    digest = hashlib.blake2b(value.encode(errors="replace"), digest_size=8).hexdigest()
    head = text.encode()[: VALUE_BYTES_MAX - len(digest) - 1].decode(errors="ignore")
    return f"{head}~{digest}"


def _encode(char: str) -> str:
    if char.isprintable() and char not in _ENCODED:
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode(errors="replace"))


def _parts(template: str) -> list[_Part]:
    parts = []
    for piece in _TOKEN.findall(template):
        if piece in CODES:
            parts.append(_Part("time", piece))
        elif piece.startswith("{") and piece.endswith("}") and piece[1:-1].strip():
            parts.append(_Part("header", piece[1:-1]))
        else:
            parts.append(_Part("text", "%" if piece == "%%" else piece))
    return parts


def _moment(time_ms: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError as error:
        raise BatchError(f"no calendar has the time {time_ms} ms after 1970") from error


def _format(moment: datetime, code: str) -> str:
    # strftime's %Y and %G do not pad years below 1000 everywhere; ours are never below 1970.
    return moment.strftime("%Y-%m-%d" if code == "%F" else code)
