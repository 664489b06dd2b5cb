"""A seed is one run and no other; what makes two of it is seen, and said in words."""

import pytest

from tests.simulation.journal import Journal, Told, difference
from tests.simulation.planted import UNLIKE
from tests.simulation.test_world import simulate


@pytest.mark.parametrize("bug", [bug.name for bug in UNLIKE])
def test_what_is_not_the_same_twice_is_caught(bug: str) -> None:
    ended = simulate("--twice", "--bug", bug, "--seeds", "3", "--jobs", "2")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "is not the same run twice: event" in ended.stdout
    assert "again: scripts/simulate --seed" in ended.stdout


def test_one_seed_is_played_twice_and_others_are_other_runs() -> None:
    ended = simulate("--twice", "--seed", "8", "--jobs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 seeds" in ended.stdout
    shown = [simulate("--seed", seed).stdout for seed in ("8", "10")]
    assert "fault:" in shown[0]
    assert shown[0] != shown[1]


def told(*events: tuple[float, str]) -> Told:
    now = [0.0]
    journal = Journal(lambda: now[0], open=True)
    for now[0], what in events:
        journal.note("sink", what)
    return journal.close()


def test_the_first_difference_is_told() -> None:
    one = told((0.5, "reads"), (1.0, "writes"), (2.0, "moves"))
    assert difference(one, told((0.5, "reads"), (1.0, "writes"), (2.0, "moves"))) == ""
    found = difference(one, told((0.5, "reads"), (1.25, "writes"), (3.0, "deletes")))
    assert found.splitlines() == [
        "event 2 is another:",
        "  both had 0.5 s: sink reads",
        "  once     1.0 s: sink writes",
        "  then     1.25 s: sink writes",
    ]
    assert "then     nothing: it is over" in difference(one, told((0.5, "reads"), (1.0, "writes")))


def test_of_long_events_the_place_is_shown_where_they_differ() -> None:
    found = difference(told((1.0, "x" * 1000 + "left")), told((1.0, "x" * 1000 + "right")))
    assert "xleft" in found
    assert "xright" in found


def test_a_journal_that_is_not_open_keeps_nothing() -> None:
    journal = Journal(lambda: 0.0, open=False)
    journal.note("anything")
    assert journal.close() == Journal(lambda: 0.0, open=True).close()
