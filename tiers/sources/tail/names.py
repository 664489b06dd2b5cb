"""Names that rotation gives: the log's own with numbers and dates put before, after or inside.

    app.log.1   app.log-20261123   app.log.2026-11-23_14h   app.log.20261126T120000Z
    app-1.log   app-20261123.log   app.2026-11-23.0.log     app-23-Nov-2026.log   1.app.log
    app.log-2026-11-23-1.log       and each of them, and app.log, with .gz, .zst, ... at its end

A name that differs by anything else (`app.log.tail`, `app.log.all`) is another file.
"""

import re
from functools import lru_cache
from typing import Final

_COMPRESSED: Final = re.compile(
    r"\.(?:gz|bgz|zst|zstd|bz|bz2|xz|lzma|lz|lz4|lzo|sz|br|Z|zip|7z)\Z", re.IGNORECASE
)
_READABLE: Final = (".gz", ".zst", ".zstd", ".bz2", ".xz")
_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DIGITS: Final = r"\d[\d._:T+-]*"
_STAMP: Final = rf"(?:{_MONTH}[._-]?)?{_DIGITS}(?:{_MONTH}[\d._:T+-]*)?[Zh]?"
_INSERTED: Final = re.compile(rf"[._-]+{_STAMP}")
_BEFORE: Final = re.compile(rf"{_STAMP}[._-]+")
_DATE_INSIDE: Final = re.compile(r"(?:19|20)\d{6}(?:\d{2}|\d{4}|\d{6})?")  # with nothing before it
_CACHED_MAX: Final = 1 << 14  # names are asked for at each look
_BEGIN: Final = re.compile(r"[._-]+|(?<!\d)(?=\d)")  # of what may have been put in


def is_compressed(name: str) -> bool:
    """By its name alone: what is in it is another question."""
    return _COMPRESSED.search(name) is not None


def is_readable(name: str) -> bool:
    """Whether a compressed file of this name will be one that we can read, once it is there."""
    return name.lower().endswith(_READABLE)


@lru_cache(_CACHED_MAX)
def is_rotated(name: str, base: str) -> bool:
    """Whether rotation may have made `name` of `base`."""
    if is_added(name, base):
        return True
    name = _COMPRESSED.sub("", name)
    if name.endswith(base) and _BEFORE.fullmatch(name, 0, len(name) - len(base)):
        return True
    for at in (at for at, letter in enumerate(base) if letter == "." and at):
        if name.startswith(base[:at]) and name.endswith(base[at:]):
            end = len(name) - (len(base) - at)
            if end > at and (
                _INSERTED.fullmatch(name, at, end) or _DATE_INSIDE.fullmatch(name, at, end)
            ):
                return True
    return False


@lru_cache(_CACHED_MAX)
def is_added(name: str, base: str) -> bool:
    """Whether it is the whole of `base` and then numbers or dates: no log has such a name of its
    own. `app-1.log` may also be another log beside `app.log`."""
    bare = _COMPRESSED.sub("", name)
    if not bare.startswith(base) or name == base:
        return False
    if bare == base:
        return True
    _, dot, extension = base.rpartition(".")
    ends = [len(bare)]
    if dot and bare.endswith(dot + extension):
        ends.append(len(bare) - len(dot + extension))
    return any(
        end > len(base)
        and (
            _INSERTED.fullmatch(bare, len(base), end)
            or _DATE_INSIDE.fullmatch(bare, len(base), end)
        )
        for end in ends
    )


@lru_cache(_CACHED_MAX)
def candidates(name: str) -> tuple[str, ...]:
    """Of what rotation may have made `name`: every base that `is_rotated` says yes to, and some
    more. Few, however many logs lie beside each other."""
    bare = _COMPRESSED.sub("", name)
    begins = [found.start() for found in _BEGIN.finditer(bare) if found.start()]
    ends = [at for at, letter in enumerate(bare) if letter == "."]
    found = dict.fromkeys(bare[:at] for at in begins)
    cuts = ((begin, end) for begin in begins for end in ends if end > begin)
    found |= dict.fromkeys(bare[:begin] + bare[end:] for begin, end in cuts)
    found |= dict.fromkeys(bare[at + 1 :] for at, letter in enumerate(bare) if letter in "._-")
    if bare != name:
        found[bare] = None
    found.pop("", None)
    return tuple(found)
