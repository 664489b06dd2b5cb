"""Which batches share a file, and when it is due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.batch import BatchId
from tiers.core.commit import store_names
from tiers.core.commit.filing import Bucket, FileDraft, Filing, Ref, cut

A, B = Bucket("2026-11-23", "a"), Bucket("2026-11-23", "b")


def ref(position: int, size: int = 10, came_s: float = 0.0) -> Ref:
    return Ref(position, BatchId(b"o" * 16, position), 1, False, size, came_s)


def positions(draft: FileDraft | None) -> list[int]:
    assert draft is not None
    return [one.position for one in draft.refs]


def test_nothing_is_due_before_its_time() -> None:
    filing = Filing(100, 60.0)
    assert filing.take(0.0) is None
    assert filing.next_due_s() is None
    filing.add(A, ref(1, came_s=5.0))
    assert filing.next_due_s() == 65.0
    assert filing.take(64.9) is None
    assert positions(filing.take(65.0)) == [1]
    assert filing.held == 0
    assert filing.take(1e9) is None


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 5))
def test_a_cut_draft_begins_with_no_more_flagged_than_asked(flags: list[bool], most: int) -> None:
    refs = [ref(n)._replace(flagged=flagged) for n, flagged in enumerate(flags)]
    first, rest = cut(FileDraft(A, refs, 0.0), most)
    assert [*first.refs, *rest] == refs
    assert sum(one.flagged for one in first.refs) == min(most, sum(flags))
    assert not rest or rest[0].flagged


def test_due_by_size_and_by_number() -> None:
    filing = Filing(100, 60.0, batches_max=3)
    for position in range(1, 11):
        filing.add(A, ref(position, size=40))
        filing.add(B, ref(100 + position, size=1))
    drafts = []
    while (draft := filing.take(0.0)) is not None:
        drafts.append((draft.bucket.directory, positions(draft)))
    assert drafts == [
        (directory, [first + base for first in run])
        for run in ([1, 2, 3], [4, 5, 6], [7, 8, 9])
        for directory, base in (("a", 0), ("b", 100))
    ]
    assert filing.held == 2


def test_the_one_that_waited_longest_comes_first() -> None:
    filing = Filing(100, 10.0)
    filing.add(A, ref(1, came_s=3.0))
    filing.add(B, ref(2, came_s=2.0))
    filing.add(A, ref(3, came_s=1.0))  # came back from a file that was voided
    assert filing.next_due_s() == 11.0
    assert positions(filing.take(20.0)) == [1, 3]
    assert positions(filing.take(20.0)) == [2]


def test_a_new_draft_of_the_same_bucket_has_its_own_age() -> None:
    filing = Filing(20, 10.0)
    filing.add(A, ref(1, came_s=1.0))
    filing.add(A, ref(2, came_s=1.0))  # full
    filing.add(A, ref(3, came_s=8.0))
    assert positions(filing.take(8.0)) == [1, 2]
    assert filing.next_due_s() == 18.0


def test_a_flood_in_one_bucket_does_not_hold_up_another() -> None:
    filing = Filing(20, 10.0)
    filing.add(B, ref(100, came_s=4.0))
    for position in range(1, 7):
        filing.add(A, ref(position, came_s=float(position)))
    assert [positions(filing.take(30.0)) for _ in range(4)] == [[1, 2], [3, 4], [100], [5, 6]]


def test_hastened_the_largest_goes() -> None:
    filing = Filing(100, 10.0)
    filing.add(A, ref(1, size=5))
    filing.add(B, ref(2, size=50))
    assert filing.take(0.0) is None
    assert positions(filing.take(0.0, hasten=True)) == [2]
    assert positions(filing.take(0.0, hasten=True)) == [1]
    assert filing.take(0.0, hasten=True) is None


def test_a_shorter_wait_applies_at_once() -> None:
    filing = Filing(100, 3600.0)
    filing.add(A, ref(1))
    filing.roll_after_s = 0.5
    assert positions(filing.take(0.5)) == [1]


@given(
    st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 60), st.floats(0, 100))),
    st.lists(st.tuples(st.floats(0, 200), st.booleans())),
)
def test_each_batch_leaves_once_in_its_bucket(
    batches: list[tuple[Bucket, int, float]], takes: list[tuple[float, bool]]
) -> None:
    filing = Filing(100, 10.0, batches_max=4)
    bucket_of = {}
    for position, (bucket, size, came_s) in enumerate(batches, 1):
        filing.add(bucket, ref(position, size, came_s))
        bucket_of[position] = bucket
    drafts = [filing.take(now, hasten=hasten) for now, hasten in takes]
    while filing.held:
        drafts.append(filing.take(0.0, hasten=True))
    gone = [(d.bucket, one.position) for d in drafts if d is not None for one in d.refs]
    assert sorted(position for _, position in gone) == list(bucket_of)
    assert all(bucket_of[position] == bucket for bucket, position in gone)
    for draft in drafts:
        if draft is not None:
            assert positions(draft) == sorted(positions(draft))
            assert len(draft.refs) <= 4
            assert sum(one.size_bytes for one in draft.refs[:-1]) < 160


# --- names in the store ------------------------------------------------------------------------


def test_names() -> None:
    sink = store_names.sink_name("agg-1", "out/er", bytes(range(16)))
    assert sink == "agg-1.out%2Fer.0001020304050607"
    assert store_names.file_name(sink, 42) == f"{sink}-0000000042"
    assert store_names.split_file_name(f"{sink}-0000000042") == (sink, 42)
    last = store_names.file_name(sink, store_names.FILE_ID_MAX)
    assert store_names.split_file_name(last) == (sink, store_names.FILE_ID_MAX)
    assert store_names.split_file_name(f"{sink}-{store_names.FILE_ID_MAX + 1}") is None
    assert store_names.manifest_path("2026-11-23", "n") == ".tiers/2026-11-23/manifests/n"
    assert store_names.staged_store_id_path(1) == ".tiers/tmp/store-id-0000000000000001.small"


@pytest.mark.parametrize("name", ["x", "x-1", "x-00000000001.small", "-0000000001", "x-000000000a"])
def test_other_names_are_no_file_names(name: str) -> None:
    assert store_names.split_file_name(name) is None


def test_a_staged_name_never_counts_as_a_files_tmp() -> None:
    staged = store_names.small_path("2026-11-23", "s.o.1", 2**64 - 1)
    assert store_names.split_file_name(staged.rpartition("/")[2]) is None


@pytest.mark.parametrize(
    ("name", "answer"),
    [("2026-11-23", True), ("2026-11-23.1", True), ("2026-11-23.", False), ("tmp", False)],
)
def test_days(name: str, answer: bool) -> None:
    assert store_names.is_day(name) is answer


def test_flagged_ones_have_files_of_their_own() -> None:
    """What they wait for, a claim or a person, holds up no others."""
    filing = Filing(1000, 10.0, batches_max=2)
    for position in range(1, 9):
        filing.add(A, ref(position)._replace(flagged=position % 3 == 0))
    drafts = []
    while draft := filing.take(20.0):
        drafts.append([(one.position, one.flagged) for one in draft.refs])
    assert all(len({flagged for _, flagged in draft}) == 1 for draft in drafts)
    assert sorted(position for draft in drafts for position, _ in draft) == list(range(1, 9))


def from_agent(agent: str, position: int, came_s: float = 0.0) -> Ref:
    return ref(position, came_s=came_s)._replace(agent=agent)


def test_one_with_thousands_of_buckets_takes_one_turn_of_two() -> None:
    filing = Filing(1000, 10.0)
    for number in range(2000):
        filing.add(Bucket("2026-11-23", f"flood {number}"), from_agent("flood", number + 1))
    filing.add(A, from_agent("edge-1", 5000, came_s=5.0))
    assert filing.open_of == {"flood": 2000, "edge-1": 1}
    taken = [filing.take(20.0) for _ in range(2)]
    assert A in [draft.bucket for draft in taken if draft]
    assert (filing.held_of["edge-1"], filing.held_of["flood"]) == (0, 1999)


def test_one_that_joins_a_file_that_is_due_has_its_turn_there() -> None:
    filing = Filing(1000, 10.0)
    for number in range(50):
        filing.add(Bucket("2026-11-23", f"flood {number}"), from_agent("flood", number + 1))
    assert filing.take(10.0) is not None  # all are due
    joined = Bucket("2026-11-23", "flood 40")
    filing.add(joined, from_agent("edge-1", 100, came_s=10.0))
    assert joined in [draft.bucket for draft in (filing.take(10.0), filing.take(10.0)) if draft]


def test_files_of_those_are_hastened() -> None:
    filing = Filing(1000, 10.0)
    filing.add(A, ref(1, size=500)._replace(agent="edge-1"))
    filing.add(B, ref(2, size=5)._replace(agent="flood"))
    assert filing.take(0.0, hasten=True, of=("nobody",)) is None
    assert positions(filing.take(0.0, hasten=True, of=("flood", "nobody"))) == [2]
    assert filing.take(0.0, hasten=True, of=("flood",)) is None
