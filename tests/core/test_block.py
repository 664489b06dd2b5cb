"""What a block has to be."""

import pytest

from tiers.core.batch import HEADERS_MAX, TIME_MS_MAX
from tiers.core.block import NOTHING, Block, HeaderCheck
from tiers.errors import BatchError


@pytest.mark.parametrize(
    "block",
    [
        NOTHING,
        Block(b"a\n", 1),
        Block(memoryview(b"a\nb\n"), 2, {"a": "b"}, 0),
        Block(b"a\n", 1, {}, TIME_MS_MAX),
    ],
)
def test_a_block(block: Block) -> None:
    block.check()


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (Block(b"a", 1), "newline"),
        (Block(b"a\n", 0), "how many"),
        (Block(b"a\n", 1, {}, -1), "-1 ms"),
        (Block(b"a\n", 1, {}, TIME_MS_MAX + 1), "no calendar"),
        (Block(b"a\n", 1, {}, None, "frames"), "not 'frames'"),
        (Block(b"", 1, {}, None, "events"), "says 1 events, and has 0"),
    ],
)
def test_no_block(block: Block, why: str) -> None:
    with pytest.raises(BatchError, match=why):
        block.check()


def test_headers_that_come_again_are_not_checked_anew() -> None:
    check, headers = HeaderCheck(), {"a": "b"}
    check.check(headers)
    headers["c"] = "d"  # another map by now
    check.check(headers)
    for bad in ({str(number): "" for number in range(HEADERS_MAX + 1)}, {"a": "\ud800"}):
        for _ in range(2):
            with pytest.raises(BatchError):
                check.check(bad)
