"""Who publishes a flagged batch: each step by itself (all interleavings: tests/search)."""

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.batch import BatchId
from tiers.core.commit import calls, store_names
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claim import Claim, decode_claim, encode_claim
from tiers.core.commit.claims import CLAIMS_MAX, Outcome, Settlement, Step
from tiers.core.commit.manifest import Item, Manifest, encode, sealed_line
from tiers.core.commit.manifest_index import File, Manifests
from tiers.errors import StoreRefused

DAY = "2026-11-23"
A, B = BatchId(b"o" * 16, 7), BatchId(b"p" * 16, 9)
ON_A = {"tiers": "claim", "version": 1, "origin": A.origin.hex(), "seq": A.seq}
ME, OTHER = "me.o.1", "you.o.2"


def settlement(*batches: BatchId, waited: bool = False, day: str = DAY) -> Settlement:
    return Settlement(ME, day, batches or (A,), Manifests(ME), 1000, waited)


def claim_of(batch: BatchId, sink: str = OTHER) -> bytes:
    return encode_claim(Claim(sink, batch, 5))


def manifest_of(name: str, *batches: BatchId, day: str = DAY) -> bytes:
    sink, file_id = store_names.split_file_name(name) or ("", 0)
    items = [Item(batch, 1, True) for batch in batches]
    return encode(Manifest(sink, file_id, day, "a/b", "none", 3, items))


def claim(one: Settlement, number: int = 1) -> None:
    staged = one.call(number)
    assert isinstance(staged, calls.WriteSmall)
    one.answer(CallAnswer.DONE)
    assert one.call(0) == calls.Move(staged.path, store_names.claim_path(DAY, one._claiming[0]))
    one.answer(CallAnswer.DONE)


def look(one: Settlement, files: Sequence[tuple[str, bytes | None]] = ()) -> None:
    assert one.call(0) == calls.List(store_names.manifests_path(DAY))
    one.listed([(name, 0) for name, _ in files])
    for name, content in files:
        assert one.call(0) == calls.Read(store_names.manifest_path(DAY, name))
        one.content(content)


FILE = store_names.file_name(OTHER, 3)


def test_nobody_else_has_it() -> None:
    one = settlement(A, B)
    claim(one, 11)
    claim(one, 12)
    look(one)
    assert one.ended
    assert one.outcomes == {A: Outcome.MINE, B: Outcome.MINE}
    assert one.numbers == {A: 11, B: 12}


def test_a_claim_says_whose_it_is() -> None:
    assert decode_claim(encode_claim(Claim(ME, A, 2**64 - 1)), A) == Claim(ME, A, 2**64 - 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "checksum"),
        (claim_of(A)[:-1], "checksum"),
        (claim_of(B), "another batch"),
        (manifest_of(FILE, A), "not a claim"),
        (sealed_line(ON_A), "sink"),
        (sealed_line({**ON_A, "sink": "s", "number": "x"}), "number"),
        (sealed_line({**ON_A, "sink": "\ud800", "number": "5"}), "sink"),
    ],
)
def test_a_claim_that_cannot_be_read_stops_its_batch_only(content: bytes, why: str) -> None:
    with pytest.raises(StoreRefused, match=why):
        decode_claim(content, A)
    one = settlement(A, B)
    one.call(1)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.TARGET_THERE)
    assert one.call(0) == calls.Read(store_names.claim_path(DAY, A))
    one.content(content)
    claim(one)
    look(one)
    assert one.outcomes == {A: Outcome.STOPPED, B: Outcome.MINE}
    assert why in one.why[A] and "claims/" in one.why[A]


def test_what_another_has_claimed_is_parked() -> None:
    one = settlement()
    one.call(1)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.TARGET_THERE)
    one.content(claim_of(A))
    assert one.ended and one.outcomes == {A: Outcome.PARKED}
    assert OTHER in one.why[A]


def test_an_older_claim_of_mine_is_replaced() -> None:
    one = settlement()
    staged = one.call(6)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.TARGET_THERE)
    one.content(claim_of(A, ME))
    assert isinstance(staged, calls.WriteSmall)
    assert one.call(0) == calls.Replace(staged.path, store_names.claim_path(DAY, A))
    one.answer(CallAnswer.DONE)
    look(one)
    assert one.numbers == {A: 6} and not one.taken_over


