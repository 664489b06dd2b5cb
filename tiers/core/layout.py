"""Where things lie in a store (commit.md, "In the store"): names from values, and back.

    <root>/<path>/<sink>-<file id>.<ext>              published files, nothing else
    <root>/.tiers/store-id                            compared by agents that share the store
    <root>/.tiers/<day>/tmp/<sink>-<file id>          being written, or written and not published
    <root>/.tiers/<day>/tmp/<sink>-<number>.small     being staged: never counts as a file's tmp
    <root>/.tiers/<day>/manifests/<sink>-<file id>    its intent, then its record
    <root>/.tiers/<day>/void/<sink>-<file id>         this file will never be published

All paths are relative to the store's root.
"""

import re
from typing import Final

from tiers.core.paths import safe

OWN: Final = ".tiers"
STORE_ID: Final = f"{OWN}/store-id"
FILE_ID_MAX: Final = 10**10 - 1
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d(\.\d+)?")
_FILE: Final = re.compile(r"(.+)-(\d{10})")


def sink_name(agent: str, output: str, channel_id: bytes) -> str:
    """A sink's name: after a lost disk, and so with another channel, it is another sink."""
    return f"{safe(agent)}.{safe(output)}.{channel_id.hex()[:16]}"


def file_name(sink: str, file_id: int) -> str:
    """A file's name in `tmp`, `manifests` and `void`; the published one adds an extension."""
    assert 0 < file_id <= FILE_ID_MAX, file_id
    return f"{sink}-{file_id:010d}"


def split_file_name(name: str) -> tuple[str, int] | None:
    """Sink and file id of a name that `file_name` made; None for any other name."""
    match = _FILE.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def is_day(name: str) -> bool:
    """Whether a name in `.tiers` is a day's (with its generation, if any)."""
    return _DAY.fullmatch(name) is not None


def tmp_path(day: str, name: str) -> str:
    return f"{OWN}/{day}/tmp/{name}"


def small_path(day: str, sink: str, number: int) -> str:
    """Where a small file is staged before it is moved into place; `number` is drawn anew."""
    return f"{OWN}/{day}/tmp/{sink}-{number:016x}.small"


def manifest_path(day: str, name: str) -> str:
    return f"{OWN}/{day}/manifests/{name}"


def void_path(day: str, name: str) -> str:
    return f"{OWN}/{day}/void/{name}"


def staged_store_id_path(number: int) -> str:
    return f"{OWN}/tmp/store-id-{number:016x}.small"
