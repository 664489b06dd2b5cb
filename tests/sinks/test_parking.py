"""Parked batches: when they are looked at again, and how many in one go."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tiers.core.batch import BatchId
from tiers.core.commit.filing import Bucket, Ref
from tiers.sinks.files.parking import ParkedGroup, Parking

BUCKET = Bucket("2026-11-23", "a")
OTHERS, STOPPED = ParkedGroup(BUCKET, False), ParkedGroup(BUCKET, True)


def refs(*positions: int, came_s: float = 0.0) -> list[tuple[Ref, str]]:
    return [(Ref(n, BatchId(b"o" * 16, n), 1, False, 10, came_s), "a reason") for n in positions]


def positions(parking: Parking, now_s: float) -> list[int]:
    taken = parking.take(now_s)
    assert taken is not None
    return [ref.position for ref in taken[0].refs]


def test_what_is_new_is_looked_at_soon_and_what_is_old_seldom() -> None:
    parking = Parking(again_s_max=30.0, group_max=10)
    assert parking.next_due_s() is None and parking.take(1e9) is None
    parking.add(OTHERS, refs(1, came_s=99.9), 100.0)
    assert parking.next_due_s() == 100.25
    parking.add(STOPPED, refs(2, came_s=0.0), 100.0)
    assert parking.take(100.2) is None
    draft, waited = parking.take(100.25) or (None, False)
    assert draft and waited and draft.refs[0].flagged and draft.oldest_s == 99.9
    assert parking.next_due_s() == 130.0
    draft, waited = parking.take(130.0) or (None, True)
    assert draft and not waited and parking.held == 0


def test_those_of_a_place_are_looked_at_together() -> None:
    parking = Parking(again_s_max=30.0, group_max=10)
    parking.add(OTHERS, refs(3, 1), 100.0)
    parking.add(OTHERS, refs(2), 110.0)
    assert positions(parking, 130.0) == [1, 2, 3]


def test_of_many_so_many_in_one_go_and_none_waits_for_another_turn() -> None:
    parking = Parking(again_s_max=30.0, group_max=2)
    parking.add(OTHERS, refs(1, 2, 3, 4, 5), 100.0)
    assert (parking.held, parking.parked()) == (5, 5)
    assert [positions(parking, 130.0) for _ in range(2)] == [[1, 2], [3, 4]]
    parking.add(OTHERS, refs(1), 130.0)
    assert positions(parking, 130.0) == [5]
    assert parking.take(130.0) is None, "what was looked at waits"
    assert positions(parking, 160.0) == [1]


def test_reasons_are_told_once() -> None:
    parking = Parking(again_s_max=30.0, group_max=2)
    parking.add(STOPPED, refs(1, 2, 3), 0.0)
    parking.add(OTHERS, refs(4), 0.0)
    assert parking.stopped() == [{"what": "3 flagged batches", "why": "a reason"}]
    assert parking.parked() == 1


STEPS = st.tuples(st.booleans(), st.floats(0, 20), st.lists(st.integers(1, 9), max_size=5))


@given(st.lists(STEPS, max_size=20))
def test_nothing_is_lost_or_held_twice(steps: Sequence[tuple[bool, float, list[int]]]) -> None:
    parking, now_s, inside = Parking(again_s_max=4.0, group_max=2), 0.0, set[int]()
    for take, came_s, numbers in steps:
        now_s += 1
        if take and (taken := parking.take(now_s)):
            inside -= {ref.position for ref in taken[0].refs}
        new = {n for n in numbers if n not in inside}
        parking.add(OTHERS, refs(*new, came_s=came_s), now_s)
        inside |= new
        assert parking.held == parking.parked() == len(inside)
    while taken := parking.take(1e9):
        inside -= {ref.position for ref in taken[0].refs}
    assert not inside and parking.held == 0 and parking.next_due_s() is None