def test_a_lost_claim_is_given_up_for_a_new_number() -> None:
    one = settlement()
    one.call(1)
    one.lost()
    one.call(2)
    one.answer(CallAnswer.DONE)
    one.lost()
    assert one.step is Step.STAGE
    one.call(3)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.NO_PARENT)
    assert one.call(0) == calls.MakeParents(store_names.claim_path(DAY, A))
    assert one.refused("no"), "it is called again"
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.TARGET_THERE)
    one.content(None)  # and gone again
    one.answer(CallAnswer.DONE)
    look(one)
    assert one.numbers == {A: 3}


def test_a_pending_file_is_fenced() -> None:
    one = settlement()
    claim(one)
    look(one, [(FILE, manifest_of(FILE, A)), (f"{ME}-0000000001", None)][:1])
    file = File(DAY, FILE)
    assert one.call(0) == calls.Exists(file.tmp)
    one.answer(CallAnswer.THERE)
    assert one.call(0) == calls.Move(file.tmp, file.void)
    one.answer(CallAnswer.NO_PARENT)
    assert one.call(0) == calls.MakeParents(file.void)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.TARGET_THERE)
    assert one.call(0) == calls.Replace(file.tmp, file.void)
    one.answer(CallAnswer.DONE)
    assert one.outcomes == {A: Outcome.MINE} and one.fenced == [file]
    again = Settlement(ME, DAY, (A,), one.manifests, 1000)
    claim(again)
    look(again)
    assert again.outcomes == {A: Outcome.MINE}, "what is void is not asked for again"


def test_a_void_file_does_not_count_and_a_published_one_drops() -> None:
    second = store_names.file_name(OTHER, 4)
    one = settlement(A, B)
    claim(one)
    claim(one)
    look(one, [(FILE, manifest_of(FILE, A, B)), (second, manifest_of(second, B))])
    one.answer(CallAnswer.ABSENT)
    assert one.call(0) == calls.Exists(File(DAY, FILE).void)
    one.answer(CallAnswer.THERE)
    one.answer(CallAnswer.ABSENT)
    one.answer(CallAnswer.ABSENT)
    assert one.call(0) == calls.Exists(File(DAY, second).manifest)
    one.answer(CallAnswer.THERE)
    assert one.outcomes == {A: Outcome.MINE, B: Outcome.PUBLISHED}
    assert set(one.numbers) == {A}
    again = Settlement(ME, DAY, (B,), one.manifests, 1000)
    claim(again)
    look(again)
    assert again.outcomes == {B: Outcome.PUBLISHED}, "what is published is not asked for again"


def test_a_manifest_that_went_with_its_day_does_not_count() -> None:
    one = settlement()
    claim(one)
    look(one, [(FILE, manifest_of(FILE, A))])
    for _ in range(3):
        one.answer(CallAnswer.ABSENT)
    assert one.outcomes == {A: Outcome.MINE}


@pytest.mark.parametrize("pending", [True, False])
def test_a_manifest_that_cannot_be_read_stops_what_it_may_concern(pending: bool) -> None:
    one = settlement()
    claim(one)
    look(one, [(FILE, manifest_of(FILE, A)[:-2])])
    if pending:
        one.answer(CallAnswer.THERE)
    else:
        one.answer(CallAnswer.ABSENT)
        one.answer(CallAnswer.ABSENT)
        one.answer(CallAnswer.THERE)
    assert one.outcomes == {A: Outcome.STOPPED}
    assert FILE in one.why[A]
    mended = Settlement(ME, DAY, (A,), one.manifests, 1000)
    claim(mended)
    look(mended, [(FILE, manifest_of(FILE, B))])
    assert mended.outcomes == {A: Outcome.MINE}


def test_a_manifest_that_cannot_be_read_and_is_void_does_not_count() -> None:
    one = settlement()
    claim(one)
    look(one, [(FILE, b"?")])
    one.answer(CallAnswer.ABSENT)
    one.answer(CallAnswer.THERE)
    assert one.outcomes == {A: Outcome.MINE}


def test_a_claim_that_may_not_be_read_stops_its_batch_only() -> None:
    one = settlement(A, B)
    one.call(1)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.TARGET_THERE)
    assert not one.refused("no")
    claim(one)
    look(one)
    assert one.outcomes == {A: Outcome.STOPPED, B: Outcome.MINE}
    assert one.why == {A: "no"}


def test_a_manifest_that_may_not_be_read_stops_what_it_may_concern() -> None:
    one = settlement(A, B)
    claim(one)
    claim(one)
    one.listed([(FILE, 0)])
    assert not one.refused("no")
    for answer in (CallAnswer.ABSENT, CallAnswer.ABSENT, CallAnswer.THERE):
        one.answer(answer)
    assert one.outcomes == {A: Outcome.STOPPED, B: Outcome.STOPPED} and one.why[A] == "no"


