"""What a disk knows of its life (core/life.py), and the batches of searches in which disks go back:
ids are of a start, and what lies under one id need not be the same."""

from collections.abc import Set
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from tiers.core.batch import BatchId, Buffer, Envelope, seal, sum_of
from tiers.core.dedupe import Content
from tiers.core.life import Life, Met, Point, Start


@cache
def record(line: int, key: BatchId) -> bytes:
    """A batch with that line. Two lines differ, also under one id."""
    return bytes(seal(Envelope(*key, 1, 1, {}, 1, 1, "lines", "none"), b"line %d" % line))


_LINES: dict[Content, int] = {}


def content_of(line: int, key: BatchId) -> Content:
    content = Content(key, sum_of(record(line, key)))
    _LINES[content] = line
    return content


def line_of(content: Content) -> int:
    return _LINES[content]


def line_in(record: Buffer) -> int:
    """The line of such a batch."""
    return int(bytes(record).rpartition(b" ")[2])


ChannelPoint = tuple[bytes, Point]  # whose, where


class Changes(NamedTuple):
    """Points that are as good as others."""

    silent: frozenset[ChannelPoint]  # where they were met they may be forgotten
    new: frozenset[tuple[ChannelPoint, Point | None]]

    def of(self, points: Set[ChannelPoint]) -> "Changes | None":
        """Those of some; None where there are none."""
        new = frozenset(item for item in self.new if item[0] in points)
        silent = self.silent & points
        return Changes(silent, new) if new or silent else None

    def after(self, one: ChannelPoint) -> Point | None:
        return dict(self.new).get(one, one[1])


@dataclass
class Lifeline:
    """What a channel's disk knows of itself, and of others."""

    kind: str
    judges: bool  # False: it says no point, and judges none; its disk never goes back
    channel: int = 0
    starts: tuple[Start, ...] = ()
    number: int = 0  # of the last commit
    met: dict[bytes, Met] = field(default_factory=dict)

    def begin(self, start: int) -> Life:
        """A start, with the life that its agent has from now on."""
        if self.judges:
            self.starts += (
                Start(b"%s%6d" % (self.kind.encode()[:6].ljust(6), start), self.number),
            )
        self.number += self.judges
        return Life(self.id(), self.starts, self.number, met=dict(self.met))

    def id(self) -> bytes:
        return b"%s%8d" % (self.kind.encode()[:8].ljust(8), self.channel)

    def commit(self, life: Life) -> None:
        self.number += self.judges
        self.met = dict(sorted(life.met.items()))
        life.number = self.number

    def renew(self, channel: int) -> None:
        self.channel, self.starts = channel, ()

    def rebase(self, life: Life) -> None:
        """As if the present start was the first: nobody knows a point of another."""
        self.starts = life.starts = self.starts[-1:] and (Start(self.starts[-1].id, 0),)
        self.number = life.number = 1

    def points(self, life: Life) -> set[ChannelPoint]:
        """Where other channels were met, as is known now or written down."""
        both = (*life.met.items(), *self.met.items())
        return {(channel, met.point) for channel, met in both}

    def ground(self, life: Life, changes: Changes) -> None:
        """Points as in the changes."""
        for met in (self.met, life.met):
            for channel, one in list(met.items()):
                at = channel, one.point
                if at in changes.silent:
                    del met[channel]
                elif (point := changes.after(at)) is not None:
                    met[channel] = one._replace(point=point)

    def count(self, life: Life, number: int) -> None:
        """That is as good as the number of the last commit."""
        self.number = life.number = number


def settle(life: Life) -> None:
    """Takes out the order in which others were met, and what is still to be written down: the
    next commit writes all."""
    life.unsaved.clear()
    met = sorted(life.met.items())
    life.met.clear()
    life.met.update(met)
