"""The audit where outputs do not get everything: exact, and honest about what was forgotten."""

from dataclasses import replace
from typing import Any

import pytest

from tests.audit.test_audit import BEGUN_MS, DAY, EDGE, a_manifest, edge, only, queue, shelf_of
from tiers.audit.audit import OriginAccount, OutputAccount, Report, _orphans, accounts, counting
from tiers.audit.holdings import AgentHolding, Queue, holding_of
from tiers.cli.audit import lines
from tiers.core.change import NO_OUTPUT
from tiers.core.runs import Runs
from tiers.topology import Topology, parse

TEXT = """
name = "t"
[tiers.edge]
agents = ["edge-1"]
next = "agg"
[[tiers.edge.sources]]
type = "generate"
headers = { service = "web" }
[tiers.agg]
agents = { agg-1 = "127.0.0.1:7300" }
next = [{ tier = "sink", when = { service = "web" } }, "all"]
[tiers.sink]
agents = { sink-1 = "127.0.0.1:7310" }
[[tiers.sink.sinks]]
type = "directory"
root = "/sink"
[tiers.all]
agents = { all-1 = "127.0.0.1:7320" }
[[tiers.all.sinks]]
type = "directory"
root = "/all"
"""
HOUR_MS = 3_600_000
DAY_MS = 86_400_000  # of DAY, at 8
EARLY_MS = BEGUN_MS - 1


def topology() -> Topology:
    return parse(TEXT, "t.toml", {})


def skipping(runs: Runs) -> Queue:
    return Queue(skipped={EDGE.hex(): runs})


def agg(since_ms: int = EARLY_MS, **outputs: Queue) -> AgentHolding:
    return AgentHolding("agg-1", "agg", {}, "", outputs, since_ms=since_ms)


def account_of(
    tier: str, *holdings: AgentHolding, published: tuple[int, ...] = ()
) -> OriginAccount:
    shelf = shelf_of(a_manifest(published, 1)) if published else shelf_of()
    return only(accounts(shelf, counting(topology(), tier, "directory", holdings)))


def test_what_an_output_was_not_to_have_is_not_missing_there_and_is_elsewhere() -> None:
    holdings = [edge(5), agg(sink=skipping([[2, 3]]))]
    one = account_of("sink", *holdings, published=(1, 4, 5))
    assert one.skipped == {"agg-1": [[2, 3]]}
    assert not (one.gaps or one.unknown)
    other = account_of("all", *holdings, published=(1, 4, 5))
    assert (other.skipped, other.gaps) == ({}, [[2, 3]])


def test_what_else_is_missing_there_is_a_gap_all_the_same() -> None:
    one = account_of("sink", edge(5), agg(sink=skipping([[2, 2]])), published=(1, 4, 5))
    assert one.gaps == [[3, 3]]


def test_an_output_that_gets_nothing_has_an_account() -> None:
    one = account_of("sink", edge(5), agg(sink=skipping([[1, 5]])))
    assert (one.published, one.gaps, one.accepted) == ([], [], 5)


@pytest.mark.parametrize("tier", ["sink", "all"])
def test_what_no_output_wanted_is_in_the_dead_letters_for_each(tier: str) -> None:
    unrouted = replace(agg(), outputs={NO_OUTPUT: queue(dead=[[2, 3]])})
    one = account_of(tier, edge(5), unrouted, published=(1, 4, 5))
    assert (one.dead, one.gaps) == ({"agg-1": [[2, 3]]}, [])
    assert list(_orphans(topology(), unrouted)) == []


@pytest.mark.parametrize(
    ("tier", "since_ms", "published", "unknown"),
    [
        ("sink", EARLY_MS, (1, 4, 5), False),
        ("sink", BEGUN_MS + HOUR_MS, (), True),  # the edge began before this channel
        ("all", BEGUN_MS + HOUR_MS, (), False),  # which gives all to that tier
        ("sink", BEGUN_MS + 40 * DAY_MS, (1, 4, 5), True),
        ("sink", BEGUN_MS + HOUR_MS, (1, 4, 5), False),  # sealed on a later day: see DAY
    ],
)
def test_what_a_lost_channel_may_have_kept_from_an_output_is_unknown(
    tier: str, since_ms: int, published: tuple[int, ...], unknown: bool
) -> None:
    assert DAY > "2026-11-01"
    one = account_of(tier, edge(5), agg(since_ms), published=published)
    missing: Runs = [[2, 3]] if published else [[1, 5]]
    assert (one.unknown, one.gaps) == ((missing, []) if unknown else ([], missing))


def test_of_an_origin_that_nobody_owns_any_more_it_is_unknown() -> None:
    late = agg(BEGUN_MS + 40 * DAY_MS)
    one = account_of("sink", late, published=(1, 4))
    assert (one.unknown, one.gaps) == ([[2, 3]], [])
    assert account_of("all", late, published=(1, 4)).gaps == [[2, 3]]
    assert account_of("sink", agg(), published=(1, 4)).gaps == [[2, 3]], "sealed since it began"


def test_it_is_told_to_people_and_programs() -> None:
    account = account_of("sink", edge(5), agg(sink=skipping([[2, 3]])), published=(1, 4, 5))
    report = Report("t")
    report.outputs.append(OutputAccount("sink/directory", shelf_of(), [account]))
    assert "    not routed here by agg-1: 2-3" in lines(report)
    (told,) = report.to_json()["outputs"][0]["origins"]
    assert told["skipped"] == {"agg-1": [[2, 3]]}


def test_an_answer_without_it_is_of_an_older_agent() -> None:
    told: dict[str, Any] = {"origins": {}, "present": "", "outputs": {}}
    told["outputs"]["o"] = {"held": {}, "dead": {}}
    holding = holding_of("agg-1", "agg", {"audit": told})
    assert isinstance(holding, AgentHolding)
    assert (holding.outputs["o"].skipped, holding.since_ms) == ({}, 0)
    told["withheld_since_ms"] = 7
    assert holding_of("agg-1", "agg", {"audit": told}) == replace(holding, since_ms=7)
