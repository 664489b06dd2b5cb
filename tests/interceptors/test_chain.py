"""A chain of interceptors: order, what is counted, and what becomes of what one fails on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from tiers.core.batch import HEADERS_MAX
from tiers.core.block import Block
from tiers.interceptors.chain import Chain, ChainLink
from tiers.interceptors.interceptor import InterceptorOptions

Does = Callable[[Block], Sequence[Block]]
AB = Block(b"a\nb\n", 2, {"k": "v"}, 5)


class Plain:
    Options = InterceptorOptions

    def __init__(self, does: Does) -> None:
        self.apply = does


def link(does: Does, name: str = "one", **keys: Any) -> ChainLink:
    return ChainLink(InterceptorOptions(type="plain", name=name, **keys), Plain(does))  # type: ignore[arg-type]


def noted(mark: str) -> Does:
    return lambda block: [
        replace(block, headers={**block.headers, "by": block.headers.get("by", "") + mark})
    ]


def fails(block: Block) -> Sequence[Block]:
    raise KeyError("no such thing")


def split(block: Block) -> Sequence[Block]:
    lines = bytes(block.data).splitlines(keepends=True)
    return [
        replace(block, data=line, count=1, headers={"line": str(n)}) for n, line in enumerate(lines)
    ]


def test_one_after_the_other() -> None:
    passed = Chain([link(noted("a")), link(split, "two"), link(noted("b"), "three")], 100).apply(AB)
    assert passed.blocks == [
        Block(b"a\n", 1, {"line": "0", "by": "b"}, 5),
        Block(b"b\n", 1, {"line": "1", "by": "b"}, 5),
    ]
    assert not passed.counts
    assert not passed.failures
    assert not Chain([], 100)


def test_a_block_of_nothing_meets_none() -> None:
    passed = Chain([link(fails)], 100).apply(Block(b"", 0))
    assert passed.blocks == []
    assert not passed.counts


@pytest.mark.parametrize(
    ("does", "kept", "counts"),
    [
        (lambda _: [], [], {"dropped_one": 2, "dropped_one_bytes": 4}),
        (lambda b: split(b)[:1], [b"a\n"], {"dropped_one": 1, "dropped_one_bytes": 2}),
        (lambda b: [replace(b, data=b"", count=0)], [], {"dropped_one": 2, "dropped_one_bytes": 4}),
        # Fewer, and longer: no bytes are dropped by that.
        (
            lambda b: [replace(b, data=b"a and b\n", count=1)],
            [b"a and b\n"],
            {"dropped_one": 1, "dropped_one_bytes": 0},
        ),
        (lambda b: [b, b], [b"a\nb\n"] * 2, {}),
    ],
)
def test_what_is_dropped_is_counted(does: Does, kept: list[bytes], counts: dict[str, int]) -> None:
    passed = Chain([link(does)], 100).apply(AB)
    assert [each.data for each in passed.blocks] == kept
    assert dict(passed.counts) == counts


WRONG: list[tuple[Does, str]] = [
    (fails, "KeyError: 'no such thing'"),
    (lambda b: [replace(b, data=b"a")], "BatchError: a block is newline-terminated"),
    (lambda b: [replace(b, count=0)], "BatchError: a block is newline-terminated"),
    (lambda b: [replace(b, time_ms=-1)], "BatchError: no calendar"),
    (lambda b: [replace(b, framing="frames")], "BatchError: a block has the framing"),
    (
        lambda b: [replace(b, headers={str(n): "" for n in range(HEADERS_MAX + 1)})],
        "BatchError: envelope: 65",
    ),
    (lambda b: [replace(b, data=b"x" * 60 + b"\n")] * 2, "BatchError: 122 bytes"),
    (lambda b: cast(Any, None), "TypeError"),
]


@pytest.mark.parametrize(("does", "said"), WRONG)
@pytest.mark.parametrize("on_error", ["pass", "drop", "dead"])
def test_what_one_fails_on(does: Does, said: str, on_error: str) -> None:
    before, after = link(noted("x"), "before"), link(noted("y"), "after")
    passed = Chain([before, link(does, on_error=on_error), after], 100).apply(AB)
    assert passed.failures["one"].startswith(said)
    assert passed.counts["failed_one"] == 2
    if on_error == "drop":
        assert passed.blocks == []
        assert passed.counts["dropped_one"] == 2
        return
    (block,) = passed.blocks
    assert block.data == AB.data
    assert block.headers["by"] == ("xy" if on_error == "pass" else "x")
    assert (f"interceptor 'one': {said}" in block.dead) is (on_error == "dead")
    assert "dropped_one" not in passed.counts


def test_a_block_may_be_as_large_as_it_came() -> None:
    large = Block(b"x" * 200 + b"\n", 1)
    assert Chain([link(lambda b: [b])], 100).apply(large).blocks == [large]


def test_what_it_says_is_short() -> None:
    def long(_: Block) -> Sequence[Block]:
        raise ValueError("x" * 10_000)

    (said,) = Chain([link(long)], 100).apply(AB).failures.values()
    assert len(said) == 300
