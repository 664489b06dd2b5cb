"""Reading on in one generation: whole lines, proven to be its own before they are taken.

Head and seam are compared with the very bytes that were read, after they were read: a log that is
truncated and written anew between a check and a read would pass a check before it. Zeros at the
end are not there yet; zeros where a line would begin are a hole, and left out.
"""

from dataclasses import dataclass
from typing import Final

from tiers.core.batch import Buffer
from tiers.core.newlines import count_lines
from tiers.sources.blocks import cut
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.marks import NOTHING, STRONG_BYTES, Text, mark_of
from tiers.sources.tail.streams import CutOff

HOLE_BYTES_MIN: Final = 16  # where a line would begin; before the first byte any zeros are one
_GAP_BYTES_MIN: Final = 512  # within a line, which then ends there: a sector
_STEP_BYTES: Final = 1 << 20


class Torn(Exception):
    """What was read is not of this generation: dropped."""


@dataclass(frozen=True, slots=True)
class FileBlock:
    """Whole lines of one file, and the position that is reached once they are stored."""

    data: Buffer
    count: int
    path: str
    key: bytes
    position: bytes
    split: int = 0  # lines that had to be split
    ended: bool = False  # the last line had no newline and got one
    hole: int = 0  # bytes of zeros left out before it


@dataclass(frozen=True, slots=True)
class Limits:
    block_size_max: int
    event_size_max: int

    @property
    def read_bytes(self) -> int:
        """With room for the newlines that splitting adds."""
        size = self.block_size_max
        if self.event_size_max < size:
            size = max(size - size // (self.event_size_max - 1) - 1, 1)
        return size


def read(generation: Generation, limits: Limits) -> FileBlock | None:
    """The next whole lines; None when there is none. Raises OSError, `Torn`, and `Damaged` behind
    the last line before the damage."""
    text = _text(generation)
    skipped, data = _after_hole(generation, text, limits.read_bytes)
    size = limits.read_bytes
    if len(data) == size < limits.event_size_max and b"\n" not in data:
        data = text.read(generation.offset + skipped, limits.event_size_max)
        newline = data.find(b"\n")
        data = data[: newline + 1] if newline >= 0 else data
    content, broken = _content(text, generation.offset + skipped, data)
    piece = cut(content, limits.event_size_max, generation.continuing)
    if broken and not piece.used:
        generation.continuing = False
        if not content:
            return read(generation, limits)
        return _taken(generation, text, skipped, content, content + b"\n", 1, ended=True)
    if not piece.used:
        generation.continuing = piece.continuing
        _prove(generation, text, skipped + len(content))
        generation.size = generation.offset + (skipped + len(content) if content else 0)
        generation.extent = generation.size
        generation.unfinished = generation.behind
        fault = text.fault()
        generation.cut_off = isinstance(fault, CutOff)
        if fault is not None and not generation.cut_off:
            raise fault.with_traceback(None)
        return None
    # Beyond what was used there is no newline; where some were added, it is a new object.
    count = count_lines(piece.block if isinstance(piece.block, bytes) else content)
    used = content if piece.used == len(content) else memoryview(content)[: piece.used]
    block = _taken(generation, text, skipped, used, piece.block, count, split=piece.split)
    generation.continuing = piece.continuing
    return block


def read_unfinished(generation: Generation, limits: Limits) -> FileBlock | None:
    """The last line, which has no newline, with one. Only after `read` gave None. Raises as that,
    and CutOff where what is there of a compressed file is no end of a line."""
    text = _text(generation)
    if (fault := text.fault()) is not None:
        raise fault.with_traceback(None)
    skipped, data = _after_hole(generation, text, limits.event_size_max - 1)
    data = data.rstrip(b"\0")
    if not data or b"\n" in data:
        return None
    block = _taken(generation, text, skipped, data, data + b"\n", 1, ended=True)
    generation.continuing = False
    return block


def _text(generation: Generation) -> Text:
    assert generation.opened is not None
    return generation.opened.text


def _after_hole(generation: Generation, text: Text, size: int) -> tuple[int, bytes]:
    """Zeros to leave out, and what is read after them."""
    data = text.read(generation.offset, size)
    if not data.startswith(b"\0") or generation.continuing:
        return 0, data
    begin = _behind(text, generation.offset)
    if begin is None:
        return 0, b""
    zeros = begin - generation.offset
    if zeros < HOLE_BYTES_MIN and generation.offset > generation.begin:
        return 0, data
    return zeros, text.read(begin, size)


def _behind(text: Text, at: int) -> int | None:
    """The first byte from `at` on that is not zero; None where all are, as yet."""
    while True:
        begin = text.data_after(at)
        part = text.read(begin, _STEP_BYTES) if begin is not None else b""
        if begin is None or not part:
            return None
        left = len(part.lstrip(b"\0"))
        at = begin + len(part) - left
        if left:
            return at


def _content(text: Text, begin: int, data: bytes) -> tuple[bytes, bool]:
    """`data`, which begins at `begin`, up to the next hole. True: a line breaks off there, and
    something is behind the hole."""
    if b"\0" not in data:
        return data, False
    hole = data.find(b"\n" + bytes(HOLE_BYTES_MIN))
    gap = data.find(bytes(_GAP_BYTES_MIN))
    if gap >= 0 and (hole < 0 or gap < hole):
        content = data[:gap]
        return content, b"\n" not in content and _behind(text, begin + gap) is not None
    if hole >= 0:
        return data[: hole + 1], False
    content = data.rstrip(b"\0")
    if len(content) == len(data) or b"\n" in content:
        return content, False
    # A few zeros at the end of what was read: of a line, unless it is the end of all.
    return (content if _behind(text, begin + len(data)) is None else data), False


def _taken(
    generation: Generation,
    text: Text,
    skipped: int,
    used: Buffer,
    data: Buffer,
    count: int,
    split: int = 0,
    ended: bool = False,
) -> FileBlock:
    """Go on behind `used`, whose lines are `data`."""
    before = _prove(generation, text, skipped + len(used))
    if generation.offset <= generation.begin:
        generation.begin = generation.offset + skipped
    else:
        before += bytes(min(skipped, STRONG_BYTES))
    if not generation.strong:  # all that was read before is in the seam still
        head = b"".join((before, used[:STRONG_BYTES]))[:STRONG_BYTES]
        generation.head = mark_of(head, generation.begin)
        if generation.looked == NOTHING:
            generation.first = head
    seam = b"".join((before, used[-STRONG_BYTES:]))[-STRONG_BYTES:]
    generation.offset += skipped + len(used)
    generation.size = max(generation.size, generation.offset)
    if not text.packed:  # seen as that was proven: what waits is known while a full channel holds
        generation.extent = text.size
    generation.unfinished = 0
    generation.seam = mark_of(seam, generation.offset - len(seam))
    return FileBlock(
        data,
        count,
        generation.path,
        generation.key,
        generation.pack(),
        split,
        ended,
        skipped,
    )


def _prove(generation: Generation, text: Text, length: int) -> bytes:
    """That `length` bytes from the offset on, just read, are of this generation. The bytes of its
    seam. Raises `Torn`."""
    assert generation.opened is not None
    seam = text.read(generation.seam.begin, generation.seam.length)
    if generation.seam.length and mark_of(seam, generation.seam.begin) != generation.seam:
        raise Torn
    # A compressed text would have to be read from its beginning; it is never written anew.
    if generation.strong and not text.packed and not generation.head.holds(text):
        raise Torn
    generation.opened.look()
    if not text.packed and text.size < generation.offset + length:
        raise Torn
    return seam
