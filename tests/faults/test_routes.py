"""Routes with real processes that are killed: each store has the lines that it wants, each once,
and the audit is exact for each of them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.counting import LINE
from tests.faults.laid_out import LaidOut
from tests.faults.settling import LOOK_S, PATIENCE_S
from tests.waiting import wait_for
from tiers.core import runs

ROUNDS = 6
LINES = 700  # of each service, in a round
TEXT = """
name = "faults"
[tiers.edge]
agents = ["edge-1"]
next = { tier = "sink", when = { service = { not = "local" } } }
SOURCES
[[tiers.edge.sinks]]
type = "directory"
name = "local"
root = "DIR/out/local"
roll_after = "300ms"
when = { service = "local" }
[tiers.sink]
agents = { sink-1 = @sink-1 }
[[tiers.sink.sinks]]
type = "directory"
name = "web"
root = "DIR/out/web"
roll_after = "300ms"
when = { service = "web" }
[[tiers.sink.sinks]]
type = "directory"
name = "db"
root = "DIR/out/db"
roll_after = "300ms"
when = { service = DB }
"""
SOURCE = """
[[tiers.edge.sources]]
type = "tail"
name = "NAME"
paths = ["DIR/NAME/*.log"]
headers = { service = "NAME" }
"""
SERVICES = ("local", "web", "db", "api")


def text(db: str) -> str:
    sources = "".join(SOURCE.replace("NAME", service) for service in SERVICES)
    return TEXT.replace("SOURCES", sources).replace("DB", db)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LaidOut]:
    made = LaidOut(tmp_path, text('{ glob = "d*" }'))
    yield made
    made.close()


def lines_of(cluster: LaidOut, *services: str) -> Counter[bytes]:
    tags = [service.encode() for service in services]
    return Counter(LINE % (tag, n) for tag in tags for n in range(cluster.written[tag]))


def wait_for_all(cluster: LaidOut, wanted: dict[str, tuple[str, ...]]) -> None:
    for store, services in wanted.items():
        lines = lines_of(cluster, *services)

        def there(store: str = store, lines: Counter[bytes] = lines) -> bool:
            return not lines - cluster.published(store)

        wait_for(there, f"all lines in {store}", PATIENCE_S, LOOK_S)
        assert cluster.published(store) == lines, "and no others, and none twice"


def is_done(cluster: LaidOut) -> bool:
    """Whether all agents answer, and nothing waits: one that was killed last may just begin."""
    statuses = [cluster.status(name) for name in cluster.agents]
    return all(one and one["channel"]["batches"] == one["channel"]["dead"] for one in statuses)


def check_exact(report: dict[str, Any]) -> None:
    """Each batch of each origin is in the store, or was not to be there; none is both."""
    for name, output in report["outputs"].items():
        assert output["missing_batches"] == output["unknown_batches"] == 0
        assert any(origin["skipped"] for origin in output["origins"])
        for origin in output["origins"]:
            skipped = runs.union(*origin["skipped"].values())
            dead = runs.union(*origin["dead"].values())
            there = runs.union(origin["published"], skipped, dead)
            assert there == [[1, origin["accepted"]]], (name, origin)
            assert runs.common(origin["published"], runs.union(skipped, dead)) == [], (name, origin)


def test_each_store_has_what_it_wants_whatever_is_killed(cluster: LaidOut) -> None:
    for service in SERVICES:
        cluster.write(service, 10)
    cluster.start()
    for number in range(ROUNDS):
        for service in SERVICES:
            cluster.write(service, LINES)
        victims = (("sink-1",), ("edge-1",), ("sink-1", "edge-1"))[number % 3]
        published = sum(map(len, (cluster.published(store) for store in cluster.stores)))
        wait_for(
            lambda before=published: (  # type: ignore[misc]
                sum(len(cluster.published(store)) for store in cluster.stores) > before
            ),
            "something is published",
            PATIENCE_S,
            LOOK_S,
        )
        cluster.kill(*victims)
        cluster.start(*victims)
    wait_for_all(cluster, {"local": ("local",), "web": ("web",), "db": ("db",)})
    wait_for(lambda: is_done(cluster), "nothing is under way", PATIENCE_S, LOOK_S)
    status, report = cluster.audit()
    assert status == 0, report
    check_exact(report)
    cluster.write("web", 10)  # counted since the start of the agent, which was killed
    wait_for_all(cluster, {"web": ("web",)})
    assert cluster.output("sink-1", "db")["skipped"] > 0
    listed = cluster.tiers("dead", "list", str(cluster.data / "sink-1"), "--json")
    assert '"output": "-"' in listed.stdout
    assert "no output wants service=api" in listed.stdout

    # What no output wanted is delivered once one does; what is stored stays where it is.
    cluster.text = text('["db", "api"]')
    cluster.write_topology()
    assert cluster.stop("sink-1") == 0
    cluster.start("sink-1")
    wait_for(lambda: cluster.status("sink-1"), "sink-1 answers")
    retried = cluster.tiers("dead", "retry", str(cluster.data / "sink-1"), "--output", "-")
    assert retried.returncode == 0, retried.stderr
    wait_for_all(cluster, {"local": ("local",), "web": ("web",), "db": ("db", "api")})
    wait_for(lambda: is_done(cluster), "nothing is under way", PATIENCE_S, LOOK_S)
    status, report = cluster.audit()
    assert status == 0, report
    check_exact(report)
    assert not any(one["dead"] for of in report["outputs"].values() for one in of["origins"])
    assert set(cluster.drain().values()) == {0}
