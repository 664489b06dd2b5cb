"""How each kind of fault is brought about."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.faults import Fault
from tests.simulation.topology import OTHER

if TYPE_CHECKING:
    from tests.simulation.nodes import Node
    from tests.simulation.store import Wanted
    from tests.simulation.world import World

STOPPED_S_MIN = 10.0  # of a sink in the middle of a file: long enough for another to take over
DEAF_S_MIN = 4.0  # of a sink that is to be stopped in the middle of a file
DEAF_TO_THE_END = 0.6  # of those that fall asleep in a day that is closed
HANG_S = 0.5  # the calls of so long are under way when a store fails over
SILENT_S, SILENT_EVERY_S = 1.7, 2.6  # longer than what makes a peer suspect
RESET_EVERY_S = 0.6
UNHEARD = 0.25  # of the disks lost: their node is not heard for a while before
UNHEARD_S = 1.3  # shorter than what makes a peer suspect


@dataclass
class Weather:
    """Chances of one sink's store calls."""

    slow: float = 0.02
    fails: float = 0.0
    late: float = 0.0
    loses: float = 0.0
    hangs_until_s: float = 0.0  # calls have no answer until then: a failover
    down: bool = False
    late_publish: bool = False  # the next file is published by a call that was given up
    publish_fails: bool = False  # the next call that would publish a file is not carried out


