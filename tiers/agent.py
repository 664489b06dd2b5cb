"""An agent: the composition root, the one place that knows every room.

     sources --> intake --+                         +--> sender groups --> peers of the next tiers
                          +--> channel (LMDB) ------+
     receiver ------------+                         +--> sinks --> stores

Its life: `starting`, `running`, then either `stopping` (SIGTERM: what is not handed on stays on
disk) or `draining` (takes nothing new, leaves when its channel is empty).
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import zmq

from tiers import sinks, sources
from tiers.channel.channel import Channel, ChannelLimits
from tiers.core.cutting import CuttingRules
from tiers.core.messages import Identity
from tiers.core.peers import PeerLimits
from tiers.core.receiver import ReceiverLimits
from tiers.errors import ChannelUnavailable
from tiers.intake import Press, SourceIntake
from tiers.observe.snapshot import audit, snapshot
from tiers.observe.status import StatusServer
from tiers.registry import load as load_class
from tiers.reloading import Reloading
from tiers.salvaging import Salvage
from tiers.sinks.sink import Sink, SinkContext
from tiers.sources.source import Source
from tiers.topology import Topology
from tiers.transport.receiving import ReceiverEnd
from tiers.transport.sending import SenderGroup

log = logging.getLogger("tiers")
INTERRUPTED: Final = 3  # exit status of an agent that was stopped before it had drained
LAST_LOOK_S: Final = 0.5
WATCH_S: Final = 0.05  # how often the way to an empty channel is looked at
CLOSE_S_MIN: Final = 1.0  # what commits still get when the time for a stop is over
PARTING_S: Final = 1.0  # how long an agent that stops waits for its senders to let go


class Running:
    """A source at work."""

    def __init__(self, name: str, kind: str, source: Source, intake: SourceIntake) -> None:
        self.name = name
        self.kind = kind
        self.source = source
        self.intake = intake
        self.state = "running"

    async def run(self) -> None:
        """Until it ends, or is cancelled; either way what it had put is stored, or will be."""
        try:
            await self.source.run(self.intake)
            await self.intake.flush()
            self.state = "done"
        finally:
            self.intake.close()


class Agent:
    """One node of a topology. `run` returns its exit status."""

    def __init__(
        self, topology: Topology, name: str, directory: Path, reloading: Reloading
    ) -> None:
        self.topology = topology
        self.name = name
        self.tier = topology.tier_of(name)
        self.directory = directory
        self.reloading = reloading
        self.state = "starting"
        self.started_ms = time.time_ns() // 1_000_000
        self.last_error: tuple[int, str] = (0, "")
        self.sources: list[Running] = []
        self.groups: dict[str, SenderGroup] = {}
        self.sinks: dict[str, Sink] = {}
        self.receiver: ReceiverEnd | None = None
        self.channel: Channel
        self.salvage: Salvage
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._leave = asyncio.Event()  # drain or stop: `_stop_wanted` tells which
        self._stop_wanted = False
        self._stop_until = 0.0  # loop time; 0.0: no stop has begun
        self._looked = asyncio.Event()  # somebody saw the status after it had drained
        self._draining = False  # was told to, whatever came of it
        self._leftovers = False  # drained, but not of everything
        self._errors: dict[str, str] = {}  # by part

    # -- life --------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until stopped or drained. Raises what keeps an agent from working at all."""
        self.directory.mkdir(parents=True, exist_ok=True)
        outputs = self.topology.outputs(self.name)
        self.channel = await Channel.open(self.directory, self._limits(), outputs)
        press = Press(self.topology.batch.codec, self.topology.batch.level)
        try:
            if set_aside := self.channel.stats().set_aside:
                log.warning(set_aside)
            self.salvage = self._salvage(outputs)
            await self.salvage.begin()
            self.reloading.accept()
            self._note_orphans(outputs)
            self._compose(press)
            await self._serve()
        finally:
            press.close()
            for group in self.groups.values():
                group.close()
            if self.receiver is not None:
                self.receiver.close()
            await self._close_channel()
            self._context.destroy(linger=0)
        if self._draining and self.state != "drained":
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
        server = StatusServer(
            self._look,
            lambda: audit(self.channel),
            self.drain,
            self.directory,
            str(address) if address else None,
        )
        await server.start()
        self._listen_to_signals()
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(part.run(), name=name) for name, part in self._parts()]
                reading = [tasks.create_task(s.run(), name=s.name) for s in self.sources]
                work.append(tasks.create_task(self.reloading.run(self), name="reload"))
                if self.state == "starting":
                    self.state = "running"
                log.info("%s, channel %s", self.state, self.channel.channel_id.hex())
                if self.reloading.left:
                    self.drain()
                await self._leave.wait()
                if not self._stop_wanted:
                    await self._drained(reading)
                    await self._last_look()
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
            running.source.drain()
        for sink in self.sinks.values():
            sink.drain()
        if self.receiver is not None:
            self.receiver.drain()
        while not self._stop_wanted:
            if all(task.done() for task in reading) and self._settled() and self._is_empty():
                self.state = "drained"
                self._leftovers = self._has_leftovers()
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
            self._draining = True
            log.info("draining")
            self._leave.set()

    def stop(self) -> None:
        """Begin to stop."""
        self._stop_wanted = True
        self._leave.set()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reloading.wake)

    # -- composition -------------------------------------------------------------------------

    def _limits(self) -> ChannelLimits:
        channel, delivery = self.topology.channel, self.topology.delivery
        return ChannelLimits(
            size_bytes_max=channel.size_bytes_max,
            high=channel.high,
            low=channel.low,
            free_floor_bytes=channel.free_floor_bytes,
            commit_bytes_max=channel.commit_bytes_max,
            dedupe_retention_s=delivery.dedupe_retention_s,
            ask_again=delivery.guarantee == "end",
        )

    def _salvage(self, outputs: tuple[str, ...]) -> Salvage:
        sources, delivery = self.topology.sources(self.name), self.topology.delivery
        retention_s = delivery.dedupe_retention_s
        return Salvage(self.directory, self.channel, outputs, sources, retention_s)

    def _compose(self, press: Press) -> None:
        topology = self.topology
        me = Identity(topology.name, self.name, self.channel.channel_id)
        for tier in self.tier.next:
            self.groups[tier] = self._group(me, tier)
        for options in topology.sinks(self.name):
            self.sinks[options.name] = self._sink(options)
        listen = topology.listen(self.name)
        if listen is not None:
            delivery = topology.delivery
            self.receiver = ReceiverEnd(
                self._context,
                me,
                listen,
                self.channel,
                ReceiverLimits(delivery.window_bytes_max, delivery.message_bytes_max),
                topology.outputs(self.name),
                self.stores,
                guarantee=delivery.guarantee,
                trouble=self._trouble("receiver"),
            )
            self.receiver.bind()
        if not self.reloading.left:
            self.sources = [self._source(options, press) for options in topology.sources(self.name)]

    def _note_orphans(self, outputs: tuple[str, ...]) -> None:
        """Batches that wait for an output that the topology no longer has stay where they are."""
        for name, queue in self.channel.stats().queues.items():
            if name not in outputs:
                self._trouble(name)(
                    f"{queue.batches} batches ({queue.events} events) wait for this output, "
                    "which the topology no longer has: put it back until they are delivered"
                )

    def _group(self, me: Identity, tier: str) -> SenderGroup:
        delivery = self.topology.delivery
        limits = PeerLimits(
            window_bytes_max=delivery.window_bytes_max,
            failover_after_s=delivery.failover_after_s,
            heartbeat_s=delivery.heartbeat_s,
            silence_s=max(1.5, 3 * delivery.heartbeat_s),
            retry_max_s=delivery.reconnect_max_s,
            lost_after_s=delivery.lost_after_s,
        )
        group = SenderGroup(
            self._context,
            me,
            tier,
            self.channel,
            limits,
            bundle_bytes=delivery.bundle_bytes_max,
            guarantee=delivery.guarantee,
            trouble=self._trouble(tier),
        )
        group.set_peers(self.topology.peers(tier))
        return group

    def _sink(self, options: Any) -> Sink:
        context = SinkContext(
            topology=self.topology.name,
            agent=self.name,
            output=options.name,
            channel=self.channel,
            now_ms=lambda: time.time_ns() // 1_000_000,
            level=self.topology.batch.level,
            trouble=self._trouble(options.name),
            retention_s=self.topology.delivery.dedupe_retention_s,
        )
        sink: Sink = load_class(sinks.BUILTIN, sinks.GROUP, options.type)(options, context)
        return sink

    def _source(self, options: Any, press: Press) -> Running:
        batch = self.topology.batch
        rules = CuttingRules(batch.size_bytes_max, batch.linger_s, batch.time_bucket_s)
        intake = SourceIntake(
            options.name,
            self.name,
            self.channel,
            self.topology.outputs(self.name),
            press,
            rules,
            batch.event_bytes_max,
        )
        source: Source = load_class(sources.BUILTIN, sources.GROUP, options.type)(options)
        return Running(options.name, options.type, source, intake)

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
        def trouble(text: str) -> None:
            if text and text != self._errors.get(part):
                log.warning("%s: %s", part, text)
                self.last_error = (time.time_ns() // 1_000_000, f"{part}: {text}")
            self._errors[part] = text

        return trouble

    def error_of(self, part: str) -> str:
        """What is wrong with a part now; empty when all is well."""
        return self._errors.get(part, "")
