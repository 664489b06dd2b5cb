"""Path templates: what they ask for, and that no header value leaves its place."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiers.core import paths
from tiers.errors import BatchError

AT = 1_795_424_645_678  # 2026-11-23T09:04:05.678Z


def test_a_template_is_filled_with_headers_and_utc_time() -> None:
    assert paths.render("{service}/%Y/%m/%d/%H", {"service": "web"}, AT) == "web/2026/11/23/09"
    assert paths.render("a-%F-%M%S-%%-%j", {}, AT) == "a-2026-11-23-0405-%-327"
    assert paths.render("%G-W%V-%u %y", {}, AT) == "2026-W48-1 26"
    assert paths.render("", {}, AT) == ""
    assert paths.render("{host}", {}, AT) == "unknown"
    assert paths.render("{host}", {"host": ""}, AT) == "unknown"
    assert paths.day_name(AT) == "2026-11-23"
    assert paths.day_name(0) == "1970-01-01"


def test_a_time_beyond_the_calendar_is_an_error_of_the_batch() -> None:
    with pytest.raises(BatchError, match="calendar"):
        paths.render("%Y", {}, 2**53)
    with pytest.raises(BatchError, match="calendar"):
        paths.day_name(2**53)


def test_header_names() -> None:
    assert paths.header_names("{service}/%H/{host}-{service}") == {"service", "host"}
    assert paths.header_names("plain") == frozenset()


@pytest.mark.parametrize(
    ("template", "seconds"),
    [
        ("", math.inf),
        ("{service}/x", math.inf),
        ("%Y", 86400),
        ("%Y/%m", 86400),
        ("%F", 86400),
        ("%H/%d", 3600),
        ("%H%M", 60),
        ("%S", 1),
        ("100%%/%H", 3600),
    ],
)
def test_granularity(template: str, seconds: float) -> None:
    assert paths.granularity(template) == seconds


@pytest.mark.parametrize(
    ("template", "bucket_s", "answer"),
    [
        ("%H", 3600, True),
        ("%H", 1800, True),
        ("%H%M", 3600, False),
        ("%d", 3600, True),
        ("%d", 5 * 3600, False),  # such a bucket would lie in two days
        ("%Y", 7 * 86400, False),
        ("{service}", 12345, True),
        ("%H", 0, False),
    ],
)
def test_fits(template: str, bucket_s: float, answer: bool) -> None:
    assert paths.fits(template, bucket_s) is answer


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("%Q", "unknown time code '%Q'"),
        ("a%", "unknown time code '%'"),
        ("%Y/%Q", "unknown time code '%Q'"),
        ("%Q/%Y", "unknown time code '%Q'"),
        ("{a", "'{' without"),
        ("a}", "'}' without"),
        ("{}", "without a header's name"),
        ("{ }", "without a header's name"),
        ("/a", "empty directory"),
        ("a/", "empty directory"),
        ("a//b", "empty directory"),
        ("a/../b", "begins with '.'"),
        (".tiers", "begins with '.'"),
        ("a:b", "not every store"),
        ("a\\b", "not every store"),
        ("a\nb", "not every store"),
        ("x" * 256, "more than 255"),
        ("{a}{b}{c}", "more than 255"),
    ],
)
def test_problems(template: str, says: str) -> None:
    found = paths.problems(template)
    assert len(found) == 1 and says in found[0]


@pytest.mark.parametrize("template", ["", "{a}/%Y", "%Y-%m/{b}.{c}/%%", "plain", "{a}.x"])
def test_no_problems(template: str) -> None:
    assert paths.problems(template) == []


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("web-1.example", "web-1.example"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        (".tiers", "%2Etiers"),
        ("a\x00\n", "a%00%0A"),
        ("100%", "100%25"),
        ("::1", "%3A%3A1"),
        ("Größe", "Größe"),
        ("\u202e", "%E2%80%AE"),
        ("", "unknown"),
    ],
)
def test_safe(value: str, name: str) -> None:
    assert paths.safe(value) == name


def test_long_values_stay_apart() -> None:
    one, two = paths.safe("x" * 1000 + "1"), paths.safe("x" * 1000 + "2")
    assert one != two
    assert len(one) == paths.VALUE_BYTES_MAX


@given(st.text(max_size=400))
@example("\ud800")
@example("é" * 119)
@example("../../etc")
def test_a_value_never_leaves_its_place(value: str) -> None:
    name = paths.safe(value)
    assert name and "/" not in name and not name.startswith(".") and "\x00" not in name
    assert ":" not in name and len(name.encode()) <= paths.VALUE_BYTES_MAX
    path = paths.render("in/{h}/%H", {"h": value}, AT)
    assert path.split("/") == ["in", name, "09"]


@given(st.text(alphabet="{}%/.abYHQ:", max_size=12), st.text(max_size=20))
def test_what_has_no_problems_renders_to_good_names(template: str, value: str) -> None:
    if paths.problems(template):
        return
    path = paths.render(template, dict.fromkeys(paths.header_names(template), value), AT)
    assert template == "" or all(s and not s.startswith(".") for s in path.split("/"))
