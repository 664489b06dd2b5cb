"""A sender group at work."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tiers.core.hop.messages import Guarantee
from tiers.core.hop.peers import PeerLimits
from tiers.core.meters import Sample
from tiers.topology import Address
from tiers.transport.sending import SenderGroup


@dataclass(frozen=True, slots=True)
class SenderSpec:
    """What a sender group is made by."""

    peers: Mapping[str, Address]
    limits: PeerLimits
    bundle_bytes: int
    guarantee: Guarantee


class SenderPart:
    """See `Part`."""

    def __init__(self, spec: SenderSpec, group: SenderGroup) -> None:
        self.spec = spec
        self.group = group
        group.set_peers(spec.peers)

    async def run(self) -> None:
        try:
            await self.group.run()
        finally:
            self.group.close()

    async def change(self, spec: SenderSpec) -> bool:
        """Peers in place."""
        if replace(self.spec, peers=spec.peers) != spec:
            return False
        self.group.set_peers(spec.peers)
        self.spec = spec
        return True

    async def retire(self) -> None:
        """Every peer has acked what was sent to it, or never will."""
        self.group.stop()
        await self.group.settled()

    def go_on(self, before: "SenderPart") -> None:
        self.group.go_on(before.group)

    def meters(self) -> Iterable[Sample]:
        return self.group.meters()
