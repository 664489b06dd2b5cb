"""Bugs planted into the shipped code: the model has to see each of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final
from unittest.mock import patch

from tiers.sources.tail import following, identity, reading, turns
from tiers.sources.tail.door import Door
from tiers.sources.tail.following import Following
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.history import History
from tiers.sources.tail.likeness import Likeness
from tiers.sources.tail.looking import Look
from tiers.sources.tail.marks import Text
from tiers.sources.tail.matching import Kin
from tiers.sources.tail.packed import OpeningMemory
from tiers.sources.tail.sightings import Sighting, Texts
from tiers.sources.tail.texts import OpenText
from tiers.sources.tail.turns import ReadingTurns


@contextmanager
def _failed_is_done() -> Iterator[None]:
    def fail(self: ReadingTurns, generation: Generation, error: OSError) -> None:
        self.release(generation)
        generation.offset = generation.extent

    with patch.object(ReadingTurns, "_fail", fail):
        yield


@contextmanager
def _never_again() -> Iterator[None]:
    def fail(self: ReadingTurns, generation: Generation, error: OSError) -> None:
        self.release(generation)
        generation.extent = generation.offset

    with patch.object(ReadingTurns, "_fail", fail):
        yield


@contextmanager
def _done_at_once() -> Iterator[None]:
    real = ReadingTurns.next_ending

    def next_ending(self: ReadingTurns, now: float, draining: bool) -> Any:
        for generation in self.leaving.values():
            generation.looks, generation.quiet_since = 9, now - 1e9
        return real(self, now, draining)

    with patch.object(ReadingTurns, "next_ending", next_ending):
        yield


@contextmanager
def _opened_by_path() -> Iterator[None]:
    def open_text(
        door: Door, path: str, inode: int, birth_ns: int, room: OpeningMemory
    ) -> OpenText:
        descriptor = door.open(path)
        return OpenText(door, descriptor, door.fstat(descriptor), room)

    with patch.object(turns, "open_text", open_text):
        yield


@contextmanager
def _known_by_inode() -> Iterator[None]:
    def same(generation: Generation, sighting: Sighting, texts: Texts) -> bool:
        return sighting.status.size >= generation.offset

    with patch.object(identity, "same", same), patch.object(reading, "_prove", _believed):
        yield


def _believed(generation: Generation, text: Text, length: int) -> bytes:
    return text.read(generation.seam.begin, generation.seam.length)


@contextmanager
def _closed_for_the_limit() -> Iterator[None]:
    def close_one(self: ReadingTurns) -> bool:
        for generation in self.open.values():
            self.release(generation)
            return True
        return False

    with patch.object(ReadingTurns, "_close_one", close_one):
        yield


@contextmanager
def _long_enough_is_a_copy() -> Iterator[None]:
    def agrees(self: Texts, generation: Generation, sighting: Sighting) -> bool:
        size = self.of(sighting).size
        return 0 < generation.offset <= size

    with patch.object(Texts, "agrees", agrees):
        yield


@contextmanager
def _same_size_is_unchanged() -> Iterator[None]:
    def is_unchanged(generation: Generation, sighting: Sighting) -> bool:
        seen, status = generation.seen, sighting.status
        return seen is not None and (seen.inode, seen.size) == (status.inode, status.size)

    real = Following._grown

    def grown(self: Following, generation: Generation, sighting: Sighting) -> None:
        if generation.extent != sighting.status.size:
            real(self, generation, sighting)

    with (
        patch.object(identity, "is_unchanged", is_unchanged),
        patch.object(Following, "_grown", grown),
        patch.object(following, "_RACY_NS", -(10**15)),
    ):
        yield


@contextmanager
def _not_proven() -> Iterator[None]:
    with patch.object(reading, "_prove", _believed):
        yield


@contextmanager
def _copied_to_its_end() -> Iterator[None]:
    """A copy is taken to have all that its log had."""
    with (
        patch.object(Likeness, "_is_cut_short", lambda *_: False),
        patch.object(Likeness, "_may_be_cut_short", lambda *_: False),
    ):
        yield


BUGS_OF_COPIES: Final[dict[str, Callable[[], AbstractContextManager[object]]]] = {
    "a copy in the making is whole": lambda: patch.object(Likeness, "_made_of", lambda *_: None),
    "a copy ends where its log was read to": _copied_to_its_end,
    "a copy is made before its log is truncated": lambda: patch.object(
        Kin, "_is_copied_on", lambda *_: False
    ),
    "a log is not truncated within a look": lambda: patch.object(
        Look, "_is_still", lambda *_: True
    ),
}
BUGS: Final[dict[str, Callable[[], AbstractContextManager[object]]]] = {
    "positions skip what failed": _failed_is_done,
    "what failed is never tried again": _never_again,
    "done while its writer still writes": _done_at_once,
    "opened by its path": _opened_by_path,
    "known by its inode alone": _known_by_inode,
    "deleted and closed for the limit": _closed_for_the_limit,
    "long enough is a copy": _long_enough_is_a_copy,
    "same size is unchanged": _same_size_is_unchanged,
    "what was read is not proven": _not_proven,
    "no history": lambda: patch.object(History, "add", lambda *_: None),
    "any agreement is strong": lambda: patch.object(Generation, "strong", True),
}


def planted(bug: str) -> AbstractContextManager[object]:
    """Nothing where `bug` is empty."""
    return (BUGS | BUGS_OF_COPIES)[bug]() if bug else nullcontext()
