"""The files of one look, and their texts, opened only where a question needs them."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from tiers.sources.tail.door import Door, Status
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.marks import (
    NOTHING,
    STRONG_BYTES,
    Mark,
    Text,
    content_begin,
    content_end,
    head_of,
    lines_end,
    mark,
    seam_of,
)
from tiers.sources.tail.packed import OpeningMemory
from tiers.sources.tail.streams import Damaged
from tiers.sources.tail.texts import OpenText, open_text

_OPEN_MAX: Final = 16  # descriptors that one look holds beside those of followed files


class Unreadable(Exception):
    """A file that was seen could not be opened or read."""

    def __init__(self, sighting: "Sighting", error: OSError) -> None:
        super().__init__(str(error))
        self.sighting = sighting
        self.error = error


@dataclass(frozen=True, slots=True)
class StartAt:
    """Where to go on in a text, and the marks to know it by."""

    offset: int
    begin_at: int = 0  # of the text: after a hole
    head: Mark = NOTHING
    seam: Mark = NOTHING
    size: int = 0
    blind: bool = False  # what is before was not read, and cannot be told by more than its size
    packed: bool = False

    def begin(self, generation: Generation) -> None:
        """Have the generation go on here."""
        generation.offset, generation.begin = self.offset, self.begin_at
        generation.head, generation.seam, generation.size = self.head, self.seam, self.size
        generation.blind, generation.packed = self.blind, self.packed


BEGINNING: Final = StartAt(0)


@dataclass(slots=True, eq=False)
class Sighting:
    """One file as a look found it. `kin` is the path of the log that it may be a generation of."""

    status: Status
    where: str  # to open it by
    kin: str
    paths: list[str] = field(default_factory=list)  # at the globs
    rotated: bool = False  # by its name, a rotated generation of its kin
    added: bool = False  # and that name is the log's own with something added
    elder: bool = False  # where generations go to, which was never looked into: from before us
    named: bool = True  # False: found by its inode alone, under a name that says nothing
    _ends: tuple[int, int] | None = None
    _head: bytes | None = None

    @property
    def identity(self) -> tuple[int, int]:
        return self.status.inode, self.status.birth_ns

    @property
    def at_path(self) -> bool:
        """At the path of a log, as the log itself."""
        return bool(self.paths) and not self.rotated


def unseen(sighting: Sighting) -> StartAt:
    """To read only what is added from now on, where nothing is known of what is there."""
    size = sighting.status.size
    return StartAt(size, size=size, blind=True)


def begun(number: int, sighting: Sighting, start: StartAt, door: Door) -> Generation:
    """A generation that goes on at `start` in what was seen."""
    path, status = sighting.paths[0] if sighting.paths else sighting.kin, sighting.status
    generation = Generation(
        key=b"%016x" % number,
        path=path,
        real=door.real(path),
        now=sighting.where,
        inode=status.inode,
        birth_ns=status.birth_ns,
        device=status.device,
    )
    start.begin(generation)
    generation.note_look()
    return generation


class Texts:
    """Opens what was seen. Each method raises `Unreadable`."""

    def __init__(self, door: Door, room: OpeningMemory, held: Iterable[OpenText] = ()) -> None:
        self._door = door
        self._room = room
        self._held = {(each.status.device, each.status.inode): each for each in held}
        self._open: OrderedDict[Sighting, OpenText] = OrderedDict()

    def of(self, sighting: Sighting) -> Text:
        with _reading(sighting):
            return self._opened(sighting).text

    def agrees(self, generation: Generation, sighting: Sighting) -> bool:
        text = self.of(sighting)
        with _reading(sighting):
            return generation.agrees(text)

    def are_begun(self, generation: Generation, sighting: Sighting, end: int) -> bool:
        text = self.of(sighting)
        with _reading(sighting):
            return generation.begins_with(text, end)

    def ends(self, sighting: Sighting) -> tuple[int, int]:
        """Where the last whole line ends, and where the text does (zeros are not there yet)."""
        if sighting._ends is None:
            text = self.of(sighting)
            with _reading(sighting):
                end = content_end(text)
                sighting._ends = lines_end(text, end), end
        return sighting._ends

    def head(self, sighting: Sighting) -> bytes:
        """Its first bytes: far less to decompress than its end is."""
        if sighting._head is None:
            text = self.of(sighting)
            with _reading(sighting):
                sighting._head = text.read(0, STRONG_BYTES)
        return sighting._head

    def fault(self, sighting: Sighting) -> Damaged | None:
        """Why nothing can be read of it; None where something can, or where it is empty."""
        text = self.of(sighting)
        with _reading(sighting):
            return None if text.read(0, 1) else text.fault()

    def line_at(self, sighting: Sighting, offset: int) -> int:
        """Where the line that `offset` is in begins."""
        text = self.of(sighting)
        with _reading(sighting):
            return lines_end(text, min(offset, text.size))

    def start(self, sighting: Sighting, offset: int) -> StartAt:
        """To go on from `offset`."""
        text = self.of(sighting)
        with _reading(sighting):
            begin = content_begin(text, offset)
            return StartAt(
                offset,
                begin,
                head_of(text, begin, offset),
                seam_of(text, begin, offset),
                offset,
                packed=text.packed,
            )

    def known(self, sighting: Sighting) -> StartAt:
        """To read only what is added from now on. Of a compressed file, all of it is known."""
        text = self.of(sighting)
        if not text.packed:
            lines, end = self.ends(sighting)
            return replace(self.start(sighting, lines), size=end)
        with _reading(sighting):
            head = mark(text, 0, STRONG_BYTES)
        return StartAt(0, 0, head, NOTHING, sighting.status.size, blind=True, packed=True)

    def same_to(self, sighting: Sighting, other: Text, end: int) -> bool:
        """Whether both begin alike and have the same last bytes before `end`."""
        text = self.of(sighting)
        length = min(STRONG_BYTES, end)
        with _reading(sighting):
            return all(
                (part := text.read(begin, length)) == other.read(begin, length)
                and len(part) == length
                for begin in (end - length, 0)
            )

    def close(self) -> None:
        for each in self._open.values():
            each.close()
        self._open.clear()

    def _opened(self, sighting: Sighting) -> OpenText:
        held = self._held.get((sighting.status.device, sighting.status.inode))
        if held is not None and held.status.birth_ns == sighting.status.birth_ns:
            held.look()
            return held
        found = self._open.get(sighting)
        if found is None:
            while len(self._open) >= _OPEN_MAX:
                self._open.popitem(last=False)[1].close()
            inode, birth_ns = sighting.identity
            found = open_text(self._door, sighting.where, inode, birth_ns, self._room)
            self._open[sighting] = found
        self._open.move_to_end(sighting)
        return found


@contextlib.contextmanager
def _reading(sighting: Sighting) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreadable(sighting, error) from error
