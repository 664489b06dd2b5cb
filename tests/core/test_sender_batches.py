"""What a sender decides about batches: who gets which, when it is released, when it is flagged."""

import itertools

import pytest

from tests.core.grouping import CHANNELS, ME, Group, batches, ids, up
from tiers.core.batch import Hop
from tiers.core.hop.assigning import BATCHES_AT_ONCE
from tiers.core.hop.messages import (
    HEAD_BYTES_MAX,
    Ack,
    Answer,
    Ask,
    Bundle,
    Carried,
    Pong,
    Reject,
    decode_bundle,
    encode_bundle,
)
from tiers.core.hop.peers import PeerLimits, PeerState
from tiers.core.hop.sender import MARK_AHEAD, QUEUE_BATCHES_MAX

# -- flow ----------------------------------------------------------------------------------------


def test_bundles_go_round_robin() -> None:
    group = up("abc", bundle_bytes=200)
    group.offer(*range(1, 13))
    assert group.sent == {"a": [[1, 2], [7, 8]], "b": [[3, 4], [9, 10]], "c": [[5, 6], [11, 12]]}


def test_a_peer_without_credit_is_passed_over() -> None:
    group = Group("ab", bundle_bytes=100)
    group.welcome("a", limit=150)
    group.welcome("b")
    group.offer(1, 2, 3, 4, 5)
    assert group.seqs("a") == [1, 3]  # the second overshoots, once
    assert group.seqs("b") == [2, 4, 5]
    group.ack("a", 1, 3, limit=10_000)
    group.offer(6, 7)
    assert sorted(group.seqs("a") + group.seqs("b")) == [6, 7]


def test_credit_only_grows() -> None:
    group = Group("a")
    group.welcome("a", limit=1000)
    for message in (Ack(group.session("a"), (), (), 10), Pong(group.session("a"), 0, 0, 10)):
        group.hear("a", message)
    assert group.sender.peers["a"].limit == 1000
    group.hear("a", Pong(group.session("a"), 0, 0, 2000))
    assert group.sender.peers["a"].limit == 2000


def test_credit_of_another_session_is_none() -> None:
    group = up("a")
    group.hear("a", Ack(b"old sess", (), (), 10**9))
    assert group.sender.peers["a"].limit == 100_000


def test_the_window_bounds_what_is_in_flight() -> None:
    limits = PeerLimits(window_bytes_max=1000, window_start_bytes=300)
    group = Group("a", limits=limits)
    group.welcome("a")
    group.offer(*range(1, 101))
    acked: list[int] = []
    while taken := group.seqs("a"):
        assert group.sender.peers["a"].in_flight_bytes <= 1000
        acked += taken
        group.ack("a", *taken)
    assert acked == list(range(1, 101))
    assert group.released == acked


def test_a_bundle_has_a_limit_of_bytes_and_one_may_overshoot() -> None:
    group = up("a", bundle_bytes=250)
    group.offer(1, 2, 3, 4, 5)
    group.offer(6, size=5000)
    assert group.sent["a"] == [[1, 2], [3, 4], [5], [6]]


def test_a_bundle_stops_where_the_credit_does() -> None:
    group = Group("a", bundle_bytes=1000)
    group.welcome("a", limit=150)
    group.offer(1, 2, 3)
    assert group.sent["a"] == [[1, 2]]


