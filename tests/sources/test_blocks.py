"""Cutting: nothing is lost or added but newlines within lines that are too long."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tiers.core.newlines import count_lines
from tiers.sources.blocks import cut, in_blocks

text = st.lists(st.sampled_from([b"\n", b"a", b"bb", b"\r", b"\0", b"c" * 9]), max_size=60).map(
    b"".join
)


def expected(line: bytes, size: int) -> list[bytes]:
    """Pieces of one line (without its newline), the plain way."""
    pieces = []
    while len(line) > size - 1:
        pieces.append(line[: size - 1])
        line = line[size - 1 :]
    return [piece + b"\n" for piece in [*pieces, line]]


@given(text, st.integers(2, 20), st.lists(st.integers(0, 40)))
def test_any_chunking_gives_the_events_of_the_plain_way(
    data: bytes, size: int, cuts: list[int]
) -> None:
    data += b"\n"
    out, rest, splits, continuing = b"", b"", 0, False
    edges = sorted({*(c for c in cuts if c < len(data)), 0, len(data)})
    for begin, end in itertools.pairwise(edges):
        rest += data[begin:end]
        piece = cut(rest, size, continuing)
        out += bytes(piece.block)
        rest, continuing = rest[piece.used :], piece.continuing
        splits += piece.split
        assert len(rest) < size
    lines = data.split(b"\n")[:-1]
    assert out == b"".join(b"".join(expected(line, size)) for line in lines)
    assert rest == b""
    assert splits == sum(len(line) + 1 > size for line in lines)
    assert not continuing


@given(text, st.integers(1, 20))
def test_blocks_join_to_the_whole_and_are_small(data: bytes, size: int) -> None:
    data = data[: data.rfind(b"\n") + 1]
    blocks = [bytes(block) for block in in_blocks(data, size)]
    assert b"".join(blocks) == data
    for block in blocks:
        assert block.endswith(b"\n")
        assert len(block) <= size or block.count(b"\n") == 1


@given(st.lists(st.integers(0, 300), max_size=100), st.binary(max_size=10))
def test_lines_are_counted_in_both_ways(lengths: list[int], rest: bytes) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths) + rest
    assert count_lines(data) == len(lengths) + rest.count(b"\n")
