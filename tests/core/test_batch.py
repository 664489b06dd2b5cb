"""Records: what is sealed opens to the same; what was not sealed by us is a BatchError, whatever
it is, and never anything else."""

import math
import struct
import tracemalloc
from dataclasses import replace

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from isal.isal_zlib import crc32

from tests.core.batches import ORIGIN, a_record, an_envelope, envelopes, header_texts, plain
from tiers.core.batch import (
    ENVELOPE_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    BatchId,
    Envelope,
    Unnumbered,
    check,
    open_envelope,
    seal,
    split,
    verify,
)
from tiers.errors import BatchError

CRC_ENTRY = 9  # a3 "crc" ce <u32>


def record_of(entries: object, body: bytes = b"") -> bytes:
    """A record with any envelope at all, no checksum made for it."""
    data: bytes = msgpack.packb(entries)
    return struct.pack(">I", len(data)) + data + body


def entries_of(**changes: object) -> dict[str, object]:
    """The entries of a good envelope, some of them changed (`...` leaves one out)."""
    entries: dict[str, object] = {
        "origin": ORIGIN, "seq": 1, "count": 3, "size": 30, "headers": {"a": "b"}, "sealed": 5,
        "time": 0, "framing": "lines", "codec": "none", "crc": 7,
    }  # fmt: skip
    entries |= changes
    return {key: value for key, value in entries.items() if value is not ...}


@given(envelopes, st.dictionaries(header_texts, plain, max_size=4), st.binary(max_size=200))
def test_what_is_sealed_opens_to_the_same(
    envelope: Envelope, unknown: dict[str, object], body: bytes
) -> None:
    known = set(entries_of())
    unknown = {key: value for key, value in unknown.items() if key not in known}
    record = seal(replace(envelope, unknown=unknown), body)
    opened = verify(record)
    assert replace(opened, crc=0, unknown={}) == envelope
    # NaN is not equal to itself, so what is unknown is compared as bytes.
    assert msgpack.packb(opened.unknown) == msgpack.packb(unknown)
    data, rest = split(record)
    assert bytes(rest) == body
    assert opened.crc == crc32(data[:-CRC_ENTRY], crc32(body))


def test_ids_and_days_are_for_people_and_for_sinks() -> None:
    envelope = an_envelope(7, sealed=2 * 86_400_000 + 5)
    assert envelope.id == BatchId(ORIGIN, 7)
    assert str(envelope.id) == "000102030405060708090a0b0c0d0e0f-7"
    assert envelope.day == 2


@pytest.mark.parametrize("seq", [0, 1, 127, 128, 2**32, 2**63 - 1])
def test_what_is_sealed_but_for_its_number_may_be_given_any(seq: int) -> None:
    body = b"line\n" * 9
    batch = Unnumbered(an_envelope(seq=5), body)
    assert batch.seal(seq) == seal(an_envelope(seq=seq), body)
    assert verify(batch.seal(seq)).seq == seq


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type) -> None:
    body = b"line\n"
    record = seal(an_envelope(), kind(body))
    assert verify(kind(record)).id == an_envelope().id


def test_every_flipped_bit_is_found() -> None:
    record = a_record(body=b"some lines\nof a log\n")
    for at in range(len(record)):
        for bit in range(8):
            damaged = bytearray(record)
            damaged[at] ^= 1 << bit
            for found in (verify, check):
                with pytest.raises(BatchError):
                    found(damaged)
    check(record)


def test_every_truncation_is_found() -> None:
    record = a_record(body=b"some lines\n")
    for length in range(len(record)):
        with pytest.raises(BatchError):
            verify(record[:length])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_batch_error_at_worst(data: bytes) -> None:
    with pytest.raises(BatchError):
        verify(data)
    with pytest.raises(BatchError):
        verify(struct.pack(">I", len(data)) + data)


@given(plain)
@example([])
@example({b"bytes": 1})
@example({1: 2})
def test_any_msgpack_is_a_batch_error_at_worst(value: object) -> None:
    with pytest.raises(BatchError):
        open_envelope(record_of(value))


