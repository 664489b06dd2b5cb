"""Which dead letters a person means, and what they have in common."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from tiers.core.change import LetterHead
from tiers.errors import UsageError

GROUPS_MAX: Final = 1000  # what is beyond is one more of each output
OTHER: Final = "(other reasons)"
# Ids of batches, checksums, and numbers that are no part of a name: "batch 7", not "edge-1".
_VARYING: Final = re.compile(
    r"\b[0-9a-f]{32}(?:-\d+)?\b|\b0x[0-9a-f]+\b|(?<![\w-])\d(?:[\d,.:T-]*\d)?Z?(?![\w-])"
)
_RUN: Final = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")
_BATCH: Final = re.compile(r"[0-9a-f]{32}-\d{1,19}")


def common(reason: str) -> str:
    """A reason with "…" for what differs from letter to letter."""
    return _VARYING.sub("…", reason)


@dataclass(frozen=True, slots=True)
class Wanted:
    """All of what is given must be right of a letter."""

    cause: str = ""  # a glob of its whole reason, or a part of it; upper and lower case are one
    output: str = ""
    positions: tuple[tuple[int, int], ...] = ()  # first and last of runs
    batches: frozenset[str] = frozenset()

    def has(self, head: LetterHead) -> bool:
        if self.output and head.output != self.output:
            return False
        if self.positions or self.batches:
            named = any(first <= head.position <= last for first, last in self.positions)
            if not named and str(head.id) not in self.batches:
                return False
        if not self.cause:
            return True
        cause = self.cause.lower()
        reasons = (head.reason.lower(), common(head.reason).lower())
        if any(char in cause for char in "*?["):
            return any(fnmatchcase(reason, cause) for reason in reasons)
        return any(cause in reason for reason in reasons)


def wanted(cause: str, output: str, ids: Iterable[str]) -> Wanted:
    """`ids` are such as `"7"`, `"7-9,12"`, or the id of a batch. UsageError for others."""
    positions: list[tuple[int, int]] = []
    batches: set[str] = set()
    for word in (word.strip() for one in ids for word in one.split(",")):
        if _BATCH.fullmatch(word):
            batches.add(word)
        elif (run := _RUN.fullmatch(word)) and int(run[1]) <= int(run[2] or run[1]):
            positions.append((int(run[1]), int(run[2] or run[1])))
        else:
            raise UsageError(
                f"--ids {word!r}: wanted a letter's number, a run (7-9), or a batch's id"
            )
    return Wanted(cause, output, tuple(positions), frozenset(batches))


@dataclass(slots=True)
class Group:
    """Letters of one output with one reason. Times are ms since the epoch."""

    output: str
    reason: str
    batches: int = 0
    events: int = 0
    bytes: int = 0
    oldest_ms: int = 0
    newest_ms: int = 0

    def take(self, head: LetterHead) -> None:
        self.oldest_ms = min(self.oldest_ms, head.at_ms) if self.batches else head.at_ms
        self.newest_ms = max(self.newest_ms, head.at_ms)
        self.batches += 1
        self.events += head.count
        self.bytes += head.size


@dataclass(slots=True)
class Groups:
    """All letters that were taken, by output and reason."""

    by_key: dict[tuple[str, str], Group] = field(default_factory=dict)

    def take(self, head: LetterHead) -> None:
        key = head.output, common(head.reason)
        if key not in self.by_key and len(self.by_key) >= GROUPS_MAX:
            key = head.output, OTHER
        self.by_key.setdefault(key, Group(*key)).take(head)

    def __iter__(self) -> Iterator[Group]:
        """By output, those of most batches first."""
        return iter(sorted(self.by_key.values(), key=lambda one: (one.output, -one.batches)))
