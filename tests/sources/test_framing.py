"""RFC 6587: however the stream is cut, the messages are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.sources.framing import FRAME_BYTES_MAX, Framing

RFC_3164 = b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8"
RFC_5424 = b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root'"

messages = st.lists(
    st.text("<>1 0a\n\r", max_size=30).map(lambda t: b"<" + t.encode()), max_size=10
)
chunks = st.lists(st.integers(1, 12), max_size=60)


def feed(stream: bytes, sizes: list[int], event_size_max: int = 1 << 20) -> tuple[bytes, Framing]:
    framing, out = Framing(event_size_max), b""
    for size in [*sizes, len(stream)]:
        out += framing.feed(stream[:size]) if stream else b""
        stream = stream[size:]
        assert framing.held_bytes <= event_size_max + 12
    return out + framing.finish(), framing


def counted(*each: bytes) -> bytes:
    return b"".join(b"%d %s" % (len(message), message) for message in each)


@given(messages, chunks)
def test_octet_counted(each: list[bytes], sizes: list[int]) -> None:
    out, framing = feed(counted(*each), sizes)
    assert out == b"".join(m.rstrip(b"\n").replace(b"\n", b"#012") + b"\n" for m in each)
    assert not framing.malformed


@given(messages, chunks)
def test_newline_framed(each: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(message + b"\n" for message in each)
    assert feed(stream, sizes)[0] == stream
    assert feed(stream[:-1], sizes)[0].rstrip(b"\n") == stream.rstrip(b"\n")


@given(chunks)
def test_nul_framed(sizes: list[int]) -> None:
    for end in (b"\0", b"\0\n"):
        out, _ = feed(RFC_3164 + end + RFC_5424 + end, sizes)
        assert [line for line in out.split(b"\n") if line] == [RFC_3164, RFC_5424]


@given(messages, chunks)
def test_long_counted_messages_leave_in_pieces(each: list[bytes], sizes: list[int]) -> None:
    out, framing = feed(counted(*each), sizes, event_size_max=10)
    assert all(len(line) < 10 for line in out.split(b"\n"))
    # A newline at the end of a piece may be kept, for the message goes on: compare without them.
    plain = b"".join(message.replace(b"\n", b"") for message in each)
    assert out.replace(b"\n", b"").replace(b"#012", b"") == plain
    assert framing.split >= sum(len(message.rstrip(b"\n")) > 9 for message in each)


def test_rfc_examples() -> None:
    both = RFC_3164 + b"\n" + RFC_5424 + b"\n"
    assert feed(both, [])[0] == both
    assert feed(counted(RFC_3164, RFC_5424), [])[0] == both


def test_a_line_that_begins_with_a_digit_is_no_count() -> None:
    for line in (b"2026-11-23 plain text\n", b"20261123102030 too long for a length\n"):
        assert feed(line, [3, 3])[0] == line


def test_a_line_after_the_first_may_begin_with_digits() -> None:
    stream = b"<13>Exception\n  at line\n5 more\n"
    assert feed(stream, [1] * 30)[0] == stream


def test_empty_messages_are_no_events() -> None:
    assert feed(b"\n\0\n", [1, 1])[0] == b""
    assert feed(b"1 \n3 <1>", [])[0] == b"<1>\n"


def test_an_unfinished_message_is_taken_at_the_end() -> None:
    assert feed(b"<1>half", [2])[0] == b"<1>half\n"
    assert feed(b"100 <1>half", [5])[0] == b"<1>half\n"
    assert feed(b"3 <1>10", [5])[0] == b"<1>\n"
    assert feed(b"12", [])[0] == b"12\n"


@pytest.mark.parametrize(
    "bad", [b"%d x" % (FRAME_BYTES_MAX + 1), b"9999999999 x", b"x", b"07 x", b"12345678901 x"]
)
def test_a_malformed_count_ends_the_connection(bad: bytes) -> None:
    for sizes in ([], [1] * 50):
        out, framing = feed(b"3 <1>" + bad + b"3 <2>", sizes)
        assert out == b"<1>\n"
        assert framing.malformed
        assert framing.feed(b"3 <3>") == b""
