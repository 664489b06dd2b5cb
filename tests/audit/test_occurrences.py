"""Batches of one origin in files, against sets of them."""

from hypothesis import given
from hypothesis import strategies as st

from tiers.audit.occurrences import Copies
from tiers.core.runs import runs_of

FILES = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), max_size=5)


@given(FILES, st.integers(0, 32))
def test_what_is_published_and_doubled_and_where(files: list[list[int]], seq: int) -> None:
    copies = Copies()
    for number, seqs in enumerate(files):
        copies.add(seqs, len(seqs), number)
    every = [one for seqs in files for one in seqs]
    doubled = runs_of(one for one in every if every.count(one) > 1)
    assert copies.events == len(every)
    assert copies.published() == runs_of(every)
    assert copies.doubled() == doubled
    twice = {one for one in every if every.count(one) > 1}
    assert copies.files_with(doubled) == [n for n, seqs in enumerate(files) if twice & {*seqs}]
    if seq in every:
        return
    before, after = copies.file_before(seq), copies.file_after(seq)
    lower, higher = [n for n in every if n < seq], [n for n in every if n > seq]
    assert (before is None) == (not lower) and (after is None) == (not higher)
    if before is not None and max(lower) not in twice and not twice:
        assert max(lower) in files[before]
    if after is not None:
        assert min(higher) in files[after]
