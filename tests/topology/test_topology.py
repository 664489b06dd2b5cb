"""What a topology file means: names, addresses, order, data directories, variables, changes."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topologies import GOOD, good, read
from tiers.errors import ConfigError, UsageError
from tiers.topology import (
    Address,
    BatchSettings,
    ChannelSettings,
    DeliverySettings,
    Topology,
    differences,
    load,
    parse,
    reloaded,
    settings_table,
)
from tiers.topology.settings import write_duration, write_size
from tiers.units import parse_duration, parse_size

ARCHIVE = 'sinks = [{ type = "directory", name = "archive", root = "/a" }]'


def test_a_topology_answers_what_an_agent_asks() -> None:
    topology = read(
        good(
            ("agents = [", f"{ARCHIVE}\nagents = ["),
            more='[agents.edge-2]\nstatus = "127.0.0.1:80"\n'
            '[[agents.edge-2.sources]]\ntype = "generate"\nname = "own"\n'
            '[agents.agg-2]\nlisten = "127.0.0.2:7402"',
        )
    )
    assert topology.name == "web-logs"
    assert topology.order() == ("edge", "aggregator", "sink")
    assert topology.agent_names() == ("edge-1", "edge-2", "agg-1", "agg-2", "sink-1", "sink-2")
    assert topology.tier_of("agg-2").name == "aggregator"
    assert topology.upstream("sink") == ("aggregator",)
    assert topology.upstream("edge") == ()
    assert topology.reaching("sink") == {"edge", "aggregator", "sink"}
    assert topology.outputs("edge-1") == ("aggregator", "archive")
    assert topology.peers("edge") == {}
    assert topology.peers("aggregator") == {
        "agg-1": Address("127.0.0.1", 7400),
        "agg-2": Address("127.0.0.1", 7402),
    }
    assert topology.listen("edge-1") is None
    assert topology.listen("agg-1") == Address("127.0.0.1", 7400)
    assert topology.listen("agg-2") == Address("127.0.0.2", 7402)
    assert topology.status_address("edge-1") is None
    assert topology.status_address("edge-2") == Address("127.0.0.1", 80)
    assert [source.name for source in topology.sources("edge-1")] == ["generate"]
    assert [source.name for source in topology.sources("edge-2")] == ["generate", "own"]
    assert [sink.name for sink in topology.sinks("sink-1")] == ["directory"]
    assert topology.text.startswith("\nname")


def test_an_unknown_agent_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no agent 'agg1' in topology.toml; .*'agg-1'"):
        read(GOOD).tier_of("agg1")


def test_order_has_every_tier_after_all_that_send_to_it() -> None:
    tiers = ["d", "b", "c", "a"]
    edges = {"a": ["b", "c"], "b": [], "c": ["d"], "d": []}
    text = 'name = "x"\n'
    for port, tier in enumerate(tiers):
        text += f'[tiers.{tier}]\nagents = {{ {tier}1 = "127.0.0.1:{7000 + 2 * port}" }}\n'
        text += f"next = {json.dumps(edges[tier])}\n"
        if tier == "a":
            text += 'sources = [{ type = "generate" }]\n'
        if not edges[tier]:
            text += f'sinks = [{{ type = "directory", root = "/{tier}" }}]\n'
    order = read(text).order()
    assert set(order) == set(tiers)
    assert all(order.index(tier) < order.index(to) for tier in tiers for to in edges[tier])


def test_data_is_the_override_then_that_of_the_node_then_that_of_the_file() -> None:
    bare = read(GOOD)
    with pytest.raises(UsageError, match="--data DIR"):
        bare.data_of("agg-1")
    with pytest.raises(UsageError, match="no agent 'x'"):
        bare.data_of("x", Path("/d"))
    topology = read('data = "/all"\n' + good(more='[agents.agg-1]\ndata = "/one"'))
    assert bare.data_of("agg-1", Path("/d")) == Path("/d/agg-1")
    assert topology.data_of("agg-2") == Path("/all/agg-2")
    assert topology.data_of("agg-1") == Path("/one/agg-1")
    assert topology.data_of("agg-1", Path("/d")) == Path("/d/agg-1")


def test_status_on_every_address_is_asked_for_on_the_host_of_the_agent() -> None:
    topology = read(
        "insecure = true\n"
        + good(
            ("127.0.0.1:7400", "10.0.0.1:7400"),
            more='[agents.agg-1]\nstatus = "0.0.0.0:80"\n[agents.agg-2]\nstatus = "10.0.0.7:80"\n'
            '[agents.edge-1]\nstatus = "[::]:80"',
        )
    )
    assert topology.status_reached_at("agg-1") == Address("10.0.0.1", 80)
    assert topology.status_reached_at("agg-2") == Address("10.0.0.7", 80)
    assert topology.status_reached_at("edge-1") == Address("::1", 80)
    assert topology.status_reached_at("sink-1") is None


# Addresses


@pytest.mark.parametrize(
    ("text", "data", "control"),
    [
        ("10.0.0.11:7400", "tcp://10.0.0.11:7400", "tcp://10.0.0.11:7401"),
        ("[::1]:7400", "tcp://[::1]:7400", "tcp://[::1]:7401"),
        ("[2001:DB8:0::1]:1", "tcp://[2001:db8::1]:1", "tcp://[2001:db8::1]:2"),
        ("localhost:65534", "tcp://127.0.0.1:65534", "tcp://127.0.0.1:65535"),
    ],
)
def test_an_address_is_two_end_points(text: str, data: str, control: str) -> None:
    address = Address.parse(text, ports=2)
    assert (address.data, address.control) == (data, control)
    assert Address.parse(str(address), ports=2) == address


@given(st.text(alphabet="0123456789.:[]ab%xl ", max_size=24) | st.text(max_size=12))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = Address.parse(text, ports=2)
    except ValueError:
        return
    assert Address.parse(str(address), ports=2) == address
    assert 1 <= address.port < 65535


# Variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${A:-9}", "1"),
        ("${B:-9}", "9"),
        ("${EMPTY:-9}", "9"),
        ("${EMPTY}", ""),
        ("${B:-}", ""),
        ("${B:-a:-b c}", "a:-b c"),
        ("$${A}", "${A}"),
        ("$A $ {A} 5$", "$A $ {A} 5$"),
        ("${LOOKS}", "${A}"),  # what a variable holds is not looked through again
    ],
)
def test_variables_are_filled_in(text: str, value: str) -> None:
    env = {"A": "1", "EMPTY": "", "LOOKS": "${A}"}
    topology = parse(good(('"web" }', f"{json.dumps('=' + text)} }}")), env=env)
    assert topology.sources("edge-1")[0].headers == {"service": "=" + value}


def test_a_variable_can_be_a_number() -> None:
    topology = parse(good(more='[batch]\nlevel = "${LEVEL}"'), env={"LEVEL": "5"})
    assert topology.batch.level == 5


# Settings


def test_defaults_are_those_of_the_design() -> None:
    topology = read(GOOD)
    assert topology.batch == BatchSettings()
    assert topology.channel == ChannelSettings()
    assert topology.delivery == DeliverySettings()
    batch, channel, delivery = topology.batch, topology.channel, topology.delivery
    assert (batch.size_bytes_max, batch.linger_s, batch.time_bucket_s) == (2**20, 0.02, 3600)
    assert (batch.codec, batch.level, batch.event_bytes_max) == ("zstd", 1, 2**20)
    assert (channel.size_bytes_max, channel.high, channel.low) == (8 * 2**30, 0.9, 0.8)
    assert (channel.free_floor_bytes, channel.commit_bytes_max) == (512 * 2**20, 8 * 2**20)
    assert (delivery.window_bytes_max, delivery.bundle_bytes_max) == (16 * 2**20, 2**20)
    assert (delivery.message_bytes_max, delivery.dedupe_retention_s) == (32 * 2**20, 7 * 86400)
    assert (delivery.failover_after_s, delivery.heartbeat_s) == (2, 0.5)
    assert (delivery.reconnect_max_s, delivery.shutdown_timeout_s) == (10, 10)
    assert delivery.guarantee == "hop"


def test_settings_carry_their_units() -> None:
    topology = read(
        good(
            more='[batch]\nsize = "64KiB"\nlinger = "5ms"\n[channel]\nsize = "1GB"\n'
            'free_floor = 0\n[delivery]\nfailover_after = 3\ndedupe_retention = "1d"'
        )
    )
    assert topology.batch.size_bytes_max == 65536
    assert topology.batch.event_bytes_max == 65536, "never more than a batch"
    assert topology.batch.linger_s == 0.005
    assert topology.channel.size_bytes_max == 10**9
    assert topology.channel.free_floor_bytes == 0
    assert topology.delivery.failover_after_s == 3
    assert topology.delivery.dedupe_retention_s == 86400


@given(st.integers(0, 2**60))
def test_a_size_that_is_written_reads_back(count: int) -> None:
    if count < 2**53:
        assert parse_size(write_size(count)) == count


@given(st.integers(0, 10**12))
def test_a_duration_that_is_written_reads_back(ms: int) -> None:
    assert parse_duration(write_duration(ms / 1000)) == pytest.approx(ms / 1000)


def test_settings_table_has_every_key_with_default_and_meaning() -> None:
    table = settings_table()
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert '| `window` | `"16MiB"` | Bytes under way to one peer, not yet acked |' in rows
    assert '| `time_bucket` | `"1h"` |' in table
    assert "| `high` | `0.9` |" in table
    assert "| `name` | required | Name of the topology" in table
    assert "| `insecure` | `false` |" in table
    for title in ("`[batch]`", "`[delivery]`", '`type = "tail"`', '`type = "hdfs"`'):
        assert title in table
    for model in (BatchSettings, ChannelSettings, DeliverySettings):
        for field in model.model_fields.values():
            assert field.description
    for row in rows:
        _, _, meaning = row.split(" | ")
        assert len(meaning) > 5, f"no description and no comment beside the field: {row}"


@given(st.text(max_size=200))
def test_any_text_is_a_topology_or_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, env={})
    assert caught.value.problems


@given(st.data())
def test_a_good_file_with_one_line_missing_or_twice_never_crashes(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["missing", "twice", "other"]))
    other = data.draw(st.sampled_from(lines))
    kept = {"missing": [], "twice": [lines[index]] * 2, "other": [other]}[change]
    text = "\n".join([*lines[:index], *kept, *lines[index + 1 :]])
    try:
        topology = parse(text, env={})
    except ConfigError:
        return
    for agent in topology.agent_names():
        assert topology.outputs(agent)
        assert topology.sources(agent) or topology.upstream(topology.tier_of(agent).name)


def test_load_reads_a_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOT_OF_TEST", "/data/env")
    file = tmp_path / "some.toml"
    file.write_text(good(("/data/logs", "${ROOT_OF_TEST}")))
    topology = load(file)
    assert topology.file == str(file)
    assert topology.sinks("sink-1")[0].place() == "directory /data/env"
    assert tomllib.loads(topology.text)["name"] == "web-logs"


# Differences


def changed(*changes: tuple[str, str], more: str = "", agent: str = "edge-1") -> object:
    return differences(read(GOOD), read(good(*changes, more=more)), agent)


def test_nothing_changed_is_no_difference() -> None:
    for agent in read(GOOD).agent_names():
        assert not differences(read(GOOD), read(GOOD + "\n# a comment"), agent)


def test_peers_that_join_leave_and_move() -> None:
    old = read(GOOD)
    new = read(
        good(
            (
                'agg-1 = "127.0.0.1:7400", agg-2 = "127.0.0.1:7402"',
                'agg-2 = "127.0.0.1:7406", agg-3 = "127.0.0.1:7404"',
            )
        )
    )
    edge = differences(old, new, "edge-1")
    assert list(edge.peers) == ["aggregator"]
    assert edge.peers["aggregator"].added == {"agg-3": Address("127.0.0.1", 7404)}
    assert edge.peers["aggregator"].removed == ("agg-1",)
    assert edge.peers["aggregator"].changed == {"agg-2": Address("127.0.0.1", 7406)}
    assert not edge.left
    assert edge.restart == ()
    assert differences(old, new, "agg-1").left
    assert differences(old, new, "agg-2").at_once == ("tiers.aggregator.agents.agg-2",)
    assert differences(old, new, "agg-2").restart == ()
    assert not differences(old, new, "sink-1")


@pytest.mark.parametrize(
    ("agent", "text", "keys"),
    [
        ("edge-1", good(('"web-logs"', '"other"')), ("name",)),
        ("edge-1", 'data = "/d"\n' + GOOD, ("data",)),
        ("edge-1", good(more='[agents.edge-1]\ndata = "/d"'), ("agents.edge-1.data",)),
        ("edge-2", good(more='[agents.edge-1]\ndata = "/d"'), ()),
        ("sink-1", good(("/data/logs", "/data/other")), ("tiers.sink.sinks.directory",)),
        ("agg-1", good(("/data/logs", "/data/other")), ()),
        (
            "agg-2",
            good(more='[delivery]\nguarantee = "end"\ndedupe_retention = "1d"'),
            ("delivery.guarantee", "delivery.dedupe_retention"),
        ),
    ],
)
def test_what_asks_for_a_restart_is_named_and_stays(
    agent: str, text: str, keys: tuple[str, ...]
) -> None:
    old, new = read(GOOD), read(text)
    difference = differences(old, new, agent)
    assert difference.restart == keys
    assert bool(difference) == bool(keys)
    assert not difference.peers
    assert not difference.at_once
    stays = reloaded(old, new, agent)
    assert stays.delivery == old.delivery
    assert stays.sinks(agent) == old.sinks(agent)
    assert (stays.data, stays.settings(agent).data) == (old.data, old.settings(agent).data)


@pytest.mark.parametrize(
    ("agent", "text", "keys"),
    [
        ("edge-1", good(('"web"', '"app"')), ("tiers.edge.sources",)),
        ("agg-1", good(('"web"', '"app"')), ()),
        (
            "agg-1",
            good(more='[agents.agg-1]\nlisten = "127.0.0.2:7400"\nstatus = "127.0.0.1:80"'),
            ("agents.agg-1.listen", "agents.agg-1.status"),
        ),
        (
            "edge-2",
            good(more='[[agents.edge-2.sources]]\ntype = "generate"\nname = "own"'),
            ("agents.edge-2.sources",),
        ),
        (
            "agg-2",
            good(more='[batch]\nlevel = 3\n[channel]\nsize = "1GiB"\n[delivery]\nwindow = "8MiB"'),
            ("batch.level", "channel.size", "delivery.window"),
        ),
        (
            "edge-1",
            good(
                ('"aggregator"', '["aggregator", "x"]'),
                more='[tiers.x]\nagents = { x = "127.0.0.1:1" }\n'
                '[[tiers.x.sinks]]\ntype = "directory"\nroot = "/x"',
            ),
            ("tiers.edge.next",),
        ),
        (
            "sink-1",
            good(more='[[tiers.sink.sinks]]\ntype = "directory"\nname = "x"\nroot = "/x"'),
            ("tiers.sink.sinks",),
        ),
    ],
)
def test_all_else_is_put_in_force_at_once(agent: str, text: str, keys: tuple[str, ...]) -> None:
    old, new = read(GOOD), read(text)
    difference = differences(old, new, agent)
    assert difference.at_once == keys
    assert bool(difference) == bool(keys)
    assert not difference.restart
    assert not difference.peers
    assert reloaded(old, new, agent) == new


def test_a_sink_that_moves_keeps_no_other_from_its_change() -> None:
    more = '[[tiers.sink.sinks]]\ntype = "directory"\nname = "second"\nroot = "/x"\n'
    old = read(good(more=more))
    new = read(good(("/data/logs", "/data/other"), more=more + 'roll_after = "7s"'))
    difference = differences(old, new, "sink-1")
    assert difference.restart == ("tiers.sink.sinks.directory",)
    assert difference.at_once == ("tiers.sink.sinks",)
    first, second = reloaded(old, new, "sink-1").sinks("sink-1")
    assert first == old.sinks("sink-1")[0]
    assert second == new.sinks("sink-1")[1]


def test_an_agent_that_moved_to_another_tier_is_told_to_restart() -> None:
    text = good(
        ('agg-1 = "127.0.0.1:7400", ', ""),
        ('sink-1 = "127.0.0.1:7410"', 'sink-1 = "127.0.0.1:7410", agg-1 = "127.0.0.1:7400"'),
    )
    old, new = read(GOOD), read(text)
    difference = differences(old, new, "agg-1")
    assert not difference.left
    assert difference.restart == ("tiers.sink.agents",)
    assert not difference.at_once
    assert reloaded(old, new, "agg-1") == old


def test_every_field_of_a_topology_is_compared_or_known_not_to_matter() -> None:
    compared = {"name", "tiers", "agents", "batch", "channel", "delivery", "data"}
    assert set(Topology.__slots__) == compared | {"insecure", "file", "text", "variables"}
