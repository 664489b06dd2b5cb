"""Batches are routed as they are stored: by the intake of a source, and by a receiver."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.entry.test_intake import Bench, bench
from tiers.core.block import Block
from tiers.core.change import NO_OUTPUT
from tiers.core.entry.cutting import CuttingRules
from tiers.core.entry.routes import Branch, OneOf, Route

TOGETHER = CuttingRules(linger_s=60.0)
WEB = {"service": OneOf(frozenset(["web"]))}
ONLY_WEB = Route([Branch("out", WEB)])


def block(service: str, dead: str = "") -> Block:
    return Block(b"a line\n", 1, {"service": service}, None, dead=dead)


@pytest.fixture
async def b(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, rules=TOGETHER) as made:
        made.intake.route = ONLY_WEB
        yield made


def letters(b: Bench) -> list[tuple[str, str]]:
    return [(one.output, one.reason) for one in b.channel.letters()]


async def put(b: Bench, *blocks: Block) -> None:
    for number, each in enumerate(blocks):
        await b.intake.put(each, {b"file": b"%d" % number})
    await b.intake.flush()


async def test_each_batch_of_a_cut_set_is_routed_by_its_own_headers(b: Bench) -> None:
    await put(b, block("web"), block("db"), block("api"), block("web"))
    assert [envelope.headers["service"] for envelope, _ in b.stored()] == ["web", "web"]
    why = "unrouted: no output wants service="
    assert letters(b) == [(NO_OUTPUT, f"{why}db"), (NO_OUTPUT, f"{why}api")]
    assert b.positions() == {b"file": b"3"}
    assert b.intake.events == 4


async def test_what_is_dropped_is_counted_and_its_position_is_stored(b: Bench) -> None:
    b.intake.route = Route(ONLY_WEB.branches, unrouted="drop")
    await put(b, block("db"), block("db"), block("db"))
    assert (b.stored(), letters(b)) == ([], [])
    assert b.positions() == {b"file": b"2"}
    assert b.intake.events == 3
    assert b.channel.next_seq() == 3, "the first goes at once, the others in one batch"


async def test_a_new_route_is_of_what_is_stored_from_then_on(b: Bench) -> None:
    await put(b, block("db"))
    b.intake.route = Route([Branch("out", {})])
    await put(b, block("db"))
    assert [envelope.seq for envelope, _ in b.stored()] == [2]
    assert len(letters(b)) == 1


async def test_what_an_interceptor_failed_on_is_a_letter_of_those_that_want_it(b: Bench) -> None:
    await put(b, block("web", "it failed"), block("db", "it failed"))
    assert letters(b) == [("out", "it failed"), (NO_OUTPUT, "it failed")]
    b.intake.route = Route(ONLY_WEB.branches, unrouted="drop")
    await put(b, block("db", "it failed"))
    assert len(letters(b)) == 3, "on_error says so"
