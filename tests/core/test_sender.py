"""What a sender decides about peers: sessions, what counts as late, and how peers come and go."""

import pytest

from tests.core.grouping import CHANNELS, LIMITS, MESSAGE_MAX, Group, ids, up
from tiers.core.hop.messages import (
    PROTOCOL,
    PROTOCOL_MIN,
    Ack,
    Ask,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Refuse,
    Welcome,
)
from tiers.core.hop.peers import PeerState
from tiers.core.life import Point

# -- sessions ------------------------------------------------------------------------------------


def test_hello_says_who_we_are() -> None:
    group = Group("a")
    assert group.said == [
        (
            "a",
            Hello(
                PROTOCOL,
                "web-logs",
                "edge-1",
                b"e" * 16,
                b"\0" * 7 + b"\1",
                protocol_min=PROTOCOL_MIN,
            ),
        )
    ]


@pytest.mark.parametrize("protocol", [0, PROTOCOL + 1])
def test_a_welcome_of_a_protocol_that_we_do_not_speak_is_no_session(protocol: int) -> None:
    group = Group("a")
    group.welcome("a", protocol=protocol)
    assert not group.sender.peers["a"].in_session
    assert f"speaks protocol {protocol}" in group.sender.peers["a"].error


def test_hello_is_said_again_with_a_new_session_each_time() -> None:
    group = Group("a")
    for _ in range(100):
        group.wait(0.05)
    sessions = [message.session for _, message in group.said if isinstance(message, Hello)]
    assert 4 <= len(sessions) == len(set(sessions)) <= 8  # the waits grow


def test_hello_is_said_when_the_connection_is_there() -> None:
    group = Group("a")
    group.wait(5.0)
    group.heard(Hello)
    group.do(group.sender.connected("a", group.now))
    assert len(group.heard(Hello)) == 1
    group.welcome("a")
    group.do(group.sender.connected("a", group.now))
    group.do(group.sender.connected("stranger", group.now))
    assert group.heard(Hello) == []


def test_a_late_welcome_of_an_old_session_is_nothing() -> None:
    group = Group("a")
    old = group.session("a")
    group.wait(1.0)
    group.hear(
        "a", Welcome(old, old, 1, "web-logs", "a", CHANNELS["a"], {}, MESSAGE_MAX, 10**6, "hop")
    )
    assert group.state("a") is PeerState.CONNECTING


def test_a_session_is_called_what_the_receiver_calls_it() -> None:
    group = Group("a")
    group.welcome("a", token=b"T" * 8)
    group.offer(1)
    assert group.sent == {"a": [[1]]}
    group.ack("a", 1)
    assert group.session("a") == b"T" * 8


def test_a_second_welcome_of_a_session_changes_nothing() -> None:
    group = up("a")
    group.offer(1)
    group.welcome("a", channel=b"x" * 16, limit=5)
    peer = group.sender.peers["a"]
    assert (peer.channel, peer.limit, set(peer.in_flight)) == (CHANNELS["a"], 100_000, set(ids(1)))


def test_strangers_are_not_heard() -> None:
    group = up("a")
    group.hear("z", Ack(b"", ids(1), (), 0))
    group.do(group.sender.lost("z", 0.0))
    assert (group.said, group.released) == ([], [])


@pytest.mark.parametrize(
    "message", [Hello(1, "t", "a", b"c" * 16, b"s" * 8), Ping(b"s" * 8, 1), Ask(b"", b"", b"", ())]
)
def test_what_only_senders_say_is_nothing(message: Message) -> None:
    group = up("a")
    group.hear("a", message)
    assert group.said == []
    assert group.state("a") is PeerState.UP


@pytest.mark.parametrize("with_session", [True, False])
def test_a_refusal_is_shown_and_tried_again(with_session: bool) -> None:
    """Without a session: the peer could not even read our HELLO."""
    group = Group("a")
    group.hear("a", Refuse(group.session("a") if with_session else b"", "another topology"))
    assert group.state("a") is PeerState.DOWN
    assert group.sender.peers["a"].error == "refused: another topology"
    group.heard(Hello)
    group.wait(20.0)
    assert len(group.heard(Hello)) == 1
    group.welcome("a")
    assert group.state("a") is PeerState.UP
    assert group.sender.peers["a"].error == ""


