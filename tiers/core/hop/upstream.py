"""A sender as a receiver sees it, and who may be one."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from tiers.core.batch import Envelope, Hop
from tiers.core.hop.credit import Balance
from tiers.core.hop.messages import PROTOCOL, Hello, Identity, common_protocol, protocols
from tiers.core.life import Point
from tiers.core.names import NAME_CHARS_MAX, NAME_WANTED, is_name
from tiers.core.printable import printable

SENDERS_MAX: Final = 10_000


@dataclass(slots=True)
class Upstream:
    """A sender as the receiver sees it."""

    agent: str
    channel: bytes
    hello: bytes  # the session that its HELLO named
    session: bytes  # our name for it
    route: bytes  # where its control messages come from
    heard_s: float
    balance: Balance
    carries: bool = False  # batches that others have stored first
    before: bytes = b""  # the channel that this agent had before, as far as known
    point: Point | None = None  # where its channel was at its HELLO
    batches: int = 0  # stored, in all
    events: int = 0
    error: str = ""

    @property
    def credit(self) -> int:
        return self.balance.credit

    def answered_for(self, envelope: Envelope, hops: tuple[Hop, ...]) -> tuple[Hop, ...]:
        """The hops of a batch that it brings, that of the agent which answers for it first. That
        is who stored it first; but only agents that carry batches of others are believed to name
        another than themselves, else anybody could fill another's room."""
        if hops and (self.carries or hops[0].agent == self.agent):
            return hops
        return (Hop(self.agent, envelope.sealed), *hops)

    def succeed(self, old: "Upstream") -> None:
        """Its agent had that session before."""
        self.batches, self.events = old.batches, old.events
        self.before = old.before if self.channel == old.channel else old.channel
        if self.channel == old.before != old.channel:
            ids = " and ".join(channel.hex() for channel in (old.channel, self.channel))
            self.error = f"two agents run under this name, and take turns: channels {ids}"


def refusal(hello: Hello, me: Identity, known: Container[str], count: int, most: int) -> str:
    """Why that HELLO gets no session; empty where it does. `known` are the agents that have one,
    `count` of them; there may be `most`."""
    if not common_protocol(hello):
        older = hello.agent if hello.protocol < PROTOCOL else me.agent
        told = printable(older, NAME_CHARS_MAX)
        return f"protocol {hello.protocol}; {me.agent} speaks {protocols()}: upgrade {told}"
    if hello.topology != me.topology:
        told = printable(hello.topology, NAME_CHARS_MAX)
        return f"topology '{told}'; {me.agent} belongs to {me.topology!r}"
    if len(hello.session) != 8:
        return "a HELLO without a session"
    if not is_name(hello.agent):
        told = printable(hello.agent, NAME_CHARS_MAX)
        return f"an agent has {NAME_WANTED}; not '{told}'"
    if hello.agent == me.agent:
        return f"{hello.agent} would send to itself"
    if hello.agent not in known and count >= most:
        return f"{me.agent} has {most} senders already"
    return ""
