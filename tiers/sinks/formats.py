"""What a file sink writes, whatever the framing of the batches: one event to a line (`text`), or
the msgpack stream of core/events.py (`events`).

A body whose framing is the file's own is kept byte for byte where the codecs agree, too. In a
line, a newline that is within an event is written as `#012`, as syslog relays do.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from tiers.core import events
from tiers.core.batch import Buffer, Envelope
from tiers.core.block import LINES
from tiers.core.codecs import joined, opened, opened_lines
from tiers.core.events import EVENTS, Event
from tiers.core.newlines import count_lines
from tiers.errors import BatchError

_NEWLINE: Final = b"#012"
_PIECE_BYTES: Final = 1 << 20


class Format(Protocol):
    """Stateless."""

    framing: str  # of the bodies that are kept as they are

    def encode(self, envelope: Envelope, body: Iterable[bytes]) -> Iterator[Buffer]:
        """The file's bytes of a batch whose raw bytes come in pieces, proven by its framing."""

    def count(self, content: Iterable[Buffer]) -> int:
        """Events in a file's raw bytes. BatchError where they are none of this format."""


class TextFormat:
    framing = LINES

    def encode(self, envelope: Envelope, body: Iterable[bytes]) -> Iterator[Buffer]:
        if envelope.framing == LINES:
            return iter(body)
        lines = (event.body.replace(b"\n", _NEWLINE) + b"\n" for event in events.read(body))
        return joined(lines, _PIECE_BYTES)

    def count(self, content: Iterable[Buffer]) -> int:
        return sum(count_lines(bytes(piece)) for piece in content)


class Events:
    framing = EVENTS

    def encode(self, envelope: Envelope, body: Iterable[bytes]) -> Iterator[Buffer]:
        if envelope.framing == EVENTS:
            return iter(body)
        lines = b"".join(body).split(b"\n")[:-1]
        return joined((events.pack(Event({}, line)) for line in lines), _PIECE_BYTES)

    def count(self, content: Iterable[Buffer]) -> int:
        return sum(1 for _ in events.read(content))


FORMATS: Final[dict[str, Format]] = {"text": TextFormat(), "events": Events()}


def proven(envelope: Envelope, body: Buffer, *, strictly: bool = False) -> Iterator[bytes]:
    """The raw bytes of a body piece by piece; BatchError in the end where they are not what its
    envelope says: so many events of its framing."""
    if envelope.framing == LINES:
        return opened_lines(envelope, body, strictly=strictly)
    return _proven_events(envelope, body, strictly)


def _proven_events(envelope: Envelope, body: Buffer, strictly: bool) -> Iterator[bytes]:
    """In one piece: an event may go over any number of them."""
    raw = b"".join(opened(envelope.codec, body, envelope.size, strictly=strictly))
    found = events.count(raw)
    if found != envelope.count:
        raise BatchError(f"body has {found} events, its envelope says {envelope.count}")
    yield raw
