"""Paths, directories, sizes and numbers as people write them: what cannot be meant is said."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.topologies import good, problem, problems
from tiers.cli import main
from tiers.errors import ConfigError
from tiers.host.path_names import parse_directory, wrong_path
from tiers.topology import parse
from tiers.topology.load import data_directory

TAIL = '[[agents.edge-1.sources]]\ntype = "tail"\npaths = ["/a.log"]\n'
SYSLOG = '[[agents.edge-1.sources]]\ntype = "syslog"\n'
HDFS = '[[tiers.sink.sinks]]\ntype = "hdfs"\nurl = "http://nn:9870"\nroot = "/logs"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"), (" ", "blanks"), ("/a ", "blanks"), ("/a\x00b", "'\\x00'"),
        ("/a\nb", "'\\n'"), ("'/a'", "write '/a'"), ('"/a"', "write '/a'"), ("file:///a", "URL"),
        ("hdfs://nn/a", "URL"), ("~/a", "${HOME}"), ("$HOME/a", "${HOME}"), ("/a,/b", "several"),
        ("/a, /b", "several"), ("/a;/b", "several"), ("/a.log /b.log", "several"),
        ("/a.log:/b.log", "several"), ("/a/*:/b/*", "several"), ("[/a, /b]", "several"),
        ("C:\\a", "no path"), (f"/{'x' * 256}", "255"), ("/x" * 2000, "3500"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_path_is_said(text: str, said: str) -> None:
    assert said in wrong_path(text, "/a")
    with pytest.raises(ValueError, match="the path of a directory"):
        parse_directory(text)


@pytest.mark.parametrize("text", ["/a b/c", "/mnt/c:/logs", "/a,b/c", "a/b", ".", "/a/é"])
def test_what_may_be_a_path_is_taken(text: str) -> None:
    assert wrong_path(text, "/a") == ""
    assert parse_directory(text) == Path(text)


@pytest.mark.parametrize(
    ("more", "key", "said"),
    [
        ('data = ""', "data", "directory"),
        ('data = "${EMPTY}"', "data", "directory"),
        ('[agents.edge-1]\ndata = "$HOME/x"', "agents.edge-1.data", "${HOME}"),
        (TAIL + 'file_header = ""', "agents.edge-1.sources[0].headers", "a header's name"),
        (TAIL + 'file_header = "a\\nb"', "agents.edge-1.sources[0].headers", "printable"),
        (TAIL + 'file_header = "f"\nheaders = { f = "x" }', "agents.edge-1.sources[0].file_header",
         "another header"),
        (TAIL + 'rescan = "300d"', "agents.edge-1.sources[0].rescan", "at most 1h"),
        (TAIL + 'rescan = "1us"', "agents.edge-1.sources[0].rescan", "at least 1ms"),
        (TAIL + 'rotate_wait = 1e300', "agents.edge-1.sources[0].rotate_wait", "at most 3650d"),
        (TAIL + 'name = ""', "agents.edge-1.sources[0].name", "a name"),
        (TAIL + "name = []", "agents.edge-1.sources[0].name", "a text"),
        (SYSLOG + 'listen = "*:5514"', "agents.edge-1.sources[0].listen", '"0.0.0.0:5514"'),
        (SYSLOG + 'listen = " 127.0.0.1:5514"', "agents.edge-1.sources[0].listen", "an address"),
        (SYSLOG + "idle_after = 0", "agents.edge-1.sources[0].idle_after", "at least 100ms"),
        (SYSLOG + 'receive_buffer = "4GiB"', "agents.edge-1.sources[0].receive_buffer", "1GiB"),
        (SYSLOG + "unfinished_size_max = 0", "agents.edge-1.sources[0].unfinished_size_max",
         "64KiB"),
        (SYSLOG + SYSLOG + 'name = "b"', "agents.edge-1.sources[1].listen", "of its own"),
        (SYSLOG + '[agents.edge-1]\nstatus = "127.0.0.1:5514"', "agents.edge-1.sources[0].listen",
         "of its own"),
        (HDFS + 'user = "a b"', "tiers.sink.sinks[1].user", "a user"),
        (HDFS.replace('"/logs"', '"/a:b"'), "tiers.sink.sinks[1].root", "HDFS takes"),
        (HDFS + 'extension = ".log"', "tiers.sink.sinks[1].extension", "the end of names"),
        (HDFS + 'path = "%Y "', "tiers.sink.sinks[1].path", "blanks"),
        (HDFS + "writers = true", "tiers.sink.sinks[1].writers", "a whole number"),
        ("insecure = 1", "insecure", "true or false"),
        ("[batch]\nlevel = true", "batch.level", "a whole number"),
        ("[batch]\nsize = 1", "batch.size", "at least 2B"),
        ("[channel]\nhigh = true", "channel.high", "a number"),
        ("[channel]\nhigh = nan", "channel.high", "a finite number"),
        ('[channel]\nfree_floor = "2000TiB"', "channel.free_floor", "at most 1024TiB"),
        ('[delivery]\nheartbeat = "1us"', "delivery.heartbeat", "at least 10ms"),
        ("[delivery]\nstalled_after = 0.1", "delivery.stalled_after", "at least 1s"),
    ],
)  # fmt: skip
def test_values_that_nobody_can_mean_are_refused(more: str, key: str, said: str) -> None:
    top = more.startswith(("data", "insecure"))
    text = f"{more}\n{good()}" if top else good(more=more)
    with pytest.raises(ConfigError) as caught:
        parse(text, env={"EMPTY": ""})
    assert [found.key for found in caught.value.problems] == [key]
    assert said in caught.value.problems[0].wanted


def test_two_sources_share_a_port_of_tcp_and_of_udp() -> None:
    one = '[[tiers.edge.sources]]\ntype = "syslog"\nname = "{0}"\ntransports = ["{0}"]\n'
    assert problems(good(more=one.format("udp") + one.format("tcp"))) == []


def test_a_source_on_a_port_of_its_agent_is_told_of_both() -> None:
    text = good(more=SYSLOG.replace("edge-1", "agg-1") + 'listen = "127.0.0.1:7401"')
    assert "control port of agg-1 and source syslog of agg-1" in problem(text).found


@pytest.mark.parametrize("said", ["", "${", "${A}{B", "~/x", "a\\u0000"])
def test_a_directory_that_is_none_is_not_looked_into(said: str) -> None:
    assert data_directory(f'data = "{said}"'.encode(), "edge-1", None) is None


def test_an_empty_directory_on_the_command_line_is_refused() -> None:
    result = CliRunner().invoke(main, ["up", "x.toml", "--data", ""])
    assert result.exit_code == 2
    assert "the path of a directory" in result.output


def test_a_directory_that_is_called_like_a_pattern_is_one(tmp_path: Path) -> None:
    named = tmp_path / "logs of 10*[ab]?"
    named.mkdir()
    assert parse_directory(str(named / "agents")) == named / "agents"
    with pytest.raises(ValueError, match="named in full"):
        parse_directory(str(tmp_path / "others*" / "agents"))
