"""Disks that went back in time, or exist twice: what is judged of points, and what senders and
receivers do with it."""

import math
from collections.abc import Iterator

import pytest

from tests.core.batches import ORIGIN, a_record
from tests.core.grouping import CHANNELS, ME, MESSAGE_MAX, Group, ids, up
from tests.core.receiving import EDGE, End, answers, session
from tests.core.receiving import ME as RECEIVER
from tiers.core.batch import verify
from tiers.core.hop.messages import (
    PROTOCOL,
    Ack,
    Answer,
    Hello,
    Message,
    Ping,
    Pong,
    Refuse,
    Reject,
    Welcome,
)
from tiers.core.life import TOLD_MAX, Life, Met, Point, Start

S1, S2, S3, OTHER = (name * 12 for name in (b"1", b"2", b"3", b"x"))
STARTS = (Start(S1, 0), Start(S2, 40), Start(S3, 65))


def a_life(number: int = 90) -> Life:
    return Life(b"c" * 16, STARTS, number)


@pytest.mark.parametrize(
    ("start", "number", "on"),
    [
        (S1, 1, True),
        (S1, 40, True),
        (S1, 41, False),
        (S2, 65, True),
        (S2, 66, False),
        (S3, 90, True),
        (S3, 91, False),
        (OTHER, 1, False),
    ],
)
def test_a_point_is_on_the_line_or_off_it(start: bytes, number: int, on: bool) -> None:
    assert a_life().has(Point(start, number)) is on


def test_who_says_no_point_is_not_judged() -> None:
    assert a_life().has(None)
    assert Life(b"c" * 16).has(Point(OTHER, 7))
    assert Life(b"c" * 16).point() is None
    assert a_life().point() == Point(S3, 90)


def test_of_one_start_the_greatest_number_is_remembered_of_several_the_last() -> None:
    life = a_life()
    for number in (5, 9, 7):
        life.meet(b"p" * 16, "agg-1", Point(S1, number))
    assert life.met_of(b"p" * 16) == Point(S1, 9)
    assert life.unsaved == {b"p" * 16}
    life.unsaved.clear()
    life.meet(b"p" * 16, "agg-1", Point(S1, 8))
    life.meet(b"p" * 16, "agg-1", None)
    assert not life.unsaved
    life.meet(b"p" * 16, "agg-1", Point(S2, 1))
    assert life.met == {b"p" * 16: Met("agg-1", Point(S2, 1))}


def test_a_hello_tells_what_that_agent_had_and_then_the_latest_of_its_like() -> None:
    life = a_life()
    for number in range(1, 20):
        name = "a" if number == 1 else "edge" if number == 19 else "b"
        life.meet(bytes([number]) * 16, name, Point(S1, number))
    told = [point.number for _, point in life.told_to("a", {"a", "b"})]
    assert told == [1, *range(18, 18 - TOLD_MAX + 1, -1)]


# -- a sender ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def lives() -> Iterator[None]:
    """Those of the group and of the end are theirs for one test."""
    yield
    for life in (ME.life, RECEIVER.life):
        life.starts, life.number, life.renewed_s = (), 0, -math.inf
        life.met.clear()
        life.unsaved.clear()
        life.origins.clear()


def live() -> None:
    for life in (ME.life, RECEIVER.life):
        life.starts, life.number = STARTS, 90


def welcome(group: Group, name: str = "a", **told: object) -> None:
    of, stores = group.session(name), dict[str, str]()
    words = (PROTOCOL, ME.topology, name, CHANNELS[name], stores, MESSAGE_MAX, 10**6, "hop")
    group.hear(name, Welcome(of, of, *words, **told))  # type: ignore[arg-type]


def test_a_sender_that_went_back_says_nothing_more() -> None:
    live()
    group = Group("ab")
    group.offer(1)
    welcome(group, met=Point(S3, 91))
    assert "it does not know" in group.renewed
    group.said.clear()
    welcome(group, "b")
    group.wait(5.0)
    assert (group.said, group.sent) == ([], {})


def test_a_sender_notes_where_a_peer_is() -> None:
    live()
    group = Group("ab")
    welcome(group, "a", point=Point(S3, 7))
    welcome(group, "b")
    assert ME.life.met_of(CHANNELS["a"]) == Point(S3, 7)
    assert ME.life.met_of(CHANNELS["b"]) is None
    assert ME.life.unsaved == {CHANNELS["a"]}


def test_a_sender_that_is_there_twice_renews() -> None:
    live()
    group = Group("a")
    group.hear("a", Refuse(group.session("a"), "answers here", twin=True))
    assert "another agent" in group.renewed


