"""What is due and does not move is stalled, and nothing else is."""

from collections.abc import Mapping

from tiers.core.progress import Place, Progress, Work

FILE: Place = ("tail", "app.log")
OTHER: Place = ("tail", "other.log")


def stalled(progress: Progress, works: Mapping[Place, Work], now_s: float) -> list[Place]:
    return [one.place for one in progress.look(works, now_s)]


def test_what_does_not_move_for_too_long_is_stalled_since_it_moved_last() -> None:
    progress = Progress(stalled_after_s=30)
    assert stalled(progress, {FILE: Work("5 unread", 10)}, 100) == []
    assert stalled(progress, {FILE: Work("5 unread", 10)}, 130) == []
    (found,) = progress.look({FILE: Work("9 unread", 10)}, 131)
    assert (found.place, found.work.what, found.since_s) == (FILE, "9 unread", 100)
    assert stalled(progress, {FILE: Work("8 unread", 11)}, 132) == [], "it moves again"


def test_slow_progress_is_progress() -> None:
    progress = Progress(stalled_after_s=30)
    for second in range(0, 3000, 29):
        assert stalled(progress, {FILE: Work("unread", second)}, second) == []


def test_one_that_moves_does_not_hide_one_that_does_not() -> None:
    progress = Progress(stalled_after_s=30)
    for second in range(60):
        works = {FILE: Work("unread", 7), OTHER: Work("unread", second)}
        assert stalled(progress, works, second) == ([FILE] if second > 30 else [])


def test_what_is_held_back_by_another_is_not_stalled_and_has_its_time_anew_afterwards() -> None:
    progress = Progress(stalled_after_s=30)
    for second in range(100):
        works = {FILE: Work("unread", 7, held="the channel takes no more")}
        assert stalled(progress, works, second) == []
    assert stalled(progress, {FILE: Work("unread", 7)}, 129) == []
    assert stalled(progress, {FILE: Work("unread", 7)}, 130) == [FILE]


def test_what_has_no_work_due_is_forgotten() -> None:
    progress = Progress(stalled_after_s=30)
    progress.look({FILE: Work("unread", 7)}, 0)
    progress.look({}, 20)
    assert stalled(progress, {FILE: Work("unread", 7)}, 40) == [], "new work, with its own time"
    assert stalled(progress, {FILE: Work("unread", 7)}, 71) == [FILE]
