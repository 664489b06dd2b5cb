"""What a topology means that its author will not have meant."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.topologies import read
from tiers.cli import main
from tiers.topology.findings import findings, findings_of

TOPOLOGY = """
name = "findings"
insecure = true
[tiers.edge]
agents = {edges}
next = "sink"
{edge_sources}
[tiers.sink]
agents = {{ sink-1 = "{host}:7400" }}
[[tiers.sink.sinks]]
type = "directory"
root = "/logs/out"
{sink_sources}
{more}
"""
ONE = '["edge-1"]'
TWO = '["edge-1", "edge-2"]'
BESIDE = '{ edge-1 = "10.0.0.1:1", edge-2 = "10.0.0.1:3" }'
APART = '{ edge-1 = "10.0.0.1:1", edge-2 = "10.0.0.2:1" }'
THERE = '{ edge-1 = "10.0.0.9:1" }'
GENERATE = '[[tiers.edge.sources]]\ntype = "generate"\n'


def tail(*paths: str, of: str = "tiers.edge", name: str = "tail") -> str:
    return f'[[{of}.sources]]\ntype = "tail"\nname = "{name}"\npaths = {json.dumps(paths)}\n'


def topology(
    edges: str = ONE, edge: str = GENERATE, sink: str = "", more: str = "", host: str = "10.0.0.9"
) -> str:
    return TOPOLOGY.format(edges=edges, edge_sources=edge, sink_sources=sink, more=more, host=host)


LOGS = tail("/logs/**/*.log")
OWN = tail("/logs/a.log", of="agents.edge-1") + tail("/logs/*.log", of="agents.edge-2")


@pytest.mark.parametrize(
    ("text", "together", "said"),
    [
        (topology(), True, []),
        (topology(TWO, LOGS), False, []),  # each on a machine of its own
        (topology(TWO, LOGS), True, ["edge-1, edge-2 (tail) may all", "what sink directory"]),
        (topology(APART, LOGS), False, []),
        (topology(BESIDE, LOGS), False, ["edge-1, edge-2 (tail) may all read"]),
        (topology(TWO, more=OWN), False, []),
        (topology(TWO, more=OWN), True, ["edge-1 (tail) and edge-2 (tail) may all read what"]),
        (topology(THERE, LOGS), False, ["what sink directory of tier sink writes, below"]),
        (topology(ONE, LOGS), False, []),
        (topology(ONE, LOGS, host="127.0.0.1"), False, ["what sink directory of tier sink writes"]),
        (topology(ONE, tail("/logs/a.log") + tail("/logs/*.log", name="b")), False,
         ["edge-1 (tail) and edge-1 (b) may all read what /logs/a.log and /logs/*.log find"]),
        (topology(ONE, tail("/logs/a.log", "/logs/*.log")), False, []),  # once by one source
        (topology(ONE, tail("/logs/a.log*")), False, ["compressed files"]),
        (topology(ONE, tail("/data/**/*.log")), False, ["the files of edge-1, its own log among"]),
        (topology(ONE, tail("/data/*/agent.log")), True, ["of edge-1, its", "of sink-1, its"]),
        (topology(ONE, tail("/data/*.log")), True, []),
        (topology().replace("/logs/out", "/data/sink-1/out"), True,
         ["writes to /data/sink-1/out, where sink-1 keeps its channel"]),
    ],
)  # fmt: skip
def test_what_will_surprise(text: str, together: bool, said: list[str]) -> None:
    found = findings(read(text), Path("/data"), together=together)
    assert len(found) == len(said), found
    for words, one in zip(sorted(said), sorted(found, key=lambda f: _place(f, said)), strict=True):
        assert words in one


def _place(found: str, said: list[str]) -> str:
    return next((words for words in said if words in found), "")


def test_a_thousand_agents_of_one_tier_are_one_finding() -> None:
    names = json.dumps([f"edge-{number}" for number in range(1000)])
    found = findings(read(topology(names, tail("/var/a.log"))), None, together=True)
    assert len(found) == 1
    assert "edge-0, edge-1, edge-2 and 997 more (tail) may all read /var/a.log" in found[0]


def test_an_agent_says_what_it_can_be_sure_of() -> None:
    text = topology(TWO, tail("/data/**/*.log"), host="127.0.0.1")
    found = findings_of(read(text), "edge-1", Path("/data"))
    assert len(found) == 1
    assert "edge-1: tail reads /data/**/*.log, which may find the files of edge-1" in found[0]
    assert findings_of(read(text), "sink-1", Path("/data")) == []


def test_check_warns_and_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(topology(ONE, tail("/logs/*", str(tmp_path))))
    for more in ([], ["--json"]):
        result = CliRunner().invoke(main, ["check", str(file), *more])
        assert result.exit_code == 1
        assert "compressed files" in result.stdout
        assert f"reads {tmp_path}, which is a directory here" in result.stdout
    assert len(json.loads(result.stdout)["warnings"]) == 2


def test_links_of_this_machine_are_seen_through(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "logs")
    two = tail(f"{tmp_path}/logs/a.log", name="a") + tail(f"{tmp_path}/link/*.log", name="b")
    (twice,) = findings(read(topology(ONE, two)), None)
    assert "edge-1 (a) and edge-1 (b) may all read" in twice
    (loop,) = findings(read(topology(ONE, tail(f"{tmp_path}/link/*/*.log"))), tmp_path / "logs")
    assert "may find the files of edge-1" in loop
