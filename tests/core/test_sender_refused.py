"""Batches that a peer does not take: others may, and dead is only what none of all peers takes."""

import itertools
import random

import pytest

from tests.core.grouping import MESSAGE_MAX, Group, batches, up
from tiers.core.hop.messages import HEAD_BYTES_MAX, Later, Message, Pong, Reject
from tiers.core.hop.peers import PeerState

SMALL = HEAD_BYTES_MAX + 300


def reject(group: Group, name: str, bundle: int = 1, place: int = 0) -> None:
    group.hear(name, Reject(group.session(name), bundle, place, "checksum"))


def later(group: Group, name: str, bundle: int, wait_ms: int = 10**9) -> None:
    group.hear(name, Later(group.session(name), bundle, 0, "sealed ahead", wait_ms))


def keep_up(group: Group, seconds: float) -> None:
    """Time passes, and every peer answers pings."""
    until = group.now + seconds
    while group.now < until:
        group.wait(min(1.0, until - group.now))
        for name, peer in group.sender.peers.items():
            if peer.in_session:
                group.hear(name, Pong(peer.session, 0, 0, 100_000))


def test_what_one_peer_rejects_goes_to_another_unflagged() -> None:
    group = up("ab")
    group.offer(1)
    assert group.seqs("a") == [1]
    reject(group, "a")
    assert group.seqs("b") == [1]
    assert (group.dead, group.flags) == ([], {1: False})
    group.ack("b", 1)
    assert group.released == [1]


def test_it_is_dead_when_every_peer_has_rejected_it() -> None:
    group = up("abc")
    group.offer(1)
    for name in "abc":
        assert group.dead == []
        assert group.seqs(name) == [1]
        reject(group, name)
    why = "; ".join(f"rejected by {name}: checksum" for name in "abc")
    assert group.dead == [(1, why)]
    assert group.sender.outstanding() == 0


def test_a_peer_that_is_absent_counts_and_others_flow_meanwhile() -> None:
    group = Group("ab")
    group.welcome("a")
    group.offer(1, 2)
    reject(group, "a")
    group.ack("a", 2)
    group.offer(3)
    group.ack("a", 3)
    assert group.seqs("a") == [1, 2, 3]
    keep_up(group, 30.0)
    assert (group.dead, group.released) == ([], [2, 3])
    assert group.sender.apart(group.now) == [(1, "rejected by a: checksum")]
    group.welcome("b")
    assert group.seqs("b") == [1]
    reject(group, "b")
    assert [position for position, _ in group.dead] == [1]


def test_who_refuses_it_and_who_has_no_credit_are_both_named() -> None:
    group = Group("ab")
    group.welcome("a")
    group.welcome("b", limit=100)
    group.offer(1, 2)
    group.ack("b", *group.seqs("b"))
    group.offer(3)
    reject(group, "a")
    assert group.sender.apart(group.now) == [(1, "rejected by a: checksum; b: no credit")]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_batch_beyond_the_limit_of_one_peer_goes_to_the_other(order: str) -> None:
    group = Group("ab")
    for name in order:
        group.welcome(name, most=SMALL if name == "a" else MESSAGE_MAX)
    group.offer(*range(1, 9), size=301)
    group.offer(*range(9, 13), size=100)
    assert set(range(1, 9)) <= set(group.seqs("b"))
    assert set(group.seqs("a")) <= set(range(9, 13))
    assert group.dead == []


def test_a_batch_beyond_all_limits_is_dead_only_once_all_are_known() -> None:
    group = Group("ab")
    group.welcome("a", most=SMALL)
    group.offer(1, size=301)
    group.offer(2)
    assert group.seqs("a") == [2]
    assert group.dead == []
    group.welcome("b", most=SMALL)
    a, b = (f"record of 301 bytes; {name} takes at most 300" for name in "ab")
    assert group.dead == [(1, f"{a}; {b}")]


def test_a_limit_that_was_raised_lets_it_through() -> None:
    group = Group("ab")
    group.welcome("a", most=SMALL)
    group.offer(1, size=301)
    assert group.sent == {}
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    assert group.seqs("a") == [1]


def test_a_peer_that_is_taken_out_is_not_waited_for() -> None:
    group = Group("ab")
    group.welcome("a")
    group.offer(1)
    reject(group, "a")
    assert group.dead == []
    group.do(group.sender.set_peers("a", group.now))
    assert group.dead == [(1, "rejected by a: checksum")]


def test_a_peer_that_is_new_may_take_it() -> None:
    group = Group("ab")
    group.welcome("a")
    group.offer(1)
    reject(group, "a")
    group.do(group.sender.set_peers("abc", group.now))
    group.welcome("c")
    assert group.seqs("c") == [1]


