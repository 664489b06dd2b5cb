"""What a receiver decides about batches: what it stores, acks, answers and rejects, and whom it
tells that they are published."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.batches import ORIGIN, a_record
from tests.core.receiving import EDGE, End, acked, answers, ids, session
from tiers.core.batch import BatchId, Hop
from tiers.core.messages import (
    IDS_MAX,
    Ack,
    Answer,
    Ask,
    Goodbye,
    Message,
    Reject,
    Welcome,
    decode,
    encode,
)

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
