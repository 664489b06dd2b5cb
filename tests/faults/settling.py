"""How a fault test ends: everything published, nothing missing, nothing doubled."""

import json
from typing import Any

from tests.faults.cluster import Cluster
from tests.waiting import wait_for

PATIENCE_S = 90.0


def flows_on(cluster: Cluster, events: int = 4000) -> None:
    """Until that many more events have come to the sinks that live."""
    before = cluster.events_in("sink")
    # A restarted sink counts from zero again: then wait for the sum to pass anyway.
    wait_for(
        lambda: cluster.events_in("sink") > before + events,
        "events reach the sinks: " + "\n".join(cluster.log(name) for name in cluster.agents),
        PATIENCE_S,
    )


def all_published(cluster: Cluster) -> None:
    wanted = cluster.wanted()
    wait_for(lambda: wanted <= cluster.published().keys(), "all lines are published", PATIENCE_S)


def settle(cluster: Cluster) -> dict[str, Any]:
    """Everything published, the audit content, every agent drained; what was found."""
    all_published(cluster)
    wait_for(
        lambda: all(
            (s := cluster.status(n)) and not s["channel"]["batches"] for n in cluster.agents
        ),
        "every channel is empty",
        PATIENCE_S,
    )
    audit = cluster.command("audit", "--files", "--json")
    report: dict[str, Any] = json.loads(audit.stdout)
    assert audit.returncode == 0, (audit.stdout, audit.stderr)
    assert set(cluster.drain().values()) == {0}
    lines = cluster.published()
    wanted = cluster.wanted()
    doubled = sum(count - 1 for count in lines.values())
    output: dict[str, Any]
    (output,) = report["outputs"]
    watched = f", longest pause in publishing {cluster.longest_pause_s:.1f} s"
    pause = watched if cluster.longest_pause_s else ""  # only a Writer watches
    print(
        f"accepted {len(wanted)}, published {lines.total()}, missing "
        f"{len(wanted - lines.keys())}, doubled {doubled}{pause}"
    )
    assert lines.keys() == wanted
    assert doubled == output["doubled_events"] == 0
    return output
