"""What a receiver decides about senders: whom it admits, what credit it gives, how it leaves."""

import pytest

from tests.core.batches import a_record
from tests.core.receiving import EDGE, LIMITS, ME, End, acked, ids, session
from tiers.core.hop.messages import (
    PROTOCOL,
    Ack,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Refuse,
    Welcome,
    decode,
    encode,
)
from tiers.core.hop.receiver import FORGET_AFTER_S
from tiers.core.hop.upstream import SENDERS_MAX
from tiers.core.names import NAME_WANTED

# -- sessions ------------------------------------------------------------------------------------


def test_welcome_says_who_we_are_and_what_may_come() -> None:
    end = End()
    assert end.hello() == [
        Welcome(session(1), session(1), PROTOCOL, "web-logs", "agg-1", b"r" * 16,
                {"sink/out": "id"}, 5000, 10_000, "hop", 1 << 20)
    ]  # fmt: skip
    assert end.said[-1][0] == b"edge-1"


def test_a_hello_that_comes_again_later_revives_no_pipe() -> None:
    """A network may bring it twice; what was under way in its session must stay dead."""
    end = End()
    end.names[:] = [session(11)]
    (welcome,) = end.hello(1)
    assert isinstance(welcome, Welcome)
    assert (welcome.session, welcome.token) == (session(1), session(11))
    end.names[:] = [session(12)]
    end.hello(2)
    end.names[:] = [session(13)]
    end.hello(1)
    end.bundle([a_record(1)], 11)
    end.bundle([a_record(1)], 1)
    assert end.receiver.discarded == 2 and not end.writing


def test_a_hello_that_comes_twice_at_once_begins_one_session() -> None:
    end = End()
    end.names[:] = [session(11)]
    (first,) = end.hello(1)
    end.bundle([a_record(1)], 11)
    (again,) = end.hello(1)
    assert isinstance(first, Welcome) and isinstance(again, Welcome)
    assert first.token == again.token
    assert end.receiver.senders["edge-1"].balance.received > 0
    assert acked(end.commit()) == [1]


GOOD = {"protocol": PROTOCOL, "topology": "web-logs", "agent": "edge-1", "channel": EDGE,
        "session": session(1)}  # fmt: skip


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        ((1, 1), (1, 1), 1),
        ((2, 1), (1, 1), 1),  # a newer sender
        ((1, 1), (2, 1), 1),  # a newer receiver
        ((3, 2), (2, 1), 2),
        ((2, 1), (3, 2), 2),
        ((4, 1), (3, 2), 3),
        ((2, 2), (1, 1), 0),
        ((1, 1), (3, 2), 0),
        ((3, 3), (2, 1), 0),
        ((1, 0), (1, 1), 1),  # it tells no oldest
        ((2, 0), (1, 1), 0),
        ((0, 0), (1, 1), 0),
        ((1, 2), (2, 1), 0),  # nonsense
    ],
)
def test_the_newest_protocol_that_both_speak_is_spoken(
    monkeypatch: pytest.MonkeyPatch, theirs: tuple[int, int], ours: tuple[int, int], agreed: int
) -> None:
    monkeypatch.setattr("tiers.core.hop.messages.PROTOCOL", ours[0])
    monkeypatch.setattr("tiers.core.hop.messages.PROTOCOL_MIN", ours[1])
    newest, oldest = theirs
    end = End()
    end.names.append(session(1))
    [said] = end.hear(Hello(**(GOOD | {"protocol": newest, "protocol_min": oldest})))  # type: ignore[arg-type]
    assert (said.protocol if isinstance(said, Welcome) else 0) == agreed


