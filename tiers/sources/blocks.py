"""Cutting what was read into whole events, without going line by line."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tiers.core.batch import Buffer


class CutBlock(NamedTuple):
    """What `cut` made of its data."""

    block: Buffer  # whole newline-terminated events
    used: int  # bytes of the data that are in the block; the rest is an unfinished line
    split: int  # lines that were longer than an event may be
    continuing: bool  # the rest continues a line of which pieces are out already


def cut(data: bytes, event_size_max: int, continuing: bool = False) -> CutBlock:
    """The whole lines in `data`. A line of more than `event_size_max` bytes (with its newline)
    becomes newline-terminated pieces of at most that, each at least one byte and a newline.

    `continuing` says that `data` begins within a line of which pieces are out already, so that
    the line is not counted as split a second time.
    """
    assert event_size_max >= 2
    end = data.rfind(b"\n") + 1
    if end <= event_size_max and len(data) - end < event_size_max:
        return CutBlock(memoryview(data)[:end], end, 0, continuing and not end)
    parts: list[Buffer] = []
    done = begin = split = 0
    while end - begin > event_size_max:
        # Leaps of nearly event_size_max: only whether *some* line begins in reach matters.
        newline = data.rfind(b"\n", begin, begin + event_size_max)
        if newline >= 0:
            begin = newline + 1
            continue
        newline = data.index(b"\n", begin + event_size_max)
        parts.append(memoryview(data)[done:begin])
        done = _pieces(data, begin, newline, event_size_max - 1, parts)
        split += not (continuing and begin == 0)
        begin = newline + 1
    parts.append(memoryview(data)[done:end])
    if len(data) - end < event_size_max:
        return CutBlock(b"".join(parts), end, split, continuing and not end)
    split += not (continuing and end == 0)
    used = _pieces(data, end, len(data), event_size_max - 1, parts)
    return CutBlock(b"".join(parts), used, split, True)


def _pieces(data: bytes, begin: int, end: int, size: int, parts: list[Buffer]) -> int:
    """Append pieces of data[begin:end], but the last, which is never empty; its begin."""
    while end - begin > size:
        parts += (memoryview(data)[begin : begin + size], b"\n")
        begin += size
    return begin


def in_blocks(data: bytes, block_size_max: int) -> Iterator[Buffer]:
    """`data` (whole events) in blocks of at most `block_size_max`, or one event each if longer."""
    begin, view = 0, memoryview(data)
    while len(data) - begin > block_size_max:
        end = data.rfind(b"\n", begin, begin + block_size_max) + 1
        if not end:
            end = data.index(b"\n", begin) + 1
        yield view[begin:end]
        begin = end
    if begin < len(data):
        yield view[begin:]


def as_events(messages: Iterable[bytes]) -> list[bytes]:
    """Each message as one line, without its newline; empty ones are left out."""
    return [
        message.replace(b"\n", b"#012") if b"\n" in message else message
        for raw in messages
        if (message := raw.rstrip(b"\n\0"))
    ]


def inner(piece: bytes) -> bytes:
    """A piece out of the middle of a message."""
    return piece.replace(b"\n", b"#012")


def as_block(events: list[bytes], event_size_max: int) -> tuple[bytes, int]:
    """Events joined to a block, each with its newline; and how many had to be split."""
    if not events:
        return b"", 0
    block = b"\n".join(events) + b"\n"
    piece = cut(block, event_size_max)
    return (bytes(piece.block), piece.split) if piece.split else (block, 0)