def test_a_refusal_without_a_session_does_not_end_one() -> None:
    group = up("a")
    group.hear("a", Refuse(b"", "a message of ours came damaged"))
    assert group.state("a") is PeerState.UP
    assert group.sender.peers["a"].error == ""


def test_a_refusal_of_a_hello_before_the_last_is_nothing() -> None:
    group = Group("a")
    old = group.session("a")
    group.wait(0.2)
    assert group.session("a") != old
    group.hear("a", Refuse(old, "late"))
    assert (group.state("a"), group.sender.peers["a"].error) == (PeerState.CONNECTING, "")


def test_a_refusal_of_an_old_session_is_nothing() -> None:
    group = Group("a")
    group.hear("a", Refuse(b"other..." * 1, "no"))
    assert group.state("a") is PeerState.CONNECTING


def test_peers_must_write_to_one_store() -> None:
    group = Group("abc")
    group.welcome("a", stores={"sink/hdfs": "one"})
    group.welcome("b", stores={"archive/new": "three", "sink/hdfs": "two"})
    assert group.state("b") is PeerState.DOWN
    assert "sink/hdfs to store two, other peers to one" in group.sender.peers["b"].error
    # What a refused peer said of other outputs binds nobody.
    group.welcome("c", stores={"sink/hdfs": "one", "archive/new": "four"})
    assert group.state("c") is PeerState.UP
    assert group.sender.stores() == {"sink/hdfs": "one", "archive/new": "four"}


@pytest.mark.parametrize(
    ("agent", "topology", "why"),
    [
        ("b", "web-logs", "at its address answers 'b': the topology must name each agent's own"),
        ("x\x1b\n", "web-logs", "at its address answers 'x\\x1b\\n': the topology must"),
        ("a", "metrics", "belongs to topology 'metrics', not to 'web-logs'"),
    ],
)
def test_who_answers_under_another_name_is_not_the_peer(
    agent: str, topology: str, why: str
) -> None:
    group = Group("a")
    of = group.session("a")
    met = Point(b"p" * 12, 5)
    stores = dict[str, str]()
    words = (PROTOCOL, topology, agent, CHANNELS["a"], stores, MESSAGE_MAX, 10**6, "hop")
    group.hear("a", Welcome(of, of, *words, met=met))
    peer = group.sender.peers["a"]
    assert (peer.state, peer.error[: len(why)]) == (PeerState.DOWN, why)
    assert not group.renewed, "nor is it believed what it says of us"
    group.offer(1)
    assert group.sent == {}


def test_a_store_that_no_peer_in_session_has_is_forgotten() -> None:
    group = Group("a")
    group.welcome("a", stores={"sink/hdfs": "one"})
    group.do(group.sender.lost("a", group.now))
    assert group.sender.stores() == {}
    group.wait(1.0)
    group.welcome("a", stores={"sink/hdfs": "moved"})
    assert group.sender.stores() == {"sink/hdfs": "moved"}


# -- time ----------------------------------------------------------------------------------------


def test_pings_are_said_by_the_heartbeat() -> None:
    group = up("a")
    for _ in range(20):
        group.wait(0.1)
        for _, ping in group.heard(Ping):
            assert isinstance(ping, Ping)
            group.hear("a", Pong(ping.session, ping.sent_ms, 0, 0))
    assert group.state("a") is PeerState.UP
    group.wait(0.6)
    assert [name for name, _ in group.heard(Ping)] == ["a"]


def test_silence_makes_suspect_and_then_down() -> None:
    group = up("a")
    group.wait(1.6)
    assert group.state("a") is PeerState.SUSPECT
    assert "silent" in group.sender.peers["a"].error
    group.wait(2.1)
    assert group.state("a") is PeerState.DOWN


def test_a_late_ack_makes_suspect_though_it_talks() -> None:
    group = up("a")
    group.offer(1)
    for _ in range(11):
        group.wait(1.0)
        group.hear("a", Pong(group.session("a"), 0, 0, 0))
    assert group.state("a") is PeerState.SUSPECT
    assert set(group.sender.peers["a"].ambiguous) == set(ids(1))


def test_a_late_answer_lets_others_have_the_batches() -> None:
    group = up()
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    for _ in range(11):
        for name in "ab":
            group.hear(name, Pong(group.session(name), 0, 0, 0))
        group.wait(1.0)
    assert group.seqs("b") == [1]
    assert group.flags[1] is True