def test_a_range_is_told_in_words_and_who_is_to_be_upgraded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tiers.core.hop.messages.PROTOCOL", 3)
    monkeypatch.setattr("tiers.core.hop.upstream.PROTOCOL", 3)
    monkeypatch.setattr("tiers.core.hop.messages.PROTOCOL_MIN", 2)
    [said] = End().hear(Hello(**(GOOD | {"protocol": 1})))  # type: ignore[arg-type]
    assert said == Refuse(session(1), "protocol 1; agg-1 speaks 2 to 3: upgrade edge-1")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"protocol": 2}, "protocol 2; agg-1 speaks 1: upgrade agg-1"),
        ({"topology": "other"}, "topology 'other'; agg-1 belongs to 'web-logs'"),
        ({"session": b""}, "a HELLO without a session"),
        ({"agent": ""}, f"an agent has {NAME_WANTED}; not ''"),
        ({"agent": "x" * 65}, f"an agent has {NAME_WANTED}; not {'x' * 63 + '…'!r}"),
        ({"agent": "a\x1b[2J\nb"}, rf"an agent has {NAME_WANTED}; not 'a\x1b[2J\nb'"),
        ({"agent": "../edge"}, f"an agent has {NAME_WANTED}; not '../edge'"),
        ({"agent": "\u202eedge"}, rf"an agent has {NAME_WANTED}; not '\u202eedge'"),
        ({"topology": "a\nb"}, r"topology 'a\nb'; agg-1 belongs to 'web-logs'"),
        ({"agent": "agg-1"}, "agg-1 would send to itself"),
    ],
)
def test_refusals_say_why(wrong: dict[str, object], reason: str) -> None:
    end = End()
    hello = Hello(**(GOOD | wrong))  # type: ignore[arg-type]
    assert end.hear(hello) == [Refuse(hello.session, reason)]
    assert not end.receiver.senders


def test_a_refusal_can_be_read_however_strange_the_hello() -> None:
    end = End()
    hello = Hello(PROTOCOL, "\U000e0001" * 4096, "edge-1", EDGE, session(1))
    (refusal,) = end.hear(hello)
    assert isinstance(decode(encode(refusal)), Refuse)


def test_there_is_an_end_to_senders() -> None:
    end = End()
    for number in range(SENDERS_MAX):
        end.hello(number, f"edge-{number}")
    (refusal,) = end.hello(SENDERS_MAX, "one-more")
    assert refusal == Refuse(session(SENDERS_MAX), "agg-1 has 10000 senders already")
    assert isinstance(end.hello(SENDERS_MAX + 1, "edge-5")[0], Welcome)  # it was here


def test_a_nameless_sender_is_not_whoever_is_unknown() -> None:
    end = End()
    end.hear(Hello(PROTOCOL, ME.topology, "", EDGE, session(1)))
    end.bundle([a_record(1)], number=99)
    assert end.writing == []
    assert end.hear(Ping(session(99), 5)) == [Pong(b"", 5, 1_000_000, 0)]


def test_a_new_hello_ends_the_session_before() -> None:
    end = End()
    end.hello(1)
    end.bundle([a_record(1)], 1)
    end.commit()
    end.hello(2)
    end.bundle([a_record(2)], 1)
    assert end.writing == []
    assert end.receiver.discarded == 1
    end.bundle([a_record(2)], 2)
    assert [batch.id.seq for batch in end.writing] == [2]
    end.commit()
    upstream = end.receiver.senders["edge-1"]
    assert (upstream.batches, upstream.events) == (2, 6)  # counted over sessions


def test_two_agents_under_one_name_are_told_of() -> None:
    """A disk that is new is one change of the channel; there and back are two agents."""
    end = End()
    senders = end.receiver.senders
    for number, channel in enumerate((b"1" * 16, b"2" * 16, b"2" * 16), 1):
        end.hello(number, channel=channel)
        assert senders["edge-1"].error == ""
    end.hello(4, channel=b"1" * 16)
    assert "two agents run under this name" in senders["edge-1"].error
    assert f"{b'2'.hex() * 16} and {b'1'.hex() * 16}" in senders["edge-1"].error
    end.hello(5, channel=b"1" * 16)
    assert senders["edge-1"].error == "", "one of them has gone"


def test_a_hello_that_came_twice_is_answered_twice() -> None:
    end = End()
    assert len(end.hello(1)) == len(end.hello(1)) == 1
    end.bundle([a_record(1)], 1)
    assert len(end.writing) == 1


