"""The unit of everything: a batch, sealed once at the edge and moved as bytes ever after.

A *record* is what travels and what a channel stores, the same bytes everywhere:

    +--------+----------------------------+---------------------------+
    | u32 BE | envelope                   | body                      |
    | length | (msgpack map, that length) | (compressed, to the end)  |
    +--------+----------------------------+---------------------------+

The envelope is a msgpack map whose last entry is the checksum, always written as a uint32, so
that the checksum's place is known without decoding:

    8x  "origin" bin16 | "seq" | "count" | "size" | ... unknown keys ... | a3 "crc" ce <u32 BE>
    \\________________________ covered by crc _________________________/

`crc` is the CRC-32 (IEEE 802.3, as in gzip, RFC 1952 section 8) of the body as stored, continued
over the envelope's bytes before the crc entry. Nobody ever writes an envelope anew: keys that a
newer version sealed are carried along untouched.
"""

import re
import reprlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgpack
from isal.isal_zlib import crc32

from tiers.errors import BatchError

Buffer = bytes | bytearray | memoryview

CODECS: Final = ("none", "gzip", "zstd")  # that this version opens; it carries any
_WORD: Final = re.compile(r"[a-z][a-z0-9_.-]{0,31}")  # the name of a framing or codec
ENVELOPE_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 64  # entries
HEADER_BYTES_MAX: Final = 4096  # of a name or a value, in UTF-8
HEADERS_BYTES_MAX: Final = 48 * 1024  # of all names and values
_ENTRIES_MAX: Final = 1024  # of any array or map in an envelope
BODY_SIZE_MAX: Final = 16 << 20  # raw bytes of a body: whoever publishes it has to open it
TIME_MS_MAX: Final = 253_402_300_799_999  # the last that a calendar of four digits has: year 9999
_LENGTH: Final = struct.Struct(">I")
_CRC_MARK: Final = b"\xa3crc\xce"
_CRC_ENTRY: Final = len(_CRC_MARK) + 4
_SEQ_BYTES_MAX: Final = 9


class BatchId(NamedTuple):
    """Given once, by the channel that stored the batch first, and kept through every tier."""

    origin: bytes  # 16 bytes, drawn anew each time that a channel is opened for work
    seq: int  # a counter from there on, from 1, without gaps

    def __str__(self) -> str:
        return f"{self.origin.hex()}-{self.seq}"


class Hop(NamedTuple):
    """An agent that stored the batch, and when (ms since the epoch, by that agent's clock)."""

    agent: str
    stored_ms: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is sealed with a body. Times are ms since the epoch; sizes are bytes. What no sink could
    ever publish is no envelope: a body beyond the format's limit, an empty one, a time that no
    calendar has. However old a time is, it is one. Framing and codec are words that only who opens
    the body needs to know: newer ones are carried by every tier."""

    origin: bytes
    seq: int
    count: int  # events, at least one
    size: int  # raw bytes of the body, at least one
    headers: Mapping[str, str]  # common to all events
    sealed: int  # by the edge's clock
    time: int  # the bucket time of the events
    framing: str
    codec: str
    crc: int = 0
    unknown: Mapping[str, object] = field(default_factory=dict)

    @property
    def id(self) -> BatchId:
        return BatchId(self.origin, self.seq)

    @property
    def day(self) -> int:
        """Days since the epoch (UTC) of sealing: where every sink looks for the batch."""
        return self.sealed // 86_400_000


class Unnumbered:
    """A batch that only wants its number to be sealed: what takes long is done before, perhaps in
    a thread. `envelope.seq` and `envelope.crc` are not looked at. Raises BatchError for headers or
    an envelope that no receiver would take."""

    def __init__(self, envelope: Envelope, body: Buffer) -> None:
        check_headers(envelope.headers)
        self.envelope = envelope
        self.body = body
        self._body_crc = crc32(body)
        self._before, self._after = _packed(envelope)
        length = len(self._before) + _SEQ_BYTES_MAX + len(self._after) + _CRC_ENTRY
        if length > ENVELOPE_BYTES_MAX:
            raise BatchError(f"envelope of {length} bytes; at most {ENVELOPE_BYTES_MAX}")

    def seal(self, seq: int) -> bytes:
        """The record of the batch."""
        number: bytes = msgpack.packb(seq)
        covered = b"".join((self._before, number, self._after))
        crc = crc32(covered, self._body_crc)
        length = len(covered) + _CRC_ENTRY
        return b"".join((_LENGTH.pack(length), covered, _CRC_MARK, _LENGTH.pack(crc), self.body))


def seal(envelope: Envelope, body: Buffer) -> bytes:
    """The record of a new batch. `envelope.crc` is not looked at. Raises BatchError, as
    `Unnumbered` does."""
    return Unnumbered(envelope, body).seal(envelope.seq)


def _packed(envelope: Envelope) -> tuple[bytes, bytes]:
    """An envelope's bytes before its number, and behind it up to the checksum."""
    entries: dict[str, object] = {
        "count": envelope.count,
        "size": envelope.size,
        "headers": dict(envelope.headers),
        "sealed": envelope.sealed,
        "time": envelope.time,
        "framing": envelope.framing,
        "codec": envelope.codec,
        **envelope.unknown,
    }
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(entries) + 3)
    packer.pack("origin")
    packer.pack(envelope.origin)
    packer.pack("seq")
    before: bytes = packer.bytes()
    packer.reset()
    for key, value in entries.items():
        packer.pack(key)
        packer.pack(value)
    return before, packer.bytes()


