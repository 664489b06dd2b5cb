"""Where things lie in a store (commit.md, "In the store"): names from values, and back.

    <root>/<path>/<writer>-<file id>.<ext>            published files, nothing else
    <root>/.tiers/store-id                            compared by agents that share the store
    <root>/.tiers/<day>/tmp/<writer>-<file id>        being written, or written and not published
    <root>/.tiers/<day>/tmp/<writer>-<number>.small   being staged: never counts as a file's tmp
    <root>/.tiers/<day>/manifests/<writer>-<file id>  its intent, then its record
    <root>/.tiers/<day>/void/<writer>-<file id>       this file will never be published
    <root>/.tiers/<day>/claims/<origin>-<seq>         a sink's claim on a flagged batch
    <root>/.tiers/closed/<day>                        this day takes no more claims and files
    <root>/.tiers/trash/<day>-<number>                a day that is being removed

`<day>` is a UTC day, "2026-11-23", or a later *generation* of it, "2026-11-23.1": what still comes
for a day that was closed.

A *writer* is a sink in one start of its channel: `<sink>.<start>`. A claim names the sink alone.
All paths are relative to the store's root.
"""

import re
from collections.abc import Container
from typing import Final

from tiers.core.batch import BatchId
from tiers.core.paths import safe

OWN: Final = ".tiers"
STORE_ID: Final = f"{OWN}/store-id"
CLOSED: Final = f"{OWN}/closed"
TRASH: Final = f"{OWN}/trash"
FILE_ID_MAX: Final = 10**10 - 1
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d(\.\d+)?")
_FILE: Final = re.compile(r"(.+)-(\d{10})")


def sink_name(agent: str, output: str, channel_id: bytes) -> str:
    """A sink's name: after a lost disk, and so with another channel, it is another sink."""
    return f"{safe(agent)}.{safe(output)}.{channel_id.hex()[:16]}"


def start_name(start: bytes) -> str:
    """The start of a channel, in names."""
    return start.hex()[:16]


def writer_name(sink: str, start: str) -> str:
    """A sink in one start of its channel: what two lives of a disk write never has one name."""
    return f"{sink}.{start}" if start else sink


def file_name(writer: str, file_id: int) -> str:
    """A file's name in `tmp`, `manifests` and `void`; the published one adds an extension."""
    assert 0 < file_id <= FILE_ID_MAX, file_id
    return f"{writer}-{file_id:010d}"


def split_file_name(name: str) -> tuple[str, int] | None:
    """Writer and file id of a name that `file_name` made; None for any other name."""
    match = _FILE.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def is_day(name: str) -> bool:
    """Whether a name in `.tiers` is a day's (with its generation, if any)."""
    return _DAY.fullmatch(name) is not None


def tmp_path(day: str, name: str) -> str:
    return f"{OWN}/{day}/tmp/{name}"


def small_path(day: str, writer: str, number: int) -> str:
    """Where a small file is staged before it is moved into place; `number` is drawn anew."""
    return f"{OWN}/{day}/tmp/{writer}-{number:016x}.small"


def manifest_path(day: str, name: str) -> str:
    return f"{OWN}/{day}/manifests/{name}"


def void_path(day: str, name: str) -> str:
    return f"{OWN}/{day}/void/{name}"


def claims_path(day: str) -> str:
    return f"{OWN}/{day}/claims"


def manifests_path(day: str) -> str:
    return f"{OWN}/{day}/manifests"


def claim_name(batch: BatchId) -> str:
    return f"{batch.origin.hex()}-{batch.seq}"


def claim_path(day: str, batch: BatchId) -> str:
    return f"{claims_path(day)}/{claim_name(batch)}"


def closed_path(day: str) -> str:
    return f"{CLOSED}/{day}"


def trash_path(day: str, number: int) -> str:
    return f"{TRASH}/{day}-{number:016x}"


def generations(day: str) -> list[str]:
    """A day's generations up to this one: "2026-11-23.2" -> its day, ".1" and itself."""
    first, _, number = day.partition(".")
    return [first, *(f"{first}.{n}" for n in range(1, int(number or 0) + 1))]


def is_later_generation(day: str) -> bool:
    return "." in day


def open_generation(day: str, closed: Container[str]) -> str:
    """The generation in which batches of a day are published: the first that is not closed."""
    name, number = day, 0
    while name in closed:
        number += 1
        name = f"{day}.{number}"
    return name


def staged_mark_path(number: int) -> str:
    return f"{OWN}/tmp/closed-{number:016x}.small"


def staged_store_id_path(number: int) -> str:
    return f"{OWN}/tmp/store-id-{number:016x}.small"