def test_a_restarted_receiver_takes_nothing_until_a_hello() -> None:
    end = End()
    end.bundle([a_record(1)])
    assert end.writing == []
    assert end.ask(1) == []
    assert end.hear(Ping(session(1), 5)) == [Pong(b"", 5, 1_000_000, 0)]


@pytest.mark.parametrize("wrong", [{"sender": b"?" * 16}, {"receiver": b"?" * 16}])
def test_bundles_between_other_channels_are_discarded(wrong: dict[str, bytes]) -> None:
    end = End()
    end.hello()
    assert end.bundle([a_record(1)], **wrong) == []  # type: ignore[arg-type]
    assert end.writing == []
    assert end.receiver.discarded == 1


def test_pong_tells_session_clock_and_credit() -> None:
    end = End()
    end.hello()
    assert end.hear(Ping(session(1), 77)) == [Pong(session(1), 77, 1_000_000, 10_000)]


def test_words_refresh_the_route() -> None:
    end = End()
    end.hello()
    end.hear(Ping(session(1), 1), b"new route")
    end.bundle([a_record(1)])
    end.commit()
    assert end.said[-1][0] == b"new route"


def test_a_sender_that_leaves_is_forgotten() -> None:
    end = End()
    end.hello()
    end.hear(Goodbye(session(1)))
    assert not end.receiver.senders
    end.hear(Goodbye(session(1)))  # twice does no harm


def test_a_silent_sender_is_forgotten() -> None:
    end = End()
    end.hello(1, "edge-1")
    end.hello(2, "edge-2")
    end.tick(FORGET_AFTER_S - 1)
    end.hear(Ping(session(2), 1))
    end.tick(2)
    assert set(end.receiver.senders) == {"edge-2"}


@pytest.mark.parametrize(
    "message",
    [Refuse(session(1), "no"), Ack(session(1), ids(1), (), 0), Pong(session(1), 0, 0, 0)],
)
def test_what_only_receivers_say_is_nothing(message: Message) -> None:
    end = End()
    end.hello()
    assert end.hear(message) == []


# -- credit --------------------------------------------------------------------------------------


def test_credit_is_free_room_shared_among_senders() -> None:
    end = End(free=9000)
    end.hello(1, "edge-1")
    assert end.credit("edge-1") == 9000 * 4 // 5, "and something for who comes late"
    end.hello(2, "edge-2")
    end.hello(3, "edge-3")
    assert end.credit("edge-3") == 9000 * 4 // 5 // 3


def test_a_window_bounds_it() -> None:
    end = End(free=10**12)
    end.hello()
    assert end.credit() == LIMITS.window_bytes_max


def test_a_full_channel_gives_none_and_grants_again() -> None:
    end = End(free=0)
    (welcome,) = end.hello()
    assert isinstance(welcome, Welcome)
    assert welcome.limit == 0
    assert end.tick(0.05) == []
    end.free = 4000
    end.hear(Ping(session(1), 1))  # it wants some
    assert end.tick(0.05) == [Ack(session(1), (), (), 3200)]
    assert end.tick(0.05) == []  # told once


def test_what_is_granted_is_never_taken_back() -> None:
    end = End(free=4000)
    end.hello()
    end.free = 0
    assert end.tick() == []
    end.bundle([a_record(1)])
    (ack,) = end.commit()
    assert isinstance(ack, Ack)
    assert ack.limit == 3200


def test_acks_bring_new_credit() -> None:
    end = End(free=4000)
    end.hello()
    record = a_record(1, b"x" * 1000)
    end.bundle([record])
    (ack,) = end.commit()
    assert isinstance(ack, Ack)
    assert ack.limit == 3200 + len(record)


@pytest.mark.parametrize("damaged", [b"\xff" * 1500, a_record(1, b"x" * 1500)[:-1]])
def test_what_is_rejected_brings_its_credit_back(damaged: bytes) -> None:
    """Else a sender whose disk has rotted would have none left, though all of it is dead."""
    end = End(free=4000)
    end.hello()
    sent = 0
    for _ in range(20):
        end.bundle([damaged])
        end.tick()
        sent += len(damaged)
        told = max(one.limit for _, one in end.said if isinstance(one, Welcome | Ack))
        assert told - sent > 0, "as the sender counts"


