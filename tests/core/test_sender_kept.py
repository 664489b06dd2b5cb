"""What a sender keeps, with `guarantee = "end"`, and whom it asks what became of it."""

from dataclasses import replace

import pytest

from tests.core.grouping import CHANNELS, Group, batches, ids
from tiers.core.batch import BatchId
from tiers.core.hop.messages import (
    IDS_MAX,
    Ack,
    Ask,
    Goodbye,
    Guarantee,
    Pong,
)
from tiers.core.hop.peers import HandedTo, PeerLimits, PeerState, Pending

# -- guarantee = "end" -----------------------------------------------------------------------------


def ending(names: str = "ab") -> Group:
    """A group that keeps what is not published; all its peers are up."""
    limits = replace(PeerLimits(), lost_after_s=60.0, ask_again_s=20.0)
    group = Group(names, guarantee="end", limits=limits)
    for name in names:
        group.welcome(name, guarantee="end")
    return group


def alive(group: Group, *names: str, seconds: float) -> None:
    """Time goes by, and these answer pings."""
    for _ in range(int(seconds)):
        for name in names:
            group.hear(name, Pong(group.session(name), 0, 0, 100_000))
        group.wait(1.0)


def published(group: Group, name: str, *seqs: int) -> None:
    group.hear(name, Ack(group.session(name), (), ids(*seqs), 0))


def asked(group: Group) -> list[tuple[BatchId, ...]]:
    """What the newest ASKs asked for."""
    return [message.ids for _, message in group.heard(Ask) if isinstance(message, Ask)]


def to(name: str) -> HandedTo:
    return HandedTo(name, CHANNELS[name])


def test_what_is_stored_is_kept_until_it_is_published() -> None:
    group = ending("a")
    group.offer(1, 2)
    group.ack("a", 1)
    assert (group.handed, group.released) == ([(1, to("a"), False)], [])
    assert group.sender.peers["a"].in_flight_bytes == 100, "the window is free for others"
    assert group.sender.peers["a"].batches == 1
    group.ack("a", 1)
    assert len(group.handed) == 1
    published(group, "a", 1, 1, 77)
    assert group.released == [1]
    published(group, "a", 2)
    assert group.released == [1, 2], "also what was not said to be stored"
    assert group.sender.outstanding() == 0


def test_a_peer_that_promises_less_is_refused() -> None:
    group = Group("a", guarantee="end")
    group.welcome("a", guarantee="hop")
    assert group.state("a") is PeerState.DOWN
    assert "guarantee 'hop'" in group.sender.peers["a"].error
    group = Group("a")
    group.welcome("a", guarantee="end")
    assert group.state("a") is PeerState.UP, "one that promises more is welcome"


@pytest.mark.parametrize("guarantee", ["hop", "end"])
def test_a_peer_that_keeps_to_the_end_may_have_passed_on_what_it_does_not_know(
    guarantee: Guarantee,
) -> None:
    """Its copy was damaged after that. While a topology goes over to "end" we may be with "hop"."""
    group = Group("a")
    group.welcome("a", guarantee=guarantee)
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a", guarantee=guarantee)
    group.answer("a", unknown=ids(1))
    assert group.seqs("a") == [1, 1]
    assert group.flags[1] is (guarantee == "end")


def test_what_was_handed_on_is_asked_for_in_each_session() -> None:
    group = ending("a")
    group.offer(1, 2, 3, 4)
    group.ack("a", 1, 2, 3)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a", guarantee="end")
    assert asked(group) == [ids(4, 1, 2, 3)]
    group.answer("a", held=ids(1, 4), published=ids(2), unknown=ids(3))
    assert group.released == [2]
    assert group.handed[-1] == (4, to("a"), False)
    assert group.seqs("a")[-1] == 3
    assert group.flags[3] is True, "it was there once, and may have gone on"


def test_long_unpublished_batches_are_asked_for_again() -> None:
    group = ending("a")
    group.offer(1)
    group.ack("a", 1)
    alive(group, "a", seconds=12)
    assert asked(group) == []
    group.offer(2)
    group.ack("a", 2)
    alive(group, "a", seconds=10)
    assert asked(group) == [ids(1)]
    alive(group, "a", seconds=12)
    assert asked(group) == [ids(2)]


def test_a_new_session_does_not_ask_for_all_that_was_handed_on_at_once() -> None:
    """A message of it with every heartbeat: each id is looked up in the peer's channel."""
    group = Group("a", guarantee="end")
    seqs = range(1, 2 * IDS_MAX + 2)
    group.do(group.sender.offer([handed_to("a", CHANNELS["a"], seq) for seq in seqs], group.now))
    group.welcome("a", guarantee="end")
    (first,) = asked(group)
    found = [*first]
    for sizes in ([IDS_MAX], [1], []):
        group.hear("a", Pong(group.session("a"), 0, 0, 0))
        group.wait(0.6)
        pieces = asked(group)
        assert [len(piece) for piece in pieces] == sizes
        found += [key for piece in pieces for key in piece]
    assert found == [*ids(*seqs)]


