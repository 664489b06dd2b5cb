"""Wire messages: what is encoded decodes to the same; whatever else comes is a PeerError, and
nothing else, in memory that follows what came."""

import dataclasses
import os
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.batches import ORIGIN, a_record, batch_ids, header_texts, hops, origins, plain, seqs
from tiers.core.batch import BatchId, Hop
from tiers.core.hop.messages import (
    BUNDLE_BATCHES_MAX,
    CONTROL_BYTES_MAX,
    HEAD_BYTES_MAX,
    HOPS_MAX,
    IDS_MAX,
    REASON_CHARS_MAX,
    Ack,
    Answer,
    Ask,
    Bundle,
    Carried,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Refuse,
    Reject,
    Welcome,
    decode,
    decode_bundle,
    encode,
    encode_bundle,
    in_pieces,
    index_bytes,
)
from tiers.core.life import Point
from tiers.core.names import NAME_CHARS_MAX
from tiers.core.printable import printable
from tiers.errors import PeerError

SESSION, SENDER, RECEIVER = b"s" * 8, b"a" * 16, b"b" * 16
OPTIONAL = ("over", "point", "met", "sums", "twin")  # who says no point is not judged

sessions = st.binary(min_size=8, max_size=8) | st.just(b"")
tokens = st.binary(min_size=8, max_size=8)
ids = st.lists(batch_ids, max_size=20).map(tuple)
names = header_texts
firsts = st.lists(st.text(max_size=NAME_CHARS_MAX), max_size=9).map(tuple)
points = st.builds(Point, st.binary(min_size=12, max_size=12), seqs)
met = st.lists(st.tuples(origins, points), max_size=8).map(tuple)
contents = st.lists(st.tuples(batch_ids, st.integers(0, 2**32 - 1)), max_size=20).map(sorted)


def summed(kind: Callable[..., Message], *fields: object) -> st.SearchStrategy[Message]:
    """Whose batches, the field at None, have checksums."""

    def build(found: list[tuple[BatchId, int]], rest: list[object], point: Point | None) -> Message:
        told = tuple(key for key, _ in found)
        values = [told if value is None else value for value in rest]
        return kind(*values, sums=tuple(crc for _, crc in found), point=point)

    parts = [st.none() if field is None else field for field in fields]
    rest: st.SearchStrategy[list[object]] = st.tuples(*parts).map(list)
    return st.builds(build, contents, rest, st.none() | points)


messages = st.one_of(
    st.builds(Hello, seqs, names, names, origins, sessions),
    st.builds(Hello, seqs, names, names, origins, sessions, points, met),
    st.builds(Welcome, sessions, tokens, seqs, names, names, origins,
              st.dictionaries(names, names, max_size=4), seqs, seqs, names,
              seqs, st.none() | points, st.none() | points),
    st.builds(Refuse, sessions, names.map(printable), st.booleans()),
    summed(Ack, sessions, None, ids, seqs),
    summed(Answer, sessions, origins, origins, None, ids, ids),
    st.builds(Ack, sessions, ids, ids, seqs),
    st.builds(Ask, sessions, origins, origins, ids),
    st.builds(Answer, sessions, origins, origins, ids, ids, ids),
    st.builds(Reject, sessions, seqs, seqs, names.map(printable)),
    st.builds(Ping, sessions, seqs),
    st.builds(Pong, sessions, seqs, seqs, seqs),
    st.builds(Pong, sessions, seqs, seqs, seqs, firsts),
    st.builds(Ack, sessions, ids, ids, seqs, over=firsts),
    st.builds(Goodbye, sessions),
)  # fmt: skip


def told_order(message: Message) -> Message:
    """Ids travel grouped by origin; within one, in the order told."""
    changes = {
        name: tuple(key for origin in dict.fromkeys(k.origin for k in value)
                    for key in value if key.origin == origin)
        for name in message.__slots__
        if isinstance(value := getattr(message, name), tuple)
        if name in ("stored", "published", "ids", "held", "unknown")
    }  # fmt: skip
    return type(message)(**{n: getattr(message, n) for n in message.__slots__} | changes)


@given(messages)
def test_control_messages_come_back(message: Message) -> None:
    assert decode(encode(message)) == told_order(message)