@pytest.mark.parametrize(
    ("hops", "most"),
    [
        ((), BATCHES_AT_ONCE),
        ((Hop("edge-1", 1), Hop("aggregator-17", 2)), BATCHES_AT_ONCE),
        ((Hop("a" * 60, 1),) * 40, HEAD_BYTES_MAX // (40 * 73)),
    ],
)
def test_a_bundle_of_small_batches_is_one_that_can_be_read_in_one_turn(
    hops: tuple[Hop, ...], most: int
) -> None:
    limits = PeerLimits(window_start_bytes=1 << 30, window_bytes_max=1 << 30,
                        window_batches_max=100_000)  # fmt: skip
    group = Group("a", bundle_bytes=1 << 20, limits=limits)
    group.welcome("a", limit=1 << 30)
    group.do(group.sender.offer(batches(*range(1, 6000), size=1, hops=hops), 0.0))
    bundles = group.sent["a"]
    assert list(itertools.chain(*bundles)) == list(range(1, 6000))
    assert max(map(len, bundles)) == most
    for bundle in bundles:
        carried = [Carried(b"x", True, hops)] * len(bundle)
        frame = encode_bundle(Bundle(b"s" * 8, b"a" * 16, b"b" * 16, 1, carried))
        assert len(decode_bundle(frame).carried) == len(bundle)


def test_the_message_limit_of_the_peer_bounds_a_bundle() -> None:
    group = Group("a", bundle_bytes=10_000)
    group.welcome("a", most=HEAD_BYTES_MAX + 300)
    group.offer(1, 2, 3, 4)
    assert group.sent["a"] == [[1, 2, 3], [4]]


def test_what_is_too_large_for_the_peer_is_dead_and_the_rest_flows() -> None:
    group = Group("a")
    group.welcome("a", most=HEAD_BYTES_MAX + 300)
    group.offer(1)
    group.offer(2, size=301)
    group.offer(3)
    assert group.seqs("a") == [1, 3]
    assert group.dead == [(2, "record of 301 bytes; a takes at most 300")]
    assert group.sender.outstanding() == 2


def test_nothing_but_what_is_too_large() -> None:
    group = Group("a")
    group.welcome("a", most=HEAD_BYTES_MAX + 300)
    group.offer(1, 2, size=301)
    assert [position for position, _ in group.dead] == [1, 2]
    assert group.sent == {}


def test_the_queue_says_how_many_it_wants() -> None:
    group = Group("a")
    assert group.sender.wants() == QUEUE_BATCHES_MAX
    group.offer(*range(1, 101))
    assert group.sender.wants() == QUEUE_BATCHES_MAX - 100
    group.welcome("a")
    assert group.sender.wants() == QUEUE_BATCHES_MAX
    assert (group.sender.in_flight(), group.sender.outstanding()) == (100, 100)


def test_an_empty_offer_is_fine() -> None:
    group = up("a", mark=0)
    group.offer()
    assert (group.marks, group.sent) == ([], {})


def test_what_cannot_be_read_is_dead() -> None:
    group = up("a")
    group.offer(1, 2)
    group.do(group.sender.unreadable(batches(1)[0], "checksum"))
    assert group.dead == [(1, "checksum")]
    group.ack("a", 1, 2)
    assert group.released == [2]


# -- the mark ------------------------------------------------------------------------------------


def test_nothing_is_sent_beyond_the_mark() -> None:
    group = up("a", mark=0)
    group.offer(1, 2)
    assert group.sent == {}
    assert group.marks == [2 + MARK_AHEAD]
    group.do(group.sender.marked(1, 0.0))
    assert group.seqs("a") == [1]
    group.do(group.sender.marked(2 + MARK_AHEAD, 0.0))
    assert group.seqs("a") == [2]


def test_the_mark_is_raised_well_before_it_is_reached() -> None:
    group = up("a", mark=0)
    for seq in range(1, 3 * MARK_AHEAD):
        group.offer(seq)
        assert group.marks[-1] >= seq + MARK_AHEAD // 4
        group.do(group.sender.marked(group.marks[-1], 0.0))
        group.ack("a", seq)
    assert len(group.marks) <= 5
    assert len(group.released) == 3 * MARK_AHEAD - 1


def test_a_mark_never_goes_back() -> None:
    group = up("a", mark=0)
    group.do(group.sender.marked(100, 0.0))
    group.do(group.sender.marked(10, 0.0))
    group.offer(50)
    assert group.seqs("a") == [50]


# -- the flag ------------------------------------------------------------------------------------


def test_a_suspect_peer_may_come_back_and_its_batches_wait() -> None:
    group = up()
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    assert group.state("a") is PeerState.SUSPECT
    assert group.sender.peers["a"].error == "connection lost"
    group.offer(2)
    assert group.seqs("b") == [2]  # others flow meanwhile
    group.wait(0.0)
    group.welcome("a")
    (asked,) = group.heard(Ask)
    assert asked == ("a", Ask(group.session("a"), ME.channel, CHANNELS["a"], ids(1)))
    group.answer("a", unknown=ids(1))
    assert group.seqs("a") + group.seqs("b") == [1, 1]
    assert group.flags[1] is False  # as if never sent
    assert group.sender.flagged == 0


@pytest.mark.parametrize("what", ["held", "published"])
def test_what_the_peer_has_had_is_released(what: str) -> None:
    group = up("a")
    group.offer(1, 2)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    group.answer("a", **{what: ids(1)}, unknown=ids(2))
    assert group.released == [1]
    assert group.sender.peers["a"].asked_s is None
    assert group.seqs("a") == [1, 2, 2]


def test_an_answer_for_some_leaves_the_others_waiting() -> None:
    group = up("a")
    group.offer(1, 2)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    group.answer("a", held=ids(1), unknown=ids(77))
    assert set(group.sender.peers["a"].ambiguous) == set(ids(2))
    assert group.sender.peers["a"].asked_s is not None


@pytest.mark.parametrize("wrong", ["session", "sender", "receiver"])
def test_answers_of_others_are_discarded(wrong: str) -> None:
    group = up("a")
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    told = {"session": group.session("a"), "sender": ME.channel, "receiver": CHANNELS["a"]}
    told[wrong] = b"?" * len(told[wrong])
    answer = Answer(**told, held=(), published=(), unknown=ids(1))  # type: ignore[arg-type]
    group.hear("a", answer)
    assert set(group.sender.peers["a"].ambiguous) == set(ids(1))


def test_a_down_peers_batches_go_to_others_flagged() -> None:
    group = up()
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    for _ in range(2):
        group.wait(0.9)
        group.hear("b", Pong(group.session("b"), 0, 0, 100_000))
    assert group.state("a") is PeerState.SUSPECT
    group.wait(0.3)
    assert group.state("a") is PeerState.DOWN
    assert group.seqs("b") == [1]
    assert group.flags[1] is True
    assert group.sender.flagged == 1


def test_where_no_other_takes_it_it_waits_for_the_peer() -> None:
    group = Group("ab")
    group.welcome("a")
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    group.wait(5.0)
    assert group.state("a") is PeerState.DOWN
    assert group.sender.flagged == 0
    group.welcome("a")
    group.answer("a", unknown=ids(1))
    assert group.flags[1] is False


def test_another_channel_means_its_disk_is_gone() -> None:
    group = up("a")
    group.offer(1, 2)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a", channel=b"n" * 16)
    assert group.heard(Ask) == []
    assert group.seqs("a") == [1, 2, 1, 2]
    assert group.flags == {1: True, 2: True}


def test_a_flag_is_for_ever() -> None:
    group = up()
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a", channel=b"n" * 16)
    assert group.flags[1] is True
    holder = "a" if group.seqs("a")[1:] else "b"
    group.do(group.sender.lost(holder, group.now))
    group.wait(0.0)
    group.welcome(holder, channel=group.sender.peers[holder].channel)
    group.answer(holder, unknown=ids(1))
    assert group.flags[1] is True
    assert group.sender.flagged == 1  # counted once


def test_what_comes_back_goes_first_and_in_order() -> None:
    group = up("a", limits=PeerLimits(window_bytes_max=300, window_start_bytes=300))
    group.offer(*range(1, 8))
    assert group.seqs("a") == [1, 2, 3]
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    assert group.seqs("a") == [4, 5, 6]
    group.answer("a", unknown=ids(3, 1, 2))
    group.ack("a", 4, 5, 6)
    assert group.seqs("a") == [1, 2, 3]


def test_an_ack_of_an_old_session_is_nothing() -> None:
    """Since then that disk may have gone back."""
    group = up()
    old = group.session("a")
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    group.hear("b", Pong(group.session("b"), 0, 0, 0))
    group.wait(1.0)
    group.hear("b", Pong(group.session("b"), 0, 0, 0))
    group.wait(1.1)
    assert group.seqs("b") == [1]
    group.hear("a", Ack(old, ids(1), (), 0))
    assert group.released == []
    group.ack("b", 1)
    assert group.released == [1]


def test_an_ack_for_what_is_queued_again_releases_it() -> None:
    group = Group("a", limits=PeerLimits(window_bytes_max=300, window_start_bytes=300))
    group.welcome("a")
    group.offer(1, 2, 3, 4, 5, 6)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    group.answer("a", unknown=ids(1, 2, 3))  # queued behind a full window
    group.ack("a", 2)
    assert group.released == [2]
    group.ack("a", 4, 5, 6)
    assert group.seqs("a")[6:] == [1, 3]


def test_acks_of_what_is_not_here_are_nothing() -> None:
    group = up("a")
    group.ack("a", 7)
    assert group.released == []


# -- rejections ----------------------------------------------------------------------------------


def test_what_is_rejected_is_dead_with_its_reason() -> None:
    group = up()
    group.offer(1)
    group.hear("b", Reject(group.session("b"), 1, 0, "not yours to reject"))
    group.hear("a", Reject(b"old sess", 1, 0, "of an old session"))
    group.hear("a", Reject(group.session("a"), 1, 1, "no such place"))
    group.hear("a", Reject(group.session("a"), 2, 0, "no such bundle"))
    assert group.dead == []
    group.hear("a", Reject(group.session("a"), 1, 0, "checksum"))
    group.hear("b", Reject(group.session("b"), 1, 0, "checksum"))
    assert group.dead == [(1, "rejected by a: checksum; rejected by b: checksum")]
    assert group.sender.outstanding() == 0


def test_places_move_up_where_a_record_could_not_leave() -> None:
    group = up("a")
    group.offer(1, 2, 3)
    assert group.sent["a"] == [[1, 2, 3]]
    (second,) = batches(2)
    group.do(group.sender.unreadable(second, "damaged"))
    group.hear("a", Reject(group.session("a"), 1, 1, "checksum"))
    assert group.dead == [(2, "damaged"), (3, "rejected by a: checksum")]
    assert group.sender.outstanding() == 1


def test_what_is_unreadable_is_dead_also_where_its_bundle_could_not_leave() -> None:
    group = up("a")
    group.offer(1, 2)
    group.do(group.sender.lost("a", group.now))
    group.do(group.sender.unreadable(batches(2)[0], "damaged"))
    assert group.dead == [(2, "damaged")]
    assert group.sender.outstanding() == 1


def test_a_peer_that_takes_no_message_of_ours_is_refused() -> None:
    group = Group("a")
    group.welcome("a", most=1000)
    assert group.state("a") is PeerState.DOWN
    assert "too short" in group.sender.peers["a"].error


def test_credit_that_comes_with_an_ack_is_used_and_none_is_taken_back() -> None:
    group = Group("a")
    group.welcome("a", limit=100)
    group.offer(1, 2, 3, 4)
    assert group.seqs("a") == [1]
    group.ack("a", 1, limit=200)
    assert group.seqs("a") == [2]
    group.ack("a", 2, limit=100)
    assert group.sender.peers["a"].limit == 200
    group.ack("a", limit=400)
    assert group.seqs("a") == [3, 4]
