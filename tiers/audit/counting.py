"""Opens published files and counts what is in them, for `tiers audit --files`."""

import io
import zlib
from typing import Final

import zstandard

from tiers.contracts import Store
from tiers.errors import BatchError, StoreRefused, StoreUnavailable
from tiers.host.decompressed import pieces
from tiers.sinks.formats import FORMATS

_BLOCK_BYTES: Final = 1 << 20


def check_file(
    store: Store, path: str, codec: str, format: str, size_bytes: int, events: int
) -> str | None:
    """What is wrong with a published file: empty where it is what its manifest says, None where
    there is no such file any more."""
    if format not in FORMATS:
        return f"{path}: of the format {format!r}, which only a newer version opens"
    try:
        length = store.length(path)
        if length is not None and length != size_bytes:  # before it is read: it may be anything
            return f"{path}: {length} bytes; its manifest says {size_bytes}"
        data = None if length is None else store.read(path)
    except (StoreUnavailable, StoreRefused) as error:
        return f"{path}: {error}"
    if data is None:
        return None
    try:
        found = count_events(data, codec, format)
    except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError, BatchError) as error:
        return f"{path}: cannot be opened as {codec}: {error}"
    if found != events:
        return f"{path}: {found} events; its manifest says {events}"
    return ""


def count_events(data: bytes, codec: str, format: str) -> int:
    """Events in a file of that codec, which ends where a frame does. What decompressors raise is
    the caller's; BatchError where it is none of that format."""
    return FORMATS[format].count(pieces(io.BytesIO(data), codec, _BLOCK_BYTES))
