"""Topologies of other shapes, as real processes: several outputs, sources in the middle, one agent
alone, many tiers. Every line is in each store exactly once, and the audit agrees for each."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Writer
from tests.faults.counting import GENERATED
from tests.faults.laid_out import LaidOut
from tests.faults.settling import all_published, emptied, settle
from tests.waiting import wait_for

Clusters = list[LaidOut]


@pytest.fixture
def clusters() -> Iterator[Clusters]:
    made: Clusters = []
    yield made
    for cluster in made:
        cluster.close()


def tail(tier: str, agent: str, service: str = "web") -> str:
    return f"""
[[{tier}.sources]]
type = "tail"
paths = ["DIR/{agent}/*.log"]
headers = {{ service = "{service}" }}
"""


def directory(tier: str, output: str, more: str = "") -> str:
    return f"""
[[tiers.{tier}.sinks]]
type = "directory"
name = "{output}"
root = "DIR/out/{output}"
roll_after = "300ms"
{more}
"""


def test_two_outputs_with_an_aggregator_killed_in_mid_stream(
    tmp_path: Path, clusters: Clusters
) -> None:
    text = f"""
name = "faults"
[tiers.edge]
agents = ["edge-1"]
next = "aggregator"
{tail("tiers.edge", "edge-1")}
[tiers.aggregator]
agents = {{ agg-1 = @agg-1, agg-2 = @agg-2 }}
next = ["sink"]
{directory("aggregator", "archive")}
[tiers.sink]
agents = {{ sink-1 = @sink-1 }}
{directory("sink", "final")}
[delivery]
failover_after = "60s"      # what went to agg-1 waits for it, so that nothing may be there twice
"""
    cluster = LaidOut(tmp_path, text)
    clusters.append(cluster)
    cluster.edges = ["edge-1"]
    cluster.write("edge-1", 1)
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        cluster.wait_lines("archive", 4000)
        cluster.kill("agg-1")
        # The other one carries on alone.
        cluster.wait_lines("final", cluster.so_far("final").published + 4000)
        cluster.start("agg-1")
        cluster.wait_running("agg-1")
        cluster.wait_lines("final", cluster.so_far("final").published + 4000)
    settle(cluster)


def test_an_output_that_is_stopped_or_gone_holds_nothing_back(
    tmp_path: Path, clusters: Clusters
) -> None:
    head = f"""
name = "faults"
[tiers.edge]
agents = ["edge-1"]
NEXT
{tail("tiers.edge", "edge-1")}
{directory("edge", "archive")}
"""
    both = (
        head.replace("NEXT", 'next = ["sink"]')
        + f"""
[tiers.sink]
agents = {{ sink-1 = @sink-1 }}
{directory("sink", "final")}
"""
    )
    cluster = LaidOut(tmp_path, both)
    clusters.append(cluster)
    cluster.write("edge-1", 5000)
    cluster.start("edge-1")  # and no sink
    cluster.wait_lines("archive", 5000)
    wait_for(lambda: cluster.output("edge-1", "archive")["batches"] == 0, "archive lets go")
    waiting = cluster.output("edge-1", "sink")
    assert waiting["events"] == 5000
    assert not cluster.published("final")
    status, report = cluster.audit()
    assert status == 3  # the sink was never there to be asked
    final, archive = (report["outputs"][name] for name in ("sink/final", "edge/archive"))
    assert (final["events"], archive["events"]) == (0, 5000)
    (origin,) = final["origins"]
    assert origin["held"] == {"edge-1": [[1, origin["accepted"]]]}
    assert archive["origins"][0]["held"] == {}

    # Taken out of the file, what waits for it is told of, holds up no drain, and stays.
    cluster.children["edge-1"].terminate()
    assert cluster.wait_exit("edge-1") == 0
    cluster.text = head.replace("NEXT", "")
    cluster.write_topology()
    cluster.start("edge-1")
    wait_for(lambda: cluster.status("edge-1"), f"edge-1 answers: {cluster.log('edge-1')}")
    orphan = cluster.output("edge-1", "sink")
    assert (orphan["kind"], orphan["events"]) == ("orphan", 5000)
    assert "no longer" in orphan["error"]
    shown = cluster.command("status")
    assert shown.returncode == 1
    assert "which the topology no longer has" in shown.stdout
    status, report = cluster.audit()
    assert status == 0
    (told,) = report["orphans"]
    assert (told["agent"], told["output"]) == ("edge-1", "sink")
    assert cluster.drain() == {"edge-1": 1}

    # Put back, it is delivered.
    cluster.text = both
    cluster.write_topology()
    cluster.start()
    cluster.wait_running()
    settle(cluster)


def test_a_source_in_the_middle_and_four_tiers(tmp_path: Path, clusters: Clusters) -> None:
    text = f"""
name = "faults"
[tiers.edge]
agents = ["edge-1"]
next = "first"
{tail("tiers.edge", "edge-1")}
[tiers.first]
agents = {{ first-1 = @first-1 }}
next = "second"
[[tiers.first.sources]]
type = "generate"
count = 3000
format = "numbers"
headers = {{ service = "numbers" }}
[tiers.second]
agents = {{ second-1 = @second-1 }}
next = "third"
[tiers.third]
agents = {{ third-1 = @third-1 }}
{directory("third", "final", 'path = "{service}"')}
"""
    cluster = LaidOut(tmp_path, text)
    clusters.append(cluster)
    cluster.write("edge-1", 5000)
    cluster.start()
    cluster.wait_running()
    cluster.wait_lines("final", 8000)
    cluster.write("edge-1", 1000)
    cluster.written[GENERATED] = 3000
    all_published(cluster)
    emptied(cluster)
    _, report = cluster.audit()
    origins = {one["agent"]: one for one in report["outputs"]["third/final"]["origins"]}
    assert {agent: one["events"] for agent, one in origins.items()} == {
        "edge-1": 6000,
        "first-1": 3000,
    }
    for service, inside in (("web", 6000), ("numbers", 3000)):
        files = [f for f in cluster.published_files("final") if f.parent.name == service]
        assert sum(file.read_bytes().count(b"\n") for file in files) == inside
    settle(cluster)


def test_one_agent_alone_with_several_headers(tmp_path: Path, clusters: Clusters) -> None:
    text = f"""
name = "faults"
[tiers.all]
agents = ["node"]
{tail("tiers.all", "web", "web")}name = "web"
{tail("tiers.all", "db", "db")}name = "db"
{directory("all", "final", 'path = "{service}/%Y/%m/%d/%H"')}
"""
    cluster = LaidOut(tmp_path, text)
    clusters.append(cluster)
    begun = time.time()
    for service in ("web", "db"):
        cluster.write(service, 4000)
    cluster.start()
    cluster.wait_running()
    cluster.wait_lines("final", 8000)
    cluster.kill("node")
    for service in ("web", "db"):
        cluster.write(service, 1000)
    cluster.start()
    cluster.wait_running()
    cluster.wait_lines("final", 10_000)
    hours = {time.strftime("%Y/%m/%d/%H", time.gmtime(at)) for at in (begun, time.time())}
    for file in cluster.published_files("final"):
        service, _, hour = str(file.parent.relative_to(cluster.out / "final")).partition("/")
        assert hour in hours
        assert {line.split()[0] for line in file.read_bytes().splitlines()} == {service.encode()}
    settle(cluster)
