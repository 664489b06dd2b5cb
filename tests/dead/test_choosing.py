"""Which letters are meant, and what they have in common."""

import pytest

from tiers.core.batch import BatchId
from tiers.core.change import LetterHead
from tiers.dead import choosing
from tiers.dead.choosing import OTHER, Groups, common, wanted
from tiers.errors import UsageError

ORIGIN = b"o" * 16


def head(position: int = 7, reason: str = "bad", output: str = "out", at_ms: int = 5) -> LetterHead:
    key = BatchId(ORIGIN, position)
    return LetterHead(position, output, reason, at_ms, key, False, (), 2, 10, (position, 1))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (f"batch {ORIGIN.hex()}-17 is 0x1f, sealed 0x2e", "batch … is …, sealed …"),
        ("record of 1,234,567 bytes; at most 1048576", "record of … bytes; at most …"),
        ("edge-1 sent it to hdfs2 at 2026-11-30T12:00:00Z", "edge-1 sent it to hdfs2 at …"),
        ("no digits", "no digits"),
    ],
)
def test_what_differs_in_reasons_is_left_out(reason: str, told: str) -> None:
    assert common(reason) == told


@pytest.mark.parametrize(
    ("cause", "has"),
    [
        ("", True),
        ("QUOTA", True),
        ("quota*", False),
        ("*quota of 7*", True),
        ("quota of …", True),
        ("quota of 8", False),
        ("?ver quota of 7?mib", True),
    ],
)
def test_a_cause_is_a_part_or_a_glob(cause: str, has: bool) -> None:
    assert wanted(cause, "", ()).has(head(reason="Over quota of 7 MiB")) is has


def test_ids_are_numbers_runs_and_batches() -> None:
    chosen = wanted("", "", ["1, 3-5", f"{ORIGIN.hex()}-9"])
    assert [n for n in range(12) if chosen.has(head(n))] == [1, 3, 4, 5, 9]
    assert not wanted("", "other", ()).has(head())
    assert not wanted("good", "", ["7"]).has(head(7)), "all of it must be right"


@pytest.mark.parametrize("word", ["", "x", "5-3", "-1", "1-", "1--2", "abc-1", "9" * 19])
def test_what_names_no_letter_is_said(word: str) -> None:
    with pytest.raises(UsageError, match="wanted a letter's number, a run"):
        wanted("", "", [word])


def test_groups_are_of_one_output_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "GROUPS_MAX", 2)
    groups = Groups()
    for number, (reason, output) in enumerate(
        [("bad 1", "b"), ("bad 22", "b"), ("bad 3", "a"), ("other", "a"), ("another", "a")]
    ):
        groups.take(head(reason=reason, output=output, at_ms=10 - number))
    told = [(one.output, one.reason, one.batches, one.events, one.bytes) for one in groups]
    assert told == [("a", OTHER, 2, 4, 20), ("a", "bad …", 1, 2, 10), ("b", "bad …", 2, 4, 20)]
    assert [(one.oldest_ms, one.newest_ms) for one in groups] == [(6, 7), (8, 8), (9, 10)]
