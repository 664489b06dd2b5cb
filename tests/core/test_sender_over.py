"""What a sender does with batches of a first agent that has its share of a receiver's channel."""

import pytest

from tests.core.grouping import Group, batches, up
from tiers.core.hop.messages import Ack, Message, Ping, Pong
from tiers.core.hop.peers import Pending


def of(agent: str, *seqs: int) -> list[Pending]:
    made = batches(*seqs)
    for pending in made:
        pending.agent = agent
    return made


def offer(group: Group, agent: str, *seqs: int) -> None:
    group.do(group.sender.offer(of(agent, *seqs), group.now))


def told(group: Group, name: str, how: type[Message], *over: str) -> None:
    if how is Ack:
        group.hear(name, Ack(group.session(name), (), (), 100_000, over=over))
    else:
        group.hear(name, Pong(group.session(name), 0, 0, 100_000, over))


@pytest.mark.parametrize("how", [Ack, Pong])
def test_the_others_flow_past_what_no_peer_takes_now(how: type[Message]) -> None:
    group = up("ab")
    for name in "ab":
        told(group, name, how, "flood")
    offer(group, "flood", *range(1, 21))
    offer(group, "edge-1", 21, 22)
    assert sorted([*group.seqs("a"), *group.seqs("b")]) == [21, 22]
    assert (group.sender.is_closed_to("flood"), group.dead) == (True, []), "it waits"
    assert not group.sender.is_closed_to("edge-1")
    for name in "ab":
        told(group, name, how)
    group.wait(1.0)
    assert sorted([*group.seqs("a"), *group.seqs("b")]) == list(range(1, 21))
    assert not any(group.flags.values()), "it was nowhere"


def test_who_has_room_for_it_gets_it() -> None:
    group = up("ab")
    told(group, "a", Ack, "flood")
    offer(group, "flood", 1, 2, 3)
    assert (group.seqs("a"), sorted(group.seqs("b"))) == ([], [1, 2, 3])
    assert not group.sender.is_closed_to("flood")


@pytest.mark.parametrize("now", [0.0, 1000.0])
def test_a_peer_without_credit_is_asked_for_some_while_others_take_all(now: float) -> None:
    group = Group("ab", now=now)
    group.welcome("a")
    group.welcome("b", limit=0)
    offer(group, "edge-1", 1)
    group.said.clear()
    group.wait(0.05)
    asked = [(name, ping.wanted) for name, ping in group.heard(Ping) if isinstance(ping, Ping)]
    assert asked == [("b", 1)], "once, and it is not idle"
    group.wait(0.05)
    assert group.heard(Ping) == []


@pytest.mark.parametrize(("later_s", "wanted"), [(4.9, 1), (5.0, 0)])
def test_who_has_had_nothing_to_send_for_a_while_wants_no_credit(
    later_s: float, wanted: int
) -> None:
    group = Group("a", now=1000.0)
    group.welcome("a")
    offer(group, "edge-1", 1)
    group.ack("a", 1)
    group.now += later_s
    told(group, "a", Pong)  # it is not silent
    group.said.clear()
    group.wait(0.0)
    pings = [ping.wanted for _, ping in group.heard(Ping) if isinstance(ping, Ping)]
    assert pings == [wanted]