def test_a_sender_that_has_just_renewed_itself_does_not_again_for_a_minute() -> None:
    live()
    group = Group("a")
    ME.life.renewed_s = group.now - 59.0
    welcome(group, met=Point(S3, 91))
    assert "has just begun anew" in group.sender.peers["a"].error
    group.hear("a", Refuse(group.session("a"), "answers here", twin=True))
    assert not group.renewed
    group.wait(1.0)
    welcome(group, met=Point(S3, 91))
    assert group.renewed


def test_a_receiver_that_has_just_renewed_itself_does_not_again_for_a_minute() -> None:
    live()
    end = End()
    RECEIVER.life.renewed_s = end.now - 59.0
    words = (PROTOCOL, RECEIVER.topology, "edge-1", EDGE, session(1))
    met = ((RECEIVER.channel, Point(OTHER, 1)),)
    (refuse,) = end.hear(Hello(*words, None, met))
    assert isinstance(refuse, Refuse)
    assert "has just begun anew" in refuse.reason
    assert (end.renewed, end.receiver.senders) == ("", {})
    end.now += 1.0
    assert end.hear(Hello(*words, None, met)) == []
    assert end.renewed


def test_where_a_peer_was_met_is_told_to_it() -> None:
    live()
    group = Group("a")
    welcome(group, point=Point(S1, 7), met=Point(S2, 50))
    group.hear("a", Ack(group.session("a"), (), (), 0, point=Point(S1, 9)))
    group.do(group.sender.lost("a", group.now))
    group.said.clear()
    group.wait(0.1)
    ((_, hello),) = group.heard(Hello)
    assert isinstance(hello, Hello)
    assert (hello.point, hello.met) == (Point(S3, 90), ((CHANNELS["a"], Point(S1, 9)),))


@pytest.mark.parametrize(("start", "flagged"), [(S1, False), (S2, True)])
def test_unknown_is_believed_of_the_start_to_which_it_was_sent(start: bytes, flagged: bool) -> None:
    group = Group("a")
    welcome(group, point=Point(S1, 7))
    group.offer(1)
    group.do(group.sender.lost("a", group.now))
    group.wait(0.1)
    welcome(group, point=Point(start, 8))
    group.answer("a", unknown=ids(1))
    assert (group.sent["a"], group.flags[1]) == ([[1], [1]], flagged)


def test_an_ack_of_another_content_lets_nothing_go() -> None:
    group = up("a")
    group.offer(1)
    (pending,) = group.sender.peers["a"].in_flight.values()
    pending.pending.crc = 7
    group.hear("a", Ack(group.session("a"), ids(1), (), 0, sums=(8,)))
    assert group.released == []
    group.hear("a", Ack(group.session("a"), ids(1), (), 0, sums=(7,)))
    assert group.released == [1]


@pytest.mark.parametrize(("sums", "released"), [((8,), False), ((8, 7), True), ((0,), True)])
def test_held_with_another_content_is_as_unknown(sums: tuple[int, ...], released: bool) -> None:
    group = up("a")
    group.offer(1)
    (sent,) = group.sender.peers["a"].in_flight.values()
    sent.pending.crc = 7
    group.do(group.sender.lost("a", group.now))
    group.wait(0.1)
    group.welcome("a")
    told = (group.session("a"), ME.channel, CHANNELS["a"])
    group.hear("a", Answer(*told, ids(*(1 for _ in sums)), (), (), sums=sums))
    assert (group.released == [1]) is released
    assert (group.sent["a"] == [[1], [1]]) is not released


def test_what_was_queued_before_the_start_waits_for_the_word_of_each_peer() -> None:
    group = Group("ab", old_upto=2)
    group.offer(1, 2, 3)
    group.welcome("a")
    assert group.sent == {}
    for _ in range(3):  # b cannot be reached
        group.hear("a", Pong(group.session("a"), 0, 0, 10**6))
        group.wait(1.0)
    assert group.seqs("a") == [1, 2, 3]


def test_what_was_queued_since_the_start_waits_for_nobody() -> None:
    group = Group("ab", old_upto=2)
    group.welcome("a")
    group.offer(3)
    assert group.seqs("a") == [3]


def test_a_sender_that_is_asked_says_the_number_again() -> None:
    group = up("a")
    group.hear("a", Ping(group.session("a"), 77))
    ((_, pong),) = group.heard(Pong)
    assert isinstance(pong, Pong)
    assert pong.sent_ms == 77


# -- a receiver ----------------------------------------------------------------------------------


