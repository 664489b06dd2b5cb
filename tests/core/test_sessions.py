"""Who has a session, found by all that names it; and the turns of very many."""

import pytest

from tiers.core.hop.credit import Balance
from tiers.core.hop.sessions import Sessions
from tiers.core.hop.upstream import Upstream


def sender(agent: str, channel: bytes = b"c") -> Upstream:
    name = agent.encode()
    return Upstream(agent, channel * 16, name, b"of " + name, name, 0.0, Balance(agent))


@pytest.mark.parametrize(
    ("count", "turns"),
    [
        (1, ["a", "a", "a"]),
        (2, ["ab", "ab", "ab"]),
        (3, ["ab", "ca", "bc"]),
        (5, ["ab", "cd", "ea", "bc"]),
    ],
)
def test_where_not_all_have_their_turn_those_who_waited_longest_do(
    monkeypatch: pytest.MonkeyPatch, count: int, turns: list[str]
) -> None:
    monkeypatch.setattr("tiers.core.hop.sessions.TURNS_MAX", 2)
    sessions = Sessions()
    for agent in "abcde"[:count]:
        sessions.begin(sender(agent))
    order = list(sessions.senders)
    assert ["".join(one.agent for one in sessions.turn()) for _ in turns] == turns
    assert count > 2 or list(sessions.senders) == order


def test_whose_session_is_over_is_found_by_nothing() -> None:
    sessions = Sessions()
    one, other = sender("a"), sender("b")
    for each in (one, other):
        sessions.begin(each)
        assert sessions.at(each.route) is None, "until it speaks from there"
        sessions.came_from(each, each.route)
        assert sessions.of_channel(each.channel) is each, "the newest of a channel"
    sessions.came_from(one, b"another route")
    assert (sessions.at(b"a"), sessions.at(b"another route")) == (None, one)
    sessions.came_from(other, b"another route")
    sessions.end(one)
    assert (sessions.of(b"of a"), sessions.of(b"of b")) == (None, other)
    assert sessions.at(b"another route") is other, "it came from there since"
    assert sessions.of_channel(other.channel) is other
    sessions.end(other)
    assert (sessions.at(b"another route"), sessions.of_channel(other.channel)) == (None, None)
    assert not sessions.senders
