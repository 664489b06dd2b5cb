"""The events of a batch, for who opens it."""

from typing import Final

from tiers.core.batch import CODECS, Buffer, Envelope, open_envelope, split
from tiers.core.block import LINES
from tiers.core.events import EVENTS
from tiers.sinks.formats import Format, proven

FRAMINGS: Final = (LINES, EVENTS)


class Newer(Exception):
    """Whole, and sealed by a version that knows more than this one."""


def check_known(envelope: Envelope) -> None:
    """Raises Newer where a batch cannot be opened here."""
    if envelope.framing not in FRAMINGS:
        raise Newer(f"framing {envelope.framing!r}")
    if envelope.codec not in CODECS:
        raise Newer(f"codec {envelope.codec!r}")


def encoded(record: Buffer, format: Format) -> list[Buffer]:
    """All events of a verified record, in a format, in pieces. Raises BatchError and Newer."""
    envelope = open_envelope(record)
    check_known(envelope)
    return list(format.encode(envelope, proven(envelope, split(record)[1])))