class Injector:
    """Begins faults, and ends them in time."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.weather: dict[str, Weather] = {}

    def of(self, node: str) -> Weather:
        """The weather of a node's store calls."""
        return self.weather.setdefault(node, Weather())

    def inject(self, fault: Fault) -> None:
        world, node = self._world, self._world.nodes[fault.node]
        world.say(f"fault: {fault.kind} {fault.node} ({fault.other}) for {fault.for_s:.1f} s")
        world.count(fault.kind)
        undo = self._on_network(fault) or self._on_store(fault) or self._on_node(node, fault)
        if undo is not None:
            world.later(fault.for_s, undo)

    def _on_node(self, node: "Node", fault: Fault) -> Callable[[], None] | None:
        world = self._world
        match fault.kind:
            case "crash":
                world.crash(node, fault.for_s)
            case "disk lost":
                self._lose_disk(node, fault)
            case "all crash":
                for one in world.nodes.values():
                    world.crash(one, fault.for_s * (0.1 + world.random.random()))
            case "back late":
                world.crash(node, fault.for_s)
            case "stopped and started":
                world.stop(node, fault.for_s)
            case "crash after intent" | "crash after publish":
                node.crash_after = fault.kind.rpartition(" ")[2]
            case "crash at store":
                node.crash_at_store = 1 + int(fault.amount * 25)
            case "crash at commit":
                node.crash_at_commit = 1 + int(fault.amount * 8)
            case "channel ends":
                node.channel_ends = 1 + int(fault.amount * 3)
            case "set back" | "cloned":
                self._another_life(node, fault)
            case "crash at send":
                node.crash_at_send = 1 + int(fault.amount * 3)
            case "pause at store":
                self._pause_soon(node, fault)
            case "zombie":
                # It takes batches in whose acks are lost, and is stopped in the middle of a file.
                self._pause_soon(node, fault)
                self._deafen(fault, after_s=3.0 + 4.0 * fault.amount)
            case "stopped at intent" | "stopped at publish" | "stopped at question":
                if not world.closing or fault.amount < DEAF_TO_THE_END:
                    longer = replace(fault, for_s=max(fault.for_s, DEAF_S_MIN))
                    self._deafen(longer, after_s=0.0)
                node.stop_at = fault.kind.rpartition(" ")[2]
                node.pause_s = max(fault.for_s, STOPPED_S_MIN)
                if node.stop_at == "question":
                    self.of(node.name).publish_fails = True
            case "pause":
                return self.pause(node)
            case "damaged" | "envelope damaged" if world.guarantee == "end":
                node.damage = 1 + int(fault.amount * 4)
                node.damage_envelope = fault.kind == "envelope damaged"
            case "gone for good":
                world.lose(node)
            case "disk full":
                node.disk_full = True
                return lambda: setattr(node, "disk_full", False)
            case "disk slow":
                return self._slow_disk(node, fault)
            case "fsync fails":
                node.fsync_fails = 1 + int(fault.amount * 2)
            case "clock jumps" | "clock differs":
                node.skew_ms = int((fault.amount - 0.5) * 240_000)
            case "topology changes":
                world.write_topology(without=world.shape.spare() if fault.amount < 0.5 else "")
                return world.write_topology
            case "other settings":
                world.write_topology(other=self._other(fault.amount))
                return world.write_topology
        return None

    def _other(self, amount: float) -> frozenset[str]:
        """Some of the settings, at least one."""
        bits = 1 + int(amount * (2 ** len(OTHER) - 1))
        return frozenset(what for number, what in enumerate(OTHER) if bits >> number & 1)

    def _on_network(self, fault: Fault) -> Callable[[], None] | None:
        net, much = self._world.net, 0.02 + fault.amount * 0.3
        match fault.kind:
            case "cut" | "one-way cut" | "half-open":
                return self.cut(fault)
            case "cut off":
                for name in self._world.nodes:
                    if name != fault.node:
                        self._cut_for(replace(fault, kind="cut", other=name))
            case "reset":
                self._reset(fault.node)
            case "stale messages":
                return self._stale(fault)
            case "weather":
                net.loss, net.doubling, net.slow = much / 3, much / 3, much / 2
                return self.calm
        return None

    def _on_store(self, fault: Fault) -> Callable[[], None] | None:
        weather, much = self.of(fault.node), 0.02 + fault.amount * 0.3
        match fault.kind:
            case "store fails":
                weather.fails = much
                return lambda: setattr(weather, "fails", 0.0)
            case "store late":
                weather.late = much
                return lambda: setattr(weather, "late", 0.0)
            case "store answers lost":
                weather.loses = much
                return lambda: setattr(weather, "loses", 0.0)
            case "store slow":
                weather.slow = much
                return lambda: setattr(weather, "slow", 0.02)
            case "store away":
                weather.down = True
                return lambda: setattr(weather, "down", False)
            case "store fails over":
                self._fail_over(fault)
            case "store publishes late":
                weather.late_publish = True
        return None

    def _pause_soon(self, node: "Node", fault: Fault) -> None:
        node.pause_at_store, node.pause_s = 1 + int(fault.amount * 12), fault.for_s

    def _lose_disk(self, node: "Node", fault: Fault) -> None:
        """Now and for a while; or it is back at once, and had passed on what it never acked."""
        world = self._world
        if fault.amount < UNHEARD:
            world.crash(node, fault.for_s, disk_lost=True)
            return
        for name in world.shape.upstream(node.name):
            self._cut_for(replace(fault, kind="one-way cut", other=name, for_s=UNHEARD_S))
        crash = partial(world.crash, node, 0.2, disk_lost=True)
        world.later(UNHEARD_S - 0.1, crash)

    def _another_life(self, node: "Node", fault: Fault) -> None:
        """An image is taken now, and used later. Half of them are in another place then."""
        world = self._world
        image = world.image(node)
        elsewhere = fault.amount < 0.5
        if fault.kind == "cloned":
            # Outside of the promise: two sinks that are one disk twice and cannot be told apart.
            elsewhere = elsewhere or node.name in world.shape.writers
            world.later(fault.for_s, partial(world.clone, node, image, elsewhere=elsewhere))
            return
        down_s = (0.1, 3.0, 10.0)[int(fault.amount * 100) % 3]
        back = partial(world.set_back, node, image, down_s, elsewhere=elsewhere)
        world.later(fault.for_s, back)

    def _fail_over(self, fault: Fault) -> None:
        """Of a NameNode: what is under way is carried out or not, and answered to nobody; then
        there is none for a while. For all sinks."""
        world = self._world
        for name in world.shape.writers:
            weather = self.of(name)
            weather.hangs_until_s = world.loop.time() + HANG_S
            world.later(HANG_S, setattr, weather, "down", True)
            world.later(HANG_S + min(fault.for_s, 10.0), setattr, weather, "down", False)

    def _stale(self, fault: Fault) -> Callable[[], None]:
        """Sessions end since nothing is heard of the node, while its connections stay: what comes
        late is of an older session."""
        stale = self._world.net.stale
        stale.add(fault.node)
        turns = 1 + int(max(fault.for_s, DEAF_S_MIN) / SILENT_EVERY_S)
        for turn in range(turns):
            silence = replace(fault, for_s=SILENT_S)
            self._deafen(silence, after_s=turn * SILENT_EVERY_S)
        return lambda: stale.discard(fault.node)

    def _deafen(self, fault: Fault, after_s: float) -> None:
        """Nothing that the node says reaches its senders."""
        for name in self._world.shape.upstream(fault.node):
            silence = replace(fault, kind="one-way cut", other=name)
            self._world.later(after_s, self._cut_for, silence)

    def _cut_for(self, fault: Fault) -> None:
        self._world.later(fault.for_s, self.cut(fault))

    def pause(self, node: "Node") -> Callable[[], None] | None:
        boot, world = node.boot, self._world
        if boot is None or not boot.alive or boot.paused:
            return None
        boot.paused = boot.disturbed = True

        def resume() -> None:
            boot.paused = False
            world.loop.resume(boot)
            world.say(f"{node.name} goes on")

        return resume

    def stop_before(self, node: "Node", wanted: "Wanted") -> None:
        """The node has come to a store call: it may be the one before which it is to stop."""
        # A question is also asked after each write: meant is that after the publish that fails.
        too_early = node.stop_at == "question" and self.of(node.name).publish_fails
        if node.stop_at and node.stop_at == step_of(wanted) and not too_early:
            node.stop_at = ""
            if (resume := self.pause(node)) is not None:
                self._world.say(f"{node.name} is stopped for {node.pause_s:.1f} s: {wanted.name}")
                self._world.later(node.pause_s, resume)

    def _slow_disk(self, node: "Node", fault: Fault) -> Callable[[], None]:
        """Commits take long, and connections break meanwhile."""
        node.commit_s = 0.3 + 2.0 * fault.amount
        for turn in range(1, int(min(fault.for_s, 10.0) / RESET_EVERY_S)):
            self._world.later(turn * RESET_EVERY_S, self._reset, fault.node)
        return lambda: setattr(node, "commit_s", 0.0)

    def _reset(self, name: str) -> None:
        for connection in self._world.net.of(name):
            connection.close(told_after_s=0.01)

    def cut(self, fault: Fault) -> Callable[[], None]:
        net, pair = self._world.net, (fault.node, fault.other)
        pairs = [pair] if fault.kind == "one-way cut" else [pair, pair[::-1]]
        for one in pairs:
            net.cuts[one] = net.cuts.get(one, 0) + 1
        if fault.kind == "cut":
            for connection in net.of(fault.node):
                if fault.other in (connection.client.node, connection.server.node):
                    connection.close(told_after_s=0.05 + fault.amount)

        def heal() -> None:
            for one in pairs:
                net.cuts[one] = max(0, net.cuts.get(one, 0) - 1)

        return heal

    def calm(self) -> None:
        """The network is well again."""
        net = self._world.net
        net.loss = net.doubling = net.slow = 0.0

    def heal(self) -> None:
        """All is well from now on."""
        self.calm()
        self._world.net.cuts.clear()
        self._world.net.stale.clear()
        self.weather.clear()
        for node in self._world.nodes.values():
            node.disk_full, node.fsync_fails, node.commit_s = False, 0, 0.0
            node.crash_at_store = node.crash_at_commit = node.crash_at_send = 0
            node.channel_ends = 0
            node.pause_at_store, node.stop_at, node.crash_after = 0, "", ""
            if node.boot is not None and node.boot.paused:
                node.boot.paused = False
                self._world.loop.resume(node.boot)


def step_of(wanted: "Wanted") -> str:
    """Which step of commit.md a store call is: "intent", "publish", "question" (what became of
    a file), or none of these."""
    if wanted.name != "move":
        asks = wanted.name in ("length", "read") and "/tmp/" in str(wanted.args[0])
        return "question" if asks else ""
    target = str(wanted.args[1])
    if not target.startswith(".tiers"):
        return "publish"
    return "intent" if "/manifests/" in target else ""
