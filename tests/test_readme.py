"""The README is honest: what it shows is what there is. Figures are measured, not tested here."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import zmq

from tests.hostile.attacks import ATTACKS
from tiers.cli import main
from tiers.core.commit.manifest import MANIFEST_BYTES_MAX
from tiers.core.hop.messages import CONTROL_BYTES_MAX, GREETING_BYTES_MAX, IDS_MAX
from tiers.core.hop.peers import PEERS_MAX
from tiers.core.hop.purses import IN_SESSION, STRANGER
from tiers.core.hop.upstream import SENDERS_MAX
from tiers.core.hop.visitors import VisitorLimits
from tiers.observe.conditions import KINDS
from tiers.observe.door import CONNECTIONS_MAX, LIFE_S, RATE_PER_S
from tiers.observe.meters import Meters
from tiers.observe.metrics import table
from tiers.observe.snapshot import SCHEMA
from tiers.observe.status import StatusServer
from tiers.topology import parse, settings_table
from tiers.topology.conditions import read_when
from tiers.topology.findings import findings
from tiers.topology.load import FILE_BYTES_MAX
from tiers.topology.problems import Problems
from tiers.transport.backlog import BACKLOG_BYTES_MAX
from tiers.transport.receiving import BOUNDED_BY_GATE

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Its fenced blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def code() -> list[str]:
    """What stands between backticks in its text, tables left out, joined where lines break."""
    text = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]


def shell() -> list[str]:
    """Every line of a shell block, without its comment and without variables before it."""
    lines = [
        line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()
    ]
    return [re.sub(r"^([A-Z]+=\S+ )+", "", line) for line in lines if line]


# --- commands ------------------------------------------------------------------------------------


def commands() -> list[str]:
    shown = [line for line in [*shell(), *code()] if re.match(r"tiers [a-z]", line)]
    return sorted(set(shown))


def find(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and what is left of them."""
    found: click.Command = main
    context = click.Context(main)
    while isinstance(found, click.Group) and words:
        inner = found.get_command(context, words[0])
        assert inner is not None, f"no command {words[0]!r}"
        found, words = inner, words[1:]
    return found, words


def test_there_are_commands() -> None:
    names = {line.split()[1] for line in commands()}
    assert names >= {"agent", "audit", "channel", "check", "dead", "demo", "status", "up"}


@pytest.mark.parametrize("line", commands())
def test_a_command_that_is_shown_takes_what_is_shown(line: str) -> None:
    command, words = find(shlex.split(line)[1:])
    assert not isinstance(command, click.Group), f"{line}: which of its commands?"
    if words:
        # Parsing alone: nothing is run, and its files need not be there.
        values, left, _ = command.make_parser(click.Context(command)).parse_args(words)
        assert left == []
        required = [str(one.name) for one in command.params if one.required]
        assert all(isinstance(values.get(name), str) for name in required), line


OF_SCRIPTS = {
    "scripts/hdfs": ["--dir"],
    "scripts/benchmark/__main__.py": ["--runs", "--at-once"],
    "tests/tailing/__main__.py": ["--copies"],
    "tests/chaos/__main__.py": ["--hdfs", "--end", "--minutes", "--seed"],
    "tests/search/__main__.py": ["--hop", "--disk", "--sinks", "--files", "--troubles"],
    "tests/mutation/__main__.py": ["--seed", "--count"],
    "tests/simulation/__main__.py": [
        *("--seeds", "--topology", "--planted", "--lives", "--twice", "--reloads"),
    ],
    "tests/reloads/__main__.py": ["--times", "--seed"],
}


def test_every_option_that_is_named_is_some_commands() -> None:
    # The others are of scripts.
    known = {"--help", *(option for options in OF_SCRIPTS.values() for option in options)}
    for name in main.list_commands(click.Context(main)):
        command, _ = find([name])
        inner = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        known |= {option for one in inner for parameter in one.params for option in parameter.opts}
    named = {word for piece in code() for word in re.findall(r"--[a-z][a-z-]*", piece)}
    assert named, "none is named at all"
    assert named <= known
    for place, options in OF_SCRIPTS.items():
        text = (ROOT / place).read_text()
        assert all(option in text for option in options), place


# --- files ---------------------------------------------------------------------------------------


def paths() -> list[str]:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    words = [word for piece in [*shell(), *code()] for word in piece.split()]
    ours = re.compile(r"(scripts|tests|tiers|topologies|\.ci)/[\w./-]*")
    return sorted({*links, *(word for word in words if ours.fullmatch(word))})


def test_every_file_that_is_named_is_there() -> None:
    found = paths()
    assert {"scripts/demo", "scripts/test", "topologies/hdfs.toml"} <= {*found}
    assert [path for path in found if not (ROOT / path).exists()] == []


def test_scripts_that_are_shown_can_be_run() -> None:
    scripts = {line.split()[0] for line in shell() if line.startswith("scripts/")}
    assert scripts >= {"scripts/demo", "scripts/test", "scripts/hdfs"}
    assert all((ROOT / script).stat().st_mode & 0o111 for script in scripts)


# --- what it quotes ------------------------------------------------------------------------------


def test_its_topology_is_right() -> None:
    whole = [block for block in blocks("toml") if block.startswith("name =")]
    assert whole
    for text in whole:
        topology = parse(text, "README.md", {})
        assert topology.order() == ("edge", "aggregator", "sink")
        assert [len(topology.tiers[tier].agents) for tier in topology.order()] == [2, 2, 2]