def split(record: Buffer) -> tuple[memoryview, memoryview]:
    """Envelope and body of a record, not copied. Raises BatchError."""
    view = memoryview(record)
    if len(view) < _LENGTH.size:
        raise BatchError(f"record of {len(view)} bytes is too short to be one")
    (length,) = _LENGTH.unpack_from(view)
    if length > ENVELOPE_BYTES_MAX or _LENGTH.size + length > len(view):
        raise BatchError(f"envelope length {length} does not fit its record of {len(view)} bytes")
    return view[_LENGTH.size : _LENGTH.size + length], view[_LENGTH.size + length :]


def open_envelope(record: Buffer) -> Envelope:
    """The envelope of a record, each field's type and range checked, the checksum not.
    Raises BatchError."""
    data, _ = split(record)
    try:
        entries = msgpack.unpackb(
            data, strict_map_key=True, max_map_len=_ENTRIES_MAX, max_array_len=_ENTRIES_MAX
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BatchError(f"envelope is not msgpack: {error}") from error
    if not isinstance(entries, dict):
        raise BatchError("envelope is not a map")
    return _envelope(entries)


def verify(record: Buffer) -> Envelope:
    """The envelope of a record whose checksum was compared. Raises BatchError."""
    envelope = open_envelope(record)
    data, body = split(record)
    if bytes(data[-_CRC_ENTRY:]) != _CRC_MARK + _LENGTH.pack(envelope.crc):
        raise BatchError("envelope does not end with its checksum")
    crc = crc32(data[:-_CRC_ENTRY], crc32(body))
    if crc != envelope.crc:
        raise BatchError(f"checksum of batch {envelope.id} is {crc:#x}, sealed {envelope.crc:#x}")
    return envelope


def check(record: Buffer) -> None:
    """That a record, which was verified when it came, is still what it was. Raises BatchError."""
    data, body = split(record)
    crc = crc32(data[:-_CRC_ENTRY], crc32(body))
    if bytes(data[-_CRC_ENTRY:]) != _CRC_MARK + _LENGTH.pack(crc):
        verify(record)  # says what is wrong


def sum_of(record: Buffer) -> int:
    """The checksum that a record claims to have; 0 where it claims none."""
    try:
        data, _ = split(record)
    except BatchError:
        return 0
    if bytes(data[-_CRC_ENTRY : -_LENGTH.size]) != _CRC_MARK:
        return 0
    (crc,) = _LENGTH.unpack(data[-_LENGTH.size :])
    return int(crc)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises BatchError for headers that no receiver would take."""
    if len(headers) > HEADERS_MAX:
        raise BatchError(f"envelope: {len(headers)} headers; at most {HEADERS_MAX}")
    for name, value in headers.items():
        if not (_is_short(name) and _is_short(value)):
            raise BatchError(f"envelope: header {reprlib.repr(name):.40} is not a short string")
    size = sum(len(f"{name}{value}".encode()) for name, value in headers.items())
    if size > HEADERS_BYTES_MAX:
        raise BatchError(f"envelope: headers of {size} bytes; at most {HEADERS_BYTES_MAX}")


def _is_short(text: object) -> bool:
    try:
        return isinstance(text, str) and len(text.encode()) <= HEADER_BYTES_MAX
    except UnicodeEncodeError:
        return False  # half a surrogate pair, as in the name of a file that is not UTF-8


def _envelope(entries: dict[object, object]) -> Envelope:
    origin = entries.pop("origin", None)
    if type(origin) is not bytes or len(origin) != 16:
        raise BatchError(f"envelope: origin is {reprlib.repr(origin):.40}, wanted 16 bytes")
    headers = entries.pop("headers", None)
    if type(headers) is not dict:
        raise BatchError(f"envelope: headers are {reprlib.repr(headers):.40}, wanted a map")
    check_headers(headers)
    return Envelope(
        origin=origin,
        seq=_integer(entries, "seq", 0, 2**63 - 1),
        count=_integer(entries, "count", 1, BODY_SIZE_MAX),  # no event is without a byte
        size=_integer(entries, "size", 1, BODY_SIZE_MAX),
        headers=headers,
        sealed=_moment(entries, "sealed"),
        time=_moment(entries, "time"),
        framing=_word(entries, "framing"),
        codec=_word(entries, "codec"),
        crc=_integer(entries, "crc", 0, 2**32 - 1),
        unknown={str(key): value for key, value in entries.items()},
    )


def _integer(entries: dict[object, object], name: str, least: int, most: int) -> int:
    value = entries.pop(name, None)
    if type(value) is not int or not least <= value <= most:
        found = reprlib.repr(value)
        raise BatchError(f"envelope: {name} is {found:.40}, wanted {least} to {most}")
    return value


def _moment(entries: dict[object, object], name: str) -> int:
    value = entries.pop(name, None)
    if type(value) is not int or not 0 <= value <= TIME_MS_MAX:
        found = reprlib.repr(value)
        raise BatchError(f"envelope: {name} is {found:.40} ms after 1970: no calendar has that")
    return value


def _word(entries: dict[object, object], name: str) -> str:
    value = entries.pop(name, None)
    if type(value) is not str or not _WORD.fullmatch(value):
        found = reprlib.repr(value)
        raise BatchError(f"envelope: {name} is {found:.40}, wanted a short lower-case name")
    return value
