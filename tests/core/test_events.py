"""The framing `events`: what is packed is read, however it comes, and nothing else is."""

from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.batch import HEADER_BYTES_MAX, HEADERS_MAX
from tiers.core.block import Block
from tiers.core.events import Event, count, pack, read
from tiers.errors import BatchError

texts = st.text(max_size=9)
some = st.lists(st.builds(Event, st.dictionaries(texts, texts, max_size=4), st.binary(max_size=50)))


@given(some, st.lists(st.integers(0, 300)))
def test_they_come_back_in_any_pieces(given_events: list[Event], cuts: list[int]) -> None:
    body = b"".join(map(pack, given_events))
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [memoryview(body)[a:b] for a, b in pairwise(edges)]
    assert list(read(pieces)) == given_events
    assert count(body) == len(given_events)
    if given_events:
        Block(body, len(given_events), framing="events").check()
        with pytest.raises(BatchError, match="says"):
            Block(body, len(given_events) + 1, framing="events").check()


ONE = pack(Event({"a": "b"}, b"body"))
WRONG = {
    "ends within": ONE + ONE[:-1],
    "an array begun": ONE + b"\x92",
    "headers begun": ONE + b"\x92\x81\xa1a",
    "headers and no body": ONE + b"\x92\x80",
    "a body begun": ONE + b"\x92\x80\xc4\x01",
    "nil behind it": ONE + b"\xc0",
    "no array": msgpack.packb({"a": 1}),
    "one thing": msgpack.packb([{}]),
    "three things": msgpack.packb([{}, b"", b""]),
    "no map": msgpack.packb([[], b""]),
    "a text for a body": msgpack.packb([{}, "body"]),
    "a number for a header": msgpack.packb([{"a": 1}, b""]),
    "a number for a name": msgpack.packb([{1: "a"}, b""]),
    "too many headers": msgpack.packb([{str(n): "" for n in range(HEADERS_MAX + 1)}, b""]),
    "a long header": msgpack.packb([{"a": "x" * (HEADER_BYTES_MAX + 1)}, b""]),
    "no UTF-8": b"\x92\x81\xa1a\xa1\xff\xc4\x00",
    "an array of a billion": b"\xdd\x3b\x9a\xca\x00",
    "a body of four billion": b"\x92\x80\xc6\xff\xff\xff\xff",
    "nothing of msgpack": b"\xc1",
    "lines": b"a line\nand another\n",
    "deep": b"\x92\x80" + b"\x91" * 5000,
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_no_stream_of_events(body: bytes) -> None:
    with pytest.raises(BatchError):
        count(body)
    with pytest.raises(BatchError):
        Block(body, 1, framing="events").check()
