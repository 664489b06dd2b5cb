"""Nothing that a stranger calls itself moves a cursor or begins a line."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.printable import NAME_CHARS_MAX, printable, printable_lines, printable_text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("edge-1", "edge-1"),
        ("/var/log/blåbær 日本.log", "/var/log/blåbær 日本.log"),
        ("", ""),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202egol.exe", r"abc\u202egol.exe"),
        ("a\u2028b\ufeff", r"a\u2028b\ufeff"),
        (b"h\xc3\xa9llo\xff\x00", r"héllo\xff\x00"),
        (os.fsdecode(b"/mnt/\xe9t\xe9"), r"/mnt/\xe9t\xe9"),
        ("\ud800", r"\ud800"),
        ("\udc7f\udc80\udcff\udd00", r"\udc7f\x80\xff\udd00"),
        ("x" * NAME_CHARS_MAX, "x" * NAME_CHARS_MAX),
        ("x" * (NAME_CHARS_MAX + 1), "x" * (NAME_CHARS_MAX - 1) + "…"),
    ],
)
def test_what_is_shown(name: str | bytes, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@nn1:9870/a@b", "http://***@nn1:9870/a@b"),
        ("http://nn1:9870;https://me:p@ss@nn2:9870", "http://nn1:9870;https://***@nn2:9870"),
        ("mail me@example.org, http://nn1/?a@b", "mail me@example.org, http://nn1/?a@b"),
    ],
)
def test_who_logs_in_by_a_url_is_not_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()) | st.binary(), st.integers(1, 30))
def test_any_name_is_printable_encodable_and_short(name: str | bytes, chars_max: int) -> None:
    shown = printable(name, chars_max)
    assert shown.isprintable()
    assert len(shown) <= chars_max
    shown.encode()


@pytest.mark.parametrize("char", ["x", "\x1b"])
def test_a_line_of_words_is_cut_at_4096_characters(char: str) -> None:
    assert printable_text("x" * 4096) == "x" * 4096
    shown = printable_text(char * 4097)
    assert (len(shown), shown[-1]) == (4096, "…")
    assert printable_lines(f"a\x07\n{char * 4097}") == [r"a\x07", shown]
