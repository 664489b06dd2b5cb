"""`tiers check`, and what holds for every command: quick help, errors for people."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.topologies import GOOD, good
from tiers.cli import COMMANDS, main

HEAVY = ("zmq", "lmdb", "pydantic", "aiohttp", "rich", "requests", "inotify_simple", "zstandard")


def tiers(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "topology.toml"
    path.write_text(GOOD)
    return path


def test_check_shows_what_a_good_file_means(file: Path) -> None:
    more = '[[tiers.edge.interceptors]]\ntype = "host"\n'
    more += (
        '[delivery]\nwindow = "8MiB"\n[agents.agg-2]\nlisten = "127.0.0.2:1"\nstatus = "[::1]:2"'
    )
    file.write_text(good(more=more))
    result = tiers("check", file, "--data", "/var/lib/tiers")
    assert result.exit_code == 0, result.output
    shown = result.output
    assert "web-logs is right: 3 tiers, 6 agents" in shown
    assert "tier aggregator, from edge" in shown
    assert "agent edge-1, files in /var/lib/tiers/edge-1" in shown
    assert "source generate, headers service=web, through host" in shown
    assert "to tier aggregator: agg-1 127.0.0.1:7400, agg-2 127.0.0.1:7402" in shown
    assert "agent agg-2, at 127.0.0.1:7402, listens on 127.0.0.2:1, status on [::1]:2" in shown
    assert "to sink directory: directory /data/logs, path {service}/%Y/%m/%d/%H" in shown
    assert "delivery.window = 8MiB (default 16MiB)" in shown
    assert "delivery.heartbeat" not in shown
    assert shown.index("tier edge") < shown.index("tier aggregator") < shown.index("tier sink")


def test_check_prints_json_for_programs(file: Path) -> None:
    facts = json.loads(tiers("check", file, "--json").output)
    assert facts["ok"] is True
    assert facts["name"] == "web-logs"
    assert [tier["name"] for tier in facts["tiers"]] == ["edge", "aggregator", "sink"]
    assert facts["tiers"][1]["agents"][0]["address"] == "127.0.0.1:7400"
    assert facts["tiers"][0]["outputs"] == [
        {
            "name": "aggregator",
            "kind": "sender",
            "peers": {"agg-1": "127.0.0.1:7400", "agg-2": "127.0.0.1:7402"},
            "when": {},
        }
    ]
    assert (facts["tiers"][0]["route"], facts["tiers"][0]["unrouted"]) == ("all", "dead")
    assert facts["limits"] == {}


def test_check_says_of_sinks_without_a_store_what_they_do(file: Path) -> None:
    sinks = (("sink", "null"), ("edge", "stdout"), ("sink", "stdout"))
    more = "".join(f'[[tiers.{tier}.sinks]]\ntype = "{kind}"\n' for tier, kind in sinks)
    file.write_text(good(more=more))
    result = tiers("check", file)
    assert result.exit_code == 0, result.output
    assert "  to sink null: delivers nowhere, on purpose\n" in result.output
    said = "  to sink stdout: standard output gets each event at least once, and cannot be asked"
    assert result.output.count(said) == 2, "a place that two tiers may have"


def test_check_says_all_errors_on_stderr_and_ends_with_2(file: Path) -> None:
    file.write_text(
        good(('"aggregator"', '"agregator"'), ("{service}", "{host}"), (":7402", ":1x"))
    )
    result = tiers("check", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"Error: {file}: tiers.edge.next: wanted the name of a tier; found ")
    assert "did you mean 'aggregator'?" in result.stderr
    assert "tiers.aggregator.agents.agg-2" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_gives_errors_as_json_too(file: Path) -> None:
    file.write_text(good(("next =", "nxt =")))
    result = tiers("check", file, "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["problems"][0]["key"] == "tiers.edge.nxt"
    assert told["problems"][0]["hint"] == "did you mean 'next'?"


def test_check_of_an_examples_name_tells_its_file() -> None:
    result = tiers("check", "no-such-place/quickstart")
    assert result.exit_code == 2
    assert "did you mean the shipped example" in result.stderr


def test_check_notes_what_is_no_error_and_worth_knowing(file: Path) -> None:
    text = GOOD.replace("127.0.0.1:741", "10.0.0.1:741").replace("10.0.0.1:7412", "10.0.0.2:7412")
    file.write_text("insecure = true\n" + text)
    shown = tiers("check", file).output
    assert "note: tiers.sink: directory /data/logs must be one and the same directory" in shown
    assert "note: insecure = true" in shown


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys\nfrom tiers.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('tiers.cli.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-2:] == ["[]", "[]"]
    for command in COMMANDS:
        assert f"\n  {command} " in run.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = tiers(name, "--help")
    assert result.exit_code == 0, result.output
    assert "Example" in result.output


def test_every_command_refuses_a_missing_file_without_a_traceback(tmp_path: Path) -> None:
    for command in ("up", "status", "audit", "check"):
        result = tiers(command, tmp_path / "nothing.toml")
        assert result.exit_code == 2, (command, result.output)
        assert "Error: " in result.stderr
        assert "nothing.toml" in result.stderr


def test_an_unknown_command_names_the_nearest() -> None:
    result = tiers("chek")
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.stderr


def test_version() -> None:
    assert tiers("--version").output.startswith("tiers, version ")


@pytest.mark.parametrize("name", [b"caf\xe9.toml", b"a\x1b[2Jb.toml", b"a\nb.toml"])
@pytest.mark.parametrize("text", ["", GOOD])
def test_a_file_of_any_name_is_shown_printable(tmp_path: Path, name: bytes, text: str) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_text(text)
    for more in ([], ["--json"]):
        command: list[str | bytes] = [sys.executable, "-m", "tiers", "check", path, *more]
        env = os.environ | {"PYTHONIOENCODING": "latin-1"}
        ended = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
        assert ended.returncode == (0 if text else 2), ended.stderr
        assert b"Traceback" not in ended.stderr
        assert b"\x1b" not in ended.stdout + ended.stderr
        assert b"\nb.toml" not in ended.stdout + ended.stderr


def test_a_reader_that_goes_and_a_full_disk_are_no_traceback(file: Path) -> None:
    command = f"{sys.executable} -m tiers check {file} --json"
    for redirected in ("> /dev/full", "| true", ">&-", "2>&- >&-"):
        shell = ["sh", "-c", f"{command} {redirected}"]
        ended = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in ended.stderr, redirected
