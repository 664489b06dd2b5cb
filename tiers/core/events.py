"""The framing `events`: a msgpack stream of arrays [headers, body], for bodies with newlines in
them and for headers that differ from event to event.

    event = 92 | map of text to text | bin        (msgpack specification: array, map, str, bin)

Whole events follow one another without anything between them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgpack

from tiers.core.batch import BODY_SIZE_MAX, HEADER_BYTES_MAX, HEADERS_MAX, Buffer
from tiers.errors import BatchError

EVENTS: Final = "events"
_NIL: Final = b"\xc0"


class Event(NamedTuple):
    headers: Mapping[str, str]  # of this event alone, beside those of its batch
    body: bytes


def pack(event: Event) -> bytes:
    packed: bytes = msgpack.packb([dict(event.headers), event.body])
    return packed


def read(pieces: Iterable[Buffer]) -> Iterator[Event]:
    """The events of a body that comes in pieces. Raises BatchError where it is no such stream, or
    ends within an event."""
    unpacker = msgpack.Unpacker(
        max_buffer_size=BODY_SIZE_MAX + 1,
        strict_map_key=True,
        max_str_len=HEADER_BYTES_MAX,
        max_map_len=HEADERS_MAX,
        max_array_len=2,
    )
    try:
        for piece in pieces:
            unpacker.feed(piece)
            yield from map(_event, unpacker)
        # What is begun and not whole takes this for a part of it.
        unpacker.feed(_NIL)
        ended = next(unpacker, "more") is None
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BatchError(f"body is no stream of events: {error}"[:200]) from error
    if not ended:
        raise BatchError("body ends within an event")


def count(body: Buffer) -> int:
    """How many events. Raises BatchError."""
    return sum(1 for _ in read([body]))


def _event(found: object) -> Event:
    headers, body = found if isinstance(found, list) and len(found) == 2 else (None, None)
    if not isinstance(headers, dict) or not isinstance(body, bytes):
        raise BatchError("body is no stream of events: each is [headers, body]")
    if not all(isinstance(text, str) for pair in headers.items() for text in pair):
        raise BatchError("body is no stream of events: headers are texts")
    return Event(headers, body)