def hello(end: End, number: int, point: Point | None, agent: str = "edge-1") -> list[Message]:
    end.names.append(session(number))
    words = (PROTOCOL, RECEIVER.topology, agent, EDGE, session(number))
    return end.hear(Hello(*words, point), b"route%d" % number)


def test_a_receiver_that_went_back_says_nothing_more() -> None:
    live()
    end = End()
    words = (PROTOCOL, RECEIVER.topology, "edge-1", EDGE, session(1))
    assert end.hear(Hello(*words, None, ((RECEIVER.channel, Point(OTHER, 1)),))) == []
    assert "it does not know" in end.renewed
    assert end.hello(2, "edge-2") == []
    assert end.tick(1.0) == []


def test_points_of_other_channels_are_not_judged() -> None:
    """A sender tells those of several: any of them may be the receiver's."""
    live()
    end = End()
    words = (PROTOCOL, RECEIVER.topology, "edge-1", EDGE, session(1))
    met = ((b"x" * 16, Point(OTHER, 1)), (RECEIVER.channel, Point(S3, 90)))
    end.names.append(session(1))
    assert [type(one) for one in end.hear(Hello(*words, None, met))] == [Welcome]
    assert not end.renewed


def test_a_receiver_tells_where_it_met_a_sender_before_this_hello() -> None:
    live()
    end = End()
    (first,) = hello(end, 1, Point(S1, 5))
    end.bundle([a_record(1)], point=Point(S1, 9))
    end.now += 3.0
    (second,) = hello(end, 2, Point(S2, 20))
    assert isinstance(first, Welcome)
    assert isinstance(second, Welcome)
    assert (first.met, second.met) == (None, Point(S1, 9))
    assert (second.point, RECEIVER.life.met_of(EDGE)) == (Point(S3, 90), Point(S1, 9))
    (third,) = hello(end, 3, Point(S2, 20))
    assert isinstance(third, Welcome)
    assert third.met == Point(S1, 9), "the WELCOME may have been lost"
    end.hear(Ping(session(3), 0), b"route3")
    assert RECEIVER.life.met_of(EDGE) == Point(S2, 20)


@pytest.mark.parametrize("agent", ["edge-1", "edge-2"])
def test_a_session_of_another_start_that_answers_is_another_life(agent: str) -> None:
    end = End()
    hello(end, 1, Point(S1, 5))
    (ping,) = hello(end, 2, Point(S2, 5), agent)
    assert isinstance(ping, Ping)
    assert end.hear(Pong(session(1), ping.sent_ms, 0, 0), b"route1") == [
        Refuse(session(2), "another agent with this very channel is here, and answers", twin=True)
    ]
    assert end.tick(1.0) == []


def test_one_that_does_not_answer_is_no_other_life() -> None:
    end = End()
    hello(end, 1, Point(S1, 5))
    assert [type(one) for one in hello(end, 2, Point(S2, 5))] == [Ping]
    assert hello(end, 3, Point(S2, 5)) == [], "said again: it waits"
    assert end.tick(0.4) == []
    (told,) = end.tick(0.2)
    assert isinstance(told, Welcome)
    assert told.session == session(3)


@pytest.mark.parametrize("silent_s", [0.0, 3.0])
def test_the_same_start_or_a_silent_one_waits_for_nobody(silent_s: float) -> None:
    end = End()
    hello(end, 1, Point(S1, 5))
    end.now += silent_s
    start = S2 if silent_s else S1
    assert [type(one) for one in hello(end, 2, Point(start, 5))] == [Welcome]


def test_a_batch_whose_number_was_given_here_is_rejected() -> None:
    end = End()
    end.hello()
    RECEIVER.life.origins.add(ORIGIN)
    (reject,) = end.bundle([a_record(2**63 - 1)])
    assert isinstance(reject, Reject)
    assert "at this very agent" in reject.reason
    assert end.writing == []


def test_another_content_goes_to_disk_and_each_ack_is_for_one_content() -> None:
    end = End()
    end.hello()
    one, other = a_record(1, b"one\n"), a_record(1, b"two\n")
    end.bundle([one])
    end.bundle([other])
    assert [batch.record for batch in end.writing] == [one, other], "neither is on disk yet"
    acks = [ack for ack in end.commit() if isinstance(ack, Ack)]
    assert sorted(crc for ack in acks for crc in ack.sums) == sorted(
        verify(record).crc for record in (one, other)
    )
    end.bundle([other])  # the disk of this test knows one content of an id: the last
    assert end.writing == []
    end.bundle([one])
    assert [batch.record for batch in end.writing] == [one]
    assert answers(end.ask(1)) == [], "it is on its way"
