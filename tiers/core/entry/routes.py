"""Which outputs of an agent get a batch, by its headers alone.

An output may say `when`: a condition for each of some headers. It gets a batch where all of them
hold; without `when` it gets every one. With `route = "all"` each output that wants a batch gets it,
with `"first"` only the first of them, in the order of the topology file.

This is decided once for each batch, as it is stored. A batch that no output wants is *unrouted*: it
goes to the dead letters, or is dropped, as the topology says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple, TypeAlias

UNROUTED: Final = "unrouted"  # how the reason of such a dead letter begins
_SHOWN_CHARS_MAX: Final = 400  # of headers in a reason
Unrouted = Literal["dead", "drop"]


@dataclass(frozen=True, slots=True)
class OneOf:
    """The header is there, and has one of these values."""

    values: frozenset[str]

    def holds(self, value: str | None) -> bool:
        return value in self.values


@dataclass(frozen=True, slots=True)
class Glob:
    """The header is there, and its whole value matches: `*`, `?`, `[...]`, case counts."""

    pattern: str

    def holds(self, value: str | None) -> bool:
        return value is not None and fnmatchcase(value, self.pattern)


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such header."""

    def holds(self, value: str | None) -> bool:
        return value is None


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold; so `Not(OneOf(...))` holds where there is no such header."""

    condition: "Condition"

    def holds(self, value: str | None) -> bool:
        return not self.condition.holds(value)


Condition: TypeAlias = OneOf | Glob | Absent | Not
When: TypeAlias = Mapping[str, Condition]  # by header


class Branch(NamedTuple):
    """An output, and what it wants."""

    output: str
    when: When

    def wants(self, headers: Mapping[str, str]) -> bool:
        return all(one.holds(headers.get(header)) for header, one in self.when.items())


class Routed(NamedTuple):
    """What becomes of a batch."""

    outputs: tuple[str, ...]  # that get it
    skipped: tuple[str, ...] = ()  # all others
    dead: str = ""  # why it is a dead letter of none of them; empty where it is not


class Route:
    """Of all outputs of an agent, in order. Never changed: a new topology has another."""

    def __init__(
        self, branches: Iterable[Branch], *, first: bool = False, unrouted: Unrouted = "dead"
    ) -> None:
        self.branches = tuple(branches)
        self.first = first
        self.unrouted: Unrouted = unrouted
        outputs = tuple(branch.output for branch in self.branches)
        conditions = any(branch.when for branch in self.branches)
        self._always = None if conditions or first else Routed(outputs)

    def __eq__(self, other: object) -> bool:
        """The same outputs get the same batches."""
        if not isinstance(other, Route):
            return NotImplemented
        mine, theirs = ((r.branches, r.first, r.unrouted) for r in (self, other))
        return mine == theirs

    def __hash__(self) -> int:
        return hash((tuple(one.output for one in self.branches), self.first, self.unrouted))

    def of(self, headers: Mapping[str, str]) -> Routed:
        """The outputs that get a batch with these headers."""
        if self._always is not None:
            return self._always
        wanting = [branch.output for branch in self.branches if branch.wants(headers)]
        outputs = tuple(wanting[:1] if self.first else wanting)
        skipped = tuple(one.output for one in self.branches if one.output not in outputs)
        dead = _reason(headers) if not outputs and self.unrouted == "dead" else ""
        return Routed(outputs, skipped, dead)

    def may_skip(self, output: str) -> bool:
        """Whether there may be batches that this output does not get."""
        outputs = [branch.output for branch in self.branches]
        at = outputs.index(output)
        return bool(self.branches[at].when) or (self.first and at > 0)

    def unreachable(self) -> dict[str, str]:
        """Outputs that no batch can ever reach, each with the one before it that has them all."""
        found: dict[str, str] = {}
        for index, branch in enumerate(self.branches if self.first else ()):
            before = (e.output for e in self.branches[:index] if _covers(e.when, branch.when))
            if (earlier := next(before, None)) is not None:
                found[branch.output] = earlier
        return found


def everywhere(outputs: Sequence[str]) -> Route:
    """Each of these gets every batch."""
    return Route(Branch(output, {}) for output in outputs)


def _covers(when: When, other: When) -> bool:
    """Whether `when` surely holds wherever `other` does."""
    return all(header in other and _implies(other[header], one) for header, one in when.items())


def _implies(condition: Condition, other: Condition) -> bool:
    if isinstance(condition, OneOf):
        return all(other.holds(value) for value in condition.values)
    if isinstance(condition, Absent):
        return other.holds(None)
    return condition == other


def _reason(headers: Mapping[str, str]) -> str:
    told = ", ".join(f"{name}={value}" for name, value in sorted(headers.items()))
    if len(told) > _SHOWN_CHARS_MAX:
        told = f"{told[: _SHOWN_CHARS_MAX - 3]}..."
    return f"{UNROUTED}: no output wants {told or 'a batch without headers'}"