@pytest.mark.parametrize("message", [Refuse(SESSION, "{}"), Reject(SESSION, 1, 2, "{}")])
@given(reason=st.text(max_size=2 * REASON_CHARS_MAX))
def test_the_reason_of_a_stranger_is_one_short_line(message: Refuse | Reject, reason: str) -> None:
    told = decode(encode(replace(message, reason=reason)))
    assert isinstance(told, Refuse | Reject)
    assert told.reason.isprintable()
    assert len(told.reason) <= REASON_CHARS_MAX


@given(messages, st.dictionaries(header_texts, plain, min_size=1, max_size=3))
def test_unknown_fields_are_ignored(message: Message, more: dict[str, object]) -> None:
    name, fields = msgpack.unpackb(encode(message))
    newer = msgpack.packb([name, {**more, **fields}])
    assert decode(newer) == told_order(message)


@given(messages, st.data())
def test_any_one_field_may_be_anything(message: Message, data: st.DataObject) -> None:
    name, fields = msgpack.unpackb(encode(message))
    field = data.draw(st.sampled_from(sorted(fields)))
    with suppress(PeerError):
        told = decode(msgpack.packb([name, fields | {field: data.draw(plain)}]))
        if field not in OPTIONAL:
            assert type(getattr(told, field)) is type(getattr(message, field))


@given(messages, st.data())
def test_no_field_may_be_missing(message: Message, data: st.DataObject) -> None:
    name, fields = msgpack.unpackb(encode(message))
    needed = [one.name for one in dataclasses.fields(message) if one.default is dataclasses.MISSING]
    field = data.draw(st.sampled_from(sorted(needed)))
    del fields[field]
    if field in OPTIONAL:
        decode(msgpack.packb([name, fields]))
        return
    with pytest.raises(PeerError, match=f"{name}: {field} is missing"):
        decode(msgpack.packb([name, fields]))


@given(messages, st.data())
def test_a_damaged_message_is_a_peer_error_at_worst(message: Message, data: st.DataObject) -> None:
    packed = bytearray(encode(message))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    with suppress(PeerError):
        decode(packed)
    with pytest.raises(PeerError):
        decode(encode(message)[:at])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        decode(data)
    with pytest.raises(PeerError):
        decode_bundle(data)
    with pytest.raises(PeerError):
        decode_bundle(struct.pack(">I", len(data)) + data)


@given(plain)
def test_any_msgpack_is_a_peer_error(value: object) -> None:
    data = msgpack.packb(value)
    with pytest.raises(PeerError):
        decode(data)
    with pytest.raises(PeerError):
        decode_bundle(struct.pack(">I", len(data)) + data)


def ack(**fields: object) -> bytes:
    good = {"session": SESSION, "stored": [], "published": [], "limit": 0}
    packed: bytes = msgpack.packb(["ack", good | fields])
    return packed


NOT_MESSAGES: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("never used byte", b"\xc1"),
    ("two values", ack() + b"\xc0"),
    ("unknown kind", msgpack.packb(["whatever", {}])),
    ("class name", msgpack.packb(["Ack", {"session": SESSION}])),
    ("kind of bytes", msgpack.packb([b"ping", {"session": SESSION, "sent_ms": 0}])),
    ("three parts", msgpack.packb(["goodbye", {"session": SESSION}, 1])),
    ("int key", msgpack.packb(["goodbye", {1: SESSION}])),
    ("list key", b"\x92\xa7goodbye\x81\x90\xc0"),
    ("bool limit", ack(limit=True)),
    ("negative limit", ack(limit=-1)),
    ("huge limit", ack(limit=2**63)),
    ("float limit", ack(limit=1.5)),
    ("NaN limit", ack(limit=float("nan"))),
    ("text session", ack(session="s" * 8)),
    ("short session", ack(session=b"s" * 7)),
    ("ids as map", ack(stored={})),
    ("ids flat", ack(stored=[ORIGIN, 1])),
    ("short origin", ack(stored=[[b"o", [1]]])),
    ("text origin", ack(stored=[["o" * 16, [1]]])),
    ("bool seq", ack(stored=[[ORIGIN, [True]]])),
    ("negative seq", ack(stored=[[ORIGIN, [-1]]])),
    ("huge seq", ack(stored=[[ORIGIN, [2**63]]])),
    ("text seq", ack(stored=[[ORIGIN, ["1"]]])),
    ("bool checksum", ack(stored=[[ORIGIN, [1]]], sums=[True])),
    ("negative checksum", ack(stored=[[ORIGIN, [1]]], sums=[-1])),
    ("checksums as text", ack(stored=[[ORIGIN, [1]]], sums="x")),
    ("checksums as a map", ack(stored=[[ORIGIN, [1]]], sums={})),
    ("too many checksums", ack(stored=[[ORIGIN, [1]]], sums=[1] * (IDS_MAX + 1))),
    ("huge checksum", ack(stored=[[ORIGIN, [1]]], sums=[2**32])),
    ("not UTF-8", b"\x92\xa6refuse\x82\xa7session\xc4\x00\xa6reason\xa2\xff\xfe"),
    ("surrogate", b"\x92\xa6refuse\x82\xa7session\xc4\x00\xa6reason\xa3\xed\xa0\x80"),
    ("long text", msgpack.packb(["refuse", {"session": b"", "reason": "x" * 4097}])),
    ("bad timestamp", b"\x92\xa4ping\xd7\xff" + b"\xff" * 8),
    ("extension", b"\x92\xa4ping\xd4\x00a"),
    ("deep", b"\x91" * 1000 + b"\xc0"),
    ("deeper", b"\x91" * 5000 + b"\xc0"),
    ("deep in a field", b"\x92\xa7goodbye\x81\xa7session" + b"\x91" * 990 + b"\xc0"),
]


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in NOT_MESSAGES])
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        decode(data)
    assert len(str(caught.value)) < 200  # fit for a log, whatever came


