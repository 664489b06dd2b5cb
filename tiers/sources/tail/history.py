"""Generations that are done, by the path of their log: what a copy of them is known by."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from tiers.sources.tail.generation import Generation

KEPT_MAX: Final = 64  # of one path, beside those whose file is still there


class History:
    def __init__(self, retention_s: float) -> None:
        self._retention_s = retention_s
        self._paths: dict[str, dict[bytes, Generation]] = {}

    def all(self) -> Iterator[Generation]:
        return chain.from_iterable(each.values() for each in self._paths.values())

    def add(self, generation: Generation) -> None:
        self._paths.setdefault(generation.path, {})[generation.key] = generation

    def remove(self, generation: Generation) -> None:
        kept = self._paths.get(generation.path, {})
        kept.pop(generation.key, None)
        if not kept:
            self._paths.pop(generation.path, None)

    def prune(
        self, there: set[tuple[int, int]], now_s: float, followed: Iterable[Generation]
    ) -> list[bytes]:
        """Keys to forget. `there`: inode and birth of files that are there. `now_s` is the clock
        on the wall. A path is forgotten when nothing of it was there for so long."""
        live = {generation.path for generation in followed}
        forgotten: list[Generation] = []
        for path, kept in self._paths.items():
            gone = [g for g in kept.values() if (g.inode, g.birth_ns) not in there]
            old = path not in live and len(gone) == len(kept)
            if old and all(now_s - g.since_s > self._retention_s for g in gone):
                forgotten += gone
            elif len(gone) > KEPT_MAX:
                gone.sort(key=lambda g: (g.since_s, g.key))
                forgotten += gone[:-KEPT_MAX]
        for generation in forgotten:
            self.remove(generation)
        return [generation.key for generation in forgotten]
