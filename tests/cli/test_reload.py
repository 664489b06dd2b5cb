"""`tiers reload`: who runs by the file, who refused it, who is not there."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_agent import agent
from tests.waiting import wait_for
from tiers.cli import main
from tiers.observe.client import ask_now


def reload(root: Path, *options: str) -> Result:
    arguments = ["reload", str(root / "one.toml"), "--data", str(root / "data"), *options]
    return CliRunner().invoke(main, arguments)


def is_up(root: Path) -> bool:
    return isinstance(ask_now(root / "data" / "node"), dict)


def test_an_edit_is_in_force_and_what_wants_a_restart_is_named(tmp_path: Path) -> None:
    with agent(tmp_path):
        wait_for(lambda: is_up(tmp_path), "it answers")
        file = tmp_path / "one.toml"
        more = '[batch]\nlinger = "1s"\n[delivery]\nguarantee = "end"\n'
        file.write_text(file.read_text() + more)
        result = reload(tmp_path, "--within", "60")
        assert result.exit_code == 0, result.output
        words = r"node: in force, generation (2|3); with a restart: delivery\.guarantee\n"
        assert re.fullmatch(words, result.output), "once or twice: it may have seen that by itself"
        (told,) = json.loads(reload(tmp_path, "--json", "--within", "60").output)["agents"]
        assert told["in_force"]
        assert told["restart"] == ["delivery.guarantee"]


def test_what_an_agent_refuses_is_said_with_its_reason(tmp_path: Path) -> None:
    """It goes on by the file that it has, and the other was never told to anybody."""
    with agent(tmp_path):
        wait_for(lambda: is_up(tmp_path), "it answers")
        file = tmp_path / "one.toml"
        right = file.read_text()
        file.write_text(right.replace('name = "one"', 'name = "two"'))
        result = reload(tmp_path, "--within", "60")
        assert result.exit_code == 1
        assert "node: refused: " in result.output
        assert "name is 'two', was 'one'" in result.output
        file.write_text(right.replace("[[tiers.all.sinks]]", "[[tiers.all.sinkz]]"))
        wrong = reload(tmp_path)
        assert wrong.exit_code == 2
        assert "sinkz" in wrong.output
        file.write_text(right)
        assert reload(tmp_path, "--within", "60").exit_code == 0


def test_one_that_follows_another_file_is_waited_for_so_long(tmp_path: Path) -> None:
    with agent(tmp_path):
        wait_for(lambda: is_up(tmp_path), "it answers")
        text = (tmp_path / "one.toml").read_text()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "one.toml").write_text(f"# mine\n{text}")
        arguments = [str(tmp_path / "elsewhere" / "one.toml"), "--data", str(tmp_path / "data")]
        result = CliRunner().invoke(main, ["reload", *arguments, "--within", "0.5"])
        assert result.exit_code == 1
        assert result.output == "node: runs by another file\n"


@pytest.mark.parametrize("made", [False, True])
def test_nobody_at_home(tmp_path: Path, made: bool) -> None:
    with agent(tmp_path):
        wait_for(lambda: is_up(tmp_path), "it answers")
    if made:
        (tmp_path / "data" / "node").mkdir(exist_ok=True, parents=True)
    result = reload(tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("node: not running")
