"""What a receiver decides: whom it admits, what it stores, acks, answers and rejects, and how
much credit it gives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.batches import ORIGIN, a_record
from tiers.core.batch import BatchId, Hop
from tiers.core.messages import (
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
    decode,
    encode,
)
from tiers.core.receiver import (
    FORGET_AFTER_S,
    SENDERS_MAX,
    Arrived,
    Effects,
    Receiver,
    ReceiverLimits,
)

ME = Identity("web-logs", "agg-1", b"r" * 16)
EDGE = b"e" * 16
LIMITS = ReceiverLimits(window_bytes_max=10_000, message_size_max=5000)


def ids(*seqs: int) -> tuple[BatchId, ...]:
    return tuple(BatchId(ORIGIN, seq) for seq in seqs)


def session(number: int) -> bytes:
    return number.to_bytes(8, "big")


@dataclass
class End:
    """A receiver with a disk to write to, and all that it said."""

    free: int = 1_000_000
    now: float = 0.0
    guarantee: Guarantee = "hop"
    disk: set[BatchId] = field(default_factory=set)
    published: set[BatchId] = field(default_factory=set)
    writing: list[Arrived] = field(default_factory=list)
    said: list[tuple[bytes, Message]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names: list[bytes] = []  # of sessions, for those to come; else that of their HELLO
        self.receiver = Receiver(ME, LIMITS, new_session=self.names.pop, guarantee=self.guarantee)
        self.receiver.stores = {"sink/out": "id"}
        self.tick()

    def seen(self, keys: Iterable[BatchId]) -> dict[BatchId, bool]:
        return {key: key in self.published for key in keys if key in self.disk}

    def do(self, effects: Effects) -> list[Message]:
        self.writing += effects.append
        self.said += effects.say
        return [message for _, message in effects.say]

    def tick(self, seconds: float = 0.0) -> list[Message]:
        self.now += seconds
        return self.do(self.receiver.tick(self.free, self.now))

    def hear(self, message: Message, route: bytes = b"route") -> list[Message]:
        return self.do(self.receiver.heard(route, message, self.seen, self.now, 1_000_000))

    def hello(self, number: int = 1, agent: str = "edge-1", channel: bytes = EDGE) -> list[Message]:
        hello = Hello(PROTOCOL, ME.topology, agent, channel, session(number))
        if not self.names:
            self.names.append(session(number))
        return self.hear(hello, agent.encode())

    def bundle(
        self,
        records: Sequence[bytes],
        number: int = 1,
        sender: bytes = EDGE,
        receiver: bytes = ME.channel,
        *,
        flagged: bool = False,
    ) -> list[Message]:
        carried = [Carried(record, flagged, (Hop("edge-1", 5),)) for record in records]
        bundle = Bundle(session(number), sender, receiver, 1, carried)
        return self.do(self.receiver.received(bundle, self.seen, self.now))

    def commit(self) -> list[Message]:
        """All that is being written is on disk."""
        keys = [batch.id for batch in self.writing]
        self.writing.clear()
        self.disk.update(keys)
        return self.do(self.receiver.stored(keys, self.seen))

    def publish(self, *seqs: int) -> list[Message]:
        """No output waits for these any more."""
        self.published.update(ids(*seqs))
        return self.do(self.receiver.passed_on(ids(*seqs)))

    def ask(self, *seqs: int, number: int = 1, sender: bytes = EDGE) -> list[Message]:
        return self.hear(Ask(session(number), sender, ME.channel, ids(*seqs)))


def acked(messages: Iterable[Message]) -> list[int]:
    return [key.seq for message in messages if isinstance(message, Ack) for key in message.stored]


def answers(messages: Iterable[Message]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(held, unknown) of each answer."""
    return [
        (tuple(key.seq for key in message.held), tuple(key.seq for key in message.unknown))
        for message in messages
        if isinstance(message, Answer)
    ]


# -- sessions ------------------------------------------------------------------------------------


def test_welcome_says_who_we_are_and_what_may_come() -> None:
    end = End()
    assert end.hello() == [
        Welcome(session(1), session(1), PROTOCOL, "web-logs", "agg-1", b"r" * 16,
                {"sink/out": "id"}, 5000, 10_000, "hop")
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
    assert end.receiver.senders["edge-1"].received > 0
    assert acked(end.commit()) == [1]


GOOD = {"protocol": PROTOCOL, "topology": "web-logs", "agent": "edge-1", "channel": EDGE,
        "session": session(1)}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"protocol": 2}, "protocol version 2; agg-1 speaks 1"),
        ({"topology": "other"}, "topology 'other'; agg-1 belongs to 'web-logs'"),
        ({"session": b""}, "a HELLO without a session"),
        ({"agent": ""}, "an agent's name of 0 characters"),
        ({"agent": "x" * 65}, "an agent's name of 65 characters"),
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


