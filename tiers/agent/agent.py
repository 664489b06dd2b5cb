"""An agent: its life, from first to last. What it is made of: composing.py and parts/.

     sources --> intake --+                         +--> sender groups --> peers of the next tiers
                          +--> channel (LMDB) ------+
     receiver ------------+                         +--> sinks --> stores

Its life: `starting`, `running`, then either `stopping` (SIGTERM: what is not handed on stays on
disk) or `draining` (takes nothing new, leaves when its channel is empty). One whose disk went back
in time, or whose machine was resumed, leaves at once, to be started again (`AGAIN`).
"""

import asyncio
import contextlib
import logging
import signal
from pathlib import Path
from typing import Any, Final

from tiers.agent.composing import Composition, channel_limits, wanted
from tiers.agent.descriptors import raise_limit, shared_out
from tiers.agent.former_outputs import Former
from tiers.agent.parts.parts import Parts
from tiers.agent.reloading import Reloading
from tiers.agent.salvaging import Salvage
from tiers.agent.world import Machine
from tiers.contracts import Channel, Server, World
from tiers.core.change import Change
from tiers.core.entry.routes import Route
from tiers.core.steps import Key, StepKind
from tiers.dead.handling import Handling
from tiers.dead.wire import routes
from tiers.entry.intake import take_over
from tiers.entry.press import Press
from tiers.errors import ChannelUnavailable
from tiers.host.own_directory import make_own, opening
from tiers.host.resuming import resumed
from tiers.observe.errors import Errors
from tiers.observe.health import Health
from tiers.observe.meters import Meters
from tiers.observe.process import Process
from tiers.observe.snapshot import audit, snapshot
from tiers.observe.status import reload_route
from tiers.observe.watch import Watch
from tiers.topology import Topology

log = logging.getLogger("tiers")
INTERRUPTED: Final = 3  # exit status of an agent that was stopped before it had drained
AGAIN: Final = 75  # exit status of one that is to be started again at once
LAST_LOOK_S: Final = 0.5
WATCH_S: Final = 0.05  # how often the way to an empty channel is looked at
TEND_S: Final = 1.0
CLOSE_S_MIN: Final = 1.0  # what commits still get when the time for a stop is over


