"""What is shown of bodies: framings, codecs, damage."""

import json
from pathlib import Path

from tests.dead.test_choosing import ORIGIN, head
from tiers.core import events
from tiers.core.batch import Envelope, seal
from tiers.core.codecs import compressor
from tiers.core.events import Event
from tiers.dead.showing import LetterBody, body_of, first_lines, letter_lines, write_letter
from tiers.dead.wire import _from_json, to_json


class Door:
    def __init__(self, record: bytes) -> None:
        self.record = record

    async def stored(self, position: int) -> bytes:
        return self.record


async def body(
    data: bytes, framing: str = "lines", codec: str = "zstd", size: int = 0
) -> LetterBody:
    envelope = Envelope(ORIGIN, 7, 2, size or len(data), {"a": "b"}, 1, 1, framing, codec)
    stored = compressor(codec, 1)(data) if codec in ("zstd", "gzip") else data
    return await body_of(Door(seal(envelope, stored)), head())  # type: ignore[arg-type]


async def test_lines_are_printable_and_cut() -> None:
    found = await body(b"\x1b[1mone\n" + b"x" * 10_000 + b"\nthree\n")
    assert first_lines(found, 2) == [r"\x1b[1mone", "x" * 199 + "…", "… (6 bytes more)"]
    assert first_lines(found, 3)[2] == "three"
    assert first_lines(found, 0) == ["… (10,015 bytes more)"]
    assert first_lines(await body(b"no newline"), 5) == ["no newline"]


async def test_events_are_shown_with_their_headers() -> None:
    stream = [Event({"level": "bad"}, b"one\ntwo"), Event({}, b"three")]
    data = b"".join(map(events.pack, stream))
    found = await body(data, "events", "gzip")
    assert first_lines(found, 5) == [r"level=bad one\ntwo", "three"]
    assert first_lines(found, 1) == [r"level=bad one\ntwo", "… (and more events)"]
    (said,) = first_lines(await body(b"\x01", "events"), 5)
    assert said.startswith("… (body is no stream of events")


async def test_what_does_not_open_is_written_as_it_is(tmp_path: Path) -> None:
    for number, found in enumerate(
        (
            await body(b"\x00newer\n", codec="brotli"),
            await body(b"short\n", size=99),
            await body_of(Door(b"nonsense"), head()),  # type: ignore[arg-type]
        )
    ):
        assert found.data is None
        directory = tmp_path / str(number)
        directory.mkdir()
        assert write_letter(directory, head(output="../x"), found) == len(found.record)
        assert (directory / "7-.._x.record").read_bytes() == found.record
        told = json.loads((directory / "7-.._x.json").read_text())
        assert told["unread"] == found.why
        assert f"body     {found.why}" in letter_lines(head(), found, 3)
    gone = await body_of(Door(b""), head())  # type: ignore[arg-type]
    assert gone.why == "damaged: nothing of it could be read"
    assert write_letter(tmp_path, head(), gone) == 0
    assert not list(tmp_path.glob("*.record"))


def test_a_letter_is_told_and_read_alike() -> None:
    one = head(reason="a \udc80 name that is no UTF-8")
    assert _from_json(json.loads(json.dumps(to_json(one)))) == one
