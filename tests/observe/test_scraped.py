"""Numbers of running agents, as Prometheus gets them: over TCP, and by a Prometheus of Debian's."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.faults.cluster import Cluster, free_port_pair
from tests.waiting import wait_for
from tiers.channel import meters as of_channel
from tiers.core.counts import LATENCY
from tiers.core.meters import Meter
from tiers.observe.metrics import ALL
from tiers.observe.process import GENERATION, HEALTHY, TOPOLOGY
from tiers.sinks import meters as of_sinks
from tiers.sources import meters as of_sources
from tiers.transport import meters as of_hops

LINES: Final = 1000
IN_CI: Final = os.environ.get("CI") == "true"
# Told only once there is something to count.
RARE: Final = {of_sources.COUNTED, of_sources.DROPPED, of_sources.DROPPED_BYTES}


class Scraped(Cluster):
    """A chain of three agents, each with an address for whoever asks."""

    def __init__(self, directory: Path) -> None:
        self.asked_at = {
            name: f"127.0.0.1:{free_port_pair()}" for name in ("edge-1", "agg-1", "sink-1")
        }
        extra = "".join(f'[agents.{name}]\nstatus = "{at}"\n' for name, at in self.asked_at.items())
        super().__init__(directory, edges=1, aggregators=1, sinks=1, roll_after="50ms", extra=extra)

    def get(self, name: str, path: str) -> tuple[int, str]:
        """Over TCP: status and body."""
        try:
            with urllib.request.urlopen(f"http://{self.asked_at[name]}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def samples(self, name: str) -> list[Sample]:
        code, text = self.get(name, "/metrics")
        assert code == 200
        families = text_string_to_metric_families(text)
        return [sample for family in families for sample in family.samples]

    def number(self, name: str, meter: Meter, suffix: str = "") -> float:
        """Of all samples together."""
        shown = meter.shown + suffix
        return sum(one.value for one in self.samples(name) if one.name == shown)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """All lines are published, and no batch is left."""
    made = Scraped(tmp_path_factory.mktemp("scraped"))
    try:
        made.start()
        made.write("edge-1", LINES)
        wait_for(lambda: made.so_far().published == LINES, "all are published")
        wait_for(made.is_empty, "nothing is left")
        made.wait_running()
        yield made
    finally:
        made.close()


def test_numbers_are_true(cluster: Scraped) -> None:
    number = cluster.number
    assert number("edge-1", of_sources.EVENTS) == LINES
    assert number("edge-1", of_sources.UNREAD) == number("edge-1", of_sources.BEHIND) == 0
    assert number("agg-1", of_hops.EVENTS_IN) == number("sink-1", of_hops.EVENTS_IN) == LINES
    assert number("edge-1", of_hops.PEER_EVENTS) == number("agg-1", of_hops.PEER_EVENTS) == LINES
    assert number("sink-1", of_channel.EVENTS_OUT) == LINES
    assert number("sink-1", LATENCY, "_count") == LINES, "of each event"
    assert number("sink-1", of_hops.AGE, "_count") == number("sink-1", of_sinks.BATCHES)
    for name in cluster.agents:
        assert number(name, HEALTHY) == number(name, GENERATION) == 1
        assert number(name, of_channel.COMMITS, "_count") > 0
        assert number(name, of_channel.OLDEST) == 0
        newest_s = number(name, of_channel.NEWEST)
        assert newest_s == number("sink-1", of_channel.NEWEST), "the same batch, by its first hop"
        (file,) = (one for one in cluster.samples(name) if one.name == TOPOLOGY.shown)
        assert file.labels["hash"] == sha256(cluster.file.read_bytes()).hexdigest()[:16]


def test_every_number_is_declared_and_each_is_told_by_somebody(cluster: Scraped) -> None:
    told: set[str] = set()
    for name in cluster.agents:
        _, text = cluster.get(name, "/metrics")
        told |= {family.name for family in text_string_to_metric_families(text)}
    assert told == {meter.family for meter in ALL if meter not in RARE}


def test_the_status_says_the_same(cluster: Scraped) -> None:
    code, text = cluster.get("sink-1", "/status")
    told = json.loads(text)
    assert (code, told["schema"]) == (200, 1)
    assert told["topology_hash"] == sha256(cluster.file.read_bytes()).hexdigest()[:16]
    assert told["events_in"] == told["events_out"] == LINES
    (batches,) = told["meters"][of_sinks.BATCHES.shown]
    assert batches == {
        "labels": {"output": "directory"},
        "value": cluster.number("sink-1", of_sinks.BATCHES),
    }


def test_the_status_has_words_for_the_numbers_of_each_part(cluster: Scraped) -> None:
    edge, sink = cluster.status("edge-1"), cluster.status("sink-1")
    assert edge is not None
    assert sink is not None
    (output,) = sink["outputs"]
    words = output["detail"]
    assert {*of_sinks.WORDS} <= {*words}
    assert output["events_out"] == words["events_out"] == LINES
    assert words["batches"] == cluster.number("sink-1", of_sinks.BATCHES)
    assert {*of_channel.WORDS} <= {*sink["channel"]}
    assert {*of_hops.WORDS_OF_RECEIVER} <= {*sink["receiver"]}
    assert {*of_hops.WORDS_OF_GATE} <= {*sink["receiver"]["gate"]}
    assert sink["receiver"]["senders_in_all"] == 1
    (output,) = edge["outputs"]
    assert {*of_hops.WORDS_OF_SENDER} <= {*output["detail"]}
    (peer,) = output["detail"]["peers"]
    assert (peer["agent"], peer["events"]) == ("agg-1", LINES)
    assert peer["credit_bytes"] > 0


def test_no_id_of_a_channel_is_told_to_strangers(cluster: Scraped) -> None:
    for name in cluster.agents:
        status = cluster.status(name)
        assert status is not None
        for path in ("/metrics", "/readyz", "/status"):
            assert status["channel"]["id"] not in cluster.get(name, path)[1]


def test_promtool_finds_nothing_to_say(cluster: Scraped) -> None:
    if shutil.which("promtool") is None and not IN_CI:
        pytest.skip("no promtool (prometheus) here: scripts/setup installs it")
    for name in cluster.agents:
        _, text = cluster.get(name, "/metrics")
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name


def test_a_real_prometheus_scrapes_running_agents(cluster: Scraped, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None and not IN_CI:
        pytest.skip("no prometheus here: scripts/setup installs it")
    targets = json.dumps([*cluster.asked_at.values()])
    (tmp_path / "prometheus.yml").write_text(f"""
