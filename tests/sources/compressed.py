"""Compressed files as programs of the world make them, each with the text that it opens to."""

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import zstandard

Pack = Callable[[bytes], bytes]

KINDS: Final[dict[str, Pack]] = {
    ".gz": partial(gzip.compress, mtime=0),
    ".bz2": bz2.compress,
    ".xz": partial(lzma.compress, preset=0),
    ".zst": zstandard.compress,
    ".zst, a checksum and no size": zstandard.ZstdCompressor(
        write_checksum=True, write_content_size=False
    ).compress,
}
_RANDOM: Final = Random(3)  # text that packs badly, the same in every run
TEXT: Final = _RANDOM.randbytes(3000).hex().encode() * 20 + bytes(1 << 20)
LINES: Final = b"".join(b"%d %s\n" % (i, _RANDOM.randbytes(9).hex().encode()) for i in range(4000))
ZEROS: Final = bytes(512)


def skippable(data: bytes, low: int = 0) -> bytes:
    """RFC 8878, section 3.1.2: pzstd puts one before each frame, the seekable format one behind."""
    return struct.pack("<II", 0x184D2A50 | low, len(data)) + data


def gzip_member(text: bytes, flags: int = 0, fields: bytes = b"") -> bytes:
    """RFC 1952, section 2.3, with what its optional fields hold."""
    packed = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packed.compress(text) + packed.flush()
    head = b"\x1f\x8b\x08" + bytes((flags,)) + b"\0\0\0\0\0\x03" + fields
    if flags & 2:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    return head + body + struct.pack("<II", zlib.crc32(text), len(text) & 0xFFFFFFFF)


def bgzf(text: bytes) -> bytes:
    """As bgzip writes it: members of 64 KiB that say their size, and an empty one at the end."""
    parts = [text[at : at + 0xFF00] for at in range(0, len(text), 0xFF00)]
    blocks = []
    for part in [*parts, b""]:
        size = len(gzip_member(part, 4, b"\6\0BC\2\0\0\0")) - 1
        blocks.append(gzip_member(part, 4, b"\6\0BC\2\0" + struct.pack("<H", size)))
    return b"".join(blocks)


def flushed(text: bytes, mode: int) -> bytes:
    """As pigz, `gzip --rsyncable` and log writers that flush do."""
    packed = zlib.compressobj(6, zlib.DEFLATED, 31)
    pieces = [text[at : at + 10_000] for at in range(0, len(text), 10_000)]
    return b"".join(packed.compress(p) + packed.flush(mode) for p in pieces) + packed.flush()


def zstd_flushed(text: bytes) -> bytes:
    packed = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    pieces = [text[at : at + 10_000] for at in range(0, len(text), 10_000)]
    block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    return b"".join(packed.compress(p) + packed.flush(block) for p in pieces) + packed.flush()


def by_line(pack: Pack, text: bytes) -> bytes:
    """Each line appended as a stream of its own."""
    return b"".join(pack(line) for line in text.splitlines(keepends=True)[:300])


def _variants(name: str, pack: Pack) -> dict[str, tuple[bytes, bytes]]:
    return {
        f"{name}: one": (pack(LINES), LINES),
        f"{name}: long": (pack(TEXT), TEXT),
        f"{name}: empty": (pack(b""), b""),
        f"{name}: two": (pack(LINES) + pack(TEXT), LINES + TEXT),
        f"{name}: an empty one first": (pack(b"") + pack(LINES), LINES),
        f"{name}: an empty one last": (pack(LINES) + pack(b""), LINES),
        f"{name}: zeros behind": (pack(LINES) + ZEROS, LINES),
        f"{name}: zeros between": (pack(LINES) + ZEROS + pack(LINES), LINES * 2),
        f"{name}: one zero between": (pack(LINES) + b"\0" + pack(LINES), LINES * 2),
        f"{name}: many zeros between": (pack(LINES) + bytes(200_000) + pack(LINES), LINES * 2),
        f"{name}: line by line": (
            by_line(pack, LINES),
            b"".join(LINES.splitlines(keepends=True)[:300]),
        ),
    }


VARIANTS: Final[dict[str, tuple[bytes, bytes]]] = {
    **{key: value for name, pack in KINDS.items() for key, value in _variants(name, pack).items()},
    "gzip: a name": (gzip_member(LINES, 8, b"app.log.1\0"), LINES),
    "gzip: all its fields": (
        gzip_member(LINES, 1 | 2 | 4 | 8 | 16, b"\4\0AB\0\0app.log\0a comment\0"),
        LINES,
    ),
    "gzip: stored": (gzip.compress(LINES, 0, mtime=0), LINES),
    "gzip: best": (gzip.compress(LINES, 9, mtime=0), LINES),
    "gzip: bgzf": (bgzf(LINES), LINES),
    "gzip: flushed": (flushed(LINES, zlib.Z_SYNC_FLUSH), LINES),
    "gzip: flushed in full": (flushed(LINES, zlib.Z_FULL_FLUSH), LINES),
    "xz: no check": (lzma.compress(LINES, check=lzma.CHECK_NONE, preset=0), LINES),
    "xz: CRC32": (lzma.compress(LINES, check=lzma.CHECK_CRC32, preset=0), LINES),
    "xz: SHA-256": (lzma.compress(LINES, check=lzma.CHECK_SHA256, preset=0), LINES),
    "xz: a filter before": (
        lzma.compress(
            LINES,
            filters=[{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_LZMA2, "preset": 0}],
        ),
        LINES,
    ),
    "bzip2: small blocks": (bz2.compress(TEXT, 1), TEXT),
    "zstd: flushed": (zstd_flushed(LINES), LINES),
    "zstd: best": (zstandard.ZstdCompressor(level=19).compress(LINES), LINES),
    "zstd: skippable before": (skippable(b"ab") + zstandard.compress(LINES), LINES),
    "zstd: skippable between": (
        zstandard.compress(LINES) + skippable(b"", 15) + zstandard.compress(LINES),
        LINES * 2,
    ),
    "zstd: skippable behind": (zstandard.compress(LINES) + skippable(b"x" * 99, 14), LINES),
    "zstd: only skippable": (skippable(b"x" * 99), b""),
    "several kinds": (b"".join(pack(LINES) for pack in KINDS.values()), LINES * len(KINDS)),
}
