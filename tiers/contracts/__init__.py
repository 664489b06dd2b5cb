"""What the rooms ask of each other, a page for each kind: a channel, the world, a store, a source,
an interceptor, a sink, the outlet by which anything drains a queue, a part of an agent.

A contract says what returning means. Whoever adds one of a kind reads its page here; the suites in
tests/contracts and tests/channel hold every one of that kind to it.
"""

from tiers.contracts.channel import Channel, Reading
from tiers.contracts.interceptor import Interceptor, InterceptorContext
from tiers.contracts.outlet import Outlet
from tiers.contracts.part import Part
from tiers.contracts.sink import Sink, SinkContext
from tiers.contracts.source import Intake, Source
from tiers.contracts.store import Store
from tiers.contracts.world import Clock, Link, Server, Socket, Workers, World

__all__ = [
    "Channel",
    "Clock",
    "Intake",
    "Interceptor",
    "InterceptorContext",
    "Link",
    "Outlet",
    "Part",
    "Reading",
    "Server",
    "Sink",
    "SinkContext",
    "Socket",
    "Source",
    "Store",
    "Workers",
    "World",
]
