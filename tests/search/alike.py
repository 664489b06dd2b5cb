"""Worlds of a search of lives (lives.py) that have the same future are one."""

from itertools import pairwise
from typing import Any

from tests.search.aging import Changes, ChannelPoint, line_in
from tests.search.cast import ADDRESS, NOBODY, Cast, Flying, Now, Part, World
from tests.search.talk import Talk
from tiers.core.life import Life, Point


class Alike:
    """All worlds that were met."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._kept: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def value(self, number: int) -> Any:
        """One of the values that a world has numbers of."""
        return self._kept[number]

    def now(self, world: World) -> Now:
        meta, first, second, *belows, flying = [self._kept[number] for number in world]
        return Now(meta, [first, second], belows, list(flying))

    def number(self, now: Now) -> World:
        """One for all that have the same future."""
        for i, edge in enumerate(now.edges):
            if edge is not None and self._cast.edge(edge).asks:
                Talk(self._cast, now).edge(i, "quiet")
        self._commit_all(now)
        self._prune(now)
        self._ground(now)
        self._forget(now)
        numbers: dict[int, int] = {}

        def renamed(part: Part | None) -> Part | None:
            if part is None:
                return None
            names = [numbers.setdefault(name, len(numbers)) for name in part.names]
            return Part(part.shape, tuple(names))

        parts = [renamed(part) for part in (*now.edges, *now.belows)]
        meta = now.meta
        if meta.image is not None:
            image = renamed(meta.image)
            meta = meta._replace(image=image)
        flying = [
            one._replace(session=numbers.setdefault(one.session, len(numbers)))
            for one in now.flying
        ]
        return tuple([self._number(one) for one in (meta, *parts, tuple(sorted(flying)))])

    def _number(self, value: Any) -> int:
        number = self._numbers.setdefault(value, len(self._kept))
        if number == len(self._kept):
            self._kept.append(value)
        return number

    def _commit_all(self, now: Now) -> None:
        """What only a next life would read is committed at once where none comes any more: see
        `Edge.end_of_troubles`."""
        if now.meta.troubles or (self._cast.of_senders and not now.meta.used):
            return
        for i, part in enumerate(now.edges):
            while part is not None and self._cast.edge(part).commit.startswith(("('rel", "('han")):
                Talk(self._cast, now).edge(i, "commit")
                part = now.edges[i]

    def _lives(self, now: Now) -> list[Life]:
        """Of the disks that go back, or exist twice: the running ones, and the image."""
        found = []
        if self._cast.of_senders:
            found = [self._cast.edge(part).life for part in now.edges if part is not None]
        else:
            belows = [part for r, part in enumerate(now.belows) if part and ADDRESS[r] == 0]
            found = [self._cast.below(part).life for part in belows]
        image = self._image(now)
        return found if image is None else [*found, image]

    def _ground(self, now: Now) -> None:
        """Of numbers of commits matters only which lie before the openings of starts. Points on
        every line of their channel stay there: they say no more than which start they are of; and
        where all do, and nobody has an image, a line may as well begin with its present start."""
        lives = self._lives(now)
        points = self._points(now)
        silent = frozenset(
            (channel, point)
            for channel, point in points
            if all(life.has(point) for life in lives if life.channel == channel)
        )
        alone = len({life.channel for life in lives}) == len(lives)
        rebases = alone and now.meta.image is None and silent == points
        starts = frozenset(
            start.id for life in lives for start in (life.starts[-1:] if rebases else life.starts)
        )
        openings = _openings(lives, self._image(now))
        counts = self._cast.fault != "sender resumed"  # else two lives have one start
        new: dict[ChannelPoint, Point | None] = {}
        for channel, point in points:
            if (channel, point) not in silent:
                if not counts:
                    continue
                number = _least(point.number, openings.get(point.start, ()))
                new[channel, point] = Point(point.start, number)
            else:
                new[channel, point] = Point(point.start, 0) if point.start in starts else None
        changes = Changes(silent, frozenset(item for item in new.items() if item[0][1] != item[1]))
        self._change(now, changes)
        if counts:
            self._count_all(now, openings)
        if rebases:
            self._rebase(now)

    def _image(self, now: Now) -> Life | None:
        image = now.meta.image
        return self._cast.image_life(image) if image is not None else None

    def _change(self, now: Now, changes: Changes) -> None:
        for i, edge in enumerate(now.edges):
            if edge is not None and (mine := changes.of(self._cast.edge(edge).points)):
                Talk(self._cast, now).edge(i, "ground", mine)
        for r, below in enumerate(now.belows):
            if below is not None and (mine := changes.of(self._cast.below(below).points)):
                Talk(self._cast, now).below(r, "ground", mine)
        for place, one in enumerate(now.flying):
            point = self._cast.kinds[one.shape].point
            if point is not None:
                after = changes.after((self._whose(now, one), point))
                now.flying[place] = one._replace(shape=self._cast.pointing(one.shape, after))

    def _count_all(self, now: Now, openings: dict[bytes, tuple[int, ...]]) -> None:
        """Numbers of last commits: all behind the last opening that matters are one."""

        def least(life: Life) -> int:
            start = life.starts[-1]
            return max((start.opened, *openings.get(start.id, ()))) + 1

        for i, edge in enumerate(now.edges):
            life = self._cast.edge(edge).life if edge is not None else None
            if life is not None and life.starts and life.number > least(life):
                Talk(self._cast, now).edge(i, "count", least(life))
        for r, below in enumerate(now.belows):
            life = self._cast.below(below).life if below is not None else None
            if life is not None and life.starts and life.number > least(life):
                Talk(self._cast, now).below(r, "count", least(life))

    def _points(self, now: Now) -> frozenset[ChannelPoint]:
        """All that are known, or under way."""
        found: set[ChannelPoint] = set()
        for part in now.edges:
            found |= self._cast.edge(part).points if part is not None else frozenset()
        for part in now.belows:
            found |= self._cast.below(part).points if part is not None else frozenset()
        for one in now.flying:
            if (point := self._cast.kinds[one.shape].point) is not None:
                found.add((self._whose(now, one), point))
        return frozenset(found)

    def _rebase(self, now: Now) -> None:
        for i, part in enumerate(now.edges):
            if part is not None and self._cast.edge(part).life.starts:
                Talk(self._cast, now).edge(i, "rebase")
        for r, part in enumerate(now.belows):
            if part is not None and self._cast.below(part).life.starts:
                Talk(self._cast, now).below(r, "rebase")

    def _whose(self, now: Now, one: Flying) -> bytes:
        """The channel of who has sent a message."""
        if one.bundle:
            return bytes(self._cast.kinds[one.shape].sender)
        part = now.edges[one.sender]
        assert part is not None
        return self._cast.edge(part).channels[one.address]

    def _forget(self, now: Now) -> None:
        """What has been of a line that no sender has any more, nor an image or a bundle."""
        meta = now.meta
        kept: set[int] = set()
        for part in now.edges:
            kept |= self._cast.edge(part).lines if part is not None else frozenset()
        if meta.image is not None and self._cast.of_senders:
            kept |= self._cast.image_lines(meta.image)
        for one in now.flying:
            if one.bundle:
                kept |= {line_in(c.record) for c in self._cast.kinds[one.shape].carried}
        done = (meta.stored | meta.published | set(meta.unflagged)) - kept
        if done:
            now.meta = meta._replace(
                unflagged=tuple([line for line in meta.unflagged if line in kept]),
                stored=meta.stored & kept,
                published=meta.published & kept,
            )

    def _prune(self, now: Now) -> None:
        """Leaves out what would change nothing, whenever it came: messages of sessions that who is
        to hear them does not have (any more)."""
        image = now.meta.image.names if now.meta.image is not None else ()

        def matters(one: Flying) -> bool:
            if one.bundle:
                return self._cast.who_knows(now, one.address, one.session) is not None
            edge = now.edges[one.sender]
            assert edge is not None
            place = self._cast.edge(edge).sessions[one.address]
            return one.session in image or (place != NOBODY and edge.names[place] == one.session)

        now.flying = [one for one in now.flying if matters(one)]


def _openings(lives: list[Life], image: Life | None) -> dict[bytes, tuple[int, ...]]:
    """Numbers at which other starts followed a start, or may."""
    found: dict[bytes, set[int]] = {}
    if image is not None and image.starts:
        found[image.starts[-1].id] = {image.number}
    for life in lives:
        for start, after in pairwise(life.starts):
            found.setdefault(start.id, set()).add(after.opened)
    return {start: tuple(sorted(numbers)) for start, numbers in found.items()}


def _least(number: int, openings: tuple[int, ...]) -> int:
    """Of the numbers that lie behind the same openings."""
    return max([opened + 1 for opened in openings if opened < number], default=0)
