"""The dedupe window against a plain set."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.dedupe import (
    BLOCK_SEQS,
    PIECES,
    Window,
    block_of,
    check_piece,
    decode,
    encode,
    piece_of,
    sums_of,
    with_sum,
)

OFFSETS = st.sets(st.integers(0, BLOCK_SEQS - 1), max_size=60)


@given(
    st.one_of(
        OFFSETS,
        st.builds(lambda n, m: set(range(n, min(n + m, 4096))), *[st.integers(0, 4095)] * 2),
    ),
    st.integers(0, 2**20),
    st.data(),
)
def test_a_window_is_a_set(offsets: set[int], block: int, data: st.DataObject) -> None:
    window, base = Window(), block * BLOCK_SEQS
    for offset in sorted(offsets, key=lambda o: (o * 7919) % BLOCK_SEQS):
        assert base + offset not in window
        window = window.stored(base + offset)
    left = data.draw(st.integers(0, len(offsets)))
    for at_ms in range(left):
        window = window.left(1000 + at_ms)
    passed = data.draw(st.sets(st.sampled_from(sorted(offsets)))) if offsets else set()
    for offset in passed:
        window = window.passed_on(base + offset)
    again = decode(encode(window))
    assert again == window
    assert {o for o in offsets if again.was_passed_on(base + o)} == passed
    assert {base + o for o in range(BLOCK_SEQS) if base + o in again} == {base + o for o in offsets}
    assert (len(again), again.held) == (len(offsets), len(offsets) - left)
    assert again.left_ms == (1000 + left - 1 if left else 0)


@given(st.integers(0, 2**63 - 1))
def test_each_seq_has_one_block(seq: int) -> None:
    assert block_of(seq) * BLOCK_SEQS <= seq < (block_of(seq) + 1) * BLOCK_SEQS


@given(st.integers(0, 2**63 - 1))
def test_a_block_is_made_of_whole_pieces(seq: int) -> None:
    first = block_of(seq) * PIECES  # what is let go of with the block: it and those behind
    assert first <= piece_of(seq) < first + PIECES
    assert piece_of(block_of(seq) * BLOCK_SEQS) == first
    assert piece_of((block_of(seq) + 1) * BLOCK_SEQS) == first + PIECES


@given(st.lists(st.tuples(st.integers(128, 191), st.integers(0, 2**32 - 1)), max_size=20))
def test_a_piece_knows_the_checksums_of_each_number(came: list[tuple[int, int]]) -> None:
    piece = b""
    for seq, crc in [*came, *came]:  # told again, it is known
        piece = with_sum(piece, seq, crc)
        check_piece(piece)
    for seq in range(128, 192):
        assert list(sums_of(piece, seq)) == list(dict.fromkeys(c for s, c in came if s == seq))
    with pytest.raises(ValueError, match="piece"):
        check_piece(piece + b"\0")


def test_one_run_is_small_and_a_full_bitmap_is_bounded() -> None:
    for first in (0, 1, 90):
        run = Window()
        for seq in range(BLOCK_SEQS + first, BLOCK_SEQS + 4000):
            run = run.stored(seq)
        assert len(encode(run)) == 16
        assert len(encode(run.passed_on(BLOCK_SEQS + first))) == 20
    holes = Window((1 << BLOCK_SEQS) - 1 & ~2)
    assert len(encode(replace(holes, passed=holes.bits))) <= 16 + 2 * (BLOCK_SEQS // 8)


def test_the_bytes_are_those_that_are_drawn() -> None:
    window = Window().stored(BLOCK_SEQS).stored(BLOCK_SEQS + 1).left(7)
    head = b"\0\1" + bytes(7) + b"\7"
    assert encode(window) == head + b"\1\0\0\0\1" + b"\0"
    window = window.stored(BLOCK_SEQS + 9).passed_on(BLOCK_SEQS + 1)
    head = b"\0\2" + head[2:]
    assert encode(window) == head + b"\2\0\2\x03\x02" + b"\1\0\1\0\1"


def test_retention_runs_only_when_nothing_is_held() -> None:
    window = Window().stored(1).stored(2).left(1000)
    assert not window.forgettable(10**12, 0)
    window = window.left(5000)
    assert not window.forgettable(5000 + 700, 700)
    assert window.forgettable(5000 + 701, 700)


@given(st.binary(max_size=540))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        window = decode(data)
    except ValueError:
        return
    assert window.held <= len(window) <= BLOCK_SEQS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(10),  # no sets
        bytes(13),  # something behind them
        bytes(10) + b"\x07" + bytes(14),  # a set of no kind
        bytes(10) + b"\x01\x00\x01\x00\x00\x00",  # a run backwards
        bytes(10) + b"\x01\x00\x01",  # and a broken one
        bytes(10) + b"\x02\x00\x05\x00\x00",  # a bitmap cut off
        bytes(10) + b"\x02\x02\x01" + b"\xff" * 513 + b"\x00",  # one beyond the block
        bytes(10) + b"\x01\x00\x01\x10\x00" + b"\x00",  # and a run beyond it
        bytes(11) + b"\x01\x00\x01\x00\x01",  # passed on, never seen
    ],
)
def test_what_is_no_window_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="window"):
        decode(data)


def test_a_window_that_holds_more_than_it_has_seen_is_refused() -> None:
    claims_two = encode(Window(0b101, held=2))
    claims_nine = claims_two.replace(struct.pack(">H", 2), struct.pack(">H", 9), 1)
    assert claims_nine != claims_two
    with pytest.raises(ValueError, match="holds 9"):
        decode(claims_nine)


def test_what_is_forgotten_may_come_again() -> None:
    window = Window().stored(1).stored(2).passed_on(2)
    assert window.forgotten(2) == Window().stored(1)
    assert window.forgotten(2).stored(2).held == 2
    gone = window.left(7)
    assert gone.forgotten(2, held=False) == Window(0b10, held=1, left_ms=7)
