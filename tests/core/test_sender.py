"""What a sender decides: who gets which batch, when it is released, and when it is flagged."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from tests.core.batches import ORIGIN
from tiers.core.assigning import Effects
from tiers.core.batch import BatchId, Hop
from tiers.core.messages import (
    BUNDLE_BATCHES_MAX,
    HEAD_BYTES_MAX,
    IDS_MAX,
    PROTOCOL,
    Ack,
    Answer,
    Ask,
    Bundle,
    Carried,
    Goodbye,
    Guarantee,
    Hello,
    Identity,
    Message,
    Ping,
    Pong,
    Refuse,
    Reject,
    Welcome,
    decode_bundle,
    encode_bundle,
)
from tiers.core.peers import HandedTo, PeerLimits, PeerState, Pending
from tiers.core.sender import MARK_AHEAD, QUEUE_BATCHES_MAX, Sender

ME = Identity("web-logs", "edge-1", b"e" * 16)
LIMITS = PeerLimits(window_bytes_max=100_000, window_start_bytes=100_000)
CHANNELS = {"a": b"a" * 16, "b": b"b" * 16, "c": b"c" * 16}
MESSAGE_MAX = 1 << 20


def batches(*seqs: int, size: int = 100, hops: tuple[Hop, ...] = ()) -> list[Pending]:
    return [Pending(BatchId(ORIGIN, seq), seq, size, 10, hops) for seq in seqs]


def ids(*seqs: int) -> tuple[BatchId, ...]:
    return tuple(BatchId(ORIGIN, seq) for seq in seqs)


@dataclass
class Group:
    """A sender on a clock of its own, and all that it wanted done."""

    names: Sequence[str] = "ab"
    mark: int = 1_000_000
    bundle_bytes: int = 1000
    limits: PeerLimits = LIMITS
    now: float = 0.0
    said: list[tuple[str, Message]] = field(default_factory=list)
    sent: dict[str, list[list[int]]] = field(default_factory=dict)  # by peer: seqs by bundle
    flags: dict[int, bool] = field(default_factory=dict)  # by seq, as last sent
    guarantee: Guarantee = "hop"
    released: list[int] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)
    handed: list[tuple[int, HandedTo | None, bool]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = itertools.count(1)
        self.sender = Sender(
            ME,
            self.limits,
            bundle_bytes=self.bundle_bytes,
            mark=self.mark,
            jitter=lambda: 0.5,
            new_session=lambda: next(numbers).to_bytes(8, "big"),
            guarantee=self.guarantee,
        )
        self.do(self.sender.set_peers(self.names, self.now))

    def do(self, effects: Effects) -> None:
        self.said += effects.say
        for sending in effects.send:
            peer = self.sender.peers[sending.peer]
            assert (sending.session, sending.receiver) == (peer.session, peer.channel)
            bundle = [pending.id.seq for pending in sending.batches]
            self.sent.setdefault(sending.peer, []).append(bundle)
            self.flags |= {pending.id.seq: pending.flagged for pending in sending.batches}
        if effects.raise_mark is not None:
            self.marks.append(effects.raise_mark)
        self.dead += effects.dead + effects.damaged
        self.handed += [(one.position, one.handed_to, one.flagged) for one in effects.handed]
        self.released += effects.release
        self.gone += effects.gone

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.sender.tick(self.now))

    def hear(self, name: str, message: Message) -> None:
        self.do(self.sender.heard(name, message, self.now))

    def welcome(
        self,
        name: str,
        *,
        channel: bytes = b"",
        limit: int = 100_000,
        stores: dict[str, str] | None = None,
        most: int = MESSAGE_MAX,
        token: bytes = b"",
        guarantee: Guarantee = "hop",
    ) -> None:
        channel = channel or CHANNELS[name]
        self.hear(
            name,
            Welcome(self.session(name), token or self.session(name), PROTOCOL, ME.topology, name,
                    channel, stores or {}, most, limit, guarantee),
        )  # fmt: skip

    def offer(self, *seqs: int, size: int = 100) -> None:
        self.do(self.sender.offer(batches(*seqs, size=size), self.now))

    def ack(self, name: str, *seqs: int, limit: int = 0) -> None:
        self.hear(name, Ack(self.session(name), ids(*seqs), (), limit))

    def answer(self, name: str, **lists: tuple[BatchId, ...]) -> None:
        told: dict[str, tuple[BatchId, ...]] = {
            kind: lists.get(kind, ()) for kind in ("held", "published", "unknown")
        }
        channel = self.sender.peers[name].channel
        self.hear(name, Answer(self.session(name), ME.channel, channel, **told))

    def session(self, name: str) -> bytes:
        return self.sender.peers[name].session

    def state(self, name: str) -> PeerState:
        return self.sender.peers[name].state

    def seqs(self, name: str) -> list[int]:
        """All sent to a peer since this was asked last."""
        return [seq for bundle in self.sent.pop(name, []) for seq in bundle]

    def heard(self, kind: type) -> list[tuple[str, Message]]:
        """What was said of a kind since this was asked last."""
        found = [(name, message) for name, message in self.said if isinstance(message, kind)]
        self.said = [item for item in self.said if item not in found]
        return found


def up(names: str = "ab", **options: object) -> Group:
    group = Group(names, **options)  # type: ignore[arg-type]
    for name in names:
        group.welcome(name)
    group.said.clear()
    return group


# -- sessions ------------------------------------------------------------------------------------


def test_hello_says_who_we_are() -> None:
    group = Group("a")
    assert group.said == [
        ("a", Hello(PROTOCOL, "web-logs", "edge-1", b"e" * 16, b"\0" * 7 + b"\1"))
    ]


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


def test_a_store_that_no_peer_in_session_has_is_forgotten() -> None:
    group = Group("a")
    group.welcome("a", stores={"sink/hdfs": "one"})
    group.do(group.sender.lost("a", group.now))
    assert group.sender.stores() == {}
    group.wait(1.0)
    group.welcome("a", stores={"sink/hdfs": "moved"})
    assert group.sender.stores() == {"sink/hdfs": "moved"}


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


@pytest.mark.parametrize("hops", [(), (Hop("edge-1", 1), Hop("aggregator-17", 2))])
def test_a_bundle_of_small_batches_is_one_that_can_be_read(hops: tuple[Hop, ...]) -> None:
    limits = PeerLimits(window_start_bytes=1 << 30, window_bytes_max=1 << 30,
                        window_batches_max=100_000)  # fmt: skip
    group = Group("a", bundle_bytes=1 << 20, limits=limits)
    group.welcome("a", limit=1 << 30)
    group.do(group.sender.offer(batches(*range(1, 6000), size=1, hops=hops), 0.0))
    bundles = group.sent["a"]
    assert list(itertools.chain(*bundles)) == list(range(1, 6000))
    assert 2 <= len(bundles) <= 7
    for bundle in bundles:
        carried = [Carried(b"x", True, hops)] * len(bundle)
        frame = encode_bundle(Bundle(b"s" * 8, b"a" * 16, b"b" * 16, 1, carried))
        assert len(decode_bundle(frame).carried) == len(bundle) <= BUNDLE_BATCHES_MAX


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
    group.hear("a", Answer(**told, held=(), published=(), unknown=ids(1)))
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


def test_an_ack_of_an_old_session_is_still_true() -> None:
    """The batch was flagged and given to another meanwhile: let go of it there."""
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
    assert group.released == [1]
    assert group.sender.peers["b"].in_flight_bytes == 0
    group.ack("b", 1)
    assert group.released == [1]  # once


def test_an_ack_for_what_is_queued_again_releases_it() -> None:
    group = Group("a", limits=PeerLimits(window_bytes_max=300, window_start_bytes=300))
    group.welcome("a")
    old = group.session("a")
    group.offer(1, 2, 3, 4, 5, 6)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.0)
    group.welcome("a")
    group.answer("a", unknown=ids(1, 2, 3))  # queued behind a full window
    group.hear("a", Ack(old, ids(2), (), 0))
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
    assert group.dead == [(1, "rejected by a: checksum")]
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


def test_batches_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.sender.HANDED_MAX", 3)
    group = ending("a")
    group.offer(1, 2)
    group.ack("a", 1, 2)
    assert group.sender.wants() == 1
    group.offer(3)
    assert group.sender.wants() == 0
    published(group, "a", 1)
    assert group.sender.wants() == 1
