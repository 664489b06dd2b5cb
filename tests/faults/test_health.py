"""At 3 a.m. one look, and the log, say what, since when, and whether events are at risk."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import Cluster
from tests.faults.settling import PATIENCE_S, settle
from tests.waiting import wait_for

HEAD = """[batch]
size = "64KiB"
codec = "none"
[channel]
size = "1MiB"
free_floor = "4MiB"
[delivery]
stalled_after = "2s"
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with closing(Cluster(tmp_path, edges=1, aggregators=1, sinks=2, extra=HEAD)) as cluster:
        cluster.start()
        cluster.wait_running()
        yield cluster


def conditions(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    status = cluster.status(name)
    return {one["code"]: one for one in status["conditions"]} if status else {}


def seen(cluster: Cluster, name: str, code: str) -> dict[str, Any]:
    """That condition, once the agent tells of it."""
    wait_for(lambda: code in conditions(cluster, name), f"{name} tells of {code}", PATIENCE_S)
    return conditions(cluster, name).get(code) or seen(cluster, name, code)


def log(cluster: Cluster, name: str) -> str:
    return (cluster.directory / f"{name}.txt").read_text()


def test_both_sinks_gone_for_a_while(cluster: Cluster) -> None:
    cluster.write("edge-1", 1000)
    cluster.kill("sink-1", "sink-2")
    cluster.write("edge-1", 1000)
    told = seen(cluster, "agg-1", "no_peer")
    assert told["unhealthy"]
    assert not told["at_risk"], "it is on disk"
    assert "sink-1" in told["text"]
    assert "sink-2" in told["text"]
    seen(cluster, "agg-1", "output_stalled")
    cluster.start("sink-1", "sink-2")
    wait_for(lambda: cluster.is_healthy("agg-1"), "agg-1 is well again")
    assert "no_peer sink: no peer takes batches" in log(cluster, "agg-1")
    assert "the last run was cut off" in log(cluster, "sink-1")
    settle(cluster)
    assert "no_peer sink: over after" in log(cluster, "agg-1")


def test_a_store_that_refuses_holds_back_all_before_it(cluster: Cluster) -> None:
    cluster.out.mkdir(exist_ok=True)
    in_the_way = cluster.out / "web"
    in_the_way.write_text("no directory can be made here")
    cluster.write("edge-1", 50_000)
    told = seen(cluster, "sink-1", "output_stalled")
    assert "the oldest batch came" in told["text"]
    assert seen(cluster, "sink-1", "output_error")["unhealthy"]
    for sink in ("sink-1", "sink-2"):  # one of them is full before the other
        wait_for(
            lambda n=sink: n in seen(cluster, "agg-1", "held_back")["text"],  # type: ignore[misc]
            f"agg-1 is held back by {sink}",
            PATIENCE_S,
        )
    told = seen(cluster, "edge-1", "channel_full")
    assert told["at_risk"], "its files may be rotated away before they are read"
    assert "source_stalled" not in conditions(cluster, "edge-1"), "that has its name"
    in_the_way.unlink()
    for name in cluster.agents:
        wait_for(
            lambda n=name: cluster.is_healthy(n),  # type: ignore[misc]
            f"{name} goes on: a store that refused is asked ever more seldom",
            PATIENCE_S,
        )
    settle(cluster)
    for name, code in (("agg-1", "held_back sink"), ("edge-1", "channel_full channel")):
        assert f"{code}: over after" in log(cluster, name)
