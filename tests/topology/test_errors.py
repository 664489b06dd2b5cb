"""Every error of a topology file, each alone and all at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.topologies import GOOD, good, problem, problems
from tiers.core.batch import HEADER_BYTES_MAX
from tiers.errors import ConfigError, UsageError
from tiers.sinks import BUILTIN, directory
from tiers.sinks.sink import SinkOptions
from tiers.sources import generate
from tiers.sources.source import SourceOptions
from tiers.topology import load, parse

SINK = '\n[[tiers.sink.sinks]]\ntype = "directory"\n'
MANY = ", ".join(f'h{number} = "x"' for number in range(64))
ALMOST = ", ".join(f'h{number} = "{"x" * 4000}"' for number in range(8))
LOOP = (
    '[[tiers.edge.sources]]\ntype = "tail"\npaths = ["{paths}"]\n'
    '[[tiers.edge.sinks]]\ntype = "directory"\nroot = "{root}"\n'
)
TAIL = '[[agents.edge-1.sources]]\ntype = "tail"\n'
CHAIN = "[[agents.edge-1.sources.interceptors]]\n"
LONG = ", ".join(f'h{number} = "{"x" * 4000}"' for number in range(9))


def test_the_good_file_is_good() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("text", "key", "wanted", "found", "hint"),
    [
        # keys and types
        (good(("next =", "nxt =")), "tiers.edge.nxt", "one of agents, next", "'nxt'", "'next'"),
        (good(more="[delivry]"), "delivry", "one of name", "'delivry'", "'delivery'"),
        (good(more="[batch]\nlingr=1"), "batch.lingr", "linger", "'lingr'", "'linger'"),
        (good(more="[agents.edge-1]\nlisen=1"), "agents.edge-1.lisen", "", "", "'listen'"),
        (
            good(('path = "', 'pth = "')),
            "tiers.sink.sinks[0].pth",
            "path",
            "unknown key 'pth'",
            "'path'",
        ),
        (
            good(("headers =", "rate = 'x'\nheaders =")),
            "tiers.edge.sources[0].rate",
            "number",
            "'x'",
            "",
        ),
        (good(('name = "web-logs"', "")), "name", "Name of the topology".lower(), "nothing", ""),
        (good(('"web-logs"', "7")), "name", "a text", "7", ""),
        ('name = "x"\n[tiers]\nx = 3', "tiers.x", "a table", "3", ""),
        ('name = "x"', "tiers", "this key", "nothing", ""),
        ('name = "x"\n[tiers]', "tiers", "at least one", "none", ""),
        (good(("agents = [", "# ")), "tiers.edge.agents", "edge-1", "nothing", ""),
        (good(more="[batch]\nlevel = 99"), "batch.level", "at most 19", "99", ""),
        ("batch = 3\n" + GOOD, "batch", "a table", "3", ""),
        (good(more='[channel]\nsize = "8 potatoes"'), "channel.size", '"64MiB"', "potatoes", ""),
        (good(more="[channel]\nsize = inf"), "channel.size", "a size", "inf", ""),
        (good(more="[delivery]\nheartbeat = -1"), "delivery.heartbeat", "a duration", "-1", ""),
        (good(more="[delivery]\nfailover_after = true"), "delivery.failover_after", "", "true", ""),
        (good(more='[delivery]\nguarantee = "all"'), "delivery.guarantee", "'end'", "'all'", ""),
        (good(more='[delivery]\nlost_after = "1s"'), "delivery.lost_after", "2s", "1s", ""),
        (good(more='[batch]\ncodec = "lz4"'), "batch.codec", "'zstd', 'gzip' or 'none'", "", ""),
        (good(('"directory"', '"directry"')), "tiers.sink.sinks[0].type", "hdfs", "",
         "'directory'"),
        (good(('"generate"', '"tale"')), "tiers.edge.sources[0].type", "tail", "'tale'", "'tail'"),
        (good(('type = "generate"', "")), "tiers.edge.sources[0].type", "one of", "nothing", ""),
        # interceptors
        (good(more=f'{TAIL}paths = ["/a"]\n{CHAIN}type = "statik"'),
         "agents.edge-1.sources[0].interceptors[0].type", "one of host, remove", "", "static"),
        (good(more=f'{TAIL}paths = ["/a"]\ninterceptors = [3]'),
         "agents.edge-1.sources[0].interceptors[0]", "a table", "3", ""),
        (good(more=f'{TAIL}paths = ["/a"]\ninterceptors = "host"'),
         "agents.edge-1.sources[0].interceptors", "", "'host'", ""),
        (good(more=f'{TAIL}paths = ["/a"]\n{CHAIN}type = "static"'),
         "agents.edge-1.sources[0].interceptors[0].headers", "this key", "nothing", ""),
        (good(more=f'{TAIL}paths = ["/a"]\n{CHAIN}type = "host"\non_error = "x"'),
         "agents.edge-1.sources[0].interceptors[0].on_error", "'drop' or 'dead'", "'x'", ""),
        (good(more=f'{TAIL}paths = ["/a"]\n{CHAIN}type = "host"\n{CHAIN}type = "host"'),
         "agents.edge-1.sources[0].interceptors[1].name", "no other", "'host'", "`name`"),
        (good(more='[[tiers.edge.interceptors]]\ntype = "host"\n' * 2),
         "tiers.edge.interceptors[1].name", "no other interceptor", "'host'", "give each"),
        (good(more=f'{TAIL}paths = ["/a"]\nheaders = {{ {MANY} }}\n{CHAIN}type = "host"'),
         "agents.edge-1.sources[0].headers", "at most 64 headers with those", "65", ""),
        (good(more='[[tiers.edge.interceptors]]\ntype = "remove"\nheaders = ["service"]'),
         "tiers.sink.sinks[0].path", "headers that a source", "{service}", "no source there"),
        # names
        (good(('"web-logs"', '"web logs"')), "name", "letters, digits", "'web logs'", ""),
        (good(('"web-logs"', f'"{"x" * 65}"')), "name", "at most 64", "xxx", ""),
        (good(('"edge-1"', '"../edge"')), "tiers.edge.agents[0]", "a letter", "'../edge'", ""),
        (good(('"edge-1"', '"edge-2"')), "tiers.edge.agents[1]", "once", "'edge-2' again", ""),
        (good(('["edge-1", "edge-2"]', '"edge-1"')), "tiers.edge.agents", "a list", "",
         "agents = ['edge-1']"),
        (good(('["edge-1", "edge-2"]', "[]")), "tiers.edge.agents", "at least one", "none", ""),
        (good(("agg-2 =", "edge-1 =")), "tiers.aggregator.agents", "in one tier", "'edge'", ""),
        (good(more="[agents.agg-3]"), "agents.agg-3", "an agent", "'agg-3'", "'agg-"),
        # the graph
        (good(('"aggregator"', '"agregator"')), "tiers.edge.next", "a tier", "", "'aggregator'"),
        (good(('"aggregator"', '["aggregator", "aggregator"]')), "tiers.edge.next[1]", "once", "",
         ""),
        (good(('next = "sink"', 'next = ["sink", "edge"]'),
              ('["edge-1", "edge-2"]', '{ edge-1 = "127.0.0.1:7500" }')),
         "tiers.edge.next", "no way back", "edge -> aggregator -> edge", ""),
        (good(('next = "sink"', 'next = ["sink", "aggregator"]')),
         "tiers.aggregator.next", "no way back", "aggregator -> aggregator", ""),
        (good(('"aggregator"', '["aggregator", "sink"]')), "tiers.edge.next",
         "one route from edge to sink", "edge -> aggregator -> sink and edge -> sink", ""),
        (good(('next = "sink"', ""), ('"aggregator"', '["aggregator", "sink"]')),
         "tiers.aggregator", "a next tier, or a sink", "neither", ""),
        (good(more='[tiers.x]\nagents = ["x"]\nnext = "sink"'), "tiers.x", "a source", "neither",
         ""),
        (good(('"127.0.0.1:7410", sink-2 = "127.0.0.1:7412" }', '"127.0.0.1:7410" }'),
              ('{ agg-1 = "127.0.0.1:7400", agg-2 = "127.0.0.1:7402" }', '["agg-1"]')),
         "tiers.aggregator.agents", "an address for agg-1: edge sends", "", 'agg-1 = "HOST:PORT"'),
        # addresses
        (good((":7402", "")), "tiers.aggregator.agents.agg-2", "10.0.0.11:7400", "'127.0.0.1'", ""),
        (good((":7402", ":65535")), "tiers.aggregator.agents.agg-2", "1 to 65534", "65535", ""),
        (good((":7402", ":0")), "tiers.aggregator.agents.agg-2", "a port from 1", ":0", ""),
        (good(("127.0.0.1:7402", "agg.example:7402")), "tiers.aggregator.agents.agg-2",
         "names are not looked up", "agg.example", ""),
        (good(("127.0.0.1:7402", "::1:7402")), "tiers.aggregator.agents.agg-2", "[::1]:7400", "",
         ""),
        (good(('"127.0.0.1:7402"', "7402")), "tiers.aggregator.agents.agg-2", "an address", "7402",
         ""),
        (good((":7402", ":7400")), "tiers.aggregator.agents.agg-2", "of its own",
         "127.0.0.1:7400, data port of agg-1 and data port of agg-2", "two ports"),
        (good((":7402", ":7401")), "tiers.aggregator.agents.agg-2", "of its own",
         "127.0.0.1:7401, control port of agg-1 and data port of agg-2", ""),
        (good((":7412", ":7399")), "tiers.sink.agents.sink-2", "of its own",
         "127.0.0.1:7400, data port of agg-1 and control port of sink-2", ""),
        (good(more='[agents.agg-2]\nlisten = "localhost:7410"'), "tiers.sink.agents.sink-1",
         "of its own", "data port of agg-2", ""),
        (good(more='[agents.agg-2]\nstatus = "127.0.0.1:7411"'), "tiers.sink.agents.sink-1",
         "of its own", "status of agg-2", ""),
        (good(more='[agents.agg-2]\nstatus = "127.0.0.1:7402"'), "agents.agg-2.status",
         "of its own", "data port of agg-2", ""),
        (good(more='[agents.agg-2]\nlisten = ":7402"'), "agents.agg-2.listen", "an address", "",
         '"0.0.0.0:7402"'),
        (good(("127.0.0.1:7402", "10.0.0.1:7402")), "tiers.aggregator.agents.agg-2", "loopback",
         "10.0.0.1:7402", "insecure = true"),
        (good(more='[agents.agg-2]\nlisten = "0.0.0.0:7402"'), "agents.agg-2.listen", "loopback",
         "0.0.0.0:7402", "insecure = true"),
        (good(more='[agents.edge-1]\nstatus = "[::]:80"'), "agents.edge-1.status", "loopback",
         "[::]:80", "insecure = true"),
        ("insecure = true\n" + good(("127.0.0.1:7402", "0.0.0.0:7402")),
         "tiers.aggregator.agents.agg-2", "can reach", "0.0.0.0:7402", "[agents.agg-2]"),
        # sources and sinks
        (good(("headers", '[[tiers.edge.sources]]\ntype = "generate"\nheaders')),
         "tiers.edge.sources[1].name", "no other source of edge-1", "'generate'", "`name`"),
        (good(more='[[agents.edge-2.sources]]\ntype = "generate"'),
         "agents.edge-2.sources[0].name", "no other source of edge-2", "", "`name`"),
        (good(more=SINK + 'root = "/x"'), "tiers.sink.sinks[1].name", "no other output",
         "another sink 'directory'", "`name`"),
        (good(('root = "/data', 'name = "a/b"\nroot = "/data')), "tiers.sink.sinks[0].name",
         "letters", "'a/b'", ""),
        (good(more='[[tiers.edge.sinks]]\ntype = "directory"\nname="aggregator"\nroot="/x"'),
         "tiers.edge.sinks[0].name", "no other output", "the next tier 'aggregator'", ""),
        (good(more=SINK + 'name = "b"\nroot = "/data/logs"'), "tiers.sink.sinks[1].root",
         "of its own", "tiers.sink.sinks[0]", ""),
        (good(more='[[tiers.edge.sinks]]\ntype = "directory"\nroot="/data/../data/logs/x/"'),
         "tiers.sink.sinks[0].root", "not inside another", "directory /data/logs/x", ""),
        (good(more='[[agents.sink-1.sinks]]\ntype = "directory"'), "agents.sink-1.sinks",
         "one store", "", ""),
        (good(("{ service", "{ servce")), "tiers.sink.sinks[0].path", "headers that a source",
         "{service}", "'servce'"),
        (good(("headers = { service", "# ")), "tiers.sink.sinks[0].path", "headers that", "",
         "no source there sets any"),
        (good(("/%H", "/%H/%M")), "tiers.sink.sinks[0].path", "batch.time_bucket, 1h", "%M",
         'time_bucket = "1min"'),
        (good(("/%H", "/%H-%M-%S")), "tiers.sink.sinks[0].path", "1h", "%M, %S",
         'time_bucket = "1s"'),
        (good(more='[batch]\ntime_bucket = "1d"'), "tiers.sink.sinks[0].path", "1d", "%H", "1h"),
        (good(more='[batch]\ntime_bucket = "90min"'), "tiers.sink.sinks[0].path", "90min", "%H",
         ""),
        (good(("/%H", "/%Q")), "tiers.sink.sinks[0].path", "", "%Q", ""),
        (good(("/%H", "/{")), "tiers.sink.sinks[0].path", "", "{", ""),
        (good(('"web" }', f'"{"w" * (HEADER_BYTES_MAX + 1)}" }}')),
         "tiers.edge.sources[0].headers.service", "at most 4096 bytes", "www", ""),
        (good(("{ service", '{ "a/b" = "x", service')), "tiers.edge.sources[0].headers",
         "a header's name", "'a/b'", ""),
        (good(("{ service", f"{{ {MANY}, service")), "tiers.edge.sources[0].headers", "at most 64",
         "65", ""),
        (good(("{ service", f"{{ {LONG}, service")), "tiers.edge.sources[0].headers",
         "at most 32768 bytes", "3", ""),
        (good(more=f'{TAIL}paths = ["/a"]\nfile_header = "f"\nheaders = {{ {MANY} }}'),
         "agents.edge-1.sources[0].headers", "at most 64", "64 and f", ""),
        (good(more=f'{TAIL}paths = ["/a"]\nfile_header = "f"\nheaders = {{ {ALMOST} }}'),
         "agents.edge-1.sources[0].headers", "at most 32768", "with 4096 for f", ""),
        (good(more=f'{TAIL}paths = ["/a"]\nfile_header = "a/b"'),
         "agents.edge-1.sources[0].headers", "a header's name", "'a/b'", ""),
        (good(more=f'{TAIL}paths = ["/a.log", "~/b"]'), "agents.edge-1.sources[0].paths",
         "'~/b' has a '~', which is not filled in", "", ""),
        (good(more=LOOP.format(paths="/logs/**/*.log", root="/logs/out")),
         "tiers.edge.sources[1].paths", "what the agent itself writes", "'/logs/**/*.log'", ""),
        (good(more=LOOP.format(paths="/logs/*/*/*", root="/logs/out")),
         "tiers.edge.sources[1].paths", "what the agent itself writes", "below /logs/out", ""),
        # limits
        (good(more='[batch]\nevent_size = "2MiB"'), "batch.event_size", "at most batch.size, 1MiB",
         "2MiB", ""),
        (good(more='[batch]\nsize_max = "512KiB"'), "batch.size_max", "at least batch.size, 1MiB",
         "512KiB", ""),
        (good(more='[batch]\nsize_max = "17MiB"'), "batch.size_max", "at most 16MiB", "17825792",
         ""),
        (good(more='[batch]\nsize_max = "8MiB"\n[channel]\nsize = "9MiB"'), "channel.size",
         "four batches of batch.size_max", "9MiB", ""),
        (good(more='[batch]\nsize_max = "8MiB"\n[delivery]\nwindow = "8MiB"'),
         "delivery.window", "a batch of batch.size_max", "8MiB", ""),
        (good(more='[batch]\nsize_max = "8MiB"\n[delivery]\nmessage_size = "8MiB"'),
         "delivery.message_size", "bundle_size, and a batch", "8MiB", ""),
        (good(more='[batch]\ncodec = "gzip"\nlevel = 12'), "batch.level", "1 to 9", "12", ""),
        (good(more="[channel]\nlow = 0.9"), "channel.low", "less than channel.high, 0.9", "", ""),
        (good(more="[channel]\nhigh = 1.1"), "channel.high", "at most 1", "1.1", ""),
        (good(more='[channel]\nsize = "2MiB"'), "channel.size", "four batches", "2MiB", ""),
        (good(more='[delivery]\nwindow = "1MiB"'), "delivery.window", "a batch", "1MiB", ""),
        (good(more='[delivery]\nmessage_size = "2MiB"'), "delivery.message_size", "bundle_size",
         "2MiB", ""),
        (good(more='[delivery]\nheartbeat = "1.5s"'), "delivery.heartbeat", "at most half",
         "1500ms", ""),
        # variables
        (good(('"/data/logs"', '"${OUT}"')), "tiers.sink.sinks[0].root", "the variable OUT", "none",
         "${OUT:-...}"),
        (good(('"/data/logs"', '"${O T}"')), "tiers.sink.sinks[0].root", "${VAR}", "${O T}",
         "$${"),
        (good(('"/data/logs"', '"${A:-${B}}"')), "tiers.sink.sinks[0].root", "${VAR}", "", ""),
    ],
)  # fmt: skip
def test_one_error(text: str, key: str, wanted: str, found: str, hint: str) -> None:
    one = problem(text)
    assert one.key == key
    assert wanted in one.wanted
    assert found in one.found
    assert hint in one.hint


def test_all_errors_at_once() -> None:
    found = problems(
        good(
            ('name = "web-logs"', 'name = "web logs"\nsecure = true'),
            ('"aggregator"', '"agregator"'),
            (":7402", ":7401"),
            ("{service}", "{host}"),
            ('"generate"', '"generate"\nrate = "quick"'),
            more='[batch]\nlevel = 0\n[channel]\nlow = 0.95\n[agents.nobody]\nlisten = "x"',
        )
    )
    assert sorted(each.key for each in found) == [
        "agents.nobody",
        "agents.nobody.listen",
        "batch.level",
        "channel.low",
        "name",
        "secure",
        "tiers.aggregator.agents.agg-2",
        "tiers.edge.next",
        "tiers.edge.sources[0].rate",
    ]


def test_two_routes_over_different_tiers_are_told_where_they_part_and_meet() -> None:
    text = good(
        ('"aggregator"', '["aggregator", "other"]'),
        more='[tiers.other]\nagents = { o = "127.0.0.1:1" }\nnext = "sink"',
    )
    assert problem(text).found == "edge -> aggregator -> sink and edge -> other -> sink"


def test_tiers_that_meet_without_a_common_beginning_are_fine() -> None:
    more = '[tiers.other]\nagents = ["o"]\nnext = "sink"\n[[tiers.other.sources]]\ntype="generate"'
    assert problems(good(more=more)) == []


def test_agents_on_several_machines_may_listen_on_the_same_wildcard() -> None:
    text = "insecure = true\n" + good(
        ("127.0.0.1:7400", "10.0.0.1:7400"),
        ("127.0.0.1:7402", "10.0.0.2:7400"),
        more='[agents.agg-1]\nlisten = "0.0.0.0:7400"\nstatus = "0.0.0.0:80"\n'
        '[agents.agg-2]\nlisten = "0.0.0.0:7400"\nstatus = "0.0.0.0:80"',
    )
    assert problems(text) == []


def test_the_whole_of_loopback_needs_no_insecure() -> None:
    text = good(("127.0.0.1:7400", "[::1]:7400"), ("127.0.0.1:7402", "127.3.2.1:7400"))
    assert problems(text.replace("127.0.0.1:7410", "localhost:7410")) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('name = "x"\n[tiers.edge\n', "line 2"),
        ('name = "x"\nname = "y"\n', "line 2"),
        ("name = \n", "line 1"),
        ('name = "x', "end of document"),
    ],
)
def test_wrong_toml_names_its_line(text: str, line: str) -> None:
    one = problem(text)
    assert line in one.key
    assert one.wanted == "valid TOML"


def test_what_is_no_toml_at_all_is_a_problem_too(tmp_path: Path) -> None:
    file = tmp_path / "topology.toml"
    file.write_bytes(b'name = "x"\nother = "\xff"')
    with pytest.raises(ConfigError, match="line 2: wanted text in UTF-8; found byte 0xff"):
        load(file)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("x = " + "[" * 100_000, "too deep"),
        ("x = " + "[" * 100 + "]" * 100, "too deep"),
        (".".join(["x"] * 3000) + " = 1", "too deep"),
        ("x = " + "{x = " * 100 + "1" + "}" * 100, "too deep"),
        ("x = " + "9" * 5000, "too many digits"),
    ],
)
def test_what_no_reader_is_made_for_is_a_problem_too(value: str, found: str) -> None:
    assert found in problem(value).found


@pytest.mark.parametrize("name", ["UTF-16", "UTF-16-LE", "UTF-16-BE", "UTF-32"])
def test_another_encoding_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / "topology.toml"
    mark = "\ufeff" if name[-1] == "E" else ""
    file.write_bytes((mark + GOOD).encode(name))
    with pytest.raises(ConfigError, match=f"mark of {name[:6]}; save it as UTF-8"):
        load(file)


def test_a_byte_order_mark_before_utf8_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "topology.toml"
    file.write_bytes(GOOD.encode("utf-8-sig"))
    assert load(file) == replace(parse(GOOD), file=str(file), text=GOOD)


def test_values_of_a_wrong_kind_everywhere_are_problems_and_never_a_crash() -> None:
    wrong = ("3", '"x"', "true", "[]", "[3]", "{ a = 3 }", "2026-11-23", "nan")
    keys = ("tiers", "agents", "batch", "channel", "delivery", "name", "data", "insecure")
    for value in wrong:
        for key in keys:
            problems(f"{key} = {value}")
        for key in ("agents", "next", "sources", "sinks"):
            assert problems(f'name = "x"\n[tiers.a]\n{key} = {value}')
        for key in ("listen", "status", "data", "sources"):
            problems(good(more=f"[agents.edge-1]\n{key} = {value}"))


def test_a_missing_file_is_said_so_with_the_example_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no topology file .*nothing$"):
        load(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"did you mean the shipped example .*quickstart.toml\?"):
        load(tmp_path / "quickstart")
    with pytest.raises(UsageError, match="directory"):
        load(tmp_path)


def test_each_line_of_the_message_names_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("x = 1", "some.toml", {})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("some.toml: ") for line in lines)


def test_a_source_that_listens_beyond_loopback_needs_insecure_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ListeningOptions(SourceOptions):
        listen: str

        def listen_addresses(self) -> tuple[str, ...]:
            return (self.listen,)

    class Listening:
        Options = ListeningOptions

    monkeypatch.setattr(generate, "Generate", Listening)
    for loopback in ("127.0.0.1:514", "127.0.0.1:0", "localhost:514", "[::1]:514"):
        text = good(("headers", f'listen = "{loopback}"\nheaders'))
        assert problems(text) == []
    for beyond in ("0.0.0.0:514", "10.0.0.1:514", "[::]:514", "some.host:514"):
        text = good(("headers", f'listen = "{beyond}"\nheaders'))
        assert problem(text).key == "tiers.edge.sources[0]"
        assert "insecure = true" in problem(text).hint
        assert problems("insecure = true\n" + text) == []


def test_a_third_partys_sink_that_says_no_place_is_told_apart_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Other:
        Options = SinkOptions

    monkeypatch.setattr(directory, "DirectorySink", Other)
    text = good(
        ('root = "/data/logs"', ""),
        ('path = "{service}/%Y/%m/%d/%H"', 'name = "a"'),
        more='[[tiers.edge.sinks]]\ntype = "directory"\nname = "a"',
    )
    assert problem(text).wanted == "a root of its own"
    assert problems(text.replace('name = "a"', 'name = "b"', 1)) == []


def test_a_type_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTIN, "broken", "tiers.no_such_module:Broken")
    one = problem(good(('"directory"', '"broken"')))
    assert one.key == "tiers.sink.sinks[0].type"
    assert "tiers.no_such_module" in one.found


def test_a_thousand_peers_are_as_many_as_an_agent_can_have() -> None:
    def with_peers(count: int) -> str:
        agents = ", ".join(f'a{n} = "127.0.0.1:{10_000 + 2 * n}"' for n in range(count))
        return good(('agg-1 = "127.0.0.1:7400", agg-2 = "127.0.0.1:7402"', agents))

    assert problems(with_peers(1000)) == []
    found = problem(with_peers(1001))
    assert (found.key, found.found) == ("tiers.edge.next", "1,001")
