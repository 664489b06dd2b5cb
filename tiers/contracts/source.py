"""Who feeds events into an agent, and where they put them."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from tiers.core.block import Block
from tiers.core.progress import Work


class Intake(Protocol):
    """Where a source puts its events. Made by the agent, one for each source."""

    block_size_max: int  # raw bytes a block should have at most
    event_size_max: int  # an event longer than this is split by the source, and counted
    positions: Mapping[bytes, bytes]  # what this source had on disk when the agent started
    retention_s: float  # how long what was delivered is remembered (`dedupe_retention`)
    written: Sequence[str]  # directories below which sinks of this agent write: not to be read

    async def put(
        self, block: Block, positions: Mapping[bytes, bytes | None] | None = None
    ) -> Awaitable[None]:
        """Waits while the channel is full or too much is under way: this is the back-pressure.
        Returning means accepted in memory, in order. What it returns may be awaited: that returns
        once the block *and* `positions` (None deletes one) are on disk, in one transaction.
        An empty block with positions is fine. Raises BatchError for what no receiver would take."""

    def has_room(self) -> bool:
        """False where `put` would wait: for protocols that can only drop (UDP)."""

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a counter: `lines_split`, `dropped_REASON`, `dropped_REASON_bytes`, ..."""

    def trouble(self, text: str) -> None:
        """Say what is wrong ("" when it is over); shown in status as this source's last error."""

    def remark(self, text: str, at_risk: bool = False) -> None:
        """Say what a person should know ("" when it is over); whether it may lose events."""


class Source(Protocol):
    """What feeds events into an agent. It hands over *blocks*: whole newline-terminated lines as
    bytes, as many as it has, up to `intake.block_size_max`. It never decodes them and never goes
    line by line. `run` runs until cancelled. After `drain` it ends by itself: a source that has an
    end reads what is there to its end, a listening one closes at once; it has put all it had."""

    Options: ClassVar[type[Any]]  # of SourceOptions

    def __init__(self, options: Any) -> None: ...

    async def run(self, intake: Intake) -> None: ...

    def drain(self) -> None: ...

    def work(self) -> Mapping[str, Work]:
        """What it could take in now, by what it concerns (a file; "" for the source): by what it
        sees outside, not what it means to do. What does not move for long makes it unhealthy."""

    def unread_bytes(self) -> int | None:
        """What it could take in now and has not put yet; None where it cannot see that."""

    def status(self) -> dict[str, object]:
        """What a person would like to see: listening address, files followed, what is behind."""