AROUND_ROUTES = """
name = "x"
insecure = true
[tiers.edge]
agents = ["edge-1"]
next = "aggregator"
[[tiers.edge.sources]]
type = "generate"
headers = { level = "error", service = "auth-ssh", env = "prod" }
[tiers.sink]
agents = { sink-1 = "10.0.0.12:7400" }
[[tiers.sink.sinks]]
type = "directory"
root = "/sink"
[tiers.alerts]
agents = { alerts-1 = "10.0.0.13:7400" }
[[tiers.alerts.sinks]]
type = "directory"
root = "/alerts"
"""


def test_its_routes_are_right() -> None:
    (shown,) = (block for block in blocks("toml") if "when = " in block)
    topology = parse(AROUND_ROUTES + shown, "README.md", {})
    route = topology.tiers["aggregator"].route
    headers = {"level": "error", "service": "auth-ssh", "env": "prod"}
    assert route.of(headers).outputs == ("sink", "alerts", "directory")
    assert route.of(headers | {"level": "info", "env": "dev"}).outputs == ("sink",)
    assert findings(topology, None) == []


def test_its_conditions_are_right() -> None:
    section = README.partition("\n## Routes\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(\w+ = [^`]*)` \|", section, re.MULTILINE)
    assert len(shown) == 5
    for text in shown:
        problems = Problems()
        assert read_when(tomllib.loads(text), "when", problems)
        assert problems.found == []


def test_entry_points_are_those_that_are_looked_up() -> None:
    from tiers import interceptors, sinks, sources

    groups = re.findall(r'^\[project\.entry-points\."([^"]+)"\]$', README, re.MULTILINE)
    assert groups
    assert {*groups} <= {sources.GROUP, interceptors.GROUP, sinks.GROUP}


def test_its_tables_of_settings_are_those_of_the_models() -> None:
    assert settings_table().strip() in README, "print(tiers.topology.settings_table()) has changed"


def test_its_table_of_numbers_is_that_of_the_registry() -> None:
    assert table() in README, "print(tiers.observe.metrics.table()) has changed"


def test_every_path_that_is_answered_to_is_in_its_table() -> None:
    server = StatusServer(dict, dict, Meters(), list, lambda: None, ROOT, None)
    shown = {*re.findall(r"^\| `(/\w+)` \|", README, re.MULTILINE)}
    assert shown == {route.path for route in server._routes(local=False)} - {"/drain"}
    assert f"`schema` is {SCHEMA}" in README


def test_its_log4j2_xml_is_the_one_that_is_tested_with_a_real_log4j() -> None:
    (shown,) = blocks("xml")
    assert shown == (ROOT / "tests" / "sources" / "log4j" / "log4j2.xml").read_text()
    assert 'port="${sys:port:-5514}"' in shown


def test_no_place_was_left_to_be_filled() -> None:
    assert re.findall(r"^(SETTINGS|LOG4J)$", README, re.MULTILINE) == []


def test_every_condition_is_in_its_table() -> None:
    for code, kind in KINDS.items():
        unhealthy = "yes" if kind.unhealthy else "no"
        assert f"| `{code}` | {unhealthy} | {kind.doing} | {kind.todo or '-'} |" in README


# --- limits --------------------------------------------------------------------------------------


def limits() -> dict[str, str]:
    """The table of "Strangers"."""
    section = README.partition("\n## Strangers\n")[2].partition("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| ")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("strangers' connections", f"{VisitorLimits().strangers_max:,} at most"),
        ("bytes that came from strangers", f"{VisitorLimits().bytes_max >> 20} MiB together"),
        ("silence", f"{VisitorLimits().silence_s:.0f} s"),
        ("a handshake", f"{BOUNDED_BY_GATE[zmq.HANDSHAKE_IVL]!s:.1} s"),
        ("a control message", f"{CONTROL_BYTES_MAX >> 10} KiB"),
        ("a control message", f"{GREETING_BYTES_MAX >> 10} KiB from a stranger"),
        ("how much a connection may say", f"{STRANGER.bytes_per_s >> 10} KiB a second"),
        ("how much a connection may say", f"a session {IN_SESSION.bytes_per_s >> 10} KiB a second"),
        ("ids of batches", f"{4 * IDS_MAX:,}"),
        ("senders of one receiver", f"{SENDERS_MAX:,}"),
        ("peers of one agent", f"{PEERS_MAX:,}"),
        ("what a peer says", f"{BACKLOG_BYTES_MAX >> 20} MiB"),
        ("connections to the status", f"{CONNECTIONS_MAX} each, of at most {LIFE_S:.0f} s"),
        ("connections to the status", f"{RATE_PER_S:.0f} a second"),
        ("a topology file", f"at most {FILE_BYTES_MAX >> 20} MiB"),
        ("another sink's manifest", f"{MANIFEST_BYTES_MAX >> 20} MiB"),
    ],
)
def test_limits_are_as_the_code_has_them(of: str, said: str) -> None:
    (limit,) = (text for name, text in limits().items() if name.startswith(of))
    assert said in limit


def test_every_attack_is_in_the_table() -> None:
    assert all(f"| {name} |" in README for name in ATTACKS)
