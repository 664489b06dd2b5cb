"""Who takes batches out of the topology."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tiers.contracts.channel import Channel
from tiers.contracts.outlet import Outlet
from tiers.contracts.world import World
from tiers.core.meters import Metered
from tiers.core.progress import Work


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What an agent gives to its sinks."""

    topology: str
    agent: str
    outlet: Outlet  # the output's queue
    channel: Channel
    world: World
    level: int  # compression level of `[batch]`
    # This channel's disk went back in time, or is there twice: why that is known. The agent ends.
    renew: Callable[[str], None]
    retention_s: float = 7 * 86400.0  # `[delivery] dedupe_retention`


class Sink(Metered, Protocol):
    """An output that takes an agent's batches out of the topology: through its outlet, to which it
    says of a batch that it is released only when that is safe where it brought it. `run` runs until
    cancelled; cancelling it is safe at any await. After `drain` it publishes what is there without
    waiting for more; `run` goes on. Among its numbers are those of any sink (sinks/meters.py)."""

    Options: ClassVar[type[Any]]  # of SinkOptions

    def __init__(self, options: Any, context: SinkContext) -> None: ...

    async def run(self) -> None: ...

    def drain(self) -> None: ...

    def store_id(self) -> str:
        """Identifies the store for agents that compare; empty while it is not known, and where
        there is none."""

    def work(self) -> Mapping[str, Work]:
        """What should be under way by now, by what it concerns ("" for the sink): as a source's."""

    def status(self) -> dict[str, object]: ...