@pytest.mark.parametrize("asked", [(), (CallAnswer.ABSENT,), (CallAnswer.THERE,)])
def test_a_file_that_may_not_be_asked_about_or_fenced_stops_its_batches_only(
    asked: Sequence[CallAnswer],
) -> None:
    one = settlement(A, B)
    claim(one)
    claim(one)
    look(one, [(FILE, manifest_of(FILE, A))])
    for answer in asked:
        one.answer(answer)
    assert not one.refused("no")
    assert one.outcomes == {A: Outcome.STOPPED, B: Outcome.MINE}
    assert set(one.numbers) == {B}


def wait(ages: Sequence[tuple[BatchId, int]]) -> Settlement:
    """Two batches were parked; their claims were moved there at these times, at 2000 now."""
    one = settlement(A, B, waited=True)
    look(one, [(FILE, manifest_of(FILE, A))])
    one.answer(CallAnswer.THERE)  # pending, and not fenced: the claim is another's
    assert one.call(0) == calls.ReadClock()
    one.lost()
    one.clock(2000)
    assert one.call(0) == calls.List(store_names.claims_path(DAY))
    one.listed([(store_names.claim_name(batch), at_ms) for batch, at_ms in ages])
    return one


def test_parked_batches_wait_while_their_claims_are_young() -> None:
    one = wait([(A, 1500), (B, 1001)])
    assert one.ended and one.outcomes == {A: Outcome.PARKED, B: Outcome.PARKED}


def test_an_old_claim_is_taken_over_and_its_file_fenced() -> None:
    one = wait([(A, 1000), (B, 1900)])
    staged = one.call(8)
    assert isinstance(staged, calls.WriteSmall)
    one.answer(CallAnswer.DONE)
    assert one.call(0) == calls.Replace(staged.path, store_names.claim_path(DAY, A))
    one.answer(CallAnswer.SOURCE_GONE)
    one.call(9)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.DONE)
    look(one)
    one.answer(CallAnswer.THERE)
    one.answer(CallAnswer.DONE)
    assert one.outcomes == {A: Outcome.MINE, B: Outcome.PARKED}
    assert one.taken_over == [A] and one.numbers == {A: 9} and len(one.fenced) == 1


def test_a_parked_batch_whose_claim_is_gone_is_claimed_at_once() -> None:
    """With its day, or by hand: there is nobody to wait for any more."""
    one = wait([(A, 1999)])
    assert one.outcomes == {A: Outcome.PARKED}
    staged = one.call(8)
    assert isinstance(staged, calls.WriteSmall)
    one.answer(CallAnswer.DONE)
    assert one.call(0) == calls.Replace(staged.path, store_names.claim_path(DAY, B))
    one.answer(CallAnswer.DONE)
    look(one)
    assert one.outcomes == {A: Outcome.PARKED, B: Outcome.MINE}


def test_an_old_claim_that_may_not_be_replaced_stops_its_batch_only() -> None:
    one = wait([(A, 1000), (B, 1000)])
    one.answer(CallAnswer.DONE)
    assert not one.refused("no")
    one.call(8)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.DONE)
    look(one)
    assert one.outcomes == {A: Outcome.STOPPED, B: Outcome.MINE} and one.taken_over == [B]


def test_no_more_are_settled_in_one_go_than_can_be_claimed_in_time() -> None:
    many = [BatchId(b"o" * 16, seq) for seq in range(CLAIMS_MAX + 1)]
    assert not settlement(*many[1:]).ended
    with pytest.raises(AssertionError, match=str(CLAIMS_MAX + 1)):
        settlement(*many)


def test_in_a_later_generation_the_earlier_ones_are_looked_at() -> None:
    one = settlement(day=f"{DAY}.1")
    one.call(1)
    one.answer(CallAnswer.DONE)
    one.answer(CallAnswer.DONE)
    assert one.call(0) == calls.List(store_names.manifests_path(DAY))
    one.listed([])
    assert one.call(0) == calls.List(store_names.manifests_path(f"{DAY}.1"))
    one.listed([])
    assert one.outcomes == {A: Outcome.MINE}
    with pytest.raises(AssertionError, match="no call"):
        one._asking = [File(DAY, FILE)]
        one.call(0)