def test_a_pong_of_another_session_means_it_has_restarted() -> None:
    group = up("a")
    group.hear("a", Pong(b"", 0, 0, 0))
    assert group.state("a") is PeerState.SUSPECT
    assert group.sender.peers["a"].error == "it does not know our session"
    group.wait(0.0)
    assert len(group.heard(Hello)) == 1


def test_a_connection_lost_before_the_session_changes_nothing() -> None:
    group = Group("a")
    group.do(group.sender.lost("a", group.now))
    assert (group.state("a"), group.sender.peers["a"].error) == (PeerState.CONNECTING, "")


def test_a_pong_without_a_session_is_nothing_to_one_that_has_none() -> None:
    group = Group("a")
    group.hear("a", Pong(b"", 0, 0, 0))
    assert group.state("a") is PeerState.CONNECTING


# -- leaving -------------------------------------------------------------------------------------


def test_a_draining_peer_gets_no_more_and_is_let_go_when_settled() -> None:
    group = up()
    group.offer(1)
    group.hear("a", Goodbye(group.session("a")))
    assert group.state("a") is PeerState.DRAINING
    group.offer(2, 3)
    assert (group.seqs("a"), group.seqs("b")) == ([1], [2, 3])
    group.wait(0.1)
    assert group.heard(Goodbye) == []  # its acks are still to come
    group.ack("a", 1)
    group.wait(0.1)
    assert group.heard(Goodbye) == [("a", Goodbye(group.session("a")))]
    assert group.state("a") is PeerState.DOWN
    assert "draining" in group.sender.peers["a"].error
    group.heard(Hello)
    group.hear("b", Pong(group.session("b"), 0, 0, 0))
    group.wait(1.0)
    assert group.heard(Hello) == []  # not at once again
    group.wait(LIMITS.retry_max_s)
    assert "a" in [name for name, _ in group.heard(Hello)]


def test_a_peer_taken_out_is_gone_once_settled() -> None:
    group = up()
    group.offer(1)
    group.do(group.sender.set_peers("b", group.now))
    assert group.sender.peers["a"].leaving
    group.offer(2)
    assert (group.seqs("a"), group.seqs("b"), group.gone) == ([1], [2], [])
    group.ack("a", 1)
    group.wait(0.1)
    assert group.gone == ["a"]
    assert group.heard(Goodbye) == [("a", Goodbye(b"\0" * 7 + b"\1"))]
    assert set(group.sender.peers) == {"b"}


def test_a_peer_put_in_again_stays() -> None:
    group = up()
    group.offer(1)
    group.do(group.sender.set_peers("b", group.now))
    group.do(group.sender.set_peers("ab", group.now))
    group.ack("a", 1)
    group.wait(0.1)
    assert group.gone == []
    group.offer(2, 3)
    assert group.state("a") is PeerState.UP
    assert group.seqs("a")[1:] or group.seqs("b")


def test_a_lost_peer_that_was_taken_out_is_gone_after_it_failed_over() -> None:
    group = up()
    group.offer(1)
    group.do(group.sender.set_peers("b", group.now))
    group.do(group.sender.lost("a", group.now))
    for _ in range(5):
        group.hear("b", Pong(group.session("b"), 0, 0, 0))
        group.wait(0.5)
    group.hear("b", Pong(group.session("b"), 0, 0, 0))
    group.wait(0.5)
    assert group.gone == ["a"]
    assert group.flags[1] is True


def test_a_new_peer_takes_its_share() -> None:
    group = up("a")
    group.do(group.sender.set_peers("ab", group.now))
    group.welcome("b")
    group.offer(*range(1, 101))
    assert len(group.seqs("a")) == len(group.seqs("b")) == 50


def test_no_more_pings_are_said_than_the_heartbeat_has() -> None:
    group = up("a")
    said = 0
    for _ in range(40):  # two seconds
        group.wait(0.05)
        said += len(group.heard(Ping))
        group.hear("a", Pong(group.session("a"), 0, 0, 10**6))
    assert 2 <= said <= 4


def test_who_pings_a_sender_is_given_no_credit() -> None:
    group = up("a")
    group.hear("a", Ping(group.session("a"), 77, 5000))
    [(_, pong)] = group.heard(Pong)
    assert isinstance(pong, Pong)
    assert (pong.session, pong.sent_ms, pong.limit) == (group.session("a"), 77, 0)
