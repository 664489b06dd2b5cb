"""When a batch is cut: each rule, and that whatever comes leaves whole and in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.block import Block
from tiers.core.entry.cutting import Cut, CutSet, Cutter, CuttingRules

WEB, DB = {"service": "web"}, {"service": "db"}
HOUR_MS = 3_600_000
RULES = CuttingRules(
    size_bytes=100, grown_bytes_max=250, set_bytes_max=400, open_max=4,
    linger_s=0.02, time_bucket_s=3600.0,
)  # fmt: skip


def content(cuts: CutSet) -> list[bytes]:
    """Of each batch."""
    return [b"".join(cut.blocks) for cut in cuts.cuts]


def add(
    cutter: Cutter,
    block: bytes,
    now: float = 0.0,
    headers: dict[str, str] = WEB,
    time_ms: int = 0,
    under_way: int = 0,
) -> list[bytes]:
    """Of sets that have one batch each."""
    sets = cutter.add(
        [Block(block, block.count(b"\n"), headers, time_ms)], {}, now, under_way=under_way
    )
    assert all(len(cuts.cuts) == 1 for cuts in sets)
    return [each for cuts in sets for each in content(cuts)]


def due(cutter: Cutter, now: float, under_way: int = 0) -> list[bytes]:
    """Of the set that is, if one is."""
    cuts = cutter.due(now, under_way=under_way)
    return [] if cuts is None else content(cuts)


def test_buckets_are_aligned_to_utc() -> None:
    assert RULES.bucket(0) == RULES.bucket(HOUR_MS - 1) == 0
    assert RULES.bucket(HOUR_MS) == HOUR_MS
    assert CuttingRules(time_bucket_s=86400.0).bucket(3 * 86_400_000 + 5) == 3 * 86_400_000
    assert RULES.bucket(-1) == -HOUR_MS


def test_the_first_event_after_a_pause_goes_at_once() -> None:
    cutter = Cutter(RULES)
    assert add(cutter, b"a\n", now=5.0) == []
    cuts = cutter.due(5.0, under_way=0)
    assert cuts == CutSet([Cut(WEB, 0, [b"a\n"], 1, 2)], 2)
    assert cuts.count == 1
    assert not cutter.is_open()


def test_later_ones_gather_while_the_linger_runs() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n", now=5.0)
    assert cutter.due(5.0, under_way=0)
    add(cutter, b"b\n", now=5.001)
    add(cutter, b"c\n", now=5.002)
    assert cutter.due_s() == pytest.approx(5.02)
    assert cutter.due(5.019, under_way=0) is None
    assert due(cutter, 5.0201) == [b"b\nc\n"]
    # And a pause of the length of the linger makes the next one the first again.
    add(cutter, b"d\n", now=5.05)
    assert cutter.due(5.05, under_way=0)


def test_they_gather_while_the_channel_is_busy() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n", now=5.0)
    assert cutter.due(9.0, under_way=1) is None
    assert cutter.due(9.0, under_way=0)


def test_nothing_is_due_where_nothing_is_open() -> None:
    cutter = Cutter(RULES)
    assert cutter.due_s() is None
    assert cutter.due(100.0, under_way=0) is None
    assert cutter.flush(100.0) is None


def test_a_full_batch_is_cut_whatever_the_time() -> None:
    cutter = Cutter(RULES)
    assert add(cutter, b"x" * 99 + b"\n") == [b"x" * 99 + b"\n"]
    assert not cutter.is_open()


def test_blocks_that_just_fit_are_one_batch() -> None:
    cutter = Cutter(RULES)
    assert add(cutter, b"a" * 59 + b"\n") == []
    assert add(cutter, b"b" * 39 + b"\n") == [b"a" * 59 + b"\n" + b"b" * 39 + b"\n"]
    assert not cutter.is_open()


def test_a_block_that_does_not_fit_begins_the_next() -> None:
    cutter = Cutter(RULES)
    assert add(cutter, b"a" * 59 + b"\n") == []
    assert add(cutter, b"b" * 59 + b"\n") == [b"a" * 59 + b"\n"]
    assert cutter.is_open()


@pytest.mark.parametrize(
    ("under_way", "sizes"), [(0, [100] * 5), (1, [100] * 5), (2, [250, 250]), (9, [250, 250])]
)
def test_it_grows_while_two_are_under_way(under_way: int, sizes: list[int]) -> None:
    cutter = Cutter(RULES)
    block = b"x" * 49 + b"\n"
    cuts = [cut for _ in range(10) for cut in add(cutter, block, under_way=under_way)]
    assert [len(cut) for cut in cuts] == sizes
    assert not cutter.is_open()


@pytest.mark.parametrize(
    ("size", "under_way", "is_due"),
    [
        (99, 1, False),
        (100, 1, True),
        (249, 1, True),
        (249, 2, False),
        (99, 0, False),
        (100, 0, True),
    ],
)
def test_what_has_grown_is_due_once_fewer_are_under_way(
    size: int, under_way: int, is_due: bool
) -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n", now=5.0)
    assert cutter.due(5.0, under_way=0)  # the linger runs
    add(cutter, b"x" * (size - 1) + b"\n", now=5.001, under_way=2)
    assert (cutter.due(5.001, under_way=under_way) is not None) == is_due


def test_a_block_that_does_not_fit_and_fills_the_next() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n")
    assert add(cutter, b"b" * 300 + b"\n") == [b"a\n", b"b" * 300 + b"\n"]
    assert not cutter.is_open()


@pytest.mark.parametrize(("headers", "time_ms"), [(DB, 0), (WEB, HOUR_MS), (DB, HOUR_MS)])
def test_other_headers_or_another_bucket_are_another_batch_of_the_set(
    headers: dict[str, str], time_ms: int
) -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n")
    assert add(cutter, b"b\n", headers=headers, time_ms=time_ms) == []
    assert add(cutter, b"c\n", headers=dict(WEB), time_ms=5) == []
    cuts = cutter.flush(0.0)
    assert cuts is not None
    assert cuts.cuts == [
        Cut(WEB, 0, [b"a\n", b"c\n"], 2, 4), Cut(headers, time_ms, [b"b\n"], 1, 2)
    ]  # fmt: skip
    assert (cuts.size, cuts.count) == (6, 3)


def test_the_order_of_headers_is_no_difference() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n", headers={"a": "1", "b": "2"})
    add(cutter, b"b\n", headers={"b": "2", "a": "1"})
    assert due(cutter, 0.0) == [b"a\nb\n"]


def test_one_full_batch_cuts_the_others_too() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n")
    [cuts] = cutter.add([Block(b"x" * 99 + b"\n", 1, DB, 0)], {b"f": b"2"}, 0.0, under_way=0)
    assert content(cuts) == [b"a\n", b"x" * 99 + b"\n"]
    assert cuts.positions == {b"f": b"2"}
    assert not cutter.is_open()


def test_one_that_does_not_fit_cuts_the_others_before() -> None:
    """What is behind it in the order of the source is in no earlier set."""
    cutter = Cutter(RULES)
    add(cutter, b"a" * 59 + b"\n")
    add(cutter, b"b\n", headers=DB)
    [cuts] = cutter.add([Block(b"c" * 59 + b"\n", 1, WEB, 0)], {b"f": b"2"}, 0.0, under_way=0)
    assert content(cuts) == [b"a" * 59 + b"\n", b"b\n"]
    assert not cuts.positions, "they are of the block that is open still"
    assert due(cutter, 1.0) == [b"c" * 59 + b"\n"]


def test_a_set_is_full_by_all_of_its_batches() -> None:
    cutter = Cutter(RULES)
    for number in range(3):
        assert not cutter.add([Block(b"x" * 120, 1, {"n": str(number)}, 0)], {}, 0.0, under_way=2)
    [cuts] = cutter.add([Block(b"x" * 40, 1, {"n": "3"}, 0)], {}, 0.0, under_way=2)
    assert [cut.size for cut in cuts.cuts] == [120, 120, 120, 40]
    assert not cutter.is_open()
    for number in range(3):
        assert not cutter.add([Block(b"x" * 120, 1, {"n": str(number)}, 0)], {}, 0.0, under_way=2)
    [cuts] = cutter.add([Block(b"x" * 41, 1, {"n": "3"}, 0)], {}, 0.0, under_way=2)
    assert [cut.size for cut in cuts.cuts] == [120, 120, 120]


def test_a_set_has_so_many_open_batches() -> None:
    cutter = Cutter(RULES)
    for number in range(4):
        assert not cutter.add(
            [Block(b"%d\n" % number, 1, {"n": str(number)}, 0)], {}, 0.0, under_way=0
        )
    assert not cutter.add([Block(b"0\n", 1, {"n": "0"}, 0)], {}, 0.0, under_way=0), "no other"
    [cuts] = cutter.add([Block(b"4\n", 1, {"n": "4"}, 0)], {}, 0.0, under_way=0)
    assert content(cuts) == [b"0\n0\n", b"1\n", b"2\n", b"3\n"]
    assert due(cutter, 1.0) == [b"4\n"]


@pytest.mark.parametrize(
    ("batches", "linger_s"), [(1, 0.02), (4, 0.02), (10, 0.02), (11, 0.022), (500, 1.0), (900, 1.0)]
)
def test_after_many_small_batches_the_next_ones_gather_for_longer(
    batches: int, linger_s: float
) -> None:
    cutter = Cutter(CuttingRules(linger_s=0.02))
    for number in range(batches):
        add(cutter, b"x\n", headers={"n": str(number)}, now=5.0)
    assert len(due(cutter, 5.0)) == batches
    add(cutter, b"x\n", now=5.0)
    assert cutter.due_s() == pytest.approx(5.0 + linger_s)
    assert due(cutter, 5.0 + linger_s - 0.001) == []
    assert due(cutter, 5.0 + linger_s + 0.001) == [b"x\n"]
    add(cutter, b"x\n", now=7.0)
    assert due(cutter, 7.0) == [b"x\n"], "and the first one after a pause goes at once"


def test_after_large_batches_it_does_not() -> None:
    cutter = Cutter(CuttingRules(linger_s=0.02, set_bytes_max=1 << 30))
    for number in range(100):
        add(cutter, bytes(64 << 10), headers={"n": str(number)}, now=5.0)
    assert len(due(cutter, 5.0)) == 100
    add(cutter, b"x\n", now=5.0)
    assert cutter.due_s() == pytest.approx(5.02)


def test_positions_alone_join_what_is_open() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n")
    assert cutter.add([Block(b"", 0, DB, HOUR_MS)], {b"file": b"2"}, 0.0, under_way=0) == []
    cuts = cutter.flush(0.0)
    assert cuts == CutSet([Cut(WEB, 0, [b"a\n"], 1, 2)], 2, {b"file": b"2"})


def test_a_block_joins_positions_that_came_alone() -> None:
    cutter = Cutter(RULES)
    cutter.add([Block(b"", 0, WEB, 0)], {b"file": b"1", b"old": None}, 0.0, under_way=0)
    assert cutter.add([Block(b"a\n", 1, DB, HOUR_MS)], {b"file": b"2"}, 0.0, under_way=0) == []
    positions = {b"file": b"2", b"old": None}
    assert cutter.flush(0.0) == CutSet([Cut(DB, HOUR_MS, [b"a\n"], 1, 2)], 2, positions)


def test_positions_alone_are_cut_too() -> None:
    cutter = Cutter(RULES)
    cutter.add([Block(b"", 0, WEB, 0)], {b"file": None}, 0.0, under_way=0)
    assert cutter.due(0.0, under_way=0) == CutSet([], 0, {b"file": None})


steps = st.tuples(
    st.integers(0, 130),  # bytes of the block
    st.sampled_from([WEB, DB, {"service": "mail"}, {}]),
    st.sampled_from([0, HOUR_MS]),
    st.floats(0, 0.05),  # seconds that pass before
    st.integers(0, 3),  # sets under way
)


@given(st.lists(steps, max_size=40))
def test_everything_leaves_whole_and_positions_with_it(
    given_steps: list[tuple[int, dict[str, str], int, float, int]],
) -> None:
    """The events in the first sets are those of the puts whose positions are, however many."""
    cutter = Cutter(RULES)
    now, sets = 0.0, []
    put: dict[tuple[str, int], bytes] = {}
    for number, (size, headers, time_ms, passed, under_way) in enumerate(given_steps, 1):
        now += passed
        block = bytes([number]) * size
        put[headers.get("service", ""), time_ms] = (
            put.get((headers.get("service", ""), time_ms), b"") + block
        )
        upto = {b"upto": bytes([number])}
        made = cutter.add(
            [Block(block, 1 if size else 0, headers, time_ms)], upto, now, under_way=under_way
        )
        if (cuts := cutter.due(now, under_way=under_way)) is not None:
            assert (
                not under_way
                or max(cut.size for cut in cuts.cuts) >= RULES.size_bytes
                or cuts.size >= RULES.set_bytes_max
            )
            made.append(cuts)
        sets += made
    if (cuts := cutter.flush(now)) is not None:
        sets.append(cuts)
    assert not cutter.is_open()
    stored: dict[tuple[str, int], bytes] = {}
    before = 0
    for cuts in sets:
        assert cuts.size == sum(cut.size for cut in cuts.cuts)
        assert len(cuts.cuts) <= RULES.open_max
        assert len(cuts.cuts) == len({(str(cut.headers), cut.bucket_ms) for cut in cuts.cuts})
        upto_now = cuts.positions.get(b"upto")
        last = before if upto_now is None else upto_now[0]
        for cut in cuts.cuts:
            whole = b"".join(bytes(block) for block in cut.blocks)
            assert (cut.size, cut.count) == (len(whole), len(cut.blocks))
            # One block may be larger than a batch; two together are not.
            assert len(cut.blocks) == 1 or cut.size <= RULES.grown_bytes_max
            assert before < whole[0] and whole[-1] <= last, "no event ahead, and none behind"
            key = (cut.headers.get("service", ""), cut.bucket_ms)
            stored[key] = stored.get(key, b"") + whole
        before = last
    assert before == len(given_steps)
    assert stored == {key: content for key, content in put.items() if content}


units = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from([WEB, DB, {"service": "mail"}])), max_size=3
)


@given(st.lists(st.tuples(units, st.integers(0, 3)), max_size=30))
def test_what_is_put_at_once_goes_into_one_set(
    puts: list[tuple[list[tuple[int, dict[str, str]]], int]],
) -> None:
    cutter = Cutter(RULES)
    sets: list[CutSet] = []
    for number, (unit, under_way) in enumerate(puts, 1):
        blocks = [Block(bytes([number]) * size, 1, headers, 0) for size, headers in unit]
        upto = {b"upto": bytes([number])}
        sets += cutter.add(blocks, upto, number / 1000, under_way=under_way)
    if (cuts := cutter.flush(1.0)) is not None:
        sets.append(cuts)
    last = 0
    for cuts in sets:
        (upto_now,) = cuts.positions[b"upto"] or b""
        found = {each for cut in cuts.cuts for block in cut.blocks for each in bytes(block)}
        assert all(last < each <= upto_now for each in found)
        last = upto_now
    assert last == len(puts)
    assert sum(cuts.size for cuts in sets) == sum(size for unit, _ in puts for size, _ in unit)


def test_framings_and_what_is_dead_are_apart() -> None:
    cutter = Cutter(RULES)
    blocks = [
        Block(b"a\n", 1, WEB, 0),
        Block(b"b\n", 1, WEB, 0, dead="why"),
        Block(b"c\n", 1, WEB, 0, framing="other"),
        Block(b"d\n", 1, WEB, 0, dead="why"),
    ]
    assert not cutter.add(blocks, {}, 0.0, under_way=0)
    cuts = cutter.flush(0.0)
    assert cuts is not None
    assert [(cut.blocks, cut.dead, cut.framing) for cut in cuts.cuts] == [
        ([b"a\n"], "", "lines"),
        ([b"b\n", b"d\n"], "why", "lines"),
        ([b"c\n"], "", "other"),
    ]
