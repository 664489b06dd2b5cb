"""Batches that a stranger seals by hand: a right checksum over whatever it likes.

Each variant has a fate: `rejected` where it comes in, `dead` where a sink opens it, `published`.
"""

import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgpack
import zstandard

from tiers.core.batch import verify

ORIGIN: Final = b"stranger's batch"
AT: Final = 1_795_424_645_678  # 2026-11-23T09:04:05.678Z
LINES: Final = b"".join(b"line %d of a stranger\n" % number for number in range(200))
Fate = Literal["rejected", "dead", "published", "waits"]


@dataclass(frozen=True)
class Sealed:
    """What an envelope says, and the body that comes with it. `...` leaves an entry out."""

    seq: int
    body: bytes
    count: object = None  # the body's newlines
    size: object = None  # the body's length
    codec: object = "none"
    headers: object = field(default_factory=lambda: {"service": "stranger"})
    sealed: object = AT
    time: object = AT
    framing: object = "lines"


def sealed(batch: Sealed) -> bytes:
    """The record, its checksum right."""
    size = len(batch.body) if batch.size is None else batch.size
    entries: dict[str, object] = {
        "origin": ORIGIN,
        "seq": batch.seq,
        "count": max(1, batch.body.count(b"\n")) if batch.count is None else batch.count,
        "size": size,
        "headers": batch.headers,
        "sealed": batch.sealed,
        "time": batch.time,
        "framing": batch.framing,
        "codec": batch.codec,
    }
    packer = msgpack.Packer(autoreset=False)
    entries = {key: value for key, value in entries.items() if value is not ...}
    packer.pack_map_header(len(entries) + 1)
    for key, value in entries.items():
        packer.pack(key)
        packer.pack(value)
    covered: bytes = packer.bytes()
    crc = zlib.crc32(covered, zlib.crc32(batch.body))
    envelope = covered + b"\xa3crc\xce" + struct.pack(">I", crc)
    return struct.pack(">I", len(envelope)) + envelope + batch.body


def verified(record: bytes) -> bytes:
    """The record, which a receiver takes."""
    verify(record)
    return record


@dataclass(frozen=True)
class Variant:
    """One thing that a stranger may do."""

    name: str
    fate: Fate
    says: str  # in the reason
    fields: Mapping[str, Any]
    lines: bytes = LINES  # of what is published

    def sealed(self, seq: int) -> Sealed:
        return Sealed(seq, **self.fields)


def _zstd(raw: bytes = LINES, **options: Any) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, **options)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(raw)


def _streamed(raw: bytes, **options: Any) -> bytes:
    """A zstd frame that says neither its content's size nor fits its window to it."""
    parameters = zstandard.ZstdCompressionParameters(write_content_size=0, **options)
    into = io.BytesIO()
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with compressor.stream_writer(into, closefd=False) as writer:
        writer.write(raw)
    return into.getvalue()


def _with_dictionary() -> bytes:
    """Which its decoder has to have."""
    samples: list[bytes | bytearray | memoryview] = []
    samples += (LINES[at : at + 400] for at in range(0, len(LINES) - 400, 40))
    trained = zstandard.train_dictionary(1024, samples * 8)
    assert trained.dict_id()
    return zstandard.ZstdCompressor(dict_data=trained).compress(LINES)


