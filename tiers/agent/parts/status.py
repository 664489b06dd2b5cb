"""The status server at work."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from tiers.contracts import Server
from tiers.core.meters import Sample
from tiers.topology import Address


@dataclass(frozen=True, slots=True)
class StatusSpec:
    """Where the status is told over TCP; beside that, always on a Unix socket."""

    address: Address | None


class StatusPart:
    """See `Part`. Its server has been started."""

    def __init__(self, spec: StatusSpec, server: Server) -> None:
        self.spec = spec
        self._server = server

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self._server.stop()

    async def change(self, spec: StatusSpec) -> bool:
        """In place: whoever asks for a reload is told what became of it."""
        await self._server.move(None if spec.address is None else str(spec.address))
        self.spec = spec
        return True

    async def retire(self) -> None:
        pass

    def go_on(self, before: "StatusPart") -> None:
        pass

    def meters(self) -> Iterable[Sample]:
        return ()
