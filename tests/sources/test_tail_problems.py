"""What cannot be read, since when, and how much of it is kept."""

import pytest

from tiers.sources.tail import problems
from tiers.sources.tail.problems import ReadProblems

EIO = OSError(5, "Input/output error")


def texts(found: ReadProblems, harmless: bool = False) -> list[str]:
    return [each.text for each in found.all() if each.harmless is harmless]


def test_what_a_look_finds_again_stands_since_it_was_first_found() -> None:
    found = ReadProblems()
    found.note_look([("/a", EIO)], [("/b", "b is odd")], 1.0)
    found.note_look([("/a", EIO), ("/c", "c is wrong")], [("/b", "b is odd")], 2.0)
    told = [(each.text, each.since_s, each.harmless) for each in found.all()]
    assert told == [
        ("cannot read /a: Input/output error", 1.0, False),
        ("c is wrong", 2.0, False),
        ("b is odd", 1.0, True),
    ]
    found.note_look([], [], 3.0)
    assert found.all() == []
    found.note_look([("/a", EIO)], [], 4.0)
    assert found.all()[0].since_s == 4.0


def test_of_two_about_one_path_the_first_is_told_and_a_problem_before_a_remark() -> None:
    found = ReadProblems()
    found.note_look([("/a", "one"), ("/a", "two")], [("/a", "odd")], 1.0)
    assert (texts(found), texts(found, True)) == (["one"], [])


def test_a_file_stands_until_it_was_read() -> None:
    found = ReadProblems()
    found.stand("/a", EIO, 1.0)
    found.stand("/b", OSError("odd"), 2.0)
    found.stand("/a", OSError(13, "Permission denied"), 3.0)
    found.note_look([("/a", "of the look")], [], 4.0)
    assert [(each.text, each.since_s) for each in found.all()] == [
        ("cannot read /a: Permission denied", 1.0),
        ("cannot read /b: odd", 2.0),
    ]
    found.over("/a")
    found.over("/never")
    assert texts(found) == ["of the look", "cannot read /b: odd"]
    found.keep({"/c"})
    assert texts(found) == ["of the look"]


def test_one_line_about_all() -> None:
    found = ReadProblems()
    assert found.line() == found.line(harmless=True) == ""
    found.note_look([("/a", "a is wrong")], [("/b", "b is odd"), ("/c", "c is odd")], 1.0)
    assert found.line() == "a is wrong"
    assert found.line(harmless=True) == "b is odd (and 1 more)"
    found.stand("/d", EIO, 1.0)
    assert found.line() == "a is wrong (and 1 more)"


def test_more_than_are_kept_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "PROBLEMS_MAX", 2)
    found = ReadProblems()
    found.note_look([(f"/{i}", str(i)) for i in range(4)], [("/b", "odd")], 1.0)
    assert texts(found) == ["0", "1"]
    assert found.line() == "0 (and 4 more)"
    found.note_look([("/0", "0"), ("/1", "1")], [], 1.0)
    assert found.line() == "0 (and 1 more)"
    found.note_look([], [("/b", "odd")], 1.0)
    for name in ("/x", "/y", "/z"):
        found.stand(name, EIO, 1.0)
    found.stand("/x", OSError(13, "Permission denied"), 2.0)
    assert texts(found) == [
        "cannot read /x: Permission denied",
        "cannot read /y: Input/output error",
    ]
    assert found.line() == "cannot read /x: Permission denied (and 2 more)"
    assert found.line(harmless=True) == "odd"
