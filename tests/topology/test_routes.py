"""`when`, `route` and `unrouted` of a topology file: what they mean, and what is wrong there."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.topologies import good, problem, problems, read
from tiers.cli import main
from tiers.core.batch import HEADER_BYTES_MAX, HEADERS_MAX
from tiers.core.entry.routes import Absent, Branch, Condition, Glob, Not, OneOf
from tiers.topology import differences
from tiers.topology.conditions import in_file, write
from tiers.topology.findings import findings, findings_of

ARCHIVE = """
[tiers.archive]
agents = { old-1 = "127.0.0.1:7420" }
[[tiers.archive.sinks]]
type = "directory"
root = "/data/old"
"""
WEB = OneOf(frozenset(["web"]))
MANY = ", ".join(f'h{number} = "x"' for number in range(HEADERS_MAX + 1))


def edges(following: str, more: str = "") -> str:
    """GOOD with a tier more, and such a `next` of the edges."""
    return good(('next = "aggregator"', f"next = {following}\n{more}"), more=ARCHIVE)


def wants(when: str) -> str:
    return edges(f'["aggregator", {{ tier = "archive", when = {when} }}]')


def sink(when: str) -> str:
    return good(('root = "/data/logs"', f'root = "/data/logs"\nwhen = {when}'))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ('"web"', WEB),
        ('["web", "api"]', OneOf(frozenset(["web", "api"]))),
        ('{ glob = "web-*" }', Glob("web-*")),
        ("{ absent = true }", Absent()),
        ('{ not = ["web", "api"] }', Not(OneOf(frozenset(["web", "api"])))),
        ('{ not = { glob = "web-*" } }', Not(Glob("web-*"))),
        ("{ not = { absent = true } }", Not(Absent())),
        ('"${SERVICE}"', WEB),
    ],
)
def test_conditions_are_read_of_next_and_of_sinks(text: str, condition: Condition) -> None:
    when = {"service": condition}
    tier = read(wants(f"{{ service = {text} }}"), SERVICE="web").tiers["edge"]
    assert tier.next == ("aggregator", "archive")
    assert tier.route.branches == (Branch("aggregator", {}), Branch("archive", when))
    of_sink = read(sink(f"{{ service = {text} }}"), SERVICE="web").tiers["sink"].route
    assert of_sink.branches == (Branch("directory", when),)


def test_a_route_is_in_the_order_of_the_file_next_before_sinks() -> None:
    more = 'route = "first"\nunrouted = "drop"\n'
    more += '[[tiers.edge.sinks]]\ntype = "directory"\nroot = "/own"\nwhen = { service = "web" }'
    tier = read(edges('["archive", { tier = "aggregator", when = { dc = "x" } }]', more)).tiers
    route = tier["edge"].route
    assert [branch.output for branch in route.branches] == ["archive", "aggregator", "directory"]
    assert (route.first, route.unrouted) == (True, "drop")
    usual = tier["sink"].route
    assert (usual.first, usual.unrouted) == (False, "dead")
    assert usual.of({}).outputs == ("directory",)


def test_one_table_is_enough() -> None:
    table = '{ tier = "aggregator", when = { service = "web" } }'
    tier = read(good(('next = "aggregator"', f"next = {table}"))).tiers["edge"]
    assert tier.route.branches == (Branch("aggregator", {"service": WEB}),)


PLACE = "tiers.edge.next[1].when"


@pytest.mark.parametrize(
    ("text", "key", "wanted", "found", "hint"),
    [
        (wants("3"), PLACE, "headers and what", "3", ""),
        (wants("{}"), PLACE, 'such as { service = "web" }', "an empty table", ""),
        (wants(f"{{ {MANY} }}"), PLACE, f"at most {HEADERS_MAX} headers", "65", ""),
        (wants("{ service = 7 }"), f"{PLACE}.service", "a text, a list", "7", 'write "7"'),
        (wants("{ service = [] }"), f"{PLACE}.service", "1 to 1000 texts", "an empty list", ""),
        (wants('{ service = ["a", 1] }'), f"{PLACE}.service", "texts", "1", ""),
        (wants("{ service = true }"), f"{PLACE}.service", "a text, a list", "true", ""),
        (wants("{ service = {} }"), f"{PLACE}.service", "{ glob", "an empty table", ""),
        (wants('{ service = { globe = "x" } }'), f"{PLACE}.service.globe", "one of glob, absent",
         "unknown key 'globe'", "'glob'"),
        (wants('{ service = { glob = "x", absent = true } }'), f"{PLACE}.service", "{ not = ... }",
         "a table of 2 keys", ""),
        (wants('{ service = { glob = "" } }'), f"{PLACE}.service.glob", "1 to 1000", "''", ""),
        (wants("{ service = { glob = 3 } }"), f"{PLACE}.service.glob", "`*`", "3", ""),
        (wants("{ service = { absent = false } }"), f"{PLACE}.service.absent", "true", "false",
         "{ not = { absent = true } }"),
        (wants('{ service = { absent = "yes" } }'), f"{PLACE}.service.absent", "true", "'yes'", ""),
        (wants("{ service = { not = 3 } }"), f"{PLACE}.service.not", "a text", "3", ""),
        (wants(f'{{ service = "{"x" * (HEADER_BYTES_MAX + 1)}" }}'), f"{PLACE}.service",
         f"at most {HEADER_BYTES_MAX} bytes", "xxx", ""),
        (edges('["aggregator", { tier = "archve" }]'), "tiers.edge.next[1].tier",
         "the name of a tier", "'archve'", "'archive'"),
        (edges('[{ tier = "archive" }, "archive"]'), "tiers.edge.next[1]", "once", "again", ""),
        (edges('["aggregator", { tier = "archive", wen = 3 }]'), "tiers.edge.next[1].wen",
         "one of tier, when", "unknown key 'wen'", "'when'"),
        (edges('["aggregator", { when = { a = "b" } }]'), "tiers.edge.next[1].tier",
         "The tier to send to".lower(), "nothing", ""),
        (sink("[]"), "tiers.sink.sinks[0].when", "a table", "an empty list", ""),
        (sink("{}"), "tiers.sink.sinks[0].when", "headers and what", "an empty table", ""),
        (sink("{ service = 3 }"), "tiers.sink.sinks[0].when.service", "a text", "3", ""),
        (edges('["aggregator", "archive"]', 'route = "one"'), "tiers.edge.route",
         "'all' or 'first'", "'one'", ""),
        (edges('["aggregator", "archive"]', 'unrouted = "lose"'), "tiers.edge.unrouted",
         "'dead' or 'drop'", "'lose'", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(
    text: str, key: str, wanted: str, found: str, hint: str
) -> None:
    said = [each for each in problems(text) if each.key == key]
    assert len(said) == 1, problems(text)
    (one,) = said
    assert wanted in one.wanted
    assert found in one.found
    assert hint in one.hint


def test_all_of_it_is_said_at_once() -> None:
    text = wants('{ service = 3, dc = { globe = "x" }, env = [] }')
    assert [one.key for one in problems(text)] == [
        f"{PLACE}.service",
        f"{PLACE}.dc.globe",
        f"{PLACE}.env",
    ]


def test_one_wrong_condition_is_the_only_thing_that_is_wrong() -> None:
    assert problem(wants("{ service = 3 }")).key == f"{PLACE}.service"


@pytest.mark.parametrize(
    ("following", "more", "keys"),
    [
        ('["aggregator", { tier = "archive", when = { service = "web" } }]', "", ("next",)),
        ('["archive", "aggregator"]', "", ()),  # makes no difference where all get all
        ('["archive", "aggregator"]', 'route = "first"', ("next", "route")),
        ('["aggregator", "archive"]', 'unrouted = "drop"', ("unrouted",)),
    ],
)
def test_what_differs_is_named(following: str, more: str, keys: tuple[str, ...]) -> None:
    old, new = read(edges('["aggregator", "archive"]')), read(edges(following, more))
    assert differences(old, new, "edge-1").at_once == tuple(f"tiers.edge.{key}" for key in keys)
    assert not differences(old, new, "agg-1")


def test_when_of_a_sink_is_of_the_sinks() -> None:
    changed = differences(read(good()), read(sink('{ service = "web" }')), "sink-1")
    assert changed.at_once == ("tiers.sink.sinks",)


def test_an_output_out_of_reach_is_a_finding() -> None:
    text = edges('["aggregator", { tier = "archive", when = { service = "web" } }]')
    assert findings(read(text), None) == []
    text = text.replace("next = [", 'route = "first"\nnext = [')
    (said,) = findings(read(text), None)
    assert "tier edge: archive never gets a batch: aggregator, before it, wants all" in said
    assert findings_of(read(text), "edge-1", None) == [said]
    assert findings_of(read(text), "agg-1", None) == []


def test_a_header_that_no_source_sets_is_a_finding() -> None:
    (said,) = findings(read(wants('{ servce = "web" }')), None)
    assert "archive asks for header 'servce', which no source of edge" in said
    assert said.endswith("did you mean 'service'?")
    more = '[[tiers.edge.interceptors]]\ntype = "host"\n'
    assert findings(read(wants('{ host = "a" }') + more), None) == []
    own = '[[agents.edge-1.sources]]\ntype = "generate"\nname = "own"\nheaders = { dc = "x" }\n'
    assert findings(read(sink('{ dc = "a" }') + own), None) == []


def test_check_shows_who_gets_what(tmp_path: Path) -> None:
    file = tmp_path / "topology.toml"
    file.write_text(wants('{ service = { not = ["web", "api"] } }'))
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 0, result.output
    assert 'old-1 127.0.0.1:7420, when { service = { not = ["api", "web"] } }' in result.output
    assert "each output that wants it; what none wants goes to the dead letters" in result.output
    file.write_text(sink('{ service = "web" }'))
    assert 'when { service = "web" }' in CliRunner().invoke(main, ["check", str(file)]).output
    file.write_text(good())
    assert "batch goes to" not in CliRunner().invoke(main, ["check", str(file)]).output


@pytest.mark.parametrize("text", ['"web"', '["a", "b"]', '{ not = { glob = "w*" } }'])
def test_a_condition_that_is_written_reads_back(text: str) -> None:
    (branch,) = read(sink(f"{{ service = {text} }}")).tiers["sink"].route.branches
    assert write(in_file(branch.when["service"])) == text
