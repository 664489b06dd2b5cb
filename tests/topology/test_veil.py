"""What the environment holds is not shown."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.topologies import good, problem
from tiers.cli import main
from tiers.errors import ConfigError
from tiers.topology import load
from tiers.topology.veil import Veil

SECRET = "hunter2-and-more"
URL = '[[tiers.sink.sinks]]\ntype = "hdfs"\nname = "h"\nurl = "{}"\nroot = "/logs"\n'


@pytest.mark.parametrize(
    ("values", "text", "shown"),
    [
        ({"A": SECRET}, f"http://me:{SECRET}@nn", "http://me:${A}@nn"),
        ({"A": SECRET}, f"{SECRET}{SECRET}", "${A}${A}"),
        ({"A": "a'b\nc"}, repr("x" + "a'b\nc"), '"x${A}"'),
        ({"A": "80"}, "127.0.0.1:80 and 8080", "127.0.0.1:${A} and 8080"),
        ({"A": "abc", "B": "abcdef"}, "abcdef abc", "${B} ${A}"),
        ({"A": "AAAA", "B": "${A}"}, "AAAA", "${A}"),
        ({"A": "A", "B": "$"}, "$ A", "${B} ${A}"),
        ({"A": ""}, "text", "text"),
        ({}, "text", "text"),
    ],
)
def test_what_is_hidden(values: dict[str, str], text: str, shown: str) -> None:
    assert Veil(values).hide(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        good(("127.0.0.1:7400", "${PASS}")),
        good(("127.0.0.1:7400", "x-${PASS}-y")),
        good(more='[batch]\nsize = "${PASS}"'),
        good(more='[batch]\ncodec = "${PASS}"'),
        good(('"/data/logs"', '["${PASS}"]'), ('path = "', 'path = "{${PASS}}')),
        good(('"aggregator"', '"${PASS}"')),
        good(more=URL.format("http://me:${PASS}@nn1:9870,http://nn2:9870")),
        good(more=URL.format("http://me:${PASS}@nn1:9870/" + "x" * 300)),
        good(('path = "', 'path = "{x}/${PASS}/%Q')),
        good(('"edge-1"', '"${PASS}", "${PASS}"')),
        good(more='[[tiers.edge.sources]]\ntype = "tail"\npaths = ["~/${PASS}"]'),
        good(more='[[tiers.edge.sources]]\ntype = "${PASS}"'),
    ],
)
def test_no_error_shows_a_value(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.toml"
    file.write_text(text)
    for secret in (SECRET, "long" * 200):
        with pytest.raises(ConfigError) as caught:
            load(file, {"PASS": secret})
        assert secret[:8] not in str(caught.value)


def test_check_shows_names_in_place_of_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.toml"
    url = URL.format("http://me:${PASS}@nn1:9870;http://${PASS}:x@nn2:9870")
    file.write_text(good(('"web"', '"${PASS}"'), ("/data/logs", "/data/${PASS}"), more=url))
    monkeypatch.setenv("PASS", SECRET)
    for more in ([], ["--json"]):
        result = CliRunner().invoke(main, ["check", str(file), *more])
        assert result.exit_code == 0, result.output
        assert SECRET not in result.output
        assert "/data/${PASS}" in result.output
        assert "http://***@nn1:9870" in result.output


def test_a_value_that_is_no_text_is_a_problem() -> None:
    one = problem(good(('"/data/logs"', '"/data/${X}"')), X=os.fsdecode(b"caf\xe9"))
    assert "UTF-8 in the variable X" in one.wanted
