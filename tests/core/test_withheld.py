"""What an output was not to have: sets of numbers, and their bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.dedupe import BLOCK_SEQS
from tiers.core.runs import runs_of
from tiers.core.withheld import Withheld, decode, encode, runs_in

numbers = st.sets(
    st.one_of(st.integers(0, 70), st.integers(BLOCK_SEQS - 70, BLOCK_SEQS - 1)), max_size=60
)


def of(skipped: set[int], dropped: set[int], at_ms: int = 7) -> Withheld:
    found = Withheld()
    for seq in skipped:
        found = found.skipping(seq, at_ms)
    for seq in dropped:
        found = found.dropping(seq + BLOCK_SEQS, at_ms)
    return found


@given(numbers, numbers, st.integers(0, 2**64 - 1))
def test_what_is_written_reads_back(skipped: set[int], dropped: set[int], at_ms: int) -> None:
    withheld = of(skipped, dropped, at_ms)
    assert decode(encode(withheld)) == withheld
    assert len(encode(withheld)) <= 8 + 2 * (3 + BLOCK_SEQS // 8)


@given(numbers, st.integers(0, 2**40))
def test_runs_are_the_numbers_of_the_block(some: set[int], block: int) -> None:
    first = block * BLOCK_SEQS
    assert runs_in(of(some, set()).skipped, block) == runs_of(first + seq for seq in some)


@given(numbers, numbers, numbers, numbers)
def test_joined_is_what_either_knows(a: set[int], b: set[int], c: set[int], d: set[int]) -> None:
    assert of(a, b, 5).joined(of(c, d, 9)) == of(a | c, b | d, 9 if c or d else 5 * bool(a or b))


def test_the_time_is_that_of_the_last_and_never_goes_back() -> None:
    assert Withheld().skipping(1, 9).dropping(2, 5).at_ms == 9


@given(st.binary(max_size=40))
def test_any_bytes_are_some_or_refused(data: bytes) -> None:
    try:
        found = decode(data)
    except ValueError:
        return
    assert decode(encode(found)) == found


@pytest.mark.parametrize("data", [b"", bytes(8), bytes(9), bytes(11), bytes(8) + b"\x02\xff\xff"])
def test_what_is_too_short_or_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"withheld|set"):
        decode(data)