def test_an_answer_about_batches_that_are_elsewhere_changes_nothing() -> None:
    group = ending()
    group.offer(1)
    (name,) = group.sent
    other = "b" if name == "a" else "a"
    group.ack(other, 1)
    assert group.handed == []
    group.ack(name, 1)
    group.ack(other, 1)
    assert group.handed == [(1, to(name), False)]
    group.answer(other, unknown=ids(1))
    assert group.seqs(other) == []


def test_an_ack_of_another_session_hands_nothing_on() -> None:
    group = ending("a")
    group.offer(1)
    old = group.session("a")
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a", channel=b"n" * 16, guarantee="end", token=b"another.")
    group.hear("a", Ack(old, ids(1), (), 0))
    assert group.handed == []
    assert group.flags[1] is True


def test_a_lost_disk_sends_what_it_had_to_others_flagged() -> None:
    group = ending("a")
    group.offer(1, 2)
    group.ack("a", 1, 2)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a", channel=b"n" * 16, guarantee="end")
    assert group.sent["a"][-1] == [1, 2]
    assert group.flags == {1: True, 2: True}
    group.ack("a", 1)
    assert group.handed[-1] == (1, HandedTo("a", b"n" * 16), True)


def test_a_peer_that_is_down_for_long_is_lost() -> None:
    group = ending()
    group.offer(1)
    (name,) = group.sent
    other = "b" if name == "a" else "a"
    group.ack(name, 1)
    group.do(group.sender.lost(name, group.now))
    alive(group, other, seconds=60)
    assert group.seqs(other) == [], "it is waited for"
    alive(group, other, seconds=4)
    assert group.seqs(other) == [1]
    assert group.flags[1] is True


def test_a_peer_that_was_taken_out_is_left_once_all_is_published() -> None:
    group = ending()
    group.offer(1)
    (name,) = group.sent
    other = "b" if name == "a" else "a"
    group.ack(name, 1)
    group.do(group.sender.set_peers(other, group.now))
    group.hear(name, Goodbye(group.session(name)))
    alive(group, name, other, seconds=2)
    assert group.gone == []
    assert group.state(name) is PeerState.DRAINING
    published(group, name, 1)
    group.wait(0.0)
    assert group.gone == [name]


def test_a_peer_that_was_taken_out_and_is_down_is_lost() -> None:
    group = ending()
    group.offer(1)
    (name,) = group.sent
    other = "b" if name == "a" else "a"
    group.ack(name, 1)
    group.do(group.sender.set_peers(other, group.now))
    group.do(group.sender.lost(name, group.now))
    alive(group, other, seconds=4)
    assert group.seqs(other) == [1]
    assert group.gone == [name]


def test_a_stop_does_not_wait_for_what_was_handed_on() -> None:
    group = ending("a")
    group.offer(1, 2)
    group.ack("a", 1)
    group.do(group.sender.stop(group.now))
    assert group.gone == []
    group.ack("a", 2)
    group.wait(0.0)
    assert group.gone == ["a"]
    assert group.released == []


def handed_to(peer: str, channel: bytes, seq: int = 1) -> Pending:
    (pending,) = batches(seq)
    pending.handed_to = HandedTo(peer, channel)
    return pending


def test_after_a_restart_what_was_handed_on_waits_for_its_peer() -> None:
    group = Group("a", guarantee="end")
    group.do(group.sender.offer([handed_to("a", CHANNELS["a"])], group.now))
    group.welcome("a", guarantee="end")
    assert group.sent == {}
    assert asked(group) == [ids(1)]
    group.do(group.sender.offer([handed_to("a", CHANNELS["a"], 2)], group.now))
    assert group.sent == {}, "also what is read while the session is on"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("peer", ["a", "z"])
def test_after_a_restart_what_a_lost_peer_had_goes_to_others(first: bool, peer: str) -> None:
    """Its disk is another now, or it is not in the topology any more."""
    group = Group("a", guarantee="end")
    if not first:
        group.welcome("a", guarantee="end")
    group.do(group.sender.offer([handed_to(peer, b"x" * 16)], group.now))
    if first:
        group.welcome("a", guarantee="end")
    assert group.seqs("a") == [1]
    assert group.flags[1] is True


@pytest.mark.parametrize("what", ["held", "published", "unknown", "lost"])
def test_with_hop_what_an_earlier_run_had_handed_on_is_asked_for(what: str) -> None:
    """A change from "end" to "hop" while a machine is lost does not lose what it had."""
    group = Group("a")
    group.do(group.sender.offer([handed_to("a", CHANNELS["a"])], group.now))
    assert group.released == [], "nobody has said that its disk is still there"
    if what == "lost":
        group.welcome("a", channel=b"n" * 16)
    else:
        group.welcome("a")
        assert asked(group) == [ids(1)]
        group.answer("a", **{what: ids(1)})
    if what in ("held", "published"):
        assert group.released == [1]
        assert group.seqs("a") == []
    else:
        assert group.seqs("a") == [1]
        assert group.flags[1] is True
