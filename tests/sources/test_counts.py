"""Counts of messages: which are believed, and where so many characters end."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiers.sources.counts import (
    characters_end,
    continuations,
    counted_line,
    digits_begin,
    is_count,
    whole_frames,
    without_count,
)

# The last of each length in UTF-8, and the first.
EDGES = "\x00\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff<a"
texts = st.text(st.sampled_from(EDGES) | st.characters(codec="utf-8"), max_size=12)


@given(texts, st.integers(0, 50), st.integers(0, 14), st.integers(0, 4))
@example(EDGES, 0, 5, 0)
@example("\U00010000", 0, 1, 0)
@example("\U0010ffff", 0, 1, 0)
@example("\uffff", 0, 1, 0)
def test_where_characters_end(text: str, begin: int, count: int, cut: int) -> None:
    data = text.encode()
    data = data[: len(data) - cut]
    begin = min(begin, len(data))
    rest = data[begin:]
    skipped = len(rest) - len(rest.lstrip(bytes(range(0x80, 0xC0))))
    # What begins at a first byte; an unfinished one at the end is none.
    whole = rest[skipped:].decode(errors="ignore")
    expected = begin + skipped + len(whole[:count].encode()) if count <= len(whole) else -1
    assert characters_end(data, begin, count) == expected


@given(texts)
def test_bytes_beyond_characters(text: str) -> None:
    assert continuations(text.encode()) == len(text.encode()) - len(text)


@pytest.mark.parametrize(
    ("behind", "length", "known", "believed"),
    [
        (b"<34>text", 8, True, True),
        (b"<34>text", 4, True, True),
        (b"<34>text", 3, True, False),  # it would end within the priority
        (b"<165>tex", 5, True, True),
        (b"<165>tex", 4, True, False),
        (b"<b>text", 7, True, True),
        (b"<b>text", 7, False, False),
        (b"<b>text and more", 16, True, True),
        (b"<b>text and more", 16, False, False),
        (b"<34>text and more", 16, False, True),
        (b"\xef\xbb\xbf<34>text", 7, True, True),
        (b"\xef\xbb\xbf<34>text", 6, True, False),
        (b"<191>text", 9, False, True),
        (b"<192>text", 9, False, False),  # no priority, but digits
        (b"<192>text", 5, True, True),
        (b"<3", 7, True, None),
        (b"<3", 8, True, True),
        (b"<3", 8, False, None),
        (b"", 5, False, None),
    ],
)
def test_which_count_is_believed(
    behind: bytes, length: int, known: bool, believed: bool | None
) -> None:
    assert is_count(b"77 " + behind, 3, length, known) is believed


def test_whole_messages_up_to_one_that_is_not_there_or_too_long() -> None:
    data = b"8 <1>abcde" + b"9 <2>abcdef" + b"10 <3>abcdefg"
    frames = [b"<1>abcde", b"<2>abcdef", b"<3>abcdefg"]
    assert whole_frames(data, 0, 10) == (frames, len(data) - 10, len(data))
    assert whole_frames(data, 0, 9) == (frames[:2], 12, 21)
    assert whole_frames(data[:-1], 0, 10) == (frames[:2], 12, 21)
    assert whole_frames(data, 10, 10) == (frames[1:], len(data) - 10, len(data))
    assert whole_frames(b"7 <1>abcd" + data, 0, 10) == ([], 0, 0), "it is looked at more closely"


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"one\ntwo\n", 8),
        (b"one\n12 <3>two\n", 4),
        (b"one\n  12 <3>two\n", 4),
        (b"one\n12 \xef\xbb\xbf<3>two\n", 4),
        (b"one\ntwo 12 <3>three\n", 20),  # within a line
        (b"one <b\ntwo <b\n12 <3>three\n", 14),
        (b"12 <3>first\n", 12),  # of the line that begins there it is asked elsewhere
        (b"one\n" + b"1" * 18 + b" <3>two\n", 4),
        (b"one\n" + b"1" * 19 + b" <3>two\n", 31),
    ],
)
def test_the_line_behind_which_there_is_a_count(data: bytes, end: int) -> None:
    assert counted_line(data, 0, len(data)) == end
    assert counted_line(b"\n12 <3>zero\n" + data, 12, 12 + len(data)) == 12 + end


def test_a_count_right_behind_the_lines_is_seen() -> None:
    data = b"one\ntwo\n12 <3>three"
    assert counted_line(data, 0, 4) == 4
    assert counted_line(data, 0, 8) == 8


@pytest.mark.parametrize(
    ("data", "at", "least", "begin"),
    [
        (b"ab12", 4, 0, 2),
        (b"ab12", 4, 3, 3),
        (b"ab12", 2, 0, 2),
        (b"0123456789", 10, 0, 0),
        (b"/0:9", 4, 0, 3),
        (b"1" * 30, 30, 0, 12),
    ],
)
def test_where_digits_begin(data: bytes, at: int, least: int, begin: int) -> None:
    assert digits_begin(data, at, least) == begin


@pytest.mark.parametrize(
    ("datagram", "message"),
    [
        (b"8 <8>count", b"<8>count"),
        (b"7 <8>count", b"7 <8>count"),
        (b"9 <8>count", b"9 <8>count"),
        (b"<8>count", b"<8>count"),
        (b"8 8>counts", b"8 8>counts"),
        (b"", b""),
    ],
)
def test_a_datagram_with_its_own_count(datagram: bytes, message: bytes) -> None:
    assert without_count(datagram) == message
