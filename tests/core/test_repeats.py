"""What strangers cause is told once in a while."""

from tiers.core.repeats import Repeats


def test_the_first_is_told_at_once_and_the_others_together() -> None:
    repeats = Repeats(every_s=60.0)
    assert repeats.due(1.0) == ""
    repeats.note("a")
    assert repeats.due(1.0) == "a"
    for text in ("b", "c", "d"):
        repeats.note(text)
        assert repeats.due(30.0) == ""
    assert repeats.due(61.0) == "d (3 times)"
    assert repeats.due(1000.0) == ""
