"""The contract of a source: what feeds events into an agent.

A source hands over *blocks*: whole newline-terminated lines as bytes, as many as it has, up to
`intake.block_size_max`. It never decodes them and never goes line by line. One file in this room
is one source; a line in `BUILTIN` (or an entry point in the group `tiers.sources`) registers it.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tiers.core.batch import Buffer
from tiers.core.progress import Work


class SourceOptions(BaseModel):
    """The keys that every source has. `type` chooses the class."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: str
    name: str = ""  # default: the type; unique within an agent
    headers: Mapping[str, str] = Field(default_factory=dict)

    def header_names(self) -> frozenset[str]:
        """Names of all headers that batches of this source carry, for checking paths."""
        return frozenset(self.headers)

    def reads(self) -> tuple[str, ...]:
        """Globs (absolute) of the files that it reads: others must not write or read them."""
        return ()

    def subject(self, position: bytes) -> str:
        """What a position is about, such as the path of a file, where this source would read that;
        empty where it would not. A position of another source, which reads it no more, is taken
        over then: this one has it from the beginning, as if it had stored it itself."""
        return ""

    def listen_addresses(self) -> tuple[str, ...]:
        """Addresses such as "0.0.0.0:514" that it binds: beyond loopback only where the file says
        `insecure = true`."""
        return ()

    def listen_transports(self) -> tuple[str, ...]:
        """What it listens to at each of these: "tcp", "udp"."""
        return ("tcp",)


class Intake(Protocol):
    """Where a source puts its events. Made by the agent, one for each source."""

    block_size_max: int  # raw bytes a block should have at most
    event_size_max: int  # an event longer than this is split by the source, and counted
    positions: Mapping[bytes, bytes]  # what this source had on disk when the agent started
    retention_s: float  # how long what was delivered is remembered (`dedupe_retention`)
    written: Sequence[str]  # directories below which sinks of this agent write: not to be read

    async def put(
        self,
        block: Buffer,
        count: int,
        headers: Mapping[str, str],
        *,
        time_ms: int | None = None,
        positions: Mapping[bytes, bytes | None] | None = None,
    ) -> Awaitable[None]:
        """Hand over `count` newline-terminated events in `block`.

        Waits while the channel is full or too much is under way: this is the back-pressure.
        Returning means accepted in memory, in order. What it returns may be awaited: that returns
        once the block *and* `positions` (None deletes one) are on disk, in one transaction.
        `time_ms` is the time of the events; default now. An empty block with positions is fine.
        """

    def has_room(self) -> bool:
        """False where `put` would wait: for protocols that can only drop (UDP)."""

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a named counter of this source: `lines_split`, `dropped_channel_full`, ..."""

    def trouble(self, text: str) -> None:
        """Say what is wrong ("" when it is over); shown in status as this source's last error."""

    def remark(self, text: str, at_risk: bool = False) -> None:
        """Say what a person should know though nothing here is wrong ("" when it is over);
        whether events may be lost by it."""


class Source(Protocol):
    """`run` runs until cancelled. After `drain` it ends by itself: a source that has an end reads
    what is there to its end, a listening one closes at once. Either way it has put all it had."""

    Options: ClassVar[type[SourceOptions]]

    def __init__(self, options: Any) -> None: ...

    async def run(self, intake: Intake) -> None: ...

    def drain(self) -> None: ...

    def work(self) -> Mapping[str, Work]:
        """What it could take in now, by what it concerns (a file; "" for the source): asked every
        second or so. What is due and does not move for long makes the agent unhealthy, so a source
        tells it from what it sees outside, not from what it means to do."""

    def status(self) -> dict[str, object]:
        """What a person would like to see: listening address, files followed, backlog bytes."""
