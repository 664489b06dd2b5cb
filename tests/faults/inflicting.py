"""What is done to the nodes of a cluster while lines flow, whatever it publishes into."""

import itertools
import random
import signal
import time
from collections.abc import Iterable, Sequence

from tests.faults.cluster import Cluster
from tests.faults.settling import flows_on
from tests.metering import told
from tiers.core.meters import Meter

GONE_S = 6.0  # longer than acks, sessions and claims are waited for, where tests set `SHORT`
SHORT = 'takeover_after = "1s"'
_MOMENT_S = 0.5


def pairs(cluster: Cluster, dice: random.Random, count: int) -> list[tuple[str, str]]:
    """Different ones, at random, an edge with a sink the first of them."""
    every = list(itertools.combinations(cluster.agents, 2))
    first = (dice.choice(cluster.edges), dice.choice(sinks_of(cluster)))
    others = [pair for pair in every if {*pair} != {*first}]
    return [first, *dice.sample(others, count - 1)]


def sinks_of(cluster: Cluster) -> list[str]:
    return [name for name in cluster.ports if name.startswith("sink")]


def counted(cluster: Cluster, meter: Meter) -> int:
    """Of all sinks together."""
    return int(sum(told(cluster.status(name), meter) for name in sinks_of(cluster)))


def kill_at_one_moment(
    cluster: Cluster, dice: random.Random, groups: Iterable[Sequence[str]]
) -> None:
    """Each group with SIGKILL, all of it at once, at a random moment, and started again."""
    for names in groups:
        time.sleep(dice.uniform(0.0, _MOMENT_S))  # the moment, and no wait for anything
        cluster.kill(*names)
        print(f"SIGKILL {' '.join(names)}")
        cluster.start(*names)
        cluster.wait_running(*names)
        flows_on(cluster)


def stop_for_long(cluster: Cluster, groups: Iterable[Sequence[str]]) -> None:
    """Each group with SIGSTOP, for longer than anything waits for it, and continued."""
    for names in groups:
        for name in names:
            cluster.children[name].send_signal(signal.SIGSTOP)
        time.sleep(GONE_S)
        for name in names:
            cluster.children[name].send_signal(signal.SIGCONT)
        cluster.wait_running(*names)
        flows_on(cluster)


def leave_dead_for_long(cluster: Cluster, groups: Iterable[Sequence[str]]) -> None:
    """Each group with SIGKILL; it comes back with its disk when nothing waits for it any more,
    while the others carry on."""
    for names in groups:
        cluster.kill(*names)
        until = time.monotonic() + GONE_S
        while time.monotonic() < until:
            flows_on(cluster)
        cluster.start(*names)
        cluster.wait_running(*names)
        flows_on(cluster)
