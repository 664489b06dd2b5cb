"""What went wrong with whom: counted, kept for status, told at once and then summed."""

import time

import pytest

from tests.sources.intake import RecordingIntake
from tests.waiting import eventually
from tiers.sources import notes
from tiers.sources.notes import Notes

FULL = "dropped, the channel was full"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_ROWS_MAX", 2)


@pytest.mark.usefixtures("few")
async def test_of_many_hosts_the_last_are_kept_and_the_others_told_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    intake, found = RecordingIntake(), Notes("syslog in")
    found.begin(intake)
    before_ms = time.time_ns() // 1_000_000
    for number, host in enumerate("abcdb"):
        found.note("dropped_channel_full", host, 1 + number, 10 * number)
    assert caplog.messages == [f"syslog in: 1 of a: {FULL}"]
    told = [(row["what"], row["peer"], row["times"], row["bytes"]) for row in found.rows()]
    assert told == [
        ("dropped_channel_full", "b", 5, 40),  # what was noted longest ago is forgotten
        ("dropped_channel_full", "d", 4, 30),
    ]
    assert all(before_ms <= int(str(row["last_ms"])) <= before_ms + 10_000 for row in found.rows())
    assert intake.counters == {
        "dropped_channel_full": 1 + 2 + 3 + 4 + 5,
        "dropped_channel_full_bytes": 100,
    }
    found.end()
    assert caplog.messages[1:] == [
        f"syslog in: 2 of b (10 B): {FULL}",
        f"syslog in: 3 of c (20 B): {FULL}",
        f"syslog in: 9 (70 B): {FULL}",
    ]
    found.note("dropped_channel_full", "a")
    assert intake.counters["dropped_channel_full"] == 15, "nobody is there to count"
    found.end()


async def test_what_follows_is_told_together_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "_SUM_S", 0.01)
    found = Notes("in")
    found.note("connections_idle", "a\n")
    found.note("connections_idle", "b")
    found.note("connections_idle", "b")
    await eventually(lambda: len(caplog.messages) == 2)
    assert caplog.messages[1] == "in: 2 of b: closed, idle for too long"
    assert "\n" not in caplog.messages[0]
    found.note("connections_idle", "c")
    assert caplog.messages[2] == "in: 1 of c: closed, idle for too long", "at once again"
    found.end()
    assert len(caplog.messages) == 3
