"""What the commit protocol asks of a store, and what may come of it (commit.md's table of calls).

One call at a time. A lost answer means that the deed may have been done, or may yet be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

Listing = Sequence[tuple[str, int]]  # (name, ms when it was last modified, by the store's clock)


class CallAnswer(Enum):
    """What came of a call."""

    DONE = auto()
    SOURCE_GONE = auto()
    TARGET_THERE = auto()
    NO_PARENT = auto()
    THERE = auto()
    ABSENT = auto()
    LOST = auto()  # unclear: the deed may have been done, or may yet be
    REFUSED = auto()  # a clear no, and nothing was changed
    BAD = auto()  # of writing a file: a batch cannot be in it


@dataclass(frozen=True, slots=True)
class WriteSmall:
    """`content` into `path`."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Move:
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Replace:
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class MakeParents:
    path: str


@dataclass(frozen=True, slots=True)
class Exists:
    """Is there such a file? THERE or ABSENT."""

    path: str


@dataclass(frozen=True, slots=True)
class Read:
    """The content of a file."""

    path: str


@dataclass(frozen=True, slots=True)
class List:
    """The entries of a directory."""

    path: str


@dataclass(frozen=True, slots=True)
class ReadClock:
    """The store's time."""


StoreCall = WriteSmall | Move | Replace | MakeParents | Exists | Read | List | ReadClock
