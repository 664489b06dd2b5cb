"""`scripts/chaos`: agents that work while they are killed, stopped and cut short, at random."""

import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from tests.faults.cluster import Cluster, Writer
from tests.faults.settling import flows_on
from tests.hadoop.cluster import HdfsCluster
from tests.hadoop.test_delivery import HdfsDelivery
from tests.waiting import wait_for

TAKEOVER_S = 8  # of the sinks here; in a topology it is 5 minutes by default
LONG_STOP_S = 15  # longer than every timeout
END = '[delivery]\nguarantee = "end"\nlost_after = "8s"\n'
PATIENCE_S = 180


class Chaos:
    """Faults at random, one after the other, each said."""

    def __init__(self, cluster: Cluster, hdfs: HdfsCluster | None, dice: random.Random) -> None:
        self.cluster = cluster
        self.hdfs = hdfs
        self.dice = dice
        self.begun = time.monotonic()
        self.faults = 0
        self.kinds: list[tuple[int, Callable[[], None]]] = [
            (6, self.kill_one),
            (3, self.kill_two),
            (1, self.kill_all),
            (3, self.stop_and_continue),
            (2, self.terminate),
            (2, self.leave_dead),
        ]
        if cluster.extra == END:
            self.kinds += [(3, self.lose_disk)]
        if hdfs is not None:
            self.kinds += [(1, self.namenode), (1, self.datanode), (1, self.both_nodes)]

    def say(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self.begun:7.1f} s  {text}")

    def one(self) -> None:
        """A fault, and its end."""
        weights = [weight for weight, _ in self.kinds]
        ((_, fault),) = self.dice.choices(self.kinds, weights)
        self.faults += 1
        fault()
        time.sleep(self.dice.uniform(0.5, 6.0))

    def start(self, *names: str) -> None:
        self.cluster.start(*names)
        self.cluster.wait_running(*names)

    def kill(self, *names: str) -> None:
        self.say(f"SIGKILL {' '.join(names)}")
        self.cluster.kill(*names)
        time.sleep(self.dice.choice([0.0, 0.5, 4.0]))
        self.start(*names)

    def kill_one(self) -> None:
        self.kill(self.dice.choice(self.cluster.agents))

    def kill_two(self) -> None:
        self.kill(*self.dice.sample(self.cluster.agents, 2))

    def kill_all(self) -> None:
        self.kill(*self.cluster.agents)

    def leave_dead(self) -> None:
        """For longer than its batches wait for it."""
        name = self.dice.choice(list(self.cluster.ports))
        self.say(f"SIGKILL {name}, dead for {LONG_STOP_S} s")
        self.cluster.kill(name)
        time.sleep(LONG_STOP_S)
        self.start(name)

    def lose_disk(self) -> None:
        """Not of an edge: what it has read and not handed on is nowhere else."""
        name = self.dice.choice(list(self.cluster.ports))
        seconds = self.dice.choice([0.0, 4.0, LONG_STOP_S])
        self.say(f"SIGKILL {name}, back after {seconds:.0f} s with an empty disk")
        self.cluster.kill(name)
        shutil.rmtree(self.cluster.data / name)
        time.sleep(seconds)
        self.start(name)

    def stop_and_continue(self) -> None:
        name = self.dice.choice(self.cluster.agents)
        seconds = self.dice.choice([1.0, 4.0, LONG_STOP_S])
        self.say(f"SIGSTOP {name} for {seconds:.0f} s")
        self.cluster.children[name].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.cluster.children[name].send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        name = self.dice.choice(self.cluster.agents)
        self.say(f"SIGTERM {name}: exit status {self.cluster.stop(name, PATIENCE_S)}")
        self.start(name)

    def namenode(self) -> None:
        self.hadoop("namenode")

    def datanode(self) -> None:
        self.hadoop("datanode")

    def both_nodes(self) -> None:
        self.hadoop("namenode", "datanode")

    def hadoop(self, *nodes: str) -> None:
        assert self.hdfs is not None
        self.say(f"SIGKILL {' and '.join(nodes)}")
        for node in nodes:
            self.hdfs.kill(node)
        time.sleep(self.dice.uniform(0.0, 5.0))
        self.hdfs.start()


def play(chaos: Chaos, minutes: float) -> None:
    """Faults for as long as asked."""
    cluster = chaos.cluster
    cluster.start()
    cluster.wait_running()
    with Writer(cluster, 12, 0.01):
        # A file that is rotated away before its source has ever looked is not read.
        flows_on(cluster)
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            chaos.one()
    chaos.say(f"{chaos.faults} faults; waiting until all is published")
    wait_for(cluster.is_empty, "every channel is empty", PATIENCE_S)
    cluster.pauses.all_is_published()


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="How long faults go on.")
@click.option("--hdfs", is_flag=True, help="Sinks write into a real HDFS, whose nodes fail, too.")
@click.option("--end", is_flag=True, help='With guarantee = "end": disks are lost as well.')
@click.option("--seed", type=int, help="Of the choice of faults.  [default: random]")
@click.option("--keep", is_flag=True, help="Keep the directory with channels, files and logs.")
def main(minutes: float, hdfs: bool, end: bool, seed: int | None, keep: bool) -> None:
    """Two edges, two aggregators and three sinks at work while nodes are killed (SIGKILL), stopped
    and continued, and terminated at random; in the end every line is counted."""
    seed = random.randrange(2**32) if seed is None else seed
    directory = Path(tempfile.mkdtemp(prefix="tiers-chaos-"))
    click.echo(f"seed {seed}, in {directory}")
    right = False
    with ExitStack() as stack:
        hadoop = None
        if hdfs:
            hadoop = HdfsCluster(directory / "hdfs")
            hadoop.start()
            stack.callback(hadoop.stop)
        sink = f'takeover_after = "{TAKEOVER_S}s"'
        extra = END if end else ""
        cluster = (
            HdfsDelivery(directory, hadoop, sinks=3, more=sink, extra=extra)
            if hadoop
            else Cluster(directory, sinks=3, more=sink, extra=extra)
        )
        stack.callback(cluster.close)
        chaos = Chaos(cluster, hadoop, random.Random(seed))
        play(chaos, minutes)
        ended = cluster.drain()
        found = cluster.count()
        audit = cluster.command("audit", "--files")
        click.echo(
            f"exit statuses {sorted(set(ended.values()))}; tiers audit --files: {audit.returncode}"
        )
        if audit.returncode:
            click.echo(audit.stdout + audit.stderr)
        click.echo(found)
        right = found.right and not audit.returncode and not any(ended.values())
    if right and not keep:
        shutil.rmtree(directory)
    else:
        click.echo(f"kept: {directory}")
    sys.exit(0 if right else 1)


main()