def test_generations() -> None:
    assert store_names.is_later_generation(f"{DAY}.1") and not store_names.is_later_generation(DAY)
    assert store_names.generations(f"{DAY}.2") == [DAY, f"{DAY}.1", f"{DAY}.2"]
    assert store_names.open_generation(DAY, {DAY, f"{DAY}.1"}) == f"{DAY}.2"
    assert store_names.closed_path(DAY) == f".tiers/closed/{DAY}"
    assert store_names.trash_path(DAY, 1) == f".tiers/trash/{DAY}-0000000000000001"
    assert store_names.staged_mark_path(1) == ".tiers/tmp/closed-0000000000000001.small"


def test_own_manifests_are_left_out_and_a_forgotten_day_is_forgotten() -> None:
    manifests = Manifests(ME)
    assert manifests.unread(DAY, [f"{ME}-0000000001"]) == []
    (file,) = manifests.unread(DAY, [FILE])
    manifests.read(file, manifest_of(FILE, A, day="2026-11-24"))
    assert "another file" in manifests.unreadable[file]
    manifests.read(file, None)
    assert not manifests.unreadable
    manifests.read(file, manifest_of(FILE, A))
    manifests.published.add(file)
    assert manifests.holding([A, B], [DAY]) == [file]
    assert not manifests.holding([B], [DAY]) and not manifests.holding([A], [f"{DAY}.1"])
    assert manifests.days() == {DAY}
    manifests.forget(DAY)
    assert not manifests.days() and not manifests.published


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_a_file_is_found_by_any_of_its_batches(here: set[int], sought: set[int]) -> None:
    manifests, file = Manifests(ME), File(DAY, FILE)
    ids = [BatchId(b"o" * 16, seq) for seq in sorted(here)]
    manifests.read(file, manifest_of(FILE, *ids))
    wanted = [BatchId(b"o" * 16, seq) for seq in sought] + [BatchId(b"n" * 16, 1)]
    assert manifests.holding(wanted, [DAY]) == [file] * bool(here & sought)
    assert {one.seq for one in wanted if manifests.has(file, one)} == here & sought


def test_little_is_kept_of_batches_that_went_to_sinks_by_turns() -> None:
    count, manifests = 10_000, Manifests(ME)
    content = manifest_of(FILE, *(BatchId(b"o" * 16, seq) for seq in range(0, 2 * count, 2)))
    tracemalloc.start()
    manifests.read(File(DAY, FILE), content)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 30 * count, f"{kept / count} bytes for each batch"


def test_a_day_that_is_forgotten_while_it_is_asked_about_does_not_count() -> None:
    one = settlement()
    claim(one)
    look(one, [(FILE, manifest_of(FILE, A))])
    one.answer(CallAnswer.ABSENT)
    one.answer(CallAnswer.ABSENT)
    one.manifests.forget(DAY)
    one.answer(CallAnswer.THERE)
    assert one.outcomes == {A: Outcome.MINE}


def test_what_is_there_but_no_file_is_no_claim() -> None:
    """A directory: nothing can be moved there, and there is nothing to be read."""
    one = settlement(A, B)
    one.call(1)
    one.answer(CallAnswer.DONE)
    for _ in range(2):
        assert one.step is Step.CLAIM
        one.answer(CallAnswer.TARGET_THERE)
        one.content(None)
    claim(one)
    look(one)
    assert one.outcomes == {A: Outcome.STOPPED, B: Outcome.MINE}
    assert store_names.claim_path(DAY, A) in one.why[A]


def test_a_claim_from_the_future_does_not_wait_for_it() -> None:
    """The store's clock was ahead, and was put right."""
    one = wait([(A, 3000), (B, 2999)])
    assert one.step is Step.STAGE and one.outcomes == {B: Outcome.PARKED}


@pytest.mark.parametrize(
    ("sink", "number", "good"),
    [
        ("x", "f", True),
        ("x" * 256, "f" * 256, True),
        ("x" * 257, "f", False),
        ("x", "f" * 257, False),
        ("", "f", False),
        ("x", "", False),
        ("x", 15, False),
        (None, "f", False),
    ],
)
def test_what_a_claim_names_is_short(sink: object, number: object, good: bool) -> None:
    line = sealed_line({**ON_A, "sink": sink, "number": number})
    if good:
        assert decode_claim(line, A) == Claim(str(sink), A, int(str(number), 16))
    else:
        with pytest.raises(StoreRefused, match="without a sink or a number"):
            decode_claim(line, A)
