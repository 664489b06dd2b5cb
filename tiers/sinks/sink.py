"""The contract of a sink: an output that takes an agent's batches out of the topology.

One file in this room is one sink; a line in `BUILTIN` (or an entry point in the group
`tiers.sinks`) registers it. A sink releases a batch from its channel only when the batch is
safe where it brought it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from tiers.channel.channel import Channel
from tiers.core.progress import Work


class SinkOptions(BaseModel):
    """The keys that every sink has. `type` chooses the class."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    type: str
    name: str = ""  # default: the type; unique in the tier; the output's name

    def place(self) -> str:
        """Identifies where this sink writes: agents of a tier must agree, and no two outputs may
        share one. For a file sink: kind, url and root, normalised."""
        return f"{self.type} {self.name}"

    def writes(self) -> str:
        """The directory (absolute) of its machine below which it writes; empty where none is."""
        return ""

    def path_template(self) -> str:
        """The path template, for checking headers and time codes; empty where there is none."""
        return ""


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What an agent gives to its sinks."""

    topology: str
    agent: str
    output: str
    channel: Channel
    now_ms: Callable[[], int]  # wall clock
    level: int  # compression level of `[batch]`
    trouble: Callable[[str], None]  # says what is wrong ("" when it is over)
    # This channel's disk went back in time, or is there twice: why that is known. The agent ends.
    renew: Callable[[str], None]
    retention_s: float = 7 * 86400.0  # `[delivery] dedupe_retention`


class Sink(Protocol):
    """`run` runs until cancelled; cancelling it is safe at any await. After `drain` it publishes
    what is there without waiting for more; `run` goes on."""

    Options: ClassVar[type[SinkOptions]]

    def __init__(self, options: Any, context: SinkContext) -> None: ...

    async def run(self) -> None: ...

    def drain(self) -> None: ...

    def store_id(self) -> str:
        """Identifies the store for agents that compare; empty while it is not known."""

    def work(self) -> Mapping[str, Work]:
        """What should be under way by now, by what it concerns ("" for the sink): as a source's."""

    def status(self) -> dict[str, object]: ...
