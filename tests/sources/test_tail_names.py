"""Names that rotation gives, and those that it does not."""

import pytest

from tiers.sources.tail.names import candidates, is_added, is_rotated

OF_APP_LOG = [
    "app.log.1",
    "app.log.0001",
    "app.log-20261123",
    "app.log_20261126",
    "app.log.2026-11-23",
    "app.log.2026112614",
    "app.log.2026-11-26_14h",
    "app.log.2026-11-26_14-05-00",
    "app.log.20261126T120000Z",
    "app.log-1700000000",
    "app.log.2026-11-26T14:05:00+00:00",
    "app.log.Nov-23",
    "app.log.1.log",
    "app.log-2026-11-23-1.log.gz",
    "app.log.gz",
    "app.log.1.gz",
    "app.log.1.zst",
    "app.log-20261123.xz",
    "app.log.2.bz2",
    "app-1.log",
    "app-2.log",
    "app.1.log",
    "app-20261126.log",
    "app20261126.log",
    "app.2026-11-26.log",
    "app.2026-11-23.0.log",
    "app.2026-11-26_14.log",
    "app-2026-11-23-1.log.gz",
    "app-11-23-2026-1.log",
    "app-2016-11-04T18-30-00.000.log",
    "app-23-Nov-2026.log",
    "1.app.log",
    "2026-11-26-app.log",
]
OTHERS = [
    "app.log",
    "app.log.tail",
    "app.log.all",
    "app.log.bak",
    "app.log.err",
    "app.log.1.tmp",
    "app.log.swp",
    "app.log.1~",
    "app.log.offset",
    "app-error.log",
    "app-error-1.log",
    "app1.log",
    "apps.log",
    "myapp.log.1",
    ".app.log.1.swp",
    "other.log",
    "app.log.old",
]


@pytest.mark.parametrize("name", OF_APP_LOG)
def test_generations(name: str) -> None:
    assert is_rotated(name, "app.log")
    assert "app.log" in candidates(name)


@pytest.mark.parametrize("name", OTHERS)
def test_other_files(name: str) -> None:
    assert not is_rotated(name, "app.log")


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("0.log.20261126-120000.gz", "0.log"),
        ("web1.log.1", "web1.log"),
        ("messages-20261126", "messages"),
        ("error.1", "error"),
        ("a-1.b.log", "a.b.log"),
        ("a.b-1.log", "a.b.log"),
        ("syslog.2.gz", "syslog"),
        ("journal-ü.log.3", "journal-ü.log"),
    ],
)
def test_of_other_bases(name: str, base: str) -> None:
    assert is_rotated(name, base)
    assert base in candidates(name)


def test_what_is_inside_may_be_another_log() -> None:
    assert is_added("app.log.1", "app.log")
    assert is_added("app.log-20261123.gz", "app.log")
    assert not is_added("app-1.log", "app.log")


def test_numbers_of_many_logs_make_no_work_for_each_other() -> None:
    """Each name is asked of a few bases, not of all that look alike."""
    for i in range(1000):
        assert len(candidates(f"service-{i}-a.log.2026-11-26_14-05-00.gz")) < 60
