"""The contract of a sink: an output that takes an agent's batches out of the topology.

One file in this room is one sink; a line in `BUILTIN` (or an entry point in the group
`tiers.sinks`) registers it. A sink releases a batch from its channel only when the batch is
safe where it brought it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from tiers.channel.channel import Channel


class SinkOptions(BaseModel):
    """The keys that every sink has. `type` chooses the class."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    type: str
    name: str = ""  # default: the type; unique in the tier; the output's name

    def place(self) -> str:
        """Identifies where this sink writes: agents of a tier must agree, and no two outputs may
        share one. For a file sink: kind, url and root, normalised."""
        return f"{self.type} {self.name}"

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

    def status(self) -> dict[str, object]: ...
