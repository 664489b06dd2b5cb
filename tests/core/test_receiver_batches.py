"""What a receiver decides about batches: what it stores, acks, answers and rejects, and whom it
tells that they are published."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.batches import ORIGIN, a_record
from tests.core.receiving import EDGE, ME, End, acked, answers, ids, session
from tests.core.strangers import VARIANTS, Sealed, Variant, sealed
from tiers.core.batch import BatchId, Hop
from tiers.core.dedupe import Known
from tiers.core.hop.messages import (
    IDS_MAX,
    Ack,
    Answer,
    Ask,
    Bundle,
    Carried,
    Goodbye,
    Later,
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
        end.bundle([a_record(seq, b"\n")])
        end.receiver.senders["edge-1"].balance.received = 0
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


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_what_can_never_be_published_is_rejected_with_words(variant: Variant) -> None:
    end = End()
    end.hello()
    said = end.bundle([sealed(variant.sealed(1)), a_record(2)])
    if variant.fate == "rejected":
        (rejection,) = said
        assert isinstance(rejection, Reject)
        assert rejection.place == 0
        assert variant.says in rejection.reason
    assert len(end.writing) == (1 if variant.fate == "rejected" else 2)


def test_what_is_rejected_is_given_back_as_credit() -> None:
    """Else a sender of a few bad ones would be silent for good."""
    end = End()
    (welcome,) = end.hello()
    assert isinstance(welcome, Welcome)
    limit, sent, bad = welcome.limit, 0, sealed(Sealed(1, b"x" * 900, sealed=2**53))
    for _ in range(100):
        assert sent < limit, f"no credit after {sent} bytes"
        sent += len(bad)
        said = [*end.bundle([bad]), *end.tick(0.05)]
        limit = max(limit, *(message.limit for message in said if isinstance(message, Ack)), 0)
    assert sent > 5 * welcome.limit
    assert end.receiver.rejected == 100


DAY_MS = 86_400_000


@pytest.mark.parametrize("ago_ms", [0, DAY_MS, 4000 * DAY_MS])
def test_age_never_rejects(ago_ms: int) -> None:
    end = End()
    end.hello()
    assert end.bundle([a_record(1, sealed=end.now_ms - ago_ms, time=0)]) == []
    assert len(end.writing) == 1


def test_what_is_sealed_more_than_a_day_ahead_is_to_come_later_and_is_told() -> None:
    end = End()
    end.hello()
    ahead = [
        a_record(seq, sealed=end.now_ms + DAY_MS + more_ms)
        for seq, more_ms in ((1, 0), (2, 1), (3, 900_000))
    ]
    first, second = end.bundle(ahead)
    assert isinstance(first, Later)
    assert isinstance(second, Later)
    assert [(one.bundle, one.place, one.wait_ms) for one in (first, second)] == [
        (1, 1, 1),
        (1, 2, 900_000),
    ]
    assert decode(encode(first)) == first
    assert "2026-11-24, more than a day ahead of agg-1" in first.reason
    assert "more than a day ahead" in end.receiver.senders["edge-1"].error
    assert [batch.id.seq for batch in end.writing] == [1]
    assert end.receiver.rejected == 0
    end.commit()
    end.now_ms += 1
    end.bundle(ahead[1:2])
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
    end.disk.update((key, 0) for key in ids(1, 3))
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
    told = [len(answers(end.commit())), *(len(answers(end.tick(0.05))) for _ in range(99))]
    assert (max(told), sum(told)) == (1, 8)


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
    end.disk.update((key, 0) for key in ids(3))
    end.ask(3)
    assert receipts(end.publish(3)) == [3]


def test_who_has_left_is_not_told() -> None:
    end = End(guarantee="end")
    end.hello()
    end.bundle([a_record(1)])
    end.commit()
    end.hear(Goodbye(session(1)))
    assert end.publish(1) == []


def test_of_many_questions_each_sender_has_one_answered_in_its_turn() -> None:
    end = End()
    for number in (1, 2):
        end.hello(number, f"edge-{number}", bytes([number]) * 16)
    end.bundle([a_record(1)], number=1, sender=b"\1" * 16)
    end.bundle([a_record(2)], number=2, sender=b"\2" * 16)
    for _ in range(3):  # they wait for what is on its way to disk
        end.ask(1, number=1, sender=b"\1" * 16)
        end.ask(2, number=2, sender=b"\2" * 16)
    assert len(answers(end.commit())) == 2
    assert [len(answers(end.tick(0.05))) for _ in range(3)] == [2, 2, 0]


def test_looking_up_what_is_asked_does_not_take_the_turn_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tiers.core.hop.questions._LOOKED_UP_MAX", 5)
    end = End()
    for number in range(1, 5):
        end.hello(number, f"edge-{number}", bytes([number]) * 16)
    end.bundle([a_record(1)], sender=b"\1" * 16)
    for number in range(1, 5):
        end.ask(1, 2, 3, number=number, sender=bytes([number]) * 16)
    assert len(answers(end.commit())) == 2
    assert len(answers(end.tick(0.05))) == 2


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
    monkeypatch.setattr("tiers.core.hop.receipts.OWED_MAX", 1)
    end = End(guarantee="end")
    end.hello()
    end.bundle([a_record(1), a_record(2)])
    end.commit()
    assert end.receiver.owed() == 1
    assert receipts(end.publish(1, 2)) == [1]


@pytest.mark.parametrize(
    ("carries", "named", "answerers"),
    [
        (True, ("edge-9",), ("edge-9",)),
        (False, ("edge-9",), ("edge-1", "edge-9")),
        (False, ("edge-1", "edge-9"), ("edge-1", "edge-9")),
        (False, (), ("edge-1",)),
        (True, (), ("edge-1",)),
    ],
)
def test_who_carries_nothing_of_others_answers_for_what_it_sends(
    carries: bool, named: tuple[str, ...], answerers: tuple[str, ...]
) -> None:
    end = End()
    end.receiver.handshake.carries = lambda agent: carries
    end.hello()
    carried = [Carried(a_record(1), False, tuple(Hop(name, 5) for name in named))]
    bundle = Bundle(session(1), EDGE, ME.channel, 1, carried)
    (batch,) = end.receiver.received(bundle, end.seen, end.now, end.now_ms).append
    assert tuple(hop.agent for hop in batch.hops) == answerers


def test_an_answer_tells_the_checksums_that_are_known() -> None:
    end = End()
    end.hello()
    end.bundle([a_record(1), a_record(2)])
    end.commit()
    known = {ids(1)[0]: Known(False, (7, 8)), ids(2)[0]: Known(False, ())}
    ask = Ask(session(1), EDGE, ME.channel, ids(1, 2, 3))
    effects = end.receiver.heard(b"edge-1", ask, lambda keys: known, end.now, 0)
    ((_, answer),) = effects.say
    assert isinstance(answer, Answer)
    assert list(zip(answer.held, answer.sums, strict=True)) == [
        (ids(1)[0], 7), (ids(1)[0], 8), (ids(2)[0], 0),
    ]  # fmt: skip
    assert answer.unknown == ids(3)