def _member(raw: bytes = LINES, flags: int = 0, extra: bytes = b"", **wrong: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\xff" + extra
    crc, size = wrong.get("crc", zlib.crc32(raw)), wrong.get("size", len(raw))
    return header + packer.compress(raw) + packer.flush() + struct.pack("<II", crc, size)


RESERVED: Final = _member(flags=0xE0)  # opens for some
_NOISE: Final = random.Random(12).randbytes(5000)
_SKIPPABLE: Final = struct.pack("<II", 0x184D2A50, 7) + b"skipped"
_HALF: Final = LINES.index(b"\n", len(LINES) // 2) + 1
_BODIES: Final[Mapping[str, Callable[[], Mapping[str, bytes]]]] = {
    # Made of LINES, and open to it.
    "published": lambda: {
        "zstd": _zstd(),
        "zstd with a checksum": _zstd(write_checksum=1),
        "zstd in a stream": _streamed(LINES, window_log=20),
        "zstd of several frames": _zstd(LINES[:_HALF]) + _zstd(LINES[_HALF:]),
        "zstd of many frames": b"".join(map(_zstd, LINES.splitlines(keepends=True))),
        "zstd with frames that are skipped": _SKIPPABLE + _zstd() + _SKIPPABLE,
        "zstd with an empty frame": _zstd(b"") + _zstd() + _zstd(b""),
        "gzip": _member(),
        "gzip of several members": _member(LINES[:_HALF]) + _member(LINES[_HALF:]),
        "gzip with an empty member": _member(b"") + _member(),
        "gzip with a name": _member(flags=8, extra=b"name\0"),
        "none": LINES,
    },
    # Made of LINES too, and do not open to it, or not for everybody.
    "dead": lambda: {
        "zstd that is none": _NOISE,
        "zstd that is gzip": _member(),
        "zstd cut short": _zstd()[:-1],
        "zstd without its end": _zstd()[: len(_zstd()) // 2],
        "zstd cut in its second frame": _zstd(LINES[:_HALF]) + _zstd(LINES[_HALF:])[:-9],
        "zstd with something behind it": _zstd() + b"behind it",
        "zstd with zeros behind it": _zstd() + bytes(8),
        "zstd with one frame too many": _zstd() + _zstd(b"more\n"),
        "zstd in zstd": _zstd(_zstd()),
        "zstd of skipped frames only": _SKIPPABLE * 3,
        "zstd with a wrong checksum": _zstd(write_checksum=1)[:-1] + b"\0",
        "zstd with a dictionary": _with_dictionary(),
        "zstd with a window of 128 MiB": _streamed(LINES, window_log=27),
        "zstd with a window of 32 MiB": _streamed(LINES, window_log=25),
        "zstd of a gigabyte": _zstd(bytes(16 << 20)) * 64,
        "zstd, empty": b"",
        "gzip that is none": _NOISE,
        "gzip that is zstd": _zstd(),
        "gzip cut short": _member()[:-1],
        "gzip without its end": _member()[: len(_member()) // 2],
        "gzip with something behind it": _member() + b"behind it",
        "gzip with zeros behind it": _member() + bytes(512),
        "gzip with one member too many": _member() + _member(b"more\n"),
        "gzip in gzip": _member(_member()),
        "gzip with a wrong checksum": _member(crc=1),
        "gzip with a wrong length": _member(size=1),
        "gzip with a wrong checksum of its header": _member(flags=2, extra=b"\1\2"),
        "gzip of too many members": _member(b"") * 100 + _member(),
        "gzip of a gigabyte": _member(bytes(16 << 20)) * 64,
        "gzip, empty": b"",
        "none of another size": LINES + b"and a line\n",
        "none, shorter": LINES[:_HALF],
        "none, empty": b"",
    },
}


def _of_bodies(fate: Fate) -> list[Variant]:
    told = {"count": LINES.count(b"\n"), "size": len(LINES)}
    return [
        Variant(name, fate, "", {"body": body, "codec": name.split()[0].strip(","), **told})
        for name, body in _BODIES[fate]().items()
    ]


def _lying(name: str, says: str, raw: bytes, **told: object) -> list[Variant]:
    bodies = {"none": raw, "gzip": gzip.compress(raw, mtime=0), "zstd": _zstd(raw)}
    return [
        Variant(f"{name}, {codec}", "dead", says,
                {"body": body, "codec": codec, "size": len(raw), "count": raw.count(b"\n"), **told})
        for codec, body in bodies.items()
    ]  # fmt: skip


def _rejected(name: str, says: str, **fields: object) -> Variant:
    return Variant(name, "rejected", says, {"body": LINES, **fields})


def _newer(name: str, **fields: object) -> Variant:
    return Variant(name, "waits", "newer", {"body": LINES, **fields})


def _headers(name: str, headers: object) -> Variant:
    return Variant(name, "published", "", {"body": LINES, "headers": headers})


VARIANTS: Final = [
    *_of_bodies("published"),
    *_of_bodies("dead"),
    *_lying("a size that is less", "opens to", LINES, size=len(LINES) - 1),
    *_lying("a size that is more", "opens to", LINES, size=len(LINES) + 1),
    *_lying("a count that is less", "200 lines", LINES, count=199),
    *_lying("a count that is more", "200 lines", LINES, count=201),
    *_lying("a last line that does not end", "newline", LINES + b"rest", count=200),
    *_lying("no line at all", "newline", b"x" * 100, count=1),
    Variant("events that are no lines", "dead", "", {"body": _NOISE, "framing": "lines"}),
    _rejected("a size beyond the format's limit", "size", size=(16 << 20) + 1),
    _rejected("a size of a gigabyte", "size", size=1 << 30),
    _rejected("a size of nothing", "size", size=0),
    _rejected("a size below nothing", "size", size=-1),
    _rejected("no size", "size", size=...),
    _rejected("a count of nothing", "count", count=0),
    _rejected("a count beyond all", "count", count=2**40),
    _newer("a codec that is not known yet", codec="lzma"),
    _newer("a framing that is not known yet", framing="columns"),
    _newer("neither is known, in the longest words", framing="a" * 32, codec="a.b-c_9"),
    *(
        _rejected(f"a {name} that is no word: {what}", name, **{name: word})
        for name in ("framing", "codec")
        for what, word in {
            "a list": ["zstd"],
            "nothing": None,
            "missing": ...,
            "empty": "",
            "capitals": "Zstd",
            "a digit first": "7z",
            "too long": "a" * 33,
            "a path": "../zstd",
            "a line": "zstd\n",
            "no ASCII": "zstd\u0663",
            "half a surrogate pair": b"\xed\xa0\x80",
            "a number": 1,
        }.items()
    ),
    *(
        _rejected(f"{name}: {what}", f"{name} is", **{name: at})
        for name in ("sealed", "time")
        for what, at in {
            "year 10000": 253_402_300_800_000,
            "year 0": -62_167_219_200_000,
            "before 1970": -1,
            "2**53": 2**53,
            "2**62": 2**62,
            "2**64 - 1": 2**64 - 1,
            "no number": "now",
            "nothing": None,
            "a fraction": AT + 0.5,
        }.items()
    ),
    _rejected("a header beyond its limit", "header", headers={"service": "x" * 4097}),
    _rejected("headers that are no texts", "header", headers={"service": b"\0"}),
    _rejected("too many headers", "headers", headers={str(n): "" for n in range(65)}),
    Variant("sealed in 1970", "published", "", {"body": LINES, "sealed": 0, "time": 0}),
    Variant("a time in 9999", "published", "", {"body": LINES, "time": 253_402_300_799_999}),
    _headers("a header of all the bytes there may be", {"service": "x" * 4096}),
    _headers("a header longer than a name", {"service": "x" * 256}),
    _headers("a header that leads up", {"service": ".."}),
    _headers("a header that leads far up", {"service": "../../../../etc/passwd"}),
    _headers("a header that is here", {"service": "."}),
    _headers("a header that is the root", {"service": "/"}),
    _headers("a header with NUL", {"service": "a\0b"}),
    _headers("a header with newlines", {"service": "a\r\nb"}),
    _headers("a header of the sinks' own", {"service": ".tiers"}),
    _headers("an empty header", {"service": ""}),
    _headers("no headers", {}),
    _headers("a header in capitals", {"service": "Stranger"}),
    _headers("a header that is composed", {"service": "caf\u00e9"}),
    _headers("a header that is decomposed", {"service": "cafe\u0301"}),
    _headers("a header with a space at its end", {"service": "stranger "}),
    _headers("a header with a dot at its end", {"service": "stranger."}),
    _headers("a header that turns around", {"service": "a\u202egol"}),
]  # fmt: skip
