"""Which parts a topology wants of an agent, by their specs; and how each is made of its spec."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tiers import interceptors, sinks, sources
from tiers.agent.descriptors import Shares, scaled
from tiers.agent.parts.receiver import ReceiverPart, ReceiverSpec
from tiers.agent.parts.sender import SenderPart, SenderSpec
from tiers.agent.parts.sink import SinkPart, SinkSpec
from tiers.agent.parts.source import SourcePart, SourceSpec
from tiers.agent.parts.status import StatusPart, StatusSpec
from tiers.contracts import (
    Channel,
    Interceptor,
    InterceptorContext,
    Outlet,
    Part,
    Server,
    Sink,
    SinkContext,
    Source,
    World,
)
from tiers.core.change import ChannelLimits
from tiers.core.entry.cutting import CuttingRules
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import Identity
from tiers.core.hop.peers import PeerLimits
from tiers.core.steps import Key, StepKind
from tiers.entry.intake import SourceIntake
from tiers.entry.press import Press
from tiers.interceptors.chain import Chain, ChainLink
from tiers.registry import load as load_class
from tiers.sinks.outlet import ChannelOutlet
from tiers.topology import Address, Topology
from tiers.transport.receiving import ReceiverEnd
from tiers.transport.sending import SenderGroup
from tiers.transport.sockets import TransportError

Tell = Callable[[str], None]
BIND_WITHIN_S: Final = 1.0
_BIND_AGAIN_S: Final = 0.02
RECEIVER = Key(StepKind.RECEIVER)
STATUS = Key(StepKind.STATUS)


def channel_limits(topology: Topology) -> ChannelLimits:
    channel, delivery = topology.channel, topology.delivery
    return ChannelLimits(
        size_bytes_max=channel.size_bytes_max,
        high=channel.high,
        low=channel.low,
        free_floor_bytes=channel.free_floor_bytes,
        commit_bytes_max=channel.commit_bytes_max,
        dedupe_retention_s=delivery.dedupe_retention_s,
        ask_again=delivery.guarantee == "end",
    )


def wanted(topology: Topology, agent: str, shares: Shares, *, draining: bool) -> dict[Key, Any]:
    """Specs of all parts that the agent is to have."""
    specs: dict[Key, Any] = {STATUS: StatusSpec(topology.status_address(agent))}
    for sink in topology.sinks(agent):
        specs[Key(StepKind.SINK, sink.name)] = sink_spec(topology, sink, draining=draining)
    for tier in topology.tier_of(agent).next:
        specs[Key(StepKind.SENDER, tier)] = sender_spec(topology, tier)
    listen = topology.listen(agent)
    if listen is not None:
        specs[RECEIVER] = _receiver_spec(topology, agent, listen, shares, draining=draining)
    for options in topology.sources(agent):
        spec = _source_spec(topology, agent, scaled(options, shares), draining=draining)
        specs[Key(StepKind.SOURCE, options.name)] = spec
    return specs


def sender_spec(topology: Topology, tier: str) -> SenderSpec:
    delivery = topology.delivery
    limits = PeerLimits(
        window_bytes_max=delivery.window_bytes_max,
        failover_after_s=delivery.failover_after_s,
        heartbeat_s=delivery.heartbeat_s,
        silence_s=max(1.5, 3 * delivery.heartbeat_s),
        retry_max_s=delivery.reconnect_max_s,
        lost_after_s=delivery.lost_after_s,
        message_size_max=delivery.message_bytes_max,
        batch_size_max=topology.batch.size_bytes_max,
    )
    peers = topology.peers(tier)
    return SenderSpec(peers, limits, delivery.bundle_bytes_max, delivery.guarantee)


def sink_spec(topology: Topology, options: Any, *, draining: bool = False) -> SinkSpec:
    retention_s = topology.delivery.dedupe_retention_s
    # What it gets is the route's business.
    options = options.model_copy(update={"when": {}})
    return SinkSpec(options, topology.batch.level, retention_s, draining)


def _receiver_spec(
    topology: Topology, agent: str, listen: Address, shares: Shares, *, draining: bool
) -> ReceiverSpec:
    delivery = topology.delivery
    limits = ReceiverLimits(
        delivery.window_bytes_max,
        delivery.message_bytes_max,
        delivery.receive_memory_bytes_max,
        shares.senders_max,
        topology.batch.size_bytes_max,
    )
    route = topology.tier_of(agent).route
    return ReceiverSpec(listen, limits, shares.visitors, route, delivery.guarantee, draining)


def _source_spec(topology: Topology, agent: str, options: Any, *, draining: bool) -> SourceSpec:
    batch = topology.batch
    rules = CuttingRules(
        batch.size_bytes_max,
        batch.grown_bytes_max,
        batch.set_bytes_max,
        batch.open_max,
        batch.linger_s,
        batch.time_bucket_s,
    )
    sinks = topology.sinks(agent) if options.reads() else ()
    written = (sink.writes() for sink in sinks)
    return SourceSpec(
        options.model_copy(update={"interceptors": ()}),
        topology.interceptors(topology.tier_of(agent).name, options),
        rules,
        batch.event_bytes_max,
        topology.tier_of(agent).route,
        tuple(directory for directory in written if directory),
        topology.delivery.dedupe_retention_s,
        draining,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What the parts of one agent are made with. Each part is made here, and none is begun."""

    topology: str  # its name
    agent: str
    channel: Channel
    world: World
    press: Press
    serve: Callable[[str | None], Server]
    stores: Callable[[], Mapping[str, str]]
    carries: Callable[[str], bool]
    trouble: Callable[[str], Tell]  # of a part, for what lasts until it says ""
    event: Callable[[str], Tell]  # of a part, for what is over as it is said
    renew: Tell  # the disk went back, or is there twice: why that is known

    async def make(self, key: Key, spec: Any) -> Part:
        """Raises what keeps it from its work: an address that is taken, ..."""
        match key.kind:
            case StepKind.STATUS:
                server = self.serve(None if spec.address is None else str(spec.address))
                await server.start()
                return StatusPart(spec, server)
            case StepKind.SINK:
                return SinkPart(spec, self._sink(key.name, spec))
            case StepKind.SENDER:
                return SenderPart(spec, self._group(key.name, spec))
            case StepKind.RECEIVER:
                return await self._receiver(spec)
            case StepKind.SOURCE:
                return self._source(key.name, spec)

    @property
    def _me(self) -> Identity:
        return Identity(self.topology, self.agent, self.channel.life)

    def _group(self, tier: str, spec: SenderSpec) -> SenderGroup:
        return SenderGroup(
            self.world,
            self._me,
            self._outlet(tier),
            self.channel,
            spec.limits,
            bundle_bytes=spec.bundle_bytes,
            guarantee=spec.guarantee,
            event=self.event(tier),
            renew=self.renew,
        )

    def _outlet(self, output: str) -> Outlet:
        """The queue of an output, for who drains it."""
        trouble, event = self.trouble(output), self.event(output)
        return ChannelOutlet(output, self.channel, self.world, trouble=trouble, event=event)

    def _sink(self, output: str, spec: SinkSpec) -> Sink:
        context = SinkContext(
            topology=self.topology,
            agent=self.agent,
            outlet=self._outlet(output),
            channel=self.channel,
            world=self.world,
            level=spec.level,
            renew=self.renew,
            retention_s=spec.retention_s,
        )
        kind = load_class(sinks.BUILTIN, sinks.GROUP, spec.options.type)
        sink: Sink = kind(spec.options, context)
        return sink

    async def _receiver(self, spec: ReceiverSpec) -> ReceiverPart:
        """ZeroMQ closes in a thread of its own: a port that was just let go of is not free yet."""
        first: TransportError | None = None
        until_s = self.world.now_s() + BIND_WITHIN_S
        while True:
            try:
                return ReceiverPart(spec, self._end(spec))
            except TransportError as error:
                first = first or error
                if self.world.now_s() > until_s:
                    raise first from None
            await asyncio.sleep(_BIND_AGAIN_S)

    def _end(self, spec: ReceiverSpec) -> ReceiverEnd:
        return ReceiverEnd(
            self.world,
            self._me,
            spec.address,
            self.channel,
            spec.limits,
            spec.route,
            self.stores,
            guarantee=spec.guarantee,
            visitors=spec.visitors,
            carries=self.carries,
            trouble=self.event("receiver"),
            renew=self.renew,
        )

    def _source(self, name: str, spec: SourceSpec) -> SourcePart:
        intake = SourceIntake(
            name,
            self.agent,
            self.channel,
            spec.route,
            self.press,
            spec.rules,
            spec.event_bytes_max,
            spec.retention_s,
            spec.written,
            self.world,
            self._chain(spec),
        )
        kind = load_class(sources.BUILTIN, sources.GROUP, spec.options.type)
        source: Source = kind(spec.options)
        return SourcePart(spec, source, intake, self._chain, self.world)

    def _chain(self, spec: SourceSpec) -> Chain:
        """What the blocks of a source come through."""
        return Chain(list(self._links(spec)), spec.rules.size_bytes)

    def _links(self, spec: SourceSpec) -> Iterator[ChainLink]:
        context = InterceptorContext(self.agent, socket.gethostname())
        for options in spec.interceptors:
            made = load_class(interceptors.BUILTIN, interceptors.GROUP, options.type)
            interceptor: Interceptor = made(options, context)
            yield ChainLink(options, interceptor)
