"""What an agent is made of, as its topology says: the one place that knows every room."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tiers import interceptors, sinks, sources
from tiers.contracts import (
    Channel,
    Interceptor,
    InterceptorContext,
    Sink,
    SinkContext,
    Source,
    World,
)
from tiers.core.change import ChannelLimits
from tiers.core.cutting import CuttingRules
from tiers.core.hosting import ReceiverLimits
from tiers.core.messages import Identity
from tiers.core.peers import PeerLimits
from tiers.descriptors import Shares, scaled
from tiers.intake import SourceIntake
from tiers.interceptors.chain import Chain, Link
from tiers.press import Press
from tiers.registry import load as load_class
from tiers.running import Made, Running
from tiers.topology import Topology
from tiers.transport.receiving import ReceiverEnd
from tiers.transport.sending import SenderGroup

Tell = Callable[[str], None]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What the parts of one agent are made with. Each part is made here, and none is begun."""

    topology: Topology
    agent: str
    channel: Channel
    world: World
    shares: Shares
    press: Press
    trouble: Callable[[str], Tell]  # of a part, for what lasts until it says ""
    event: Callable[[str], Tell]  # of a part, for what is over as it is said
    renew: Tell  # the disk went back, or is there twice: why that is known

    @property
    def me(self) -> Identity:
        return Identity(self.topology.name, self.agent, self.channel.life)

    def group(self, tier: str) -> SenderGroup:
        """What sends to a tier."""
        delivery = self.topology.delivery
        limits = PeerLimits(
            window_bytes_max=delivery.window_bytes_max,
            failover_after_s=delivery.failover_after_s,
            heartbeat_s=delivery.heartbeat_s,
            silence_s=max(1.5, 3 * delivery.heartbeat_s),
            retry_max_s=delivery.reconnect_max_s,
            lost_after_s=delivery.lost_after_s,
            message_size_max=delivery.message_bytes_max,
            batch_size_max=self.topology.batch.size_bytes_max,
        )
        group = SenderGroup(
            self.world,
            self.me,
            tier,
            self.channel,
            limits,
            bundle_bytes=delivery.bundle_bytes_max,
            guarantee=delivery.guarantee,
            trouble=self.event(tier),
            renew=self.renew,
        )
        group.set_peers(self.topology.peers(tier))
        return group

    def sink(self, options: Any) -> Sink:
        context = SinkContext(
            topology=self.topology.name,
            agent=self.agent,
            output=options.name,
            channel=self.channel,
            world=self.world,
            level=self.topology.batch.level,
            trouble=self.trouble(options.name),
            renew=self.renew,
            retention_s=self.topology.delivery.dedupe_retention_s,
        )
        sink: Sink = load_class(sinks.BUILTIN, sinks.GROUP, options.type)(options, context)
        return sink

    def receiver(
        self, stores: Callable[[], Mapping[str, str]], carries: Callable[[str], bool]
    ) -> ReceiverEnd | None:
        """None where the agent listens to nobody."""
        topology, delivery = self.topology, self.topology.delivery
        listen = topology.listen(self.agent)
        if listen is None:
            return None
        return ReceiverEnd(
            self.world,
            self.me,
            listen,
            self.channel,
            ReceiverLimits(
                delivery.window_bytes_max,
                delivery.message_bytes_max,
                delivery.receive_memory_bytes_max,
                self.shares.senders_max,
                topology.batch.size_bytes_max,
            ),
            topology.tier_of(self.agent).route,
            stores,
            guarantee=delivery.guarantee,
            visitors=self.shares.visitors,
            carries=carries,
            trouble=self.event("receiver"),
            renew=self.renew,
        )

    def source(self, options: Any) -> Running:
        options = scaled(options, self.shares)
        batch = self.topology.batch
        rules = CuttingRules(
            batch.size_bytes_max,
            batch.grown_bytes_max,
            batch.set_bytes_max,
            batch.open_max,
            batch.linger_s,
            batch.time_bucket_s,
        )

        def make() -> Made:
            intake = SourceIntake(
                options.name,
                self.agent,
                self.channel,
                self.topology.tier_of(self.agent).route,
                self.press,
                rules,
                batch.event_bytes_max,
                self.topology.delivery.dedupe_retention_s,
                [written for sink in self.topology.sinks(self.agent) if (written := sink.writes())],
                self.world,
                self.chain(options),
            )
            source: Source = load_class(sources.BUILTIN, sources.GROUP, options.type)(options)
            return source, intake

        return Running(options.name, options.type, self.channel, self.world, make)

    def chain(self, source: Any) -> Chain:
        """What the blocks of a source come through."""
        context = InterceptorContext(self.agent, socket.gethostname())
        tier = self.topology.tier_of(self.agent).name
        links = []
        for options in self.topology.interceptors(tier, source):
            made = load_class(interceptors.BUILTIN, interceptors.GROUP, options.type)
            interceptor: Interceptor = made(options, context)
            links.append(Link(options, interceptor))
        return Chain(links, self.topology.batch.size_bytes_max)
