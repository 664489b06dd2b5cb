"""How many questions may wait, and whose."""

import pytest

from tests.core.batches import ORIGIN
from tiers.core.batch import BatchId
from tiers.core.hop.messages import Ask
from tiers.core.hop.questions import Questions


def an_ask(count: int) -> Ask:
    return Ask(b"s" * 8, b"a" * 16, b"r" * 16, tuple(BatchId(ORIGIN, n) for n in range(count)))


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Questions:
    monkeypatch.setattr("tiers.core.hop.questions._FRESH_IDS_MAX", 10)
    monkeypatch.setattr("tiers.core.hop.questions._OTHER_IDS_MAX", 20)
    return Questions()


def test_of_one_so_many_wait(questions: Questions) -> None:
    kept = [questions.ask("edge-1", an_ask(1), fresh=False) for _ in range(10)]
    assert kept == [True] * 8 + [False] * 2


def test_those_of_whom_nothing_was_stored_take_no_place_of_others(questions: Questions) -> None:
    kept = [questions.ask(f"new-{n}", an_ask(2), fresh=True) for n in range(8)]
    assert kept == [True] * 5 + [False] * 3
    kept = [questions.ask(f"edge-{n % 2}", an_ask(5), fresh=False) for n in range(8)]
    assert kept == [True] * 4 + [False] * 4
    assert questions.ask("edge-9", an_ask(5)), "the first of each is kept"
    assert not questions.ask("edge-9", an_ask(5))


def test_what_is_answered_or_forgotten_makes_room(questions: Questions) -> None:
    for name in ("new-1", "new-2"):
        assert questions.ask(name, an_ask(5), fresh=True)
    assert not questions.ask("new-3", an_ask(1), fresh=True)
    questions.forget("new-1")
    questions.forget("nobody")
    assert questions.ask("new-3", an_ask(5), fresh=True)
    assert [agent for agent, _ in questions.due(lambda key: False)] == ["new-2", "new-3"]
    assert questions.ask("new-4", an_ask(10), fresh=True)
    assert questions._ids == {True: 10, False: 0}
