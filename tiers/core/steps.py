"""What an agent has to do so that the parts at work become those that are wanted.

A part is known by its key and is what its spec says: equal specs are the same part, which is not
touched. Another spec changes a part in place where it can, else it is retired and made anew.

Retiring goes with the flow of events and starting against it: what brings events in ends first
and begins last, so that whatever is brought in finds its way out. Parts of one stage are retired
at the same time.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import NamedTuple


class StepKind(Enum):
    """Of a part. The value is for people."""

    STATUS = "status"
    SINK = "sink"
    SENDER = "sender"
    RECEIVER = "receiver"
    SOURCE = "source"

    @property
    def stage(self) -> int:
        """Those of a lower one are started earlier and retired later."""
        return _STAGES[self]


# A receiver and senders part together: who sends and who takes need not wait for each other.
_STAGES = {
    StepKind.STATUS: 0,
    StepKind.SINK: 1,
    StepKind.SENDER: 2,
    StepKind.RECEIVER: 2,
    StepKind.SOURCE: 3,
}


class Key(NamedTuple):
    """What a part is known by."""

    kind: StepKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name}".strip()


Keys = tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """To be performed in the order of the fields."""

    change: Keys = ()
    retire: tuple[Keys, ...] = ()  # stage after stage
    start: Keys = ()

    def __bool__(self) -> bool:
        return bool(self.change or self.retire or self.start)


def plan(
    running: Mapping[Key, object], wanted: Mapping[Key, object], anew: Collection[Key] = ()
) -> Steps:
    """From the specs at work to those that are wanted. Parts of `anew` did not take their new spec
    in place."""
    other = [key for key, spec in wanted.items() if key in running and running[key] != spec]
    remade = [key for key in other if key in anew]
    going = [key for key in running if key not in wanted or key in remade]
    going.sort(key=_stage, reverse=True)
    coming = [key for key in wanted if key not in running or key in remade]
    return Steps(
        change=tuple(key for key in other if key not in remade),
        retire=tuple(tuple(keys) for _, keys in groupby(going, _stage)),
        start=tuple(sorted(coming, key=_stage)),
    )


def _stage(key: Key) -> int:
    return key.kind.stage
