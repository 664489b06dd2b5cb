"""`tiers diff`: what another file would change, agent by agent."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.topologies import GOOD, good
from tiers.cli import main

AGG_3 = ('agg-2 = "127.0.0.1:7402" }', 'agg-2 = "127.0.0.1:7402", agg-3 = "127.0.0.1:7404" }')


def diff(directory: Path, old: str, new: str, *options: str) -> Result:
    for name, text in (("old.toml", old), ("new.toml", new)):
        (directory / name).write_text(text)
    files = [str(directory / name) for name in ("old.toml", "new.toml")]
    return CliRunner().invoke(main, ["diff", *files, *options])


def lines(result: Result) -> list[str]:
    assert result.exit_code == 1, result.output
    return [line for line in result.output.splitlines()[1:] if line]


def test_nothing(tmp_path: Path) -> None:
    result = diff(tmp_path, GOOD, f"# a comment\n{GOOD}")
    assert result.exit_code == 0, result.output
    assert "nothing changes for any agent" in result.output


def test_an_agent_that_is_added(tmp_path: Path) -> None:
    assert lines(diff(tmp_path, GOOD, good(AGG_3))) == [
        "agg-3: new in tier aggregator; to be started",
        "edge-1, edge-2:",
        "  peers of aggregator, at once: agg-3 joins at 127.0.0.1:7404",
    ]


def test_one_that_leaves_and_one_that_moves(tmp_path: Path) -> None:
    new = good((', agg-2 = "127.0.0.1:7402"', ""), ("127.0.0.1:7400", "127.0.0.2:7400"))
    assert lines(diff(tmp_path, GOOD, new)) == [
        "edge-1, edge-2:",
        "  peers of aggregator, at once: agg-2 leaves, agg-1 moves to 127.0.0.2:7400",
        "agg-1:",
        "  at once: tiers.aggregator.agents.agg-1",
        "agg-2:",
        "  leaves: passes on what it has, and ends",
    ]


def test_what_changes_is_of_whom_it_concerns(tmp_path: Path) -> None:
    more = '[[tiers.edge.interceptors]]\ntype = "host"\n[batch]\nlinger = "1s"\n'
    new = good(more=more + '[delivery]\nguarantee = "end"')
    assert lines(diff(tmp_path, GOOD, new)) == [
        "edge-1, edge-2:",
        "  at once: tiers.edge.interceptors, batch.linger",
        "  with a restart: delivery.guarantee",
        "agg-1, agg-2, sink-1, sink-2:",
        "  at once: batch.linger",
        "  with a restart: delivery.guarantee",
    ]


def test_many_agents_are_not_all_named(tmp_path: Path) -> None:
    names = ", ".join(f'"edge-{number}"' for number in range(1, 31))
    many = good(('"edge-1", "edge-2"', names))
    shown = lines(diff(tmp_path, GOOD, many))
    assert shown == [
        "edge-3, edge-4, edge-5, edge-6, edge-7, edge-8, edge-9, edge-10 and 20 more: "
        "new in tier edge; to be started"
    ]


def test_for_a_program(tmp_path: Path) -> None:
    result = diff(tmp_path, GOOD, good(AGG_3), "--json")
    assert result.exit_code == 1
    facts = json.loads(result.output)
    assert facts["joined"] == [{"agent": "agg-3", "tier": "aggregator"}]
    assert [one["agent"] for one in facts["changed"]] == ["edge-1", "edge-2"]
    assert facts["changed"][0]["peers"] == {
        "aggregator": {"join": {"agg-3": "127.0.0.1:7404"}, "leave": [], "move": {}}
    }


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_file_that_is_wrong_is_said_to_be(tmp_path: Path, wrong: int) -> None:
    texts = [GOOD, GOOD]
    texts[wrong] = good(("next =", "nxt ="))
    result = diff(tmp_path, *texts)
    assert result.exit_code == 2
    assert "nxt" in result.output
    assert ("old.toml", "new.toml")[wrong] in result.output


def test_what_stands_for_a_secret_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "127.0.0.9")
    new = good(("127.0.0.1:7402", "${WHERE}:7402"))
    result = diff(tmp_path, GOOD, new)
    assert "agg-2 moves to ${WHERE}:7402" in result.output
    assert "127.0.0.9" not in result.output