WELCOME: dict[str, Any] = {
    "session": SESSION, "token": SESSION, "protocol": 1, "topology": "t", "agent": "a",
    "channel": RECEIVER,
    "stores": {"sink/out": "id"}, "message_size_max": 1, "limit": 1, "guarantee": "hop",
}  # fmt: skip


@pytest.mark.parametrize(
    "stores",
    [
        None,
        [],
        {"a": 1},
        {"a": b"id"},
        {b"a": "id"},
        {"a" * 257: "id"},
        {"a": "i" * 257},
        {str(n): "" for n in range(1025)},
    ],
)
def test_stores_are_short_texts(stores: object) -> None:
    assert isinstance(decode(msgpack.packb(["welcome", WELCOME])), Welcome)
    with pytest.raises(PeerError):
        decode(msgpack.packb(["welcome", WELCOME | {"stores": stores}]))


def test_a_long_message_is_not_looked_at() -> None:
    long = encode(Refuse(b"", "x" * CONTROL_BYTES_MAX))
    with pytest.raises(PeerError, match=f"at most {CONTROL_BYTES_MAX}"):
        decode(long)


@pytest.mark.parametrize("length", [131_072, 131_073])
def test_a_control_message_has_128_kib_at_most(length: int) -> None:
    def newer(more: int) -> bytes:
        packed: bytes = msgpack.packb(["goodbye", {"session": SESSION, "more": bytes(more)}])
        return packed

    data = newer(length - (len(newer(100_000)) - 100_000))
    assert len(data) == length
    if length == 131_072:
        assert decode(data) == Goodbye(SESSION)
    else:
        with pytest.raises(PeerError, match="at most 131072"):
            decode(data)


def test_as_many_ids_as_fit_one_message() -> None:
    each = [BatchId(ORIGIN, n) for n in range(2 * IDS_MAX + 1)]
    pieces = list(in_pieces(each))
    assert [len(piece) for piece in pieces] == [IDS_MAX, IDS_MAX, 1]
    for piece in pieces:
        asked = decode(encode(Ask(SESSION, SENDER, RECEIVER, piece)))
        assert isinstance(asked, Ask)
        assert asked.ids == piece
    assert list(in_pieces([])) == []
    assert list(in_pieces(each[:4], 2)) == [tuple(each[:2]), tuple(each[2:4])]


def test_ids_of_many_origins_fit_too() -> None:
    each = tuple(BatchId(os.urandom(16), 2**62) for _ in range(IDS_MAX))
    packed = encode(Answer(SESSION, SENDER, RECEIVER, each, (), ()))
    assert len(packed) < CONTROL_BYTES_MAX // 2
    assert isinstance(decode(packed), Answer)