class Agent:
    """One node of a topology. `run` returns its exit status."""

    def __init__(
        self,
        topology: Topology,
        name: str,
        directory: Path,
        reloading: Reloading,
        watch: Watch | None = None,
        world: World | None = None,
    ) -> None:
        self.topology = topology  # that its parts work by
        self.name = name
        self.directory = directory
        self.reloading = reloading
        self.watch = watch
        self.world = world or Machine()
        self.state = "starting"
        self.started_ms = self.world.now_ms()
        self.meters = Meters()
        self.health = Health(self, topology.delivery.stalled_after_s)
        self.errors = Errors(self.world.now_ms, self.health.tell)
        self.parts = Parts(self._make, self._settled, self.meters, self.world.random)
        self.shares = shared_out(topology, name, raise_limit())
        self.channel: Channel
        self.letters: Handling
        self.former: Former
        self.salvage: Salvage
        self._press: Press
        self._leave = asyncio.Event()  # drain or stop: `_stop_wanted` tells which
        self._stop_wanted = False
        self._stop_until = 0.0  # loop time; 0.0: no stop has begun
        self._looked = asyncio.Event()  # somebody saw the status after it had drained
        self.draining = False  # was told to, whatever came of it
        self._leftovers = False  # drained, but not of everything
        self._whole = False  # all parts that are wanted are at work
        self._again = False  # leaves at once, to be started again

    # -- life --------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until stopped or drained. Raises what keeps an agent from working at all."""
        make_own(self.directory)
        outputs = self.topology.outputs(self.name)
        with opening(self.directory):
            self.channel = await self.world.channel(
                self.directory, channel_limits(self.topology), outputs
            )
        if self.channel.life.renewed:
            self.channel.life.renewed_s = self.world.now_s()
        self._press = Press(self.topology.batch.codec, self.topology.batch.level)
        try:
            if self.channel.was_cut_off:
                log.warning("the last run was cut off; what it had not acked comes again")
            if news := self.channel.stats().news:
                log.warning(news)
            self.salvage = self._salvage()
            await self.salvage.begin()
            await take_over(self.channel, self.topology.sources(self.name))
            await self.reloading.accept()
            self.letters = Handling(self.channel, self._route())
            self.former = Former(self.channel, self.name, self.errors.lasting)
            self.meters.register(Process(self), self.health, self.channel, self.letters)
            await self._work_by(self.topology)
            await self._serve()
        finally:
            await self.parts.end()
            self._press.close()
            await self._close_channel()
            self.world.close()
        if self._again and not self._stop_wanted:
            return AGAIN
        if self.draining and self.state != "drained":
            return INTERRUPTED
        return 1 if self._leftovers else 0

    async def _close_channel(self) -> None:
        left_s = self._stop_until - asyncio.get_running_loop().time()
        try:
            await self.channel.close(max(left_s, CLOSE_S_MIN) if self._stop_until else None)
        except ChannelUnavailable as error:
            # On a full disk a stop is still a stop. Who brought it keeps what was not acked.
            log.warning("what was under way is not on disk: %s", error)

    async def _serve(self) -> None:
        self._listen_to_signals()
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self.reloading.run(self.apply, self.drain), name="reload")
            work = [
                following,
                tasks.create_task(self.salvage.run(), name="salvage"),
                tasks.create_task(self.health.run(), name="health"),
                # Without its channel it does nothing: who supervises it starts it anew.
                tasks.create_task(self.channel.wait_end(), name="channel"),
                tasks.create_task(self._watch_clock(), name="clock"),
                tasks.create_task(self._tend(), name="tend"),
            ]
            if self.state == "starting":
                self.state = "running"
            if self.watch is not None:
                self.watch.begin_after()
            log.info("%s, channel %s", self.state, self.channel.channel_id.hex())
            if self.reloading.left:
                self.drain()
            await self._leave.wait()
            if not self._stop_wanted and not self._again:
                await self._drained()
                await self._last_look()
            if not self._again:
                following.cancel()  # or it would begin what is to end
                await self._stop()
            for task in work:
                task.cancel()

    # -- what it works by ----------------------------------------------------------------------

    async def apply(self, topology: Topology) -> None:
        """This agent works by `topology` when this returns. Raises what keeps it from that; it
        works by what it did before then."""
        before = self.topology
        self.former.refuse_others(topology)
        try:
            await self._work_by(topology)
        except Exception:
            with contextlib.suppress(Exception):  # what is missing then, `_tend` tries again
                await self._work_by(before)
            raise

    async def _work_by(self, topology: Topology) -> None:
        self.topology = topology
        self.shares = shared_out(topology, self.name, self.shares.limit)
        if self.shares.short:
            log.warning(self.shares.short)
        coming = await self.channel.work_by(channel_limits(topology), topology.outputs(self.name))
        await self.former.remember(topology)
        self._store_by(self._route(), coming)
        self._press.work_by(topology.batch.codec, topology.batch.level)
        self.health.work_by(topology.delivery.stalled_after_s)
        await self._become()

    def _store_by(self, route: Route, coming: Change) -> None:
        """From this step of the loop on, in which outputs begin and end."""
        for source in self.parts.sources:
            source.intake.route = route
        if self.parts.receiver is not None:
            self.parts.receiver.route = route
        self.salvage.route = self.letters.route = route
        if coming.begins or coming.ends:
            self.channel.submit(coming)

    async def _become(self) -> None:
        """The parts are those that are wanted, or as many of them as can be."""
        self._whole = False
        try:
            await self.parts.apply(self._wanted, self.topology.delivery.shutdown_timeout_s)
            self._whole = True
        finally:
            self.former.note_orphans((*self.parts.groups, *self.parts.sinks))

    def _wanted(self) -> dict[Key, Any]:
        if self._stop_until:
            return {}
        specs = wanted(self.topology, self.name, self.shares, draining=self.draining)
        if self.reloading.left:  # what is at work comes to its end
            at_work = self.parts.specs()
            specs = {
                k: one for k, one in specs.items() if k in at_work or k.kind != StepKind.SOURCE
            }
        return specs | self.former.specs(self.topology)

    async def _tend(self) -> None:
        """An output that the topology no longer has ends when it is empty; and what could not be
        begun again when a reload failed is tried again."""
        while True:
            await asyncio.sleep(TEND_S)
            if self._whole and not self.former.is_changed(self.topology):
                continue
            try:
                await self._become()
            except Exception as error:  # whatever a third party's part raises
                log.error("what the topology wants is not at work: %s", error)

    async def _make(self, key: Key, spec: Any) -> Any:
        composition = Composition(
            topology=self.topology.name,
            agent=self.name,
            channel=self.channel,
            world=self.world,
            press=self._press,
            serve=self._server,
            stores=self.stores,
            carries=self._carries,
            trouble=self.errors.lasting,
            event=self.errors.passing,
            renew=self.renew,
        )
        return await composition.make(key, spec)

    def _server(self, address: str | None) -> Server:
        return self.world.status_server(
            self._look,
            lambda: audit(self.channel),
            self.meters,
            self.health.unready,
            self.drain,
            self.directory,
            address,
            [*routes(self.letters), reload_route(self.reloading.wake)],
        )

    def _carries(self, agent: str) -> bool:
        return self.topology.carries(agent)

    def _route(self) -> Route:
        return self.topology.tier_of(self.name).route

    async def _settled(self) -> None:
        """All that parts have submitted is on disk, and positions are where they belong."""
        await self.channel.submit(Change())
        await take_over(self.channel, self.topology.sources(self.name))

    # -- its end -------------------------------------------------------------------------------

    async def _drained(self) -> None:
        """Nothing new comes in, and all there was has gone out (or SIGTERM came)."""
        await self._become()
        while not self._stop_wanted and not self._again:
            if self._is_settled() and self._is_empty():
                if self.parts.receiver is not None:
                    self.parts.receiver.close()  # in the same turn: what came now would stay behind
                self.state = "drained"
                self._leftovers = self._has_leftovers()
                await self.reloading.drained()
                log.info("drained")
                return
            await asyncio.sleep(WATCH_S)

    def _look(self) -> dict[str, Any]:
        if self.state == "drained":
            self._looked.set()
        return snapshot(self)

    async def _last_look(self) -> None:
        """A supervisor that asks often sees the final counts before the agent is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_S):
                await self._looked.wait()

    def _is_settled(self) -> bool:
        receiver = self.parts.receiver
        done = all(source.state == "done" for source in self.parts.sources)
        return done and self.salvage.settled() and (receiver is None or receiver.settled())

    def _is_empty(self) -> bool:
        queues = self.channel.stats().queues
        outputs = (*self.parts.groups, *self.parts.sinks)
        return not any(queues[name].batches for name in outputs if name in queues)

    def _has_leftovers(self) -> bool:
        """Dead letters, or batches for an output that the topology no longer has. They do not
        hold up a drain, since they may be here for ever, but somebody should look."""
        stats = self.channel.stats()
        return bool(stats.dead) or any(queue.batches for queue in stats.queues.values())

    async def _stop(self) -> None:
        """No part is wanted any more: sources stop, peers are told, acks under way are awaited
        for a while, the rest stays."""
        if self.state != "drained":
            self.state = "stopping"
            log.info("stopping")
        within_s = self.topology.delivery.shutdown_timeout_s
        self._stop_until = asyncio.get_running_loop().time() + within_s
        await self.parts.apply(self._wanted, within_s)

    def drain(self) -> None:
        """Begin to drain. Fine to be called again."""
        if self.state in ("starting", "running"):
            self.state = "draining"
            self.draining = True
            log.info("draining")
            self._leave.set()

    def stop(self) -> None:
        """Begin to stop."""
        self._stop_wanted = True
        self._leave.set()

    def renew(self, why: str) -> None:
        """This channel's disk went back in time, or is there twice: the next start renews it, and
        until then nothing more is taken or said."""
        if not self._again:
            log.error("the disk went back in time, or is there twice: %s; starting again", why)
            self.channel.renew(why)
            self.start_again()

    def start_again(self) -> None:
        """Leave at once, with status AGAIN."""
        self._again = True
        self.state = "starting again"
        for group in self.parts.groups.values():
            group.mute()
        if self.parts.receiver is not None:
            self.parts.receiver.mute()
        self._leave.set()

    async def _watch_clock(self) -> None:
        leap_s = await resumed(self.world)
        log.warning(
            "the clock leapt by %.0f s: this machine was resumed, or its clock put right; "
            "starting again",
            leap_s,
        )
        self.start_again()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def _salvage(self) -> Salvage:
        sources, delivery = self.topology.sources(self.name), self.topology.delivery
        retention_s = delivery.dedupe_retention_s
        return Salvage(self.directory, self.channel, self._route(), sources, retention_s)

    # -- what the others ask -------------------------------------------------------------------

    def stores(self) -> dict[str, str]:
        """Store ids of all sinks here and below, as WELCOME tells them."""
        stores: dict[str, str] = {}
        for group in self.parts.groups.values():
            stores |= group.sender.stores()
        tier = self.topology.tier_of(self.name).name
        for output, sink in self.parts.sinks.items():
            store_id = sink.store_id()
            if store_id:
                stores[f"{tier}/{output}"] = store_id
        return stores