@given(st.data())
def test_any_one_field_may_be_anything(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(entries_of())))
    value = data.draw(plain)
    try:
        envelope = open_envelope(record_of(entries_of(**{name: value})))
    except BatchError:
        return
    # What is let in has its type, exactly: a bool is no number of events.
    assert type(getattr(envelope, name)) is type(entries_of()[name])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("origin", b"short"),
        ("origin", "x" * 16),
        ("origin", ...),
        ("seq", -1),
        ("seq", 2**63),
        ("seq", 2**64 - 1),
        ("seq", True),
        ("seq", 1.0),
        ("seq", ...),
        ("count", 0),
        ("count", (16 << 20) + 1),
        ("count", 2**32),
        ("size", 0),
        ("size", (16 << 20) + 1),
        ("size", math.nan),
        ("sealed", -1),
        ("sealed", 253_402_300_800_000),
        ("sealed", 2**53),
        ("sealed", 2**62),
        ("sealed", 1.7e12),
        ("sealed", ...),
        ("time", -5),
        ("time", 253_402_300_800_000),
        ("time", 2**64 - 1),
        ("framing", "Lines"),
        ("framing", b"lines"),
        ("codec", ["none"]),
        ("codec", "13rot"),
        ("crc", 2**32),
        ("crc", None),
        ("headers", None),
        ("headers", [["a", "b"]]),
        ("headers", {"a": 1}),
        ("headers", {b"a": "b"}),
        ("headers", {"a": "x" * (HEADER_BYTES_MAX + 1)}),
        ("headers", {"ü" * (HEADER_BYTES_MAX // 2 + 1): ""}),
        ("headers", {str(n): "" for n in range(HEADERS_MAX + 1)}),
    ],
)
def test_wrong_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(BatchError, match=field.removesuffix("s")) as caught:
        open_envelope(record_of(entries_of(**{field: value})))
    assert len(str(caught.value)) < 200  # fit for a log, whatever was in the field


def test_limits_are_inclusive() -> None:
    headers = {str(n): "v" for n in range(HEADERS_MAX - 1)} | {"long": "x" * HEADER_BYTES_MAX}
    assert open_envelope(record_of(entries_of(headers=headers))).headers == headers


@pytest.mark.parametrize("bad", ["\udc80", "x" * (HEADER_BYTES_MAX + 1)])
@pytest.mark.parametrize("as_name", [True, False])
def test_nothing_is_sealed_that_no_receiver_would_take(bad: str, as_name: bool) -> None:
    # "\udc80": what os.fsdecode makes of a file name that is not UTF-8.
    with pytest.raises(BatchError, match="header"):
        seal(an_envelope(headers={bad: "v"} if as_name else {"n": bad}), b"")


def test_too_many_headers_are_not_sealed() -> None:
    with pytest.raises(BatchError, match="at most 64"):
        seal(an_envelope(headers={str(n): "" for n in range(HEADERS_MAX + 1)}), b"")


def test_an_envelope_has_a_limit_in_all() -> None:
    headers = {str(n): "x" * HEADER_BYTES_MAX for n in range(20)}
    with pytest.raises(BatchError, match="headers of 81950 bytes; at most 49152"):
        seal(an_envelope(headers=headers), b"")
    with pytest.raises(BatchError, match=f"at most {ENVELOPE_BYTES_MAX}"):
        seal(an_envelope(unknown={"newer": b"x" * ENVELOPE_BYTES_MAX}), b"")


@pytest.mark.parametrize("length", [65_536, 65_537])
def test_an_envelope_has_64_kib_at_most(length: int) -> None:
    def sealed(more: int) -> bytes:
        return seal(an_envelope(2**62, unknown={"newer": bytes(more)}), b"x")

    most = length - (len(sealed(60_000)) - 5 - 60_000)
    if length == 65_536:
        assert len(split(sealed(most))[0]) == length
        assert verify(sealed(most)).unknown == {"newer": bytes(most)}
    else:
        with pytest.raises(BatchError, match="at most 65536"):
            sealed(most)


def test_a_claimed_length_beyond_the_record_is_refused() -> None:
    with pytest.raises(BatchError, match="does not fit"):
        split(struct.pack(">I", 100) + b"x" * 99)
    with pytest.raises(BatchError, match="does not fit"):
        split(struct.pack(">I", ENVELOPE_BYTES_MAX + 1) + b"x" * (ENVELOPE_BYTES_MAX + 1))
    with pytest.raises(BatchError, match="too short"):
        split(b"\0\0\0")


def test_the_checksum_is_the_last_entry() -> None:
    data = msgpack.packb(entries_of(crc=...) | {"crc": 1, "after": 2})
    with pytest.raises(BatchError, match="does not end with its checksum"):
        verify(struct.pack(">I", len(data)) + data)


def test_no_string_passes_for_the_checksum() -> None:
    """The last bytes look like a checksum's entry, and are the end of another value."""
    data = msgpack.packb(entries_of() | {"zz": b"\xa3crc\xce\x00\x00\x00\x08"})
    with pytest.raises(BatchError, match="does not end with its checksum"):
        verify(struct.pack(">I", len(data)) + data)


@pytest.mark.parametrize("depth", [10, 500, 900, 1020, 5000])
@pytest.mark.parametrize("field", [b"\xa6origin", b"\xa3seq", b"\xa5codec", b"\xa7headers"])
def test_depth_is_a_batch_error(depth: int, field: bytes) -> None:
    data = b"\x81" + field + b"\x91" * depth + b"\xc0"
    if field != b"\xa6origin":
        data = b"\x82\xa6origin\xc4\x10" + ORIGIN + data[1:]
    with pytest.raises(BatchError):
        open_envelope(struct.pack(">I", len(data)) + data)


def test_memory_follows_what_came_and_not_what_is_claimed() -> None:
    """Arrays in arrays, each claiming more entries than the envelope has bytes for."""
    data = (b"\xdd" + struct.pack(">I", 60_000)) * 900 + b"\xc0" * 60_000
    record = struct.pack(">I", len(data)) + data
    tracemalloc.start()
    with pytest.raises(BatchError):
        open_envelope(record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
