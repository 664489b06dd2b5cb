"""Each line of an agent's log is ours."""

import logging

import pytest

from tiers.agent.logs import LineFormatter

FORGED = "\x1b]0;owned\x07\n2026-11-28T00:00:00.000Z INFO edge-1 all is well"


def formatted(message: str, *arguments: object, error: BaseException | None = None) -> list[str]:
    told = (type(error), error, None) if error is not None else None
    record = logging.LogRecord("tiers", logging.WARNING, "x", 1, message, arguments, told)
    record.created, record.msecs = 1_800_000_000.25, 250.0
    return LineFormatter("edge-1").format(record).split("\n")


@pytest.mark.parametrize("forged", [FORGED, FORGED.replace("\n", "\r\n"), "\x85a", "\u2028a"])
def test_a_message_is_one_line_whatever_is_in_it(forged: str) -> None:
    for line in (formatted(forged), formatted("%s: %s", "tail", forged)):
        assert len(line) == 1
        assert line[0].startswith("2027-01-15T08:00:00.250Z WARNING edge-1 ")
        assert line[0].isprintable()


def test_no_line_of_a_traceback_begins_as_ours_do() -> None:
    first, *rest = formatted("failed", error=ValueError(FORGED))
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)


def test_who_logs_in_by_a_url_is_not_told() -> None:
    (line,) = formatted("cannot reach http://me:secret@nn1:9870/webhdfs")
    assert line.endswith("http://***@nn1:9870/webhdfs")
