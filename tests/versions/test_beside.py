"""Agents of an earlier revision (pinned.txt) beside those of this one, in every order of tiers, and
within one: what is upgraded node by node runs mixed. Some are killed meanwhile, so that batches are
flagged, and sinks of both look for them in the same store."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.cluster import Cluster, Writer
from tests.faults.inflicting import SHORT, kill_at_one_moment
from tests.faults.settling import flows_on, settle
from tests.seeds import some_dice
from tests.waiting import wait_for

_HERE: Final = Path(__file__).parent
REVISION: Final = (_HERE / "pinned.txt").read_text().split(maxsplit=1)[0]
PINNED: Final = _HERE.parents[1] / ".pinned" / REVISION
_EARLIER: Final = ("env", f"PYTHONPATH={PINNED}", "PYTHONSAFEPATH=1")
EDGES, AGGREGATORS, SINKS = ("edge-1", "edge-2"), ("agg-1", "agg-2"), ("sink-1", "sink-2")
EARLIER: Final = {
    "edges": EDGES,
    "aggregators": AGGREGATORS,
    "sinks": SINKS,
    "all but sinks": (*EDGES, *AGGREGATORS),
    "all but aggregators": (*EDGES, *SINKS),
    "all but edges": (*AGGREGATORS, *SINKS),
    "one of each tier": ("edge-1", "agg-1", "sink-1"),
}


class Mixed(Cluster):
    """Some of its agents are those of the pinned revision."""

    earlier: tuple[str, ...] = ()

    def agent_command(self, name: str) -> list[str]:
        command = super().agent_command(name)
        if name in self.earlier:
            assert command[0] == sys.executable
            return [*_EARLIER, *command]
        return command


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Mixed]:
    if not (PINNED / "tiers").is_dir():
        reason = "no earlier revision here: scripts/pinned"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    made = Mixed(tmp_path, more=SHORT)
    yield made
    made.close()


def test_the_earlier_revision_is_what_runs(cluster: Mixed) -> None:
    code = "import tiers; print(tiers.__file__)"
    command = [*_EARLIER, sys.executable, "-c", code]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(told) == PINNED / "tiers/__init__.py"


@pytest.mark.parametrize("which", EARLIER)
def test_an_earlier_revision_beside_this_one(cluster: Mixed, which: str) -> None:
    cluster.earlier = EARLIER[which]
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        flows_on(cluster)
        kill_at_one_moment(cluster, some_dice(), [("agg-1",), ("sink-1",), ("edge-1",)])
    settle(cluster)


def test_an_upgrade_node_by_node_from_the_sinks_on(cluster: Mixed) -> None:
    """Each is stopped and started again with its own channel, sources running."""
    cluster.earlier = (*EDGES, *AGGREGATORS, *SINKS)
    cluster.start()
    cluster.wait_running()
    with Writer(cluster):
        flows_on(cluster)
        for name in (*SINKS, *AGGREGATORS, *EDGES):
            assert cluster.stop(name) == 0
            cluster.earlier = tuple(each for each in cluster.earlier if each != name)
            cluster.start(name)
            wait_for(lambda name=name: cluster.is_healthy(name), f"{name} is healthy")  # type: ignore[misc]
            flows_on(cluster)
    settle(cluster)
