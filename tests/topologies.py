"""A topology file that is right, to be made wrong in one place at a time."""

from tiers.errors import ConfigError, Problem
from tiers.topology import Topology, parse

GOOD = """
name = "web-logs"

[tiers.edge]
agents = ["edge-1", "edge-2"]
next = "aggregator"
[[tiers.edge.sources]]
type = "generate"
headers = { service = "web" }

[tiers.aggregator]
agents = { agg-1 = "127.0.0.1:7400", agg-2 = "127.0.0.1:7402" }
next = "sink"

[tiers.sink]
agents = { sink-1 = "127.0.0.1:7410", sink-2 = "127.0.0.1:7412" }
[[tiers.sink.sinks]]
type = "directory"
root = "/data/logs"
path = "{service}/%Y/%m/%d/%H"
"""


def good(*changes: tuple[str, str], more: str = "") -> str:
    """GOOD with each change's first text replaced by its second, and `more` at the end."""
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return f"{text}\n{more}"


def read(text: str, **env: str) -> Topology:
    return parse(text, "topology.toml", env)


def problems(text: str, **env: str) -> list[Problem]:
    """What is wrong with `text`; empty where nothing is."""
    try:
        read(text, **env)
    except ConfigError as error:
        return list(error.problems)
    return []


def problem(text: str, **env: str) -> Problem:
    """The only thing that is wrong with `text`."""
    found = problems(text, **env)
    assert len(found) == 1, "\n".join(map(str, found)) or "nothing is wrong"
    return found[0]