@pytest.mark.parametrize("runs", [1, 2, IDS_MAX])
def test_more_ids_are_refused(runs: int) -> None:
    """In one run, or spread over several that are each short enough."""
    each = [[ORIGIN, [0] * -(-(IDS_MAX + 1) // runs)] for _ in range(runs)]
    with pytest.raises(PeerError):
        decode(ack(stored=each))


def test_ids_beyond_the_limit_are_not_made() -> None:
    """A megabyte of them was a hundred megabytes and a second of an agent's time."""
    data = ack(stored=[[ORIGIN, [1] * (IDS_MAX - 1)]] * 60)
    assert len(data) < CONTROL_BYTES_MAX
    tracemalloc.start()
    with pytest.raises(PeerError, match="more than 2000 batch ids"):
        decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize(
    "garbage",
    [
        [[[] for _ in range(500)] for _ in range(250)],
        [[{} for _ in range(500)] for _ in range(250)],
        ["ask", {str(n): [[] for _ in range(500)] for n in range(250)}],
    ],
)
def test_what_is_made_to_be_dear_to_read_is_not_unpacked(
    garbage: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = msgpack.packb(garbage)
    assert len(data) < CONTROL_BYTES_MAX
    monkeypatch.setattr(msgpack, "unpackb", None)
    with pytest.raises(PeerError, match="little but lists"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param((b"\xdd" + struct.pack(">I", 1_000_000)) * 1000 + b"\xc0" * 1000, id="deep"),
        pytest.param(b"\xdd" + struct.pack(">I", 2**32 - 1), id="array"),
        pytest.param(b"\xdf" + struct.pack(">I", 2**32 - 1), id="map"),
        pytest.param(b"\xdb" + struct.pack(">I", 2**32 - 1), id="text"),
        pytest.param(b"\xc6" + struct.pack(">I", 2**32 - 1), id="bytes"),
        pytest.param(b"\xc9" + struct.pack(">I", 2**32 - 1) + b"\0", id="extension"),
    ],
)
def test_memory_follows_what_came_and_not_what_is_claimed(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(PeerError):
        decode(data)
    with pytest.raises(PeerError):
        decode_bundle(struct.pack(">I", len(data)) + data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_arrays_in_arrays_claim_no_more_than_they_may() -> None:
    """The worst there is: every level claims as many entries as are allowed."""
    data = (b"\xdc" + struct.pack(">H", IDS_MAX)) * 1000
    tracemalloc.start()
    with pytest.raises(PeerError):
        decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20


# -- bundles -------------------------------------------------------------------------------------


carried = st.builds(Carried, st.binary(max_size=60), st.booleans(), hops)


@given(st.lists(carried, max_size=5))
def test_bundles_come_back(batches: list[Carried]) -> None:
    frame = encode_bundle(Bundle(SESSION, SENDER, RECEIVER, 1, batches))
    bundle = decode_bundle(frame)
    assert (bundle.session, bundle.sender, bundle.receiver) == (SESSION, SENDER, RECEIVER)
    assert [(bytes(c.record), c.flagged, c.hops) for c in bundle.carried] == batches


def test_records_are_not_copied() -> None:
    frame = bytearray(
        encode_bundle(Bundle(SESSION, SENDER, RECEIVER, 1, [Carried(b"x", False, ())]))
    )
    (batch,) = decode_bundle(frame).carried
    frame[-1:] = b"y"
    assert bytes(batch.record) == b"y"


@given(st.lists(carried, min_size=1, max_size=3), st.data())
def test_a_damaged_bundle_is_a_peer_error_at_worst(
    batches: list[Carried], data: st.DataObject
) -> None:
    frame = encode_bundle(Bundle(SESSION, SENDER, RECEIVER, 1, batches))
    at = data.draw(st.integers(0, len(frame) - 1))
    damaged = bytearray(frame)
    damaged[at] ^= data.draw(st.integers(1, 255))
    with suppress(PeerError):
        decode_bundle(damaged)
    with pytest.raises(PeerError):
        decode_bundle(frame + b"more")
    if at < len(frame) - len(batches[-1].record) or batches[-1].record:
        with pytest.raises(PeerError):
            decode_bundle(frame[:at])


def bundle_of(
    index: object, records: bytes = b"", session: object = SESSION, number: int = 1
) -> bytes:
    head: bytes = msgpack.packb([session, SENDER, RECEIVER, number, index])
    return struct.pack(">I", len(head)) + head + records


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(bundle_of([[1, False, []]], b"x", session=b"s" * 7), id="short session"),
        pytest.param(bundle_of([[1, False, []]], b"x", session="s" * 8), id="text session"),
        pytest.param(bundle_of([], number=-1), id="negative number"),
        pytest.param(bundle_of([], number=2**63), id="huge number"),
        pytest.param(bundle_of({}), id="index as map"),
        pytest.param(bundle_of([1]), id="number in index"),
        pytest.param(bundle_of([[-1, False, []]]), id="negative size"),
        pytest.param(bundle_of([[2, False, []], [-1, False, []]], b"x"), id="sizes that cancel"),
        pytest.param(bundle_of([[True, False, []]], b"x"), id="bool as size"),
        pytest.param(bundle_of([[1.0, False, []]], b"x"), id="float as size"),
        pytest.param(bundle_of([[2**64 - 1, False, []]], b"x"), id="huge size"),
        pytest.param(bundle_of([[1, 1, []]], b"x"), id="number as flag"),
        pytest.param(bundle_of([[1, None, []]], b"x"), id="no flag"),
        pytest.param(bundle_of([[1, False, {}]], b"x"), id="hops as map"),
        pytest.param(bundle_of([[1, False, ["ab"]]], b"x"), id="text as hop"),
        pytest.param(bundle_of([[1, False, [["a", True]]]], b"x"), id="bool as time"),
        pytest.param(bundle_of([[1, False, [["a", -1]]]], b"x"), id="negative time"),
        pytest.param(bundle_of([[1, False, [["a", 2**53]]]], b"x"), id="huge time"),
        pytest.param(bundle_of([[1, False, [[b"a", 1]]]], b"x"), id="bytes as agent"),
        pytest.param(bundle_of([[1, False, [["a" * 65, 1]]]], b"x"), id="long agent"),
        pytest.param(bundle_of([[1, False, [["a", 1]] * 65]], b"x"), id="many hops"),
        pytest.param(bundle_of([[1, False, []]]), id="record missing"),
        pytest.param(bundle_of([], b"x"), id="record too many"),
        pytest.param(bundle_of([[0, False, []]] * 4097), id="many batches"),
        pytest.param(bundle_of([[0, False, []]], session=b"\x00" * 70_000), id="long head"),
        pytest.param(b"\xff\xff\xff\xff", id="endless head"),
        pytest.param(b"\0\0\0", id="nothing"),
    ],
)
def test_what_is_no_bundle(frame: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        decode_bundle(frame)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("length", [65_536, 65_537])
def test_the_head_of_a_bundle_has_64_kib_at_most(length: int) -> None:
    def newer(more: int) -> bytes:
        words: tuple[object, ...] = (SESSION, SENDER, RECEIVER, 1, [], None)
        packed: bytes = msgpack.packb([*words, bytes(more)])
        return packed

    head = newer(length - (len(newer(60_000)) - 60_000))
    assert len(head) == length
    frame = struct.pack(">I", length) + head
    if length == 65_536:
        assert decode_bundle(frame).carried == []
    else:
        with pytest.raises(PeerError, match="does not fit"):
            decode_bundle(frame)


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1])
def test_an_empty_bundle_is_one(number: int) -> None:
    bundle = decode_bundle(bundle_of([], number=number))
    assert (bundle.number, bundle.carried) == (number, [])


def test_of_many_hops_the_latest_are_told() -> None:
    """A batch is not refused for having come a long way."""
    way = tuple(Hop(f"agent-{n}", n) for n in range(HOPS_MAX + 6))
    frame = encode_bundle(Bundle(SESSION, SENDER, RECEIVER, 1, [Carried(b"x", False, way)]))
    assert decode_bundle(frame).carried[0].hops == way[6:]


@given(hops, st.integers(0, 2**32 - 1))
def test_what_a_batch_takes_of_the_head_is_bounded(way: tuple[Hop, ...], size: int) -> None:
    packed = msgpack.packb([size, True, [tuple(hop) for hop in way]])
    assert len(packed) <= index_bytes(way)


def test_the_longest_way_fits_a_head() -> None:
    way = tuple(Hop("\U0001f980" * NAME_CHARS_MAX, 2**53 - 1) for _ in range(HOPS_MAX))
    assert index_bytes(way) < HEAD_BYTES_MAX // 2
    frame = encode_bundle(Bundle(SESSION, SENDER, RECEIVER, 1, [Carried(a_record(), True, way)]))
    assert decode_bundle(frame).carried[0].hops == way


def test_the_most_batches_fit_a_head() -> None:
    batches = [Carried(b"", False, ())] * BUNDLE_BATCHES_MAX
    assert len(decode_bundle(encode_bundle(Bundle(SESSION, SENDER, RECEIVER, 1, batches))).carried)


def test_a_ping_that_does_not_say_how_much_waits_means_a_byte() -> None:
    said = decode(msgpack.packb(["ping", {"session": b"s" * 8, "sent_ms": 5}]))
    assert said == Ping(b"s" * 8, 5, 1)
