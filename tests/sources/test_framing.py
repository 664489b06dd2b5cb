"""However a stream is cut into segments, its messages are the same, and an odd one costs no other
its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.dialects import (
    BOM,
    DIALECTS,
    ONE,
    THREE,
    TRACE,
    TWO,
    Dialect,
    counted,
    in_characters,
)
from tiers.sources.framing import FramingReader, Kind, reader

EVENT_BYTES_MAX = 1 << 20

texts = st.text("<>1 0a\n\r", max_size=30).map(lambda text: b"<" + text.encode())
sizes = st.lists(st.integers(1, 40), max_size=60)


def feed(
    stream: bytes, cuts: list[int], kind: Kind = "auto", event_size_max: int = EVENT_BYTES_MAX
) -> tuple[bytes, FramingReader]:
    one, out = reader(kind, event_size_max), b""
    for size in [*cuts, len(stream)]:
        out += one.feed(stream[:size]) if stream else b""
        stream = stream[size:]
        assert one.held_bytes <= 2 * event_size_max + 256
    return out + one.finish(), one


def block(events: list[bytes]) -> bytes:
    return b"".join(event + b"\n" for event in events)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_in_every_cut(dialect: Dialect) -> None:
    stream, expected = dialect.stream, block(dialect.events)
    ways = [[at] for at in range(len(stream) + 1)]
    ways += [[size] * len(stream) for size in (1, 2, 3, 7)]
    for cuts in ways:
        out, one = feed(stream, cuts, dialect.kind)
        assert (out, one.odd) == (expected, dialect.odd), cuts


@given(st.lists(st.sampled_from(DIALECTS), max_size=6), sizes)
def test_any_cut_of_any_mixture_gives_the_same(dialects: list[Dialect], cuts: list[int]) -> None:
    stream = b"".join(dialect.stream for dialect in dialects)
    whole, once = feed(stream, [])
    out, one = feed(stream, cuts)
    assert (out, one.odd, one.odd_bytes) == (whole, once.odd, once.odd_bytes)


@pytest.mark.parametrize("count", [b"51", b"51 ", b"1 ", b"51    ", b"\xef\xbb\xbf51"])
@pytest.mark.parametrize("first", [b"", b"a\n", b"<13>a\n<13>b\n", b"<13>a\0"])
def test_what_begins_with_a_count_is_alike_in_every_cut(count: bytes, first: bytes) -> None:
    """Whether lines before it came with it or not."""
    stream = first + b"<14>b\n" + count + b"<34>c" + b"61<34>d 7<34>e\n" + count + b"<13>f\n"
    whole, once = feed(stream, [])
    for size in range(1, len(stream)):
        for cuts in ([size], [size] * len(stream)):
            out, one = feed(stream, cuts)
            assert (out, one.odd, one.odd_bytes) == (whole, once.odd, once.odd_bytes), cuts


pieces = st.sampled_from(
    [
        *(b"<34>", b"<1>", b"12 ", b"5", b"0 ", b" ", b"\n", b"\r\n", b"\0", b"a", b"<", b"\xc3"),
        *(
            b"\r",
            b"<456>",
            b"9 <event>",
            BOM,
            ONE,
            counted(TWO),
            in_characters(TWO),
            THREE + b"\n",
            TRACE + b"\0",
        ),
    ]
)


@given(
    st.lists(pieces, max_size=40).map(b"".join),
    sizes,
    st.sampled_from([12, 40, EVENT_BYTES_MAX]),
    st.sampled_from(["auto", "octet", "newline", "nul"]),
)
def test_any_cut_of_any_bytes_gives_the_same(
    stream: bytes, cuts: list[int], event_size_max: int, kind: Kind
) -> None:
    whole, once = feed(stream, [], kind, event_size_max)
    out, one = feed(stream, cuts, kind, event_size_max)
    assert (out, one.odd, one.odd_bytes) == (whole, once.odd, once.odd_bytes)
    assert all(0 < len(line) < event_size_max for line in out.split(b"\n")[:-1])


odd_ones = st.one_of(
    st.integers(-30, 60).map(lambda by: counted(ONE, by)),
    st.sampled_from([b"9" * 12, b"0", b"", b"51 ", b" 51", b"051", b"x", b"5 1"]).map(
        lambda count: count + b" " + ONE
    ),
    st.just(in_characters(TWO)),
)


@given(odd_ones, sizes)
def test_neighbours_of_an_odd_message_are_all_there(odd: bytes, cuts: list[int]) -> None:
    neighbours = [b"<13>1 - host app %d - - a neighbour." % number for number in range(6)]
    frames = [counted(one) for one in neighbours]
    out, _ = feed(b"".join([*frames[:3], odd, *frames[3:]]), cuts)
    assert all(one in out for one in neighbours)
    events = out.split(b"\n")
    # The two behind it may be within what a far too large count took; all others are their own.
    assert all(one in events for one in [*neighbours[:3], neighbours[5]])


@given(st.lists(texts, max_size=10), sizes)
def test_octet_counted(each: list[bytes], cuts: list[int]) -> None:
    messages = [b"<34>" + one for one in each]
    out, one = feed(b"".join(map(counted, messages)), cuts)
    assert out == block([m.rstrip(b"\n").replace(b"\n", b"#012") for m in messages])
    assert not one.odd


@given(st.lists(texts, min_size=1, max_size=10))
def test_a_whole_counted_message_is_not_held(each: list[bytes]) -> None:
    one = reader("auto", EVENT_BYTES_MAX)
    for text in each:
        message = b"<34>" + text
        frame = counted(message)
        assert one.feed(frame[:-1]) == b""
        out = one.feed(frame[-1:])
        assert out == message.rstrip(b"\n").replace(b"\n", b"#012") + b"\n"
        assert not one.waits


@given(st.lists(texts, max_size=10), sizes)
def test_long_counted_messages_leave_in_pieces(each: list[bytes], cuts: list[int]) -> None:
    messages = [b"<34>" + one for one in each]
    out, one = feed(b"".join(map(counted, messages)), cuts, event_size_max=10)
    assert all(len(line) < 10 for line in out.split(b"\n"))
    # A newline at the end of a piece may be kept, for the message goes on: compare without them.
    plain = b"".join(message.replace(b"\n", b"") for message in messages)
    assert out.replace(b"\n", b"").replace(b"#012", b"") == plain
    assert one.split >= sum(len(message.rstrip(b"\n")) > 9 for message in messages)


@pytest.mark.parametrize("size", [98, 99, 100, 198, 199, 250])
def test_each_piece_of_a_long_counted_message_is_as_long_as_it_may_be(size: int) -> None:
    message = b"<34>".ljust(size, b"x")
    out, one = feed(counted(message), [7, 120], event_size_max=100)
    pieces = [message[at : at + 99] for at in range(0, size, 99)]
    assert out == block(pieces)
    assert one.split == (size > 99)


def test_a_first_line_waits_for_what_an_lf_is_on_its_connection() -> None:
    one = reader("auto", EVENT_BYTES_MAX)
    assert (one.feed(ONE + b"\n"), one.waits) == (b"", True)
    assert one.quiet() == ONE + b"\n"
    assert one.feed(TWO + b"\nmore\n") == TWO + b"\nmore\n"
    assert not one.waits


def test_quiet_tells_too_where_others_ended_with_nul() -> None:
    one = reader("auto", EVENT_BYTES_MAX)
    assert one.feed(ONE + b"\0" + TWO + b"\n") == ONE + b"\n"
    assert one.quiet() == TWO + b"\n"


@pytest.mark.parametrize("before", [0, 1, 10])
@pytest.mark.parametrize("cut", [4, 20, -1])
def test_the_rest_of_a_message_has_it_out_at_once_whatever_came_before(
    before: int, cut: int
) -> None:
    last = counted(THREE)
    one = reader("auto", EVENT_BYTES_MAX)
    assert one.feed(counted(ONE) * before + last[:cut]) == block([ONE] * before)
    assert one.feed(last[cut:-1]) == b""
    assert one.feed(last[-1:]) == block([THREE])


@pytest.mark.parametrize("end", ["quiet", "finish"])
@pytest.mark.parametrize("before", [counted(ONE), counted(ONE) + counted(TWO) + b"\0"])
def test_a_cr_at_the_end_ends_a_message_behind_counted_ones(before: bytes, end: str) -> None:
    """Those say nothing of what ends others."""
    one = reader("auto", EVENT_BYTES_MAX)
    out = one.feed(before + b"<34>a\r")
    assert one.waits
    assert (out + getattr(one, end)()).endswith(b"<34>a\n")


def test_quiet_within_a_line_tells_nothing() -> None:
    one = reader("auto", EVENT_BYTES_MAX)
    for part in (b"<11>boom\nTrace", b"back\n  File", b"\nValueError"):
        assert (one.feed(part), one.waits) == (b"", False)
        assert one.quiet() == b""
    assert one.feed(b"\0") == b"<11>boom#012Traceback#012  File#012ValueError\n"


def test_once_an_lf_ended_a_message_lines_do_not_wait() -> None:
    one = reader("auto", EVENT_BYTES_MAX)
    assert one.feed(ONE + b"\n<34>") == ONE + b"\n"
    assert one.feed(b"x\n") == b"<34>x\n"
    assert (one.feed(b"half"), one.waits) == (b"", False)


def test_one_that_is_odd_waits_no_longer_than_quiet() -> None:
    one = reader("auto", EVENT_BYTES_MAX)
    out = one.feed(counted(ONE, -3))
    waited = one.waits
    out += one.quiet()
    assert (out, waited, one.waits) == (ONE[:-3] + b"\n", True, False)
    assert one.feed(counted(TWO)) == ONE[-3:] + b"\n" + TWO + b"\n"


def test_what_a_wrong_count_took_is_put_at_most_twice() -> None:
    stream = counted(b"<1>" + b"3990 <1>" * 500) + b"xyz " * 2000
    out, _ = feed(stream, [64] * 400)
    assert len(out) <= 2.1 * len(stream)
