"""What a file holds, for each framing of its batches and each format of the file."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.core.batches import an_envelope
from tests.sinks.parts import open_file
from tiers.core.batch import open_envelope, seal, split
from tiers.core.codecs import EXTENSIONS, compressor
from tiers.core.commit.filing import Ref
from tiers.core.commit.planned import Plan
from tiers.core.events import Event, pack, read
from tiers.errors import BatchError
from tiers.sinks.files.body import Body
from tiers.sinks.formats import FORMATS

LINES = [b"one", b"two", b"three #012 of its own"]
TRACE = Event({"level": "error"}, b"Traceback:\n  File x\nKeyError")
EVENTS = [Event({}, b"plain"), TRACE, Event({"a": "b"}, b"")]
LARGE = [Event({}, bytes([65 + n % 26]) * 5000) for n in range(40)]


class Records:
    def __init__(self, records: Sequence[bytes]) -> None:
        self.records = records

    def record(self, position: int) -> bytes:
        return self.records[position - 1]


def sealed(seq: int, codec: str, framing: str, raw: bytes, count: int) -> bytes:
    envelope = an_envelope(seq, count=count, size=len(raw), framing=framing, codec=codec)
    return seal(envelope, compressor(codec, 1)(raw))


def lines(seq: int, codec: str, texts: Sequence[bytes] = LINES) -> bytes:
    return sealed(seq, codec, "lines", b"".join(text + b"\n" for text in texts), len(texts))


def events(seq: int, codec: str, of: Sequence[Event] = EVENTS) -> bytes:
    return sealed(seq, codec, "events", b"".join(map(pack, of)), len(of))


def content(records: Sequence[bytes], codec: str, kind: str) -> bytes:
    refs = []
    for position, record in enumerate(records, 1):
        envelope = open_envelope(record)
        refs.append(Ref(position, envelope.id, envelope.count, False, len(record), 0.0))
    positions = [ref.position for ref in refs]
    plan = Plan("s", 1, "2026-11-23", "p", codec, refs, positions, format=kind)
    return b"".join(Body(Records(records), plan, 1, threading.Event()))


AS_LINES = [b"plain", b"Traceback:#012  File x#012KeyError", b""]


@pytest.mark.parametrize("of_batch", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_text(of_batch: str, codec: str) -> None:
    records = [lines(1, of_batch), events(2, of_batch), lines(3, of_batch)]
    raw = open_file(f"x{EXTENSIONS[codec]}", content(records, codec, "text"))
    assert raw.split(b"\n")[:-1] == [*LINES, *AS_LINES, *LINES]
    assert FORMATS["text"].count([raw]) == 9


@pytest.mark.parametrize("of_batch", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_events(of_batch: str, codec: str) -> None:
    records = [lines(1, of_batch), events(2, of_batch), events(3, of_batch, LARGE)]
    raw = open_file(f"x{EXTENSIONS[codec]}", content(records, codec, "events"))
    assert list(read([raw])) == [*(Event({}, text) for text in LINES), *EVENTS, *LARGE]
    assert FORMATS["events"].count([raw[:100], raw[100:]]) == 6 + len(LARGE)


@pytest.mark.parametrize("kind", ["text", "events"])
def test_what_is_of_the_files_format_is_kept_byte_for_byte(kind: str) -> None:
    texts = [event.body for event in LARGE]
    records = [lines(1, "zstd", texts * 20), events(2, "zstd", LARGE * 20)]
    found = content(records, "zstd", kind)
    kept = [bytes(split(record)[1]) in found for record in records]
    assert kept == [kind == "text", kind == "events"]


@pytest.mark.parametrize("kind", ["text", "events"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda codec: sealed(2, codec, "events", b"a line\n", 1),
        lambda codec: sealed(2, codec, "events", b"".join(map(pack, EVENTS)), 4),
        lambda codec: sealed(2, codec, "events", b"".join(map(pack, EVENTS))[:-1], 3),
        lambda codec: sealed(2, codec, "lines", b"".join(map(pack, EVENTS)), 3),
    ],
)
def test_a_body_that_is_not_what_its_envelope_says(kind: str, codec: str, wrong: object) -> None:
    assert callable(wrong)
    records = [lines(1, codec), wrong(codec)]
    with pytest.raises(BatchError, match="1 batches cannot be"):
        content(records, codec, kind)


def test_an_envelope_of_neither_is_not_met_here() -> None:
    """Loading keeps it waiting for a newer version."""
    newer = replace(open_envelope(lines(1, "none")), framing="columns")
    with pytest.raises(BatchError):
        list(FORMATS["text"].encode(newer, [b"?\n"]))
