"""Compressed files, opened to their very end."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, BinaryIO

import zstandard
from isal import igzip

from tiers.core import zstd_frames


def pieces(raw: BinaryIO, codec: str, block_bytes: int) -> Iterator[bytes]:
    """What a file holds that is whole frames or members of that codec, one after the other.
    EOFError where the last one ends early; what decompressors raise is the caller's."""
    with _opened(raw, codec) as file:
        while piece := file.read(block_bytes):
            yield piece

    def at(offset: int, size: int) -> bytes:
        raw.seek(offset)
        return raw.read(size)

    # zstd's own reader is content with a part of a frame.
    if codec == "zstd" and zstd_frames.is_cut_off(at):
        raise EOFError("a zstd frame ends early")


def _opened(raw: BinaryIO, codec: str) -> Any:
    """Something with `read`, and a context manager."""
    if codec == "gzip":
        return igzip.open(raw)  # type: ignore[no-untyped-call]
    if codec == "zstd":
        frames = zstandard.ZstdDecompressor()
        return frames.stream_reader(raw, read_across_frames=True, closefd=False)
    return nullcontext(raw)
