"""How a fault test ends: everything published, nothing missing, nothing doubled."""

import json
from typing import Any

from tests.faults.cluster import Cluster
from tests.faults.counting import Count
from tests.waiting import wait_for

PATIENCE_S = 90.0
LOOK_S = 0.05  # agents that are asked all the time have less time for their work


def flows_on(cluster: Cluster, events: int = 4000) -> None:
    """Until that many more events have come to the sinks that live."""
    before = cluster.events_in("sink")
    # A restarted sink counts from zero again: then wait for the sum to pass anyway.
    wait_for(
        lambda: cluster.events_in("sink") > before + events,
        "events reach the sinks: " + "\n".join(cluster.log(name) for name in cluster.agents),
        PATIENCE_S,
        LOOK_S,
    )


def all_published(cluster: Cluster, missing: int = 0) -> None:
    """Every line in every store, but for so many."""
    for store in cluster.stores:
        wait_for(
            lambda s=store: cluster.so_far(s).missing <= missing,  # type: ignore[misc]
            f"all lines are published: {store}",
            PATIENCE_S,
            LOOK_S,
        )
    cluster.pauses.all_is_published()


def emptied(cluster: Cluster) -> None:
    """Nothing is under way anywhere."""
    wait_for(cluster.is_empty, "every channel is empty", PATIENCE_S, LOOK_S)


def audited(cluster: Cluster) -> dict[str, Any]:
    """What the audit says, which is content: published files hold what their manifests say."""
    audit = cluster.command("audit", "--files", "--json")
    assert audit.returncode == 0, (audit.stdout, audit.stderr)
    report: dict[str, Any] = json.loads(audit.stdout)
    return report


def tell(cluster: Cluster, outside: str = "") -> list[Count]:
    """Prints what became of the lines in each store. No agent runs any more: nothing comes later.
    `outside` says why lines may be missing or doubled outside the promise; a line that nobody wrote
    is never right."""
    counts = [cluster.count(store) for store in cluster.stores]
    for count in counts:
        if not count.right:
            count.outside = outside
        print(count)
        assert not count.strange, count
    assert outside or all(count.right for count in counts), counts
    return counts


def settle(cluster: Cluster) -> None:
    """Everything published, the audit content, every agent drained; each line once."""
    all_published(cluster)
    emptied(cluster)
    report = audited(cluster)
    assert set(cluster.drain().values()) == {0}
    counts = tell(cluster)
    assert len(report["outputs"]) == len(counts)
    for output in report["outputs"]:
        told = (output["events"], output["missing_batches"], output["doubled_events"])
        assert told == (cluster.written.total(), 0, 0), output
