"""An agent: its life, from first to last. Its parts are made in composing.py.

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
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from tiers.composing import Composition, channel_limits
from tiers.contracts import Channel, Sink, World
from tiers.dead.handling import Handling
from tiers.dead.wire import routes
from tiers.descriptors import Shares, raise_limit, shared_out
from tiers.errors import ChannelUnavailable
from tiers.intake import take_over
from tiers.observe.health import Health
from tiers.observe.meters import Meters
from tiers.observe.process import Process
from tiers.observe.snapshot import audit, snapshot
from tiers.observe.status import reload_route
from tiers.observe.watch import Watch
from tiers.own_directory import make_own, opening
from tiers.press import Press
from tiers.reloading import Reloading
from tiers.resuming import resumed
from tiers.running import Running
from tiers.salvaging import Salvage
from tiers.topology import Topology
from tiers.transport.receiving import ReceiverEnd
from tiers.transport.sending import SenderGroup
from tiers.world import Machine

log = logging.getLogger("tiers")
INTERRUPTED: Final = 3  # exit status of an agent that was stopped before it had drained
AGAIN: Final = 75  # exit status of one that is to be started again at once
LAST_LOOK_S: Final = 0.5
WATCH_S: Final = 0.05  # how often the way to an empty channel is looked at
CLOSE_S_MIN: Final = 1.0  # what commits still get when the time for a stop is over
PARTING_S: Final = 1.0  # how long an agent that stops waits for its senders to let go


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
        self.topology = topology
        self.name = name
        self.tier = topology.tier_of(name)
        self.directory = directory
        self.reloading = reloading
        self.watch = watch
        self.world = world or Machine()
        self.state = "starting"
        self.started_ms = self.world.now_ms()
        self.last_error: tuple[int, str] = (0, "")
        self.sources: list[Running] = []
        self.groups: dict[str, SenderGroup] = {}
        self.sinks: dict[str, Sink] = {}
        self.receiver: ReceiverEnd | None = None
        self.meters = Meters()
        self.health = Health(self, topology.delivery.stalled_after_s)
        self.channel: Channel
        self.letters: Handling
        self.salvage: Salvage
        self.shares: Shares
        self._leave = asyncio.Event()  # drain or stop: `_stop_wanted` tells which
        self._stop_wanted = False
        self._stop_until = 0.0  # loop time; 0.0: no stop has begun
        self._looked = asyncio.Event()  # somebody saw the status after it had drained
        self.draining = False  # was told to, whatever came of it
        self._leftovers = False  # drained, but not of everything
        self._again = False  # leaves at once, to be started again
        self._errors: dict[str, str] = {}  # by part

    # -- life --------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until stopped or drained. Raises what keeps an agent from working at all."""
        make_own(self.directory)
        outputs = self.topology.outputs(self.name)
        limits = channel_limits(self.topology)
        with opening(self.directory):
            self.channel = await self.world.channel(self.directory, limits, outputs)
        if self.channel.life.renewed:
            self.channel.life.renewed_s = self.world.now_s()
        press = Press(self.topology.batch.codec, self.topology.batch.level)
        try:
            if self.channel.was_cut_off:
                log.warning("the last run was cut off; what it had not acked comes again")
            if news := self.channel.stats().news:
                log.warning(news)
            self.salvage = self._salvage()
            await self.salvage.begin()
            await take_over(self.channel, self.topology.sources(self.name))
            await self.reloading.accept()
            self._note_orphans(outputs)
            self.letters = Handling(self.channel, self.tier.route)
            self._compose(press)
            await self._serve()
        finally:
            press.close()
            for group in self.groups.values():
                group.close()
            if self.receiver is not None:
                self.receiver.close()
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
        address = self.topology.status_address(self.name)
        server = self.world.status_server(
            self._look,
            lambda: audit(self.channel),
            self.meters,
            self.health.unready,
            self.drain,
            self.directory,
            str(address) if address else None,
            [*routes(self.letters), reload_route(self.reloading.wake)],
        )
        await server.start()
        self._listen_to_signals()
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(part.run(), name=name) for name, part in self._parts()]
                reading = [tasks.create_task(s.run(), name=s.name) for s in self.sources]
                work.append(tasks.create_task(self.reloading.run(self), name="reload"))
                work.append(tasks.create_task(self.health.run(), name="health"))
                # Without its channel it does nothing: who supervises it starts it anew.
                work.append(tasks.create_task(self.channel.wait_end(), name="channel"))
                work.append(tasks.create_task(self._watch_clock(), name="clock"))
                if self.state == "starting":
                    self.state = "running"
                if self.watch is not None:
                    self.watch.begin_after()
                log.info("%s, channel %s", self.state, self.channel.channel_id.hex())
                if self.reloading.left:
                    self.drain()
                await self._leave.wait()
                if not self._stop_wanted and not self._again:
                    await self._drained(reading)
                    await self._last_look()
                if self._again:
                    for task in (*reading, *work):
                        task.cancel()
                else:
                    await self._stop(reading, work)
        finally:
            await server.stop()

    def _parts(self) -> list[tuple[str, Any]]:
        """Everything that works until the agent stops."""
        parts: list[tuple[str, Any]] = [*self.groups.items(), *self.sinks.items()]
        parts.append(("salvage", self.salvage))
        if self.receiver is not None:
            parts.append(("receiver", self.receiver))
        return parts

    async def _drained(self, reading: list["asyncio.Task[None]"]) -> None:
        """Nothing new comes in, and all there was has gone out (or SIGTERM came)."""
        for running in self.sources:
            running.drain()
        for sink in self.sinks.values():
            sink.drain()
        if self.receiver is not None:
            self.receiver.drain()
        while not self._stop_wanted and not self._again:
            if all(task.done() for task in reading) and self._settled() and self._is_empty():
                if self.receiver is not None:
                    self.receiver.close()  # in the same turn: what came now would stay behind
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

    def _settled(self) -> bool:
        return self.salvage.settled() and (self.receiver is None or self.receiver.settled())

    def _is_empty(self) -> bool:
        queues = self.channel.stats().queues
        return all(queues[name].batches == 0 for name in self.topology.outputs(self.name))

    def _has_leftovers(self) -> bool:
        """Dead letters, or batches for an output that the topology no longer has. They do not
        hold up a drain, since they may be here for ever, but somebody should look."""
        stats = self.channel.stats()
        return bool(stats.dead) or any(queue.batches for queue in stats.queues.values())

    async def _stop(
        self, reading: list["asyncio.Task[None]"], work: list["asyncio.Task[None]"]
    ) -> None:
        """Sources stop, peers are told, acks under way are awaited for a while, the rest stays."""
        if self.state != "drained":
            self.state = "stopping"
            log.info("stopping")
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        until = asyncio.get_running_loop().time() + self.topology.delivery.shutdown_timeout_s
        self._stop_until = until
        await self._within(until, [running.intake.flush() for running in self.sources], "sources")
        if self.receiver is not None:
            self.receiver.drain()
        for group in self.groups.values():
            group.stop()
        acks = [group.settled() for group in self.groups.values()]
        await self._within(until, [*acks, self._parted()], "acks")
        for task in work:
            task.cancel()

    async def _parted(self) -> None:
        """Until senders have had the acks of what they sent: what they are left to wonder about
        they give to others, flagged. One that has died cannot say goodbye."""
        receiver = self.receiver
        while receiver and not receiver.settled(PARTING_S):  # noqa: ASYNC110 nothing tells
            await asyncio.sleep(WATCH_S)

    async def _within(self, until: float, parts: list[Awaitable[None]], what: str) -> None:
        try:
            async with asyncio.timeout_at(until):
                await asyncio.gather(*parts)
        except TimeoutError:
            log.warning("%s not settled in time; what is open stays on disk", what)

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
        for group in self.groups.values():
            group.mute()
        if self.receiver is not None:
            self.receiver.mute()
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

    # -- composition -------------------------------------------------------------------------

    def _salvage(self) -> Salvage:
        sources, delivery = self.topology.sources(self.name), self.topology.delivery
        retention_s = delivery.dedupe_retention_s
        return Salvage(self.directory, self.channel, self.tier.route, sources, retention_s)

    def _compose(self, press: Press) -> None:
        topology = self.topology
        shares = self.shares = shared_out(topology, self.name, raise_limit())
        if shares.short:
            log.warning(shares.short)
        composition = Composition(
            topology=topology,
            agent=self.name,
            channel=self.channel,
            world=self.world,
            shares=shares,
            press=press,
            trouble=self._trouble,
            event=self._event,
            renew=self.renew,
        )
        for tier in self.tier.next:
            self.groups[tier] = composition.group(tier)
        for options in topology.sinks(self.name):
            self.sinks[options.name] = composition.sink(options)
        self.receiver = composition.receiver(self.stores, self.reloading.carries)
        if self.receiver is not None:
            self.receiver.bind()
        if not self.reloading.left:
            self.sources = [composition.source(options) for options in topology.sources(self.name)]
        receivers = [] if self.receiver is None else [self.receiver]
        self.meters.register(Process(self), self.health, self.channel, *self.sources, *receivers)
        self.meters.register(*self.groups.values(), *self.sinks.values(), self.letters)

    def _note_orphans(self, outputs: tuple[str, ...]) -> None:
        """Batches that wait for an output that the topology no longer has stay where they are."""
        for name, queue in self.channel.stats().queues.items():
            if name not in outputs:
                self._trouble(name)(
                    f"{queue.batches} batches ({queue.events} events) wait for this output, "
                    "which the topology no longer has: put it back until they are delivered"
                )

    # -- what the others ask -------------------------------------------------------------------

    def stores(self) -> dict[str, str]:
        """Store ids of all sinks here and below, as WELCOME tells them."""
        stores: dict[str, str] = {}
        for group in self.groups.values():
            stores |= group.sender.stores()
        for output, sink in self.sinks.items():
            store_id = sink.store_id()
            if store_id:
                stores[f"{self.tier.name}/{output}"] = store_id
        return stores

    def _trouble(self, part: str) -> Callable[[str], None]:
        """For what lasts until the part says "": a condition of the agent."""

        def trouble(text: str) -> None:
            if text and text != self._errors.get(part):
                self._note_error(part, text)
                self.health.tell(part, text)
            self._errors[part] = text

        return trouble

    def _event(self, part: str) -> Callable[[str], None]:
        """For what is over as it is said."""

        def event(text: str) -> None:
            log.warning("%s: %s", part, text)
            self._note_error(part, text)

        return event

    def _note_error(self, part: str, text: str) -> None:
        self.last_error = (self.world.now_ms(), f"{part}: {text}")

    def error_of(self, part: str) -> str:
        """What is wrong with a part now; empty when all is well."""
        return self._errors.get(part, "")
