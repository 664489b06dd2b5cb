"""Opens published files and counts what is in them, for `tiers audit --files`."""

import io
import zlib
from typing import Any, Final

import zstandard
from isal import igzip

from tiers.core.manifest import Manifest
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.stores.store import Store

_BLOCK_BYTES: Final = 1 << 20


def check_file(store: Store, manifest: Manifest) -> str | None:
    """What is wrong with a published file: empty where it is what its manifest says, None where
    there is no such file any more."""
    try:
        data = store.read(manifest.path)
    except (StoreUnavailable, StoreRefused) as error:
        return f"{manifest.path}: {error}"
    if data is None:
        return None
    if len(data) != manifest.size_bytes:
        return f"{manifest.path}: {len(data)} bytes; its manifest says {manifest.size_bytes}"
    try:
        events = count_events(data, manifest.codec)
    except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError) as error:
        return f"{manifest.path}: cannot be opened as {manifest.codec}: {error}"
    wanted = sum(item.events for item in manifest.items)
    if events != wanted:
        return f"{manifest.path}: {events} events; its manifest says {wanted}"
    return ""


def count_events(data: bytes, codec: str) -> int:
    """Lines in a file of that codec. What decompressors raise is the caller's."""
    events = 0
    with _opened(data, codec) as file:
        while block := file.read(_BLOCK_BYTES):
            events += block.count(b"\n")
    return events


def _opened(data: bytes, codec: str) -> Any:
    """Something with `read`, and a context manager."""
    raw = io.BytesIO(data)
    if codec == "gzip":
        return igzip.open(raw)  # type: ignore[no-untyped-call]
    if codec == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    return raw
