"""The line of a channel, and where others met it (delivery.md, "A disk that went back in time").

Disks are set back to snapshots, and cloned with all that is on them. So each opening of a channel
for work is a *start* with a number drawn at random, written down together with the number of the
last commit that was found. A *point* is a start and the number of a commit in it. Agents tell each
other their present point, and remember the last one that they met of a channel; told of it, the
channel's agent judges by its own list of starts:

    starts      s1 opened at 0        s2 opened at 40        s3 opened at 65, now at 90
    on its line s1 up to 40           s2 up to 65            s3 up to 90
    off it      s1 beyond 40, s2 beyond 65, s3 beyond 90, and any other start

Off its line means: the disk was set back since, or is there twice. The channel is then *renewed*,
for which its agent starts again. Anybody may say such a thing, so an agent that was renewed at this
very start is not for a minute: meanwhile who says it gets no session, as if its word came late.
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

START_BYTES: Final = 12  # of a start's random number
TOLD_MAX: Final = 8  # points in one HELLO: it has to be short
RENEWED_AGAIN_S: Final = 60.0


class Point(NamedTuple):
    """Where a channel is, or was met, on its line."""

    start: bytes  # START_BYTES
    number: int  # of a commit that is on disk

    def __str__(self) -> str:
        return f"{self.start.hex()[:8]}:{self.number}"


class Start(NamedTuple):
    """One opening of a channel for work."""

    id: bytes  # START_BYTES
    opened: int  # the number of the last commit that it found


class Met(NamedTuple):
    """The last point that was met of another channel, and whose it was."""

    agent: str
    point: Point


@dataclass(slots=True)
class Life:
    """Of one channel. Without starts it says no point, and no word about it is judged."""

    channel: bytes  # its id
    starts: Sequence[Start] = ()  # as far back as they are kept; the present one is the last
    number: int = 0  # of the last commit that is on disk
    origins: set[bytes] = field(default_factory=set)  # all that gave numbers to batches here
    met: dict[bytes, Met] = field(default_factory=dict)  # by channel id; the latest last
    unsaved: set[bytes] = field(default_factory=set)  # met since that was last written down
    renewed: bool = False  # at this start
    renewed_s: float = -math.inf  # when that was, seconds of a monotonic clock

    def point(self) -> Point | None:
        """The present one."""
        return Point(self.starts[-1].id, self.number) if self.starts else None

    def has(self, point: Point | None) -> bool:
        """Whether a point that somebody met lies on this line: see the table."""
        if point is None or not self.starts:
            return True
        if point.start == self.starts[-1].id:
            return point.number <= self.number
        return any(
            start.id == point.start and point.number <= after.opened
            for start, after in pairwise(self.starts)
        )

    def may_renew(self, now: float) -> bool:
        """Whether another's word is enough to renew it."""
        return now - self.renewed_s >= RENEWED_AGAIN_S

    def meet(self, channel: bytes, agent: str, point: Point | None) -> None:
        """An agent says where its channel is. Of one start the greatest number counts: words come
        late."""
        if point is None:
            return
        known = self.met.pop(channel, None)
        if known is not None and known.point.start == point.start:
            point = max(known.point, point)
        if known is not None and known.agent == agent and known.point == point:
            self.met[channel] = known  # the latest
        else:
            self.met[channel] = Met(agent, point)
            self.unsaved.add(channel)

    def met_of(self, channel: bytes) -> Point | None:
        """Where a channel was met last."""
        known = self.met.get(channel)
        return known.point if known is not None else None

    def told_to(self, agent: str, like: Container[str]) -> tuple[tuple[bytes, Point], ...]:
        """What an agent is told about channels that it may have now: those that it had, and the
        latest of others `like` it, since its disk may be a copy of theirs."""
        latest = [item for item in reversed(self.met.items()) if item[1].agent in like]
        own_first = sorted(latest, key=lambda item: item[1].agent != agent)
        return tuple((channel, one.point) for channel, one in own_first[:TOLD_MAX])
