"""When a batch is cut: each rule, and that whatever comes leaves whole and in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.cutting import Cut, Cutter, CuttingRules

WEB, DB = {"service": "web"}, {"service": "db"}
HOUR_MS = 3_600_000
RULES = CuttingRules(size_bytes=100, grown_bytes_max=250, linger_s=0.02, time_bucket_s=3600.0)


def add(
    cutter: Cutter,
    block: bytes,
    now: float = 0.0,
    headers: dict[str, str] = WEB,
    time_ms: int = 0,
    under_way: int = 0,
) -> list[bytes]:
    cuts = cutter.add(block, block.count(b"\n"), headers, time_ms, {}, now, under_way=under_way)
    return [b"".join(cut.blocks) for cut in cuts]


def test_buckets_are_aligned_to_utc() -> None:
    assert RULES.bucket(0) == RULES.bucket(HOUR_MS - 1) == 0
    assert RULES.bucket(HOUR_MS) == HOUR_MS
    assert CuttingRules(time_bucket_s=86400.0).bucket(3 * 86_400_000 + 5) == 3 * 86_400_000
    assert RULES.bucket(-1) == -HOUR_MS


def test_the_first_event_after_a_pause_goes_at_once() -> None:
    cutter = Cutter(RULES)
    assert add(cutter, b"a\n", now=5.0) == []
    cut = cutter.due(5.0, under_way=0)
    assert cut is not None
    assert (cut.blocks, cut.count, cut.size) == ([b"a\n"], 1, 2)
    assert not cutter.is_open()


def test_later_ones_gather_while_the_linger_runs() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n", now=5.0)
    assert cutter.due(5.0, under_way=0)
    add(cutter, b"b\n", now=5.001)
    add(cutter, b"c\n", now=5.002)
    assert cutter.due_s() == pytest.approx(5.02)
    assert cutter.due(5.019, under_way=0) is None
    cut = cutter.due(5.0201, under_way=0)
    assert cut is not None
    assert cut.blocks == [b"b\n", b"c\n"]
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
def test_other_headers_or_another_bucket_cut(headers: dict[str, str], time_ms: int) -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n")
    assert add(cutter, b"b\n", headers=headers, time_ms=time_ms) == [b"a\n"]
    cut = cutter.flush(0.0)
    assert cut is not None
    assert (cut.headers, cut.bucket_ms, cut.blocks) == (headers, time_ms, [b"b\n"])


def test_the_same_headers_and_bucket_do_not() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n", headers=dict(WEB), time_ms=5)
    assert add(cutter, b"b\n", headers=dict(WEB), time_ms=HOUR_MS - 1) == []


def test_positions_alone_join_what_is_open() -> None:
    cutter = Cutter(RULES)
    add(cutter, b"a\n")
    assert cutter.add(b"", 0, DB, HOUR_MS, {b"file": b"2"}, 0.0, under_way=0) == []
    cut = cutter.flush(0.0)
    assert cut is not None
    assert (cut.headers, cut.bucket_ms, cut.positions) == (WEB, 0, {b"file": b"2"})


def test_positions_alone_take_the_headers_of_the_first_block() -> None:
    cutter = Cutter(RULES)
    cutter.add(b"", 0, WEB, 0, {b"file": b"1", b"old": None}, 0.0, under_way=0)
    assert cutter.add(b"a\n", 1, DB, HOUR_MS, {b"file": b"2"}, 0.0, under_way=0) == []
    cut = cutter.flush(0.0)
    assert cut == Cut(DB, HOUR_MS, [b"a\n"], 1, 2, {b"file": b"2", b"old": None})


def test_positions_alone_are_cut_too() -> None:
    cutter = Cutter(RULES)
    cutter.add(b"", 0, WEB, 0, {b"file": None}, 0.0, under_way=0)
    cut = cutter.due(0.0, under_way=0)
    assert cut == Cut(WEB, 0, [], 0, 0, {b"file": None})


steps = st.tuples(
    st.integers(0, 130),  # bytes of the block
    st.sampled_from([WEB, DB]),
    st.sampled_from([0, HOUR_MS]),
    st.floats(0, 0.05),  # seconds that pass before
    st.integers(0, 3),  # cuts under way
)


@given(st.lists(steps, max_size=40))
def test_everything_leaves_whole_and_in_order(
    given_steps: list[tuple[int, dict[str, str], int, float, int]],
) -> None:
    cutter = Cutter(RULES)
    now, put, cuts = 0.0, b"", []
    for number, (size, headers, time_ms, passed, under_way) in enumerate(given_steps):
        now += passed
        block = bytes([number]) * size
        upto = {b"upto": len(put + block).to_bytes(4, "big")}
        made = cutter.add(block, 1 if size else 0, headers, time_ms, upto, now, under_way=under_way)
        put += block
        if (cut := cutter.due(now, under_way=under_way)) is not None:
            assert not under_way or cut.size >= RULES.size_bytes
            made.append(cut)
        cuts += made
    if (cut := cutter.flush(now)) is not None:
        cuts.append(cut)
    assert not cutter.is_open()
    assert b"".join(bytes(block) for cut in cuts for block in cut.blocks) == put
    stored = 0
    for cut in cuts:
        stored += cut.size
        assert cut.size == sum(map(len, cut.blocks))
        assert cut.count == len(cut.blocks)
        # One block may be larger than a batch; two together are not.
        assert len(cut.blocks) == 1 or cut.size <= RULES.grown_bytes_max
        # Once a cut is on disk, so is everything before its positions, and nothing is skipped.
        assert int.from_bytes(cut.positions.get(b"upto") or b"", "big") <= stored
