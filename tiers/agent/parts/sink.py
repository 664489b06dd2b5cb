"""A sink at work."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tiers.contracts import Sink
from tiers.core.meters import Sample


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """What a sink is made by."""

    options: Any
    level: int
    retention_s: float
    draining: bool = False


class SinkPart:
    """See `Part`."""

    def __init__(self, spec: SinkSpec, sink: Sink) -> None:
        self.spec = spec
        self.sink = sink
        if spec.draining:
            sink.drain()

    async def run(self) -> None:
        await self.sink.run()

    async def change(self, spec: SinkSpec) -> bool:
        """To drain, in place."""
        if replace(self.spec, draining=True) != spec:
            return False
        self.sink.drain()
        self.spec = spec
        return True

    async def retire(self) -> None:
        """Nothing need be settled: cancelling a sink is safe at any await, and the next one of its
        output asks what became of its files."""

    def go_on(self, before: "SinkPart") -> None:
        """Its numbers begin anew."""

    def meters(self) -> Iterable[Sample]:
        return self.sink.meters()
