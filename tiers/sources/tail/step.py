"""What following files takes, and what one step of it gives."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tiers.sources.tail.reading import FileBlock


@dataclass(frozen=True, slots=True)
class FollowOptions:
    patterns: Sequence[str]
    start_at_end: bool
    rescan_s: float
    rotate_wait_s: float
    open_files_max: int
    block_size_max: int
    event_size_max: int
    follow_links: bool | None = None
    not_below: Sequence[str] = ()  # directories below which sinks of this agent write
    retention_s: float = 7 * 86_400.0  # of the history of paths where nothing is any more


@dataclass(slots=True)
class Advance:
    """What one call of `advance` gave. With neither block nor positions there is nothing to do
    until `wake_at`, or for ever when `finished`."""

    block: FileBlock | None = None
    positions: dict[bytes, bytes | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    trouble: str = ""
    remark: str = ""  # worth a word, and no trouble
    wake_at: float = 0.0
    looked: bool = False  # at all files and directories
    finished: bool = False
