"""A manifest: which batches are in one file. It is written once and read by strangers for days.

    {"tiers":"manifest","version":1,"sink":"s-1.out.00ff...","file":7,"day":"2026-11-23",
     "path":"web/2026/11/23/09/s-1.out.00ff...-0000000007.log","codec":"none",
     "format":"text","bytes":123,
     "batches":{"<origin, 32 hex>":[[<seq>,<events>,<0 or 1: flagged>],...],...}}  <newline>
    <CRC-32 of the line above with its newline, 8 hex>  <newline>

Text, so that a person can read it with `cat`. What is read is outside data: length, checksum,
types and ranges are checked before a word of it is believed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeGuard

from isal.isal_zlib import crc32

from tiers.core.batch import BatchId
from tiers.core.commit.store_names import FILE_ID_MAX, file_name, is_day
from tiers.errors import StoreRefused

MANIFEST_BYTES_MAX: Final = 16 << 20
MANIFEST_BATCHES_MAX: Final = 1 << 18
_OTHERS_BYTES_MAX: Final = 64 << 10  # of what is no manifest: a claim
# Commas and brackets: more have no manifest's shape, and cost a hundred bytes of memory each.
_MARKS_MAX: Final = 5 * MANIFEST_BATCHES_MAX + 16_384
_TRAILER_BYTES: Final = 9  # eight hex digits and a newline
_INTEGER_MAX: Final = 2**63 - 1


class Item(NamedTuple):
    """One batch of a file."""

    id: BatchId
    events: int
    flagged: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    sink: str
    file_id: int
    day: str
    path: str  # the published file, relative to the store's root
    codec: str
    size_bytes: int  # of the file
    items: Sequence[Item]
    format: str = "text"

    @property
    def name(self) -> str:
        return file_name(self.sink, self.file_id)


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest."""
    batches: dict[str, list[tuple[int, int, int]]] = {}
    for item in manifest.items:
        batch = (item.id.seq, item.events, int(item.flagged))
        batches.setdefault(item.id.origin.hex(), []).append(batch)
    entries = {
        "tiers": "manifest",
        "version": 1,
        "sink": manifest.sink,
        "file": manifest.file_id,
        "day": manifest.day,
        "path": manifest.path,
        "codec": manifest.codec,
        "format": manifest.format,
        "bytes": manifest.size_bytes,
        "batches": batches,
    }
    return sealed_line(entries)


def sealed_line(entries: Mapping[str, object]) -> bytes:
    """A line of JSON and its checksum: how everything is written that other sinks read."""
    line = json.dumps(entries, separators=(",", ":")).encode() + b"\n"
    return line + b"%08x\n" % crc32(line)


def opened_line(data: bytes, kind: str) -> dict[str, object]:
    """What `sealed_line` was given. StoreRefused when this is none of that kind."""
    line, trailer = data[:-_TRAILER_BYTES], data[-_TRAILER_BYTES:]
    most = MANIFEST_BYTES_MAX if kind == "manifest" else _OTHERS_BYTES_MAX
    if len(data) > most:
        raise StoreRefused(f"{kind} of {len(data)} bytes or more; at most {most}")
    if trailer != b"%08x\n" % crc32(line):
        raise StoreRefused(f"{kind} does not end with its checksum: truncated or damaged")
    if sum(line.count(mark) for mark in (b"[", b"{", b",")) > _MARKS_MAX:
        raise StoreRefused(f"{kind} is made of little but lists")
    try:
        entries = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StoreRefused(f"{kind} is not JSON: {error}") from error
    if not isinstance(entries, dict) or entries.get("tiers") != kind:
        raise StoreRefused(f"not a {kind} of tiers")
    if entries.get("version") != 1:
        raise StoreRefused(f"{kind} of version {entries.get('version')!r:.20}; this reads 1")
    return entries


def decode(data: bytes) -> Manifest:
    """A manifest from bytes of anyone. StoreRefused, saying what is wrong with it: somebody has
    to look at it, and until then nothing may be concluded from it."""
    entries = opened_line(data, "manifest")
    day = _text(entries, "day")
    if not is_day(day):
        raise StoreRefused(f"manifest: day is {day!r:.40}")
    path = _text(entries, "path")
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise StoreRefused(f"manifest: path is {path!r:.40}")
    return Manifest(
        sink=_text(entries, "sink"),
        file_id=_integer(entries.get("file"), "file", FILE_ID_MAX, least=1),
        day=day,
        path=path,
        codec=_text(entries, "codec"),
        size_bytes=_integer(entries.get("bytes"), "bytes", _INTEGER_MAX),
        items=_items(entries.get("batches")),
        format=_text({"format": "text", **entries}, "format"),
    )


def is_text(value: object, length_max: int) -> TypeGuard[str]:
    """Whether it is a text that is not empty. JSON can hold halves of characters, which no file's
    name is made of and nobody can print."""
    if not isinstance(value, str) or not 0 < len(value) <= length_max:
        return False
    return value.encode(errors="ignore").decode() == value


def _text(entries: dict[str, object], name: str) -> str:
    value = entries.get(name)
    if not is_text(value, 8192):
        raise StoreRefused(f"manifest: {name} is {value!r:.40}, wanted a short text")
    return value


def _integer(value: object, name: str, limit: int, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= limit:
        raise StoreRefused(f"manifest: {name} is {value!r:.40}, wanted {least} to {limit}")
    return value


def _items(batches: object) -> tuple[Item, ...]:
    if not isinstance(batches, dict):
        raise StoreRefused("manifest: batches are not a map of origins")
    items: list[Item] = []
    for text, listed in batches.items():
        try:
            origin = bytes.fromhex(text)
        except ValueError as error:
            raise StoreRefused(f"manifest: origin {text!r:.40} is not hex") from error
        if origin.hex() != text or len(origin) != 16 or not isinstance(listed, list):
            raise StoreRefused(f"manifest: origin {text!r:.40} or its batches are malformed")
        if len(items) + len(listed) > MANIFEST_BATCHES_MAX:
            raise StoreRefused(f"manifest of more than {MANIFEST_BATCHES_MAX} batches")
        for batch in listed:
            if not isinstance(batch, list) or len(batch) != 3:
                raise StoreRefused(f"manifest: batch {batch!r:.40} is not [seq, events, flagged]")
            seq = _integer(batch[0], "seq", _INTEGER_MAX)
            events = _integer(batch[1], "events", 2**32)
            flagged = _integer(batch[2], "flagged", 1)
            items.append(Item(BatchId(origin, seq), events, bool(flagged)))
    return tuple(items)