scrape_configs:
  - job_name: tiers
    scrape_interval: 200ms
    scrape_timeout: 200ms
    static_configs:
      - targets: {targets}
""")
    at = f"127.0.0.1:{free_port_pair()}"

    def ask(query: str) -> list[Any]:
        url = f"http://{at}/api/v1/query?query={query}"
        try:
            with urllib.request.urlopen(url) as answer:
                return list(json.load(answer)["data"]["result"])
        except OSError:  # not up yet
            return []

    def value(query: str) -> float:
        return sum(float(one["value"][1]) for one in ask(query))

    log = tmp_path / "prometheus.log"
    with log.open("w") as said:
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={at}",
            ],
            stdout=said,
            stderr=said,
        )
    try:
        wait_for(lambda: value("up") == 3, f"it has scraped all three: {log}")
        assert value(of_sources.EVENTS.shown) == value(LATENCY.shown + "_count") == LINES
        assert value(HEALTHY.shown) == 3
        (slow,) = ask(f"histogram_quantile(0.5,{LATENCY.shown}_bucket)")
        assert 0 < float(slow["value"][1]) < LATENCY.bounds[-1]
    finally:
        prometheus.kill()
        prometheus.wait()


def test_who_is_well_is_ready_and_who_is_not_says_why(cluster: Scraped) -> None:
    """The last one: the sink is killed."""
    for name in cluster.agents:
        assert cluster.get(name, "/healthz") == (200, "alive\n")
        assert cluster.get(name, "/readyz") == (200, "ready\n")
    cluster.kill("sink-1")
    wait_for(lambda: cluster.get("agg-1", "/readyz")[0] == 503, "it misses its peer")
    code, text = cluster.get("agg-1", "/readyz")
    assert code == 503
    assert text.startswith("no_peer sink: no peer takes batches: sink-1")
    assert cluster.get("agg-1", "/healthz") == (200, "alive\n"), "it is alive all the same"
    assert cluster.get("edge-1", "/readyz") == (200, "ready\n"), "its peer takes batches"
