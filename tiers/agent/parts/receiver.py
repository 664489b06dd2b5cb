"""An agent's receiving end at work."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from tiers.core.entry.routes import Route
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import Guarantee
from tiers.core.hop.visitors import VisitorLimits
from tiers.core.meters import Sample
from tiers.topology import Address
from tiers.transport.receiving import ReceiverEnd

PARTING_S: Final = 1.0  # how long one that is retired waits for its senders to let go
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class ReceiverSpec:
    """What a receiver is made by."""

    address: Address
    limits: ReceiverLimits
    visitors: VisitorLimits
    route: Route
    guarantee: Guarantee
    draining: bool = False


class ReceiverPart:
    """See `Part`. Raises TransportError when an address is taken."""

    def __init__(self, spec: ReceiverSpec, end: ReceiverEnd) -> None:
        self.spec = spec
        self.end = end
        try:
            end.bind()
        except BaseException:
            end.close()
            raise
        if spec.draining:
            end.drain()

    async def run(self) -> None:
        try:
            await self.end.run()
        finally:
            self.end.close()

    async def change(self, spec: ReceiverSpec) -> bool:
        """Route, draining and how many senders there may be, in place."""
        now = self.spec
        limits = replace(now.limits, senders_max=spec.limits.senders_max)
        same = replace(now, limits=limits, route=spec.route, draining=spec.draining)
        if same != spec or (now.draining and not spec.draining):
            return False
        self.end.receiver.handshake.limits = spec.limits
        self.end.route = spec.route
        if spec.draining and not now.draining:
            self.end.drain()
        self.spec = spec
        return True

    async def retire(self) -> None:
        """Senders have had the acks of what they sent: what they are left to wonder about they
        give to others, flagged. One that has died cannot say goodbye."""
        self.end.drain()
        while not self.end.settled(PARTING_S):  # noqa: ASYNC110 nothing tells
            await asyncio.sleep(_LOOK_S)

    def go_on(self, before: "ReceiverPart") -> None:
        self.end.events_in = before.end.events_in
        self.end.bytes_in = before.end.bytes_in
        self.end.malformed = before.end.malformed
        self.end.ages = before.end.ages

    def meters(self) -> Iterable[Sample]:
        return self.end.meters()
