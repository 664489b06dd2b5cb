"""A channel of another format, told before anything is written: it is whole, for the version that
wrote it, and only that one can deliver what it holds.

Read without LMDB, since what is there may be damaged instead. Only what is beyond doubt counts: a
number behind a checksum that is right, or one that both meta pages agree upon.
"""

import struct
from pathlib import Path
from typing import Final

from tiers.channel.layout import FORMAT, IDENTITY, format_of, unguard
from tiers.channel.salvage.pages import PageFile, databases
from tiers.errors import ChannelDamaged, UsageError

_LMDB: Final = 1  # MDB_DATA_VERSION of LMDB 0.9
_IDENTITY_BYTES_MAX: Final = 4096


def refuse_foreign(data: Path) -> None:
    """UsageError where the file is of a format that this version does not read."""
    wrong = _foreign(data) if data.is_file() else ""
    if wrong:
        raise UsageError(
            f"{data.parent} {wrong}: nothing was changed; drain it with the version that wrote "
            "it, or begin a new one in another directory"
        )


def _foreign(data: Path) -> str:
    pages = PageFile(data)
    try:
        versions = pages.lmdb_versions()
        if len(versions) == 2 and len(set(versions)) == 1 and versions[0] != _LMDB:
            return f"is of LMDB's data version {versions[0]}; this one reads {_LMDB}"
        told = _told_format(pages)
        if told is not None and told != FORMAT:
            return f"has format {told}; this version reads {FORMAT}"
        return ""
    except struct.error:  # too damaged to tell
        return ""
    finally:
        pages.close()


def _told_format(pages: PageFile) -> int | None:
    for meta in pages.metas():
        tree = databases(pages, meta).get("meta")
        for node in pages.walk(tree) if tree is not None else ():
            if node.key == IDENTITY:
                stored = pages.read(node.offset, min(node.size, _IDENTITY_BYTES_MAX))
                try:
                    return format_of(unguard("meta", IDENTITY, stored))
                except ChannelDamaged:
                    continue
    return None
