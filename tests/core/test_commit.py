"""The publish protocol: its table, its calls, and the record of a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.batch import BatchId
from tiers.core.change import Bad
from tiers.core.commit import calls, store_names
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claim import Claim, encode_claim
from tiers.core.commit.filing import Ref
from tiers.core.commit.manifest import decode
from tiers.core.commit.planned import Plan, decode_plan, encode_plan
from tiers.core.commit.publication import (
    ENDS,
    TABLE,
    Abandon,
    KeepPlan,
    Publication,
    Release,
    State,
    Write,
)
from tiers.errors import ChannelDamaged

DAY = "2026-11-23"
ORIGIN = b"o" * 16
REFS = (
    Ref(4, BatchId(ORIGIN, 7), 10, False, 100, 0.0),
    Ref(5, BatchId(ORIGIN, 9), 1, True, 9, 0.0),
)


def plan(file_id: int = 1) -> Plan:
    name = store_names.file_name("s.o.1", file_id)
    numbers = {REFS[1].id: 77}
    return Plan("s.o.1", file_id, DAY, f"web/{name}.log", "none", REFS, (4, 5), numbers=numbers)


def check(publication: Publication, *found: tuple[Ref, bytes | None]) -> None:
    """Lets the check find these claims."""
    assert publication.call(1) == calls.List(f".tiers/{DAY}/claims")
    publication.listed([(store_names.claim_name(ref.id), 0) for ref, _ in found])
    for ref, content in found:
        assert publication.call(1) == calls.Read(store_names.claim_path(DAY, ref.id))
        publication.content(content)


def claim(ref: Ref, sink: str = "s.o.1", number: int = 77) -> bytes:
    return encode_claim(Claim(sink, ref.id, number))


# --- the straight way, and each call -----------------------------------------------------------


def test_the_straight_way() -> None:
    publication = Publication(plan())
    tmp = f".tiers/{DAY}/tmp/s.o.1-0000000001"
    manifest = f".tiers/{DAY}/manifests/s.o.1-0000000001"
    assert publication.call(1) == KeepPlan(plan())
    publication.answer(CallAnswer.DONE)
    assert publication.call(2) == Write(plan(), tmp)
    publication.written(1234)
    staged = publication.call(0xABC)
    assert isinstance(staged, calls.WriteSmall)
    assert staged.path == f".tiers/{DAY}/tmp/s.o.1-0000000000000abc.small"
    publication.answer(CallAnswer.DONE)
    assert publication.call(4) == calls.Move(staged.path, manifest)
    publication.answer(CallAnswer.DONE)
    check(publication, (REFS[1], claim(REFS[1])))
    assert publication.call(5) == calls.Exists(f".tiers/closed/{DAY}")
    publication.answer(CallAnswer.ABSENT)
    assert publication.call(5) == calls.Move(tmp, "web/s.o.1-0000000001.log")
    publication.answer(CallAnswer.DONE)
    assert publication.call(6) == Release(plan())
    publication.answer(CallAnswer.DONE)
    assert publication.ended
    assert publication.state is State.PUBLISHED

    said = decode(staged.content)
    assert (said.sink, said.file_id, said.day, said.path) == ("s.o.1", 1, DAY, plan().path)
    assert (said.codec, said.size_bytes) == ("none", 1234)
    assert [(i.id.seq, i.events, i.flagged) for i in said.items] == [(7, 10, False), (9, 1, True)]


@pytest.mark.parametrize("state", [State.INTEND, State.PUBLISH])
def test_a_missing_directory_is_made_and_the_move_made_again(state: State) -> None:
    publication = Publication(plan(), state)
    move = publication.call(1)
    assert isinstance(move, calls.Move)
    publication.answer(CallAnswer.NO_PARENT)
    assert publication.call(1) == calls.MakeParents(move.target)
    publication.answer(CallAnswer.LOST)
    publication.answer(CallAnswer.DONE)
    assert publication.call(1) == move


def test_what_became_is_asked_tmp_first_then_void_then_manifest() -> None:
    publication = Publication.found(plan())
    asked = []
    for _ in range(3):
        call = publication.call(1)
        assert isinstance(call, calls.Exists)
        asked.append(call.path.split("/")[2])
        publication.answer(CallAnswer.ABSENT)
    assert asked == ["tmp", "void", "manifests"]
    assert publication.call(1) == Abandon(plan())
    publication.answer(CallAnswer.DONE)
    assert publication.state is State.AGAIN


def test_a_voided_file_is_emptied() -> None:
    publication = Publication.found(plan())
    publication.answer(CallAnswer.THERE)
    void = f".tiers/{DAY}/void/s.o.1-0000000001"
    tmp = f".tiers/{DAY}/tmp/s.o.1-0000000001"
    assert publication.call(1) == calls.Move(tmp, void)
    publication.answer(CallAnswer.NO_PARENT)
    assert publication.call(1) == calls.MakeParents(void)
    publication.answer(CallAnswer.DONE)
    publication.answer(CallAnswer.TARGET_THERE)
    assert publication.call(1) == calls.Replace(tmp, void)
    publication.answer(CallAnswer.DONE)
    staged = publication.call(9)
    assert isinstance(staged, calls.WriteSmall) and staged.content == b""
    publication.answer(CallAnswer.DONE)
    assert publication.call(10) == calls.Replace(staged.path, void)
    publication.answer(CallAnswer.LOST)
    assert isinstance(publication.call(1), Abandon)


def test_a_damaged_batch_leaves_with_the_file() -> None:
    publication = Publication(plan(), State.WRITE)
    publication.met([Bad(5, "checksum", whole=False)])
    assert publication.state is State.ASK_TMP
    publication.state = State.ABANDON
    assert publication.call(1) == Abandon(plan(), (Bad(5, "checksum", whole=False),))


def test_an_answer_that_cannot_be_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="no answer"):
        Publication(plan()).answer(CallAnswer.THERE)
    assert Publication(plan(), State.AGAIN).ended
    with pytest.raises(AssertionError, match="has no call"):
        Publication(plan(), State.AGAIN).call(1)


@pytest.mark.parametrize(
    ("found", "yielded"),
    [
        ((), {5}),  # a flagged batch without my claim
        (((REFS[1], None),), {5}),
        (((REFS[1], claim(REFS[1], number=78)),), {5}),  # one of mine, but an older one
        (((REFS[1], claim(REFS[1], sink="t.o.1")),), {5}),
        (((REFS[0], claim(REFS[0])), (REFS[1], claim(REFS[1]))), {4}),  # claimed and not flagged
    ],
)
def test_a_file_yields_to_claims_that_are_not_its_own(
    found: tuple[tuple[Ref, bytes | None], ...], yielded: set[int]
) -> None:
    publication = Publication(plan(), State.CHECK_CLAIMS)
    check(publication, *found)
    assert publication.state is State.VOID
    assert set(publication.yielded) == yielded
    publication.state = State.ABANDON
    assert publication.call(1) == Abandon(plan(), (), tuple(yielded))


@pytest.mark.parametrize("content", [b"", claim(REFS[0]), claim(REFS[1])[:-3]])
def test_a_claim_that_cannot_be_read_stops_its_batch(content: bytes) -> None:
    publication = Publication(plan(), State.CHECK_CLAIMS)
    check(publication, (REFS[1], content))
    assert publication.state is State.VOID
    assert set(publication.stopped) == {5} and not publication.yielded
    assert "claims/" in publication.stopped[5]


def test_a_file_yields_to_the_end_of_its_day() -> None:
    publication = Publication(plan(), State.CHECK_CLOSED)
    publication.answer(CallAnswer.THERE)
    assert publication.closed and publication.state is State.VOID


STORE_STATES = [s for s in State if s not in ENDS and not s.name.startswith(("PLAN", "REL", "ABA"))]


@pytest.mark.parametrize("state", STORE_STATES)
def test_every_store_call_may_be_lost_or_refused(state: State) -> None:
    assert (state, CallAnswer.LOST) in TABLE
    assert (state, CallAnswer.REFUSED) in TABLE or state is State.CHECK_CLAIM


def test_no_other_call_is_refused_and_an_end_is_one() -> None:
    refused = {state for state, answer in TABLE if answer is CallAnswer.REFUSED}
    assert refused == set(STORE_STATES) - {State.CHECK_CLAIM}
    assert not {state for state, _ in TABLE} & ENDS


def test_a_claim_that_may_not_be_read_stops_its_batch() -> None:
    publication = Publication(plan(), State.CHECK_CLAIMS)
    publication.listed([(store_names.claim_name(ref.id), 0) for ref in REFS[:2]])
    assert not publication.refused("no"), "nobody is waited for"
    publication.content(claim(REFS[1]))
    assert publication.state is State.VOID
    assert publication.stopped == {REFS[0].position: "no"}
    assert publication.refused("no") and publication.state is State.VOID


# --- a plan's record ---------------------------------------------------------------------------


@given(
    st.sets(st.integers(1, 2**40), max_size=50),
    st.integers(1, store_names.FILE_ID_MAX),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)
def test_a_plan_is_read_back(positions: set[int], file_id: int, events: int, flagged: int) -> None:
    one = Plan(
        "s",
        file_id,
        DAY,
        "a/b.log",
        "gzip",
        (),
        sorted(positions),
        events,
        flagged,
        format="events",
    )
    assert decode_plan(file_id, encode_plan(one)) == one


def test_runs_of_positions_are_short() -> None:
    one = Plan("s", 1, DAY, "a", "gzip", (), range(10**9, 10**9 + 16384))
    assert len(encode_plan(one)) < 50


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x01", b"\x98\x02\xa1s\xa1d\xa1p\xa1c\x00\x00\x90", b"\xff"]
)
def test_a_strange_plan_condemns_the_channel(data: bytes) -> None:
    with pytest.raises(ChannelDamaged, match="file 3"):
        decode_plan(3, data)


def test_the_last_claim_that_may_not_be_read_ends_the_check() -> None:
    publication = Publication(plan(), State.CHECK_CLAIMS)
    publication.listed([(store_names.claim_name(REFS[0].id), 0)])
    assert not publication.refused("no")
    assert publication.state is State.VOID