def test_nothing_is_dead_for_want_of_peers() -> None:
    group = Group("ab")
    group.welcome("a")
    group.offer(1)
    reject(group, "a")
    group.do(group.sender.stop(group.now))
    keep_up(group, 5.0)
    assert group.dead == []


def test_what_is_apart_may_be_acked_all_the_same() -> None:
    """By a peer that has it from an earlier session."""
    group = Group("ab")
    group.welcome("a")
    group.offer(1)
    reject(group, "a")
    group.ack("a", 1)
    assert group.released == [1]
    assert group.sender.outstanding() == 0
    group.welcome("b")
    assert group.sent["a"] == [[1]]
    assert "b" not in group.sent


# -- not yet -------------------------------------------------------------------------------------


def test_what_is_not_taken_yet_is_offered_again_ever_more_seldom_and_never_dead() -> None:
    group = up("a")
    group.offer(1, 2)
    later(group, "a", 1)
    group.ack("a", 2)
    assert group.seqs("a") == [1, 2]
    (waiting,) = group.sender.apart(group.now)
    assert waiting == (1, "a does not take it yet: sealed ahead")
    offered = []
    for bundle in range(2, 12):
        while not group.seqs("a"):
            keep_up(group, 1.0)
        offered.append(group.now)
        later(group, "a", bundle)
    waits = [b - a for a, b in itertools.pairwise(offered)]
    assert waits == sorted(waits)
    assert 595 < waits[-1] < 605
    assert waits[0] < 15
    assert group.dead == []
    while not group.seqs("a"):
        keep_up(group, 1.0)
    group.ack("a", 1)
    assert group.released == [2, 1]


def test_it_is_offered_no_later_than_when_it_is_taken() -> None:
    group = up("a")
    group.offer(1)
    later(group, "a", 1, wait_ms=2000)
    assert group.seqs("a") == [1]
    keep_up(group, 2.0)
    assert group.seqs("a") == []
    keep_up(group, 2.0)
    assert group.seqs("a") == [1]


def test_another_peer_whose_clock_is_right_takes_it_at_once() -> None:
    group = up("ab")
    group.offer(1)
    later(group, "a", 1)
    assert group.seqs("b") == [1]
    assert group.flags[1] is False


def test_not_yet_of_one_and_never_of_another_is_no_death() -> None:
    group = up("ab")
    group.offer(1)
    later(group, "a", 1)
    reject(group, "b")
    assert group.dead == []
    (waiting,) = group.sender.apart(group.now)
    assert "does not take it yet" in waiting[1]
    assert "rejected by b" in waiting[1]
    keep_up(group, 10.0)
    reject(group, "a", bundle=2)
    assert [position for position, _ in group.dead] == [1]


@pytest.mark.parametrize(
    "message", [Later(b"old sess", 1, 0, "", 1), Reject(b"old sess", 1, 0, "")]
)
def test_words_of_an_old_session_are_none(message: Message) -> None:
    group = up("a")
    group.offer(1)
    group.hear("a", message)
    assert group.sender.in_flight() == 1
    assert group.dead == []


# -- together ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_whatever_peers_refuse_each_batch_meets_one_end(seed: int) -> None:
    """No batch is forgotten, in two queues, or dead while a peer may take it."""
    dice = random.Random(seed)
    group = Group("abc", bundle_bytes=300)
    takes = {name: dice.choice([SMALL, MESSAGE_MAX]) for name in "abc"}
    bad = {seq: {name for name in "abc" if dice.random() < 0.5} for seq in range(1, 30)}
    sizes = {seq: dice.choice([100, 301]) for seq in bad}
    present: set[str] = set()
    told: set[tuple[str, int, int]] = set()
    offered = 0
    for step in range(400):
        if dice.random() < 0.1 or step > 200:
            for name in "abc":
                if name not in present and group.state(name) is not PeerState.UP:
                    group.welcome(name, most=takes[name])
                    present.add(name)
                    break
        if offered < len(bad) and dice.random() < 0.3:
            offered += 1
            group.do(group.sender.offer(batches(offered, size=sizes[offered]), group.now))
        for name, bundles in list(group.sent.items()):
            for number, bundle in enumerate(list(bundles), 1):
                for place, seq in enumerate(bundle):
                    if (name, number, place) in told:
                        continue
                    told.add((name, number, place))
                    if name in bad[seq]:
                        reject(group, name, number, place)
                    else:
                        group.ack(name, seq)
        keep_up(group, 0.3)
    lost = {
        seq
        for seq in bad
        if all(name in bad[seq] or sizes[seq] > takes[name] - HEAD_BYTES_MAX for name in "abc")
    }
    assert {position for position, _ in group.dead} == lost
    assert sorted(group.released) == sorted(set(bad) - lost)
    assert group.sender.outstanding() == 0
    assert not any(group.flags.values())
