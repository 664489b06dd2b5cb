"""Descriptors: raised, and shared out so that every part has some."""

import resource
import subprocess
import sys

import pytest

from tests.topologies import good, read
from tiers.agent.descriptors import scaled, shared_out
from tiers.core.hop.upstream import SENDERS_MAX
from tiers.core.hop.visitors import VisitorLimits
from tiers.sources.syslog import SyslogOptions
from tiers.sources.tail.source import TailOptions

TWO_TAILS = """
[[tiers.edge.sources]]
type = "tail"
name = "a"
paths = ["/a/*.log"]
[[tiers.edge.sources]]
type = "tail"
name = "b"
paths = ["/b/*.log"]
"""


@pytest.mark.parametrize("limit", [64, 256, 1024, 4096, 65_536, 1 << 20])
@pytest.mark.parametrize("agent", ["edge-1", "agg-1", "sink-1"])
def test_what_is_shared_out_is_there(limit: int, agent: str) -> None:
    topology = read(good(more=TWO_TAILS))
    shares = shared_out(topology, agent, limit)
    peers = sum(len(topology.peers(tier)) for tier in topology.tier_of(agent).next)
    tails = 2 if agent == "edge-1" else 0
    senders = 0 if agent == "edge-1" else shares.senders_max
    given = 128 + 8 * peers + tails * shares.of_a_source
    given += shares.visitors.strangers_max + 2 * senders
    if limit >= 1024:
        assert given <= limit
        assert shares.visitors.strangers_max <= limit // 4
    assert shares.of_a_source >= 1
    assert shares.senders_max >= 1


def test_who_has_enough_is_told_nothing_and_has_all() -> None:
    topology = read(good(more=TWO_TAILS))
    shares = shared_out(topology, "agg-1", 65_536)
    assert (shares.short, shares.senders_max) == ("", SENDERS_MAX)
    assert shares.visitors == VisitorLimits()
    assert shared_out(topology, "edge-1", 65_536).short == ""


def test_who_has_too_few_is_told_what_has_less() -> None:
    topology = read(good(more=TWO_TAILS))
    assert "440 open files" in shared_out(topology, "edge-1", 1024).short
    assert "312 senders" in shared_out(topology, "agg-1", 1024).short
    assert "less than 2 peers" in shared_out(topology, "agg-1", 100).short


def test_a_source_holds_open_no_more_than_its_share() -> None:
    topology = read(good(more=TWO_TAILS))
    shares = shared_out(topology, "edge-1", 1024)
    tail, syslog = TailOptions(type="tail", paths=("/x",)), SyslogOptions(type="syslog")
    assert scaled(tail, shares).open_files_max == shares.of_a_source
    assert scaled(syslog, shares).connections_max == shares.of_a_source
    few = tail.model_copy(update={"open_files_max": 5})
    assert scaled(few, shares) is few


def test_the_limit_is_raised_to_what_the_process_may_have() -> None:
    code = (
        "import resource, sys; from tiers.agent.descriptors import raise_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, 512));"
        "print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE), raise_limit())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["512"] * 4
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
