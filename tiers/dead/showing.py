"""What is shown of dead letters, and written to files."""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from tiers.core import batch, events
from tiers.core.batch import Envelope
from tiers.core.change import LetterHead
from tiers.core.codecs import decompress
from tiers.core.events import EVENTS
from tiers.core.printable import printable
from tiers.dead.choosing import Groups
from tiers.dead.doors import LettersDoor
from tiers.dead.wire import to_json
from tiers.errors import BatchError
from tiers.units import show_size

LINE_CHARS_MAX: Final = 200  # of a line of a body
_HEADINGS: Final = ("output", "batches", "events", "bytes", "oldest", "newest", "reason")
_NUMBERS: Final = (1, 2, 3)  # columns
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]")


class LetterBody(NamedTuple):
    """What could be read of a letter's batch."""

    record: bytes  # as stored; empty where it is gone
    envelope: Envelope | None = None  # None: it is damaged
    data: bytes | None = None  # raw; None where it does not open
    why: str = ""  # it is damaged, or does not open


async def body_of(door: LettersDoor, head: LetterHead) -> LetterBody:
    record = await door.stored(head.position)
    if not record:
        return LetterBody(record, why="damaged: nothing of it could be read")
    try:
        envelope = batch.verify(record)
    except BatchError as error:
        return LetterBody(record, why=f"damaged: {error}")
    if envelope.codec not in batch.CODECS:
        why = f"does not open: codec {envelope.codec!r} is of a newer version"
        return LetterBody(record, envelope, why=why)
    try:
        data = decompress(envelope.codec, batch.split(record)[1], envelope.size)
    except BatchError as error:
        return LetterBody(record, envelope, why=f"does not open: {error}")
    return LetterBody(record, envelope, data)


def told(head: LetterHead, body: LetterBody) -> dict[str, Any]:
    """All but the body, for JSON."""
    found = to_json(head) | {"unread": body.why}
    if (envelope := body.envelope) is not None:
        found |= {
            "headers": dict(envelope.headers),
            "framing": envelope.framing,
            "codec": envelope.codec,
            "size": envelope.size,
            "sealed_ms": envelope.sealed,
            "time_ms": envelope.time,
        }
    return found


def first_lines(body: LetterBody, lines: int) -> list[str]:
    """Printable, long ones cut; where events have headers of their own, with these."""
    if body.data is None:
        return []
    if body.envelope is not None and body.envelope.framing == EVENTS:
        return _first_events(body.data, lines)
    data = body.data
    found: list[str] = []
    at = 0
    while at < len(data) and len(found) < lines:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        found.append(printable(data[at : min(end, at + 8 * LINE_CHARS_MAX)], LINE_CHARS_MAX))
        at = end + 1
    if at < len(data):
        found.append(f"… ({len(data) - at:,} bytes more)")
    return found


def _first_events(data: bytes, most: int) -> list[str]:
    found: list[str] = []
    try:
        for event in events.read([data]):
            if len(found) == most:
                return [*found, "… (and more events)"]
            headers = "".join(f"{name}={value} " for name, value in event.headers.items())
            found.append(printable(headers.encode() + event.body, LINE_CHARS_MAX))
    except BatchError as error:
        found.append(f"… ({error})")
    return found


def letter_lines(head: LetterHead, body: LetterBody, lines: int) -> list[str]:
    """One letter in full, a line each."""
    hops = "; ".join(f"{hop.agent} {_moment(hop.stored_ms)}" for hop in head.hops)
    shown = [
        f"letter   {head.position} of {head.output}",
        f"id       {head.id}{' (another batch has it)' if head.twice_given else ''}",
        f"reason   {head.reason}",
        f"since    {_moment(head.at_ms)}",
        f"hops     {hops or '-'}",
        f"size     {head.count:,} events, {show_size(head.size)} as stored",
        f"flagged  {'yes' if head.flagged else 'no'}",
    ]
    if (envelope := body.envelope) is not None:
        headers = " ".join(f"{name}={value}" for name, value in envelope.headers.items())
        shown += [
            f"headers  {headers or '-'}",
            f"framing  {envelope.framing}, codec {envelope.codec}",
        ]
    if body.why:
        shown.append(f"body     {body.why}")
    words = first_lines(body, lines)
    shown += [f"{'' if number else 'body':<9}{line}" for number, line in enumerate(words)]
    return shown


def table_lines(groups: Groups) -> list[str]:
    """The table of `tiers dead list`."""
    rows = [
        (
            one.output,
            f"{one.batches:,}",
            f"{one.events:,}",
            show_size(one.bytes),
            _moment(one.oldest_ms),
            _moment(one.newest_ms),
            one.reason,
        )
        for one in groups
    ]
    return _aligned([_HEADINGS, *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    return ["  ".join(_cells(row, widths)) for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    for column, width in enumerate(widths):
        yield row[column].rjust(width) if column in _NUMBERS else row[column].ljust(width)
    yield row[-1]


def write_letter(directory: Path, head: LetterHead, body: LetterBody) -> int:
    """NUMBER-OUTPUT.json, and beside it .body (raw); or .record, where that does not open or is
    damaged; or nothing where it is gone. Bytes of the file beside it. Raises OSError."""
    stem = f"{head.position}-{_UNSAFE.sub('_', head.output)}"
    content = told(head, body)
    name, data = f"{stem}.body", body.data
    if data is None:
        name, data = f"{stem}.record", body.record
    if data:
        (directory / name).write_bytes(data)
        content["file"] = name
    (directory / f"{stem}.json").write_text(json.dumps(content, indent=2) + "\n")
    return len(data)


def _moment(at_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # by another's clock
        return f"{at_ms} ms"