def test_who_sends_beyond_its_credit_is_shown_the_door() -> None:
    end = End(free=2000)
    end.hello()
    end.free = 0
    end.tick()
    record = a_record(1, b"x" * 1900)
    for _ in range(4):  # one message may overshoot, and the limit may be told late
        assert not any(isinstance(message, Refuse) for message in end.bundle([record]))
    (refusal,) = end.bundle([record])
    assert refusal == Refuse(session(1), "it sends beyond its credit")
    assert not end.receiver.senders
    end.bundle([record])
    assert end.receiver.discarded == 2


# -- draining ------------------------------------------------------------------------------------


def test_a_draining_receiver_says_so_and_still_takes_what_comes() -> None:
    end = End(free=4000)
    end.hello(1, "edge-1")
    assert end.do(end.receiver.drain()) == [Goodbye(session(1))]
    end.bundle([a_record(1)])
    (ack,) = end.commit()
    assert isinstance(ack, Ack)
    assert (acked([ack]), ack.limit) == ([1], 3200)  # no new credit
    welcome, goodbye = end.hello(2, "edge-2")
    assert isinstance(welcome, Welcome)
    assert welcome.limit == 0
    assert goodbye == Goodbye(session(2))


def test_who_comes_to_one_that_drains_gets_no_credit_and_may_leave() -> None:
    end = End()
    end.receiver.drain()
    end.hello()
    assert end.credit() == 0
    end.bundle([a_record(1, b"a\n")])  # all the same
    end.commit()
    end.tick(1.0)
    end.receiver.hung_up(session(1))
    end.tick(3600.0)


# -- many ----------------------------------------------------------------------------------------


def test_a_tick_looks_at_no_more_senders_than_a_turn_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.hop.credit.TURNS_MAX", 10)
    end = End(free=0)
    for number in range(1, 96):
        end.hello(number, f"edge-{number}")
        end.hear(Ping(session(number), 1))
    end.free = 10**7
    told = [len(end.tick(0.05)) for _ in range(11)]
    assert told == [10] * 9 + [5] + [0], "each has its turn, and what it waits for"
    assert {end.credit(agent) for agent in end.receiver.senders} == {LIMITS.window_bytes_max}


def test_all_silent_ones_of_many_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.hop.sessions.TURNS_MAX", 10)
    end = End()
    for number in range(1, 96):
        end.hello(number, f"edge-{number}")
    end.tick(FORGET_AFTER_S + 1)
    for _ in range(9):
        end.tick(0.05)
    assert not end.receiver.senders


def test_who_has_a_session_is_known_by_its_route() -> None:
    end = End()
    assert not end.receiver.session_of(b"edge-1")
    end.hello()
    assert end.receiver.session_of(b"edge-1") == session(1)
    end.hear(Ping(session(1), 1), route=b"another")
    assert not end.receiver.session_of(b"edge-1")
    assert end.receiver.session_of(b"another") == session(1)
    end.hear(Goodbye(session(1)), route=b"another")
    assert not end.receiver.session_of(b"another")


def test_who_gives_another_name_over_the_same_connection_is_no_second_sender() -> None:
    end = End()
    for number in range(1, 100):
        hello = Hello(PROTOCOL, ME.topology, f"edge-{number}", EDGE, session(number))
        end.names.append(session(number))
        end.hear(hello, b"route")
    assert list(end.receiver.senders) == ["edge-99"]


@pytest.mark.parametrize("error", ["", "a batch that nobody can read"])
def test_a_session_whose_connection_is_over_holds_nothing(error: str) -> None:
    end = End(free=1 << 30)
    end.hello()
    end.receiver.senders["edge-1"].error = error
    held = end.receiver.credits.held
    end.receiver.hung_up(b"another!")
    assert held == end.receiver.credits.held > 0
    end.receiver.hung_up(session(1))
    assert end.receiver.credits.held == 0
    assert ("edge-1" in end.receiver.senders) is bool(error), "what was wrong is shown for a while"
    end.hear(Ping(session(1), 1))
    assert (end.receiver.credits.held > 0) is bool(error), "it is there after all"
