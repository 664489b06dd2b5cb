"""What a store answers (`Store` in contracts)."""

from enum import Enum
from typing import NamedTuple


class Moved(Enum):
    """What `move` found. Only `DONE` changed anything."""

    DONE = "done"
    SOURCE_GONE = "source gone"
    TARGET_THERE = "target there"
    NO_PARENT = "no parent"


class Listed(NamedTuple):
    """One entry of a listing."""

    name: str
    size_bytes: int
    modified_ms: int  # by the store's clock
    is_directory: bool