# -- batches -------------------------------------------------------------------------------------


def test_ack_after_the_commit_and_not_before() -> None:
    end = End()
    end.hello()
    assert acked(end.bundle([a_record(1), a_record(2)], flagged=True)) == []
    assert end.receiver.pending() == 2
    (one, _) = end.writing
    assert (one.id, one.flagged, one.hops) == (BatchId(ORIGIN, 1), True, (Hop("edge-1", 5),))
    assert acked(end.commit()) == [1, 2]
    assert end.receiver.pending() == 0


def test_what_is_here_is_acked_and_not_stored_again() -> None:
    end = End()
    end.hello()
    end.bundle([a_record(1)])
    end.commit()
    assert acked(end.bundle([a_record(1), a_record(2)])) == [1]
    assert [batch.id.seq for batch in end.writing] == [2]
    assert end.receiver.duplicates == 1


def test_what_is_on_its_way_to_disk_is_not_written_twice() -> None:
    end = End()
    end.hello(1)
    end.hello(2, "edge-2", b"f" * 16)
    end.bundle([a_record(1), a_record(1)])
    end.bundle([a_record(1)], 2, b"f" * 16)
    assert len(end.writing) == 1
    assert end.receiver.duplicates == 2
    end.said.clear()
    end.commit()
    # Whoever sent it is told, and it counts once.
    assert {route for route, _ in end.said} == {b"edge-1", b"edge-2"}
    assert [u.batches for u in end.receiver.senders.values()] == [1, 0]


def test_a_sender_that_left_meanwhile_is_not_acked() -> None:
    end = End()
    end.hello()
    end.bundle([a_record(1)])
    end.hear(Goodbye(session(1)))
    assert end.commit() == []
    assert end.receiver.pending() == 0


def test_an_ack_goes_to_the_session_of_now() -> None:
    end = End()
    end.hello(1)
    end.bundle([a_record(1)], 1)
    end.hello(2)
    (ack,) = end.commit()
    assert isinstance(ack, Ack)
    assert (ack.session, acked([ack])) == (session(2), [1])


def test_acks_fit_their_messages() -> None:
    end = End()
    end.hello()
    for seq in range(IDS_MAX + 10):
        end.bundle([a_record(seq, b"")])
        end.receiver.senders["edge-1"].received = 0
    acks = [message for message in end.commit() if isinstance(message, Ack)]
    assert [len(ack.stored) for ack in acks] == [IDS_MAX, 10]
    assert all(decode(encode(ack)) == ack for ack in acks)


def test_a_damaged_record_is_rejected_by_its_place_and_the_rest_is_taken() -> None:
    end = End()
    end.hello()
    damaged = bytearray(a_record(2))
    damaged[-1] ^= 1
    (rejection,) = end.bundle([a_record(1), bytes(damaged), a_record(3)])
    assert isinstance(rejection, Reject)
    assert (rejection.bundle, rejection.place) == (1, 1)
    assert "checksum" in rejection.reason
    assert "checksum" in end.receiver.senders["edge-1"].error
    assert [batch.id.seq for batch in end.writing] == [1, 3]
    assert end.receiver.rejected == 1


@pytest.mark.parametrize("record", [b"", b"\xff" * 20, a_record(1)[:10]])
def test_what_cannot_be_read_at_all_is_rejected_too(record: bytes) -> None:
    end = End()
    end.hello()
    (rejection,) = end.bundle([record, a_record(2)])
    assert isinstance(rejection, Reject)
    assert rejection.place == 0
    assert [batch.id.seq for batch in end.writing] == [2]


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_record_is_never_stored_and_never_harms(at: int, flip: int) -> None:
    end = End()
    end.hello()
    damaged = bytearray(a_record(1))
    damaged[at % len(damaged)] ^= flip
    for message in end.bundle([bytes(damaged)]):
        assert isinstance(decode(encode(message)), Reject)
    assert end.writing == []


# -- questions -----------------------------------------------------------------------------------


def test_answers_say_what_is_held_and_what_is_unknown() -> None:
    end = End()
    end.hello()
    end.disk.update(ids(1, 3))
    assert answers(end.ask(1, 2, 3)) == [((1, 3), (2,))]


def test_an_answer_waits_for_what_is_on_its_way_to_disk() -> None:
    end = End()
    end.hello(1)
    end.bundle([a_record(1)], 1)
    end.hello(2)
    assert answers(end.ask(1, 2, number=2)) == []
    assert answers(end.ask(3, number=2)) == [((), (3,))]  # others need not wait
    assert answers(end.commit()) == [((1,), (2,))]
    assert answers(end.commit()) == []  # once


def test_questions_to_or_from_other_channels_are_not_answered() -> None:
    end = End()
    end.hello()
    assert end.ask(1, sender=b"?" * 16) == []
    assert end.hear(Ask(session(1), EDGE, b"?" * 16, ids(1))) == []
    assert end.commit() == []


