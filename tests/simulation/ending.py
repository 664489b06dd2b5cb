"""When a run is over: everything is published, every queue is empty, every peer is up again, and
then some further lines spread evenly over the agents of each tier (invariant 5 of delivery.md)."""

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.faults import CLOCK, LIVES
from tests.simulation.published import Violation, show
from tests.simulation.store import Files
from tiers.agent.agent import Agent
from tiers.audit.audit import accounts, counting
from tiers.audit.holdings import AgentHolding, holding_of
from tiers.audit.published import read_store
from tiers.core.batch import BatchId
from tiers.core.hop.peers import PeerState
from tiers.observe.snapshot import audit

if TYPE_CHECKING:
    from tests.simulation.nodes import Node
    from tests.simulation.world import World

HEAL_S: Final = 400.0  # within which everything comes to rest
MORE_LINES: Final = 36  # of each reader, in batches of three
SHARE_MIN: Final = 0.5  # of an even share: what each agent gets at least of the further batches


class Shown:
    """A store as who audits it sees it."""

    def __init__(self, files: Files) -> None:
        self.read, self.list = files.read, files.list

    def where(self) -> str:
        return "simulated"


def held_by(agent: Agent) -> AgentHolding:
    told = holding_of(
        agent.name, agent.topology.tier_of(agent.name).name, {"audit": audit(agent.channel)}
    )
    assert isinstance(told, AgentHolding), told
    return told


class Ending:
    """Looks at a world now and then, once faults are over."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._before: Counter[str] | None = None  # arrived, when the further lines began
        self.lines = world.lines  # of each reader, in all

    def is_over(self) -> bool:
        """Raises Violation."""
        world = self._world
        now_s = world.loop.time()
        if now_s > world.until_s + 8.0:
            world.ensure_all()
            self._part_twins()
        rested = self._missing() == self._excused() and self._drained()
        if rested and self._before is None and self._all_up() and not self._twins():
            self._before = world.ledger.arrived.copy()
            self.lines += MORE_LINES
            world.say(f"{MORE_LINES} further lines of each reader")
            return False
        if rested and self._before is not None:
            self._check_shares(world.ledger.arrived - self._before)
            self._check_told()
            world.ledger.check_routes()
            self._check_audit()
            return True
        if now_s > world.until_s + HEAL_S:
            self._too_long()
        return False

    def _part_twins(self) -> None:
        """Of two that run under one name a person takes one away, once its channel is empty."""
        for node in self._twins():
            if node.boot is not None and node.boot.alive and node.boot.agent is not None:
                node.boot.agent.drain()

    def _twins(self) -> list["Node"]:
        """One takes what would be the other's share."""
        return [node for node in self._world.nodes.values() if node.twin and not node.gone]

    def _too_long(self) -> None:
        missing, excused = self._missing(), self._excused()
        if missing != excused:
            raise Violation(
                f"missing: {missing} lines are not published, {excused} of them went with a disk"
            )
        raise Violation(f"queues do not drain: {self._left()}")

    def _missing(self) -> int:
        """Lines that are not published, in all stores; those that are not read yet count once."""
        world = self._world
        unread = sum(
            max(0, self.lines - world.ledger.read_upto(node.machine))
            for node in world.nodes.values()
            if node.name in world.shape.readers and not node.gone and not node.twin
        )
        return unread + sum(world.ledger.missing(store) for store in world.ledger.outputs)

    def _excused(self) -> int:
        ledger = self._world.ledger
        return sum(ledger.excused(store) for store in ledger.outputs)

    def _agents(self) -> dict[str, Agent | None]:
        """Those that are to be there, by machine; None: it is not."""
        return {
            node.machine: node.boot.agent if node.boot is not None and node.boot.alive else None
            for node in self._world.nodes.values()
            if not node.gone
        }

    def _drained(self) -> bool:
        for agent in self._agents().values():
            if agent is None or agent.state != "running":
                return False
            stats = agent.channel.stats()
            if stats.batches > stats.dead:
                return False
        return True

    def _all_up(self) -> bool:
        there = self._agents()
        names = {node.name for node in self._world.nodes.values() if not node.gone}
        return all(
            peer.state is PeerState.UP
            for agent in there.values()
            if agent is not None
            for group in agent.parts.groups.values()
            for peer in group.sender.peers.values()
            if peer.name in names
        )

    def _check_shares(self, arrived: Counter[str]) -> None:
        there = {node.name for node in self._world.nodes.values() if not node.gone}
        for tier in self._world.shape.topology.tiers.values():
            up = [name for name in tier.agents if name in there]
            batches = sum(arrived[name] for name in up)
            for name in up:
                if arrived[name] < SHARE_MIN * batches / len(up):
                    raise Violation(
                        f"flow is not spread: {name} got {arrived[name]} of {batches} batches "
                        f"for {len(up)} agents"
                    )

    def _check_told(self) -> None:
        """Nothing is lost silently: what went with a disk that went back, its agent tells."""
        there = self._agents()
        for machine in sorted(self._world.ledger.to_be_told()):
            agent = there.get(machine)
            if agent is not None and not agent.channel.stats().news:
                raise Violation(f"lines went with the disk of {machine}, and nobody says so")

    def _check_audit(self) -> None:
        """An audit misses nothing but what went with a disk. Not where disks went back, or were
        lost while clocks differ: what an agent did not give to an output may be forgotten then, and
        looks missing."""
        world = self._world
        topology = world.shape.topology
        kinds = {fault.kind for fault in world.faults}
        if kinds & {*LIVES} or ("disk lost" in kinds and kinds & {CLOCK, "clock jumps"}):
            return
        agents = [agent for agent in self._agents().values() if agent is not None]
        holdings = [held_by(agent) for agent in agents]
        for store, published in world.ledger.outputs.items():
            tier, _, output = store.partition("/")
            counted = counting(topology, tier, output, holdings)
            shown: Any = Shown(published.files)
            found = accounts(read_store(shown), counted, all_asked=len(agents) == len(world.nodes))
            gaps = [
                BatchId(bytes.fromhex(account.origin), seq)
                for account in found
                for first, last in account.gaps
                for seq in range(first, last + 1)
            ]
            if left := world.ledger.unaccounted(store, gaps):
                raise Violation(f"an audit misses {[*map(show, left)]} in {store} without a reason")

    def _left(self) -> str:
        """Who still holds something, or is not well."""
        found = []
        for name, agent in self._agents().items():
            if agent is None or agent.state != "running":
                found.append(f"{name} is {agent.state if agent else 'down'}")
                continue
            parts: list[Any] = [*agent.parts.groups.values(), *agent.parts.sinks.values()]
            status = [one.status() for one in parts]
            if agent.channel.stats().batches:
                queues = {
                    output: [show(entry.id) for entry in agent.channel.entries(output)]
                    for output in agent.topology.outputs(agent.name)
                }
                found.append(f"{name} holds {queues}, {status}")
            elif not self._all_up():
                found.append(f"{name}: {status}")
        return "; ".join(found)
