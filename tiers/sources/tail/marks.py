"""Marks: hashes of parts of a text, by which it is known again.

A generation is known by its *head* (the first bytes that were read, a hole before them left out)
and its *seam* (those before the offset). Both cover only what was put already, so a file that is
only appended to can never change them. Less than `STRONG_BYTES` is weak: a banner or "ok" may be
in every generation.
"""

import hashlib
from typing import Final, NamedTuple, Protocol

from tiers.sources.tail.streams import Damaged

STRONG_BYTES: Final = 1024
_SIZE_BYTES: Final = 16  # of a hash
_CHUNK_BYTES: Final = 64 << 10
_CONTROLS: Final = bytes({*range(1, 32)} - {*b"\a\b\t\n\v\f\r\x1b"})
_CONTROLS_SHARE_MAX: Final = 0.04


class Text(Protocol):
    """The bytes of one open file, decompressed where it is compressed. Raises OSError."""

    packed: bool  # compressed

    @property
    def size(self) -> int:
        """When it was opened, or last looked at."""

    def read(self, begin: int, length: int) -> bytes:
        """Less than `length` only at the end."""

    def data_after(self, begin: int) -> int | None:
        """The first byte at or after `begin` that is not known to lie in a hole."""

    def fault(self) -> Damaged | None:
        """Once its end was read: why a compressed file has none there."""


class Shifted:
    """A text from a place on."""

    def __init__(self, text: Text, begin: int) -> None:
        self.packed = text.packed
        self._text = text
        self._begin = begin

    @property
    def size(self) -> int:
        return self._text.size - self._begin

    def read(self, begin: int, length: int) -> bytes:
        return self._text.read(self._begin + begin, length)

    def data_after(self, begin: int) -> int | None:
        found = self._text.data_after(self._begin + begin)
        return None if found is None else found - self._begin

    def fault(self) -> Damaged | None:
        return self._text.fault()


class Mark(NamedTuple):
    """The hash of `length` bytes from `begin` on."""

    begin: int = 0
    length: int = 0
    digest: bytes = b""

    def holds(self, text: Text) -> bool:
        return mark(text, self.begin, self.length) == self


NOTHING: Final = Mark()


def mark_of(part: bytes, begin: int) -> Mark:
    digest = hashlib.blake2b(part, digest_size=_SIZE_BYTES).digest() if part else b""
    return Mark(begin if part else 0, len(part), digest)


def mark(text: Text, begin: int, length: int) -> Mark:
    """Of what there is: fewer bytes at the end of a text."""
    return mark_of(text.read(begin, length) if length else b"", begin)


def head_of(text: Text, begin: int, end: int) -> Mark:
    return mark(text, begin, min(max(end - begin, 0), STRONG_BYTES))


def seam_of(text: Text, begin: int, end: int) -> Mark:
    length = min(max(end - begin, 0), STRONG_BYTES)
    return mark(text, end - length, length)


def content_end(text: Text) -> int:
    """Where the text ends. Zeros at the end of a file are not there yet."""
    end = text.size
    while end > 0:
        begin = max(end - _CHUNK_BYTES, 0)
        part = text.read(begin, end - begin).rstrip(b"\0")
        if part:
            return begin + len(part)
        end = begin
    return 0


def lines_end(text: Text, end: int) -> int:
    """Where the last whole line before `end` ends."""
    while end > 0:
        begin = max(end - _CHUNK_BYTES, 0)
        newline = text.read(begin, end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def is_noise(part: bytes) -> bool:
    """Whether it has too many control characters for a text in any encoding of bytes: one in ten
    of random ones is. Zeros are no sign."""
    return len(part) - len(part.translate(None, _CONTROLS)) > len(part) * _CONTROLS_SHARE_MAX


def content_begin(text: Text, end: int) -> int:
    """Where the text begins: a hole that a truncation left is no text."""
    at = 0
    while at < end:
        part = text.read(at, min(_CHUNK_BYTES, end - at))
        if not part:
            break
        left = len(part.lstrip(b"\0"))
        if left:
            return at + len(part) - left
        at += len(part)
        beyond = text.data_after(at)
        at = end if beyond is None else max(at, beyond)
    return min(at, end)