def test_there_is_an_end_to_waiting_questions() -> None:
    end = End()
    end.hello()
    end.bundle([a_record(1)])
    for _ in range(1000):
        end.ask(1)
    assert len(answers(end.commit())) == 64


# -- credit --------------------------------------------------------------------------------------


def test_credit_is_free_room_shared_among_senders() -> None:
    end = End(free=9000)
    end.hello(1, "edge-1")
    assert end.receiver.senders["edge-1"].credit == 9000
    end.hello(2, "edge-2")
    end.hello(3, "edge-3")
    assert end.receiver.senders["edge-3"].credit == 3000


def test_a_window_bounds_it() -> None:
    end = End(free=10**12)
    end.hello()
    assert end.receiver.senders["edge-1"].credit == LIMITS.window_bytes_max


def test_a_full_channel_gives_none_and_grants_again() -> None:
    end = End(free=0)
    (welcome,) = end.hello()
    assert isinstance(welcome, Welcome)
    assert welcome.limit == 0
    assert end.tick(0.05) == []
    end.free = 4000
    assert end.tick(0.05) == [Ack(session(1), (), (), 4000)]
    assert end.tick(0.05) == []  # told once


def test_what_is_granted_is_never_taken_back() -> None:
    end = End(free=4000)
    end.hello()
    end.free = 0
    assert end.tick() == []
    end.bundle([a_record(1)])
    (ack,) = end.commit()
    assert isinstance(ack, Ack)
    assert ack.limit == 4000


def test_acks_bring_new_credit() -> None:
    end = End(free=4000)
    end.hello()
    record = a_record(1, b"x" * 1000)
    end.bundle([record])
    (ack,) = end.commit()
    assert isinstance(ack, Ack)
    assert ack.limit == 4000 + len(record)


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
    assert (acked([ack]), ack.limit) == ([1], 4000)  # no new credit
    welcome, goodbye = end.hello(2, "edge-2")
    assert isinstance(welcome, Welcome)
    assert welcome.limit == 0
    assert goodbye == Goodbye(session(2))


# -- guarantee = "end" -----------------------------------------------------------------------------


def receipts(messages: Iterable[Message]) -> list[int]:
    return [k.seq for message in messages if isinstance(message, Ack) for k in message.published]


def test_who_has_sent_a_batch_is_told_that_it_is_published() -> None:
    end = End(guarantee="end")
    (welcome,) = end.hello()
    assert isinstance(welcome, Welcome)
    assert welcome.guarantee == "end"
    end.bundle([a_record(1), a_record(2)])
    assert (acked(end.commit()), end.receiver.owed()) == ([1, 2], 2)
    assert receipts(end.publish(1)) == [1]
    assert receipts(end.publish(1)) == []
    again = end.bundle([a_record(1), a_record(2)])
    assert (acked(again), receipts(again)) == ([2], [1])
    assert receipts(end.publish(2)) == [2]
    assert end.receiver.owed() == 0


def test_everyone_who_sent_or_asked_is_told() -> None:
    end = End(guarantee="end")
    end.hello(1)
    end.hello(2, agent="edge-2", channel=b"2" * 16)
    end.bundle([a_record(1)])
    end.bundle([a_record(1)], number=2, sender=b"2" * 16)
    end.commit()
    assert receipts(end.publish(1)) == [1, 1]
    end.disk.update(ids(3))
    end.ask(3)
    assert receipts(end.publish(3)) == [3]


def test_who_has_left_is_not_told() -> None:
    end = End(guarantee="end")
    end.hello()
    end.bundle([a_record(1)])
    end.commit()
    end.hear(Goodbye(session(1)))
    assert end.publish(1) == []


def test_an_answer_tells_what_is_published() -> None:
    end = End(guarantee="end")
    end.hello()
    end.bundle([a_record(1), a_record(2)])
    end.commit()
    end.publish(1)
    (answer,) = end.ask(1, 2, 3)
    assert isinstance(answer, Answer)
    assert (answer.published, answer.held, answer.unknown) == (ids(1), ids(2), ids(3))


def test_with_hop_nobody_waits_for_receipts() -> None:
    end = End()
    end.hello()
    end.bundle([a_record(1)])
    end.commit()
    assert end.publish(1) == []
    assert acked(end.bundle([a_record(1)])) == [1], "passed on is held"
    (answer,) = end.ask(1)
    assert isinstance(answer, Answer)
    assert (answer.published, answer.held) == ((), ids(1))


def test_receipts_owed_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.core.receiver.OWED_MAX", 1)
    end = End(guarantee="end")
    end.hello()
    end.bundle([a_record(1), a_record(2)])
    end.commit()
    assert end.receiver.owed() == 1
    assert receipts(end.publish(1, 2)) == [1]
