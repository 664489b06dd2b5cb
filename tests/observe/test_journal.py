"""The log: a line for each change, and a sum for what comes and goes."""

import logging
from collections.abc import Iterator

import pytest

from tiers.observe.conditions import Condition
from tiers.observe.journal import QUIET_S, Journal

DOWN = Condition("no_peer", "sink", "no peer takes batches: sink-1 down")
FULL = Condition("channel_full", "channel", "above its high mark: 900 MiB of 1 GiB", at_risk=True)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What was logged since it was cleared."""
    caplog.set_level(logging.INFO, "tiers")
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("tiers").addHandler(handler)
    yield said
    logging.getLogger("tiers").removeHandler(handler)


def test_a_line_as_it_begins_and_one_as_it_ends(lines: list[str]) -> None:
    journal = Journal()
    for second in range(90):
        journal.look([DOWN], second)
    (line,) = lines
    assert line.startswith("no_peer sink: no peer takes batches: sink-1 down (keeps the batches")
    assert "to do: start a peer" in line
    lines.clear()
    journal.look([], 90)
    assert lines == ["no_peer sink: over after 1.5min"]
    journal.look([], 200)
    journal.look([DOWN], 201)
    assert len(lines) == 2, "long after, it is news again"


def test_another_reason_is_another_line_but_other_numbers_are_not(lines: list[str]) -> None:
    journal = Journal()
    for second in range(200):
        text = f"{second},000 batches wait" if second < 150 else "permission denied"
        journal.look([Condition("output_error", "hdfs", text)], second)
    assert [line.split(" (")[0] for line in lines] == [
        "output_error hdfs: 0,000 batches wait",
        "output_error hdfs: permission denied",
    ]


def test_another_reason_soon_after_the_first_takes_nothing_from_the_end(lines: list[str]) -> None:
    journal = Journal()
    journal.look([Condition("no_peer", "sink", "sink-1 suspect")], 0)
    journal.look([Condition("no_peer", "sink", "sink-1 down")], 2)
    journal.look([], 5)
    assert [line.split(" (")[0] for line in lines] == [
        "no_peer sink: sink-1 suspect",
        "no_peer sink: over after 5s",
    ]


def test_what_flaps_is_summed(lines: list[str]) -> None:
    journal = Journal()
    for second in range(600):
        journal.look([DOWN] if second % 2 else [], second)
    assert len(lines) <= 2 + 2 * 600 / QUIET_S
    told = [line for line in lines if "times more" in line]
    assert told
    assert sum(int(line.split(": ")[1].split()[0]) for line in told) + 1 >= 299 - QUIET_S


def test_risk_is_said(lines: list[str]) -> None:
    Journal().look([FULL], 0)
    assert "events are at risk" in lines[0]


def test_what_was_over_before_a_look_is_told_too(lines: list[str]) -> None:
    journal = Journal()
    journal.begin(Condition("output_error", "hdfs", "connection refused"), 0)
    journal.look([], 1)
    assert [line.split(" (")[0] for line in lines] == [
        "output_error hdfs: connection refused",
        "output_error hdfs: over after 1s",
    ]


def test_what_is_over_is_forgotten() -> None:
    journal = Journal()
    for second in range(1000):
        journal.look([Condition("peer_down", f"sink/peer-{second}", "down")], second)
    assert len(journal._told) <= QUIET_S + 2
