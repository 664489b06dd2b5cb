"""The text of one open file: as it is, or decompressed where its first bytes say so (`packed.py`).

A compressed file that ends too soon, or is damaged, is a text that ends too soon: what comes later
only adds to it.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from tiers.sources.tail.door import Door, Status
from tiers.sources.tail.packed import MAGIC_BYTES, OpeningMemory, PackedReader, may_become, reader
from tiers.sources.tail.streams import CutOff, Damaged, Raw

_STEP_BYTES: Final = 256 << 10
_KEPT_BYTES: Final = 4 << 20  # to go back over without beginning anew


class Changed(OSError):
    """There is another file at the path by now."""


class OpenText:
    """A descriptor and its text."""

    def __init__(self, door: Door, descriptor: int, status: Status, room: OpeningMemory):
        self.descriptor = descriptor
        self.status = status
        self._door = door
        self._room = room
        self.text = self._text()

    def _text(self) -> "PlainText | PackedText":
        begin = self._door.pread(self.descriptor, MAGIC_BYTES, 0)
        if packed := reader(begin):
            return PackedText(self._door, self.descriptor, packed, self._room)
        return PlainText(self._door, self.descriptor, self.status.size, begin)

    def look(self) -> Status:
        """Notice what became of it."""
        before, self.status = self.status, self._door.fstat(self.descriptor)
        if (before.size, before.ctime_ns) == (self.status.size, self.status.ctime_ns):
            pass
        elif isinstance(self.text, PlainText):
            self.text.size = self.status.size
            if not self.text.is_told:
                self.text = self._text()
        elif self.status.size > before.size:
            self.text.go_on()
        else:
            self.text.drop()
            self.text = self._text()
        return self.status

    def close(self) -> None:
        if isinstance(self.text, PackedText):
            self.text.drop()
        self._door.close(self.descriptor)


def open_text(door: Door, path: str, inode: int, birth_ns: int, room: OpeningMemory) -> OpenText:
    """A path is never believed: opened, then asked what it is. Raises OSError, `Changed`."""
    descriptor = door.open(path)
    try:
        status = door.fstat(descriptor)
        if not status.is_regular or (status.inode, status.birth_ns) != (inode, birth_ns):
            raise Changed(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return OpenText(door, descriptor, status, room)
    except BaseException:
        door.close(descriptor)
        raise


class PlainText:
    packed = False

    def __init__(self, door: Door, descriptor: int, size: int, begin: bytes) -> None:
        self.size = size
        # That it is no compressed file. Zeros are not there yet.
        self.is_told = len(begin) == MAGIC_BYTES and any(begin)
        self._begin = begin
        self._door = door
        self._descriptor = descriptor

    def read(self, begin: int, length: int) -> bytes:
        return self._door.pread(self._descriptor, length, begin)

    def data_after(self, begin: int) -> int | None:
        return self._door.data_after(self._descriptor, begin)

    def fault(self) -> Damaged | None:
        return CutOff() if not self.is_told and may_become(self._begin) else None


class PackedText:
    """Read from front to back; going back further than what is kept begins anew."""

    packed = True

    def __init__(
        self, door: Door, descriptor: int, kind: Callable[[Raw], PackedReader], room: OpeningMemory
    ) -> None:
        self._make = kind
        self._room = room
        self._raw = Raw(door, descriptor, room.go_on, self._claim)
        self._grew = False
        self._size: int | None = None
        self._fault: Damaged | None = None
        self._reader: PackedReader | None = None
        self._kept = bytearray()
        self._at = 0  # the end of what is kept

    def go_on(self) -> None:
        """More of it is there."""
        self._size, self._fault, self._grew = None, None, True

    def drop(self) -> None:
        """Hold no memory; begin anew when read again."""
        self._room.leave(self)
        self._reader, self._kept, self._at = None, bytearray(), 0

    @property
    def size(self) -> int:
        if self._size is None:
            while self._more():
                pass
            self._size = self._at
        return self._size

    def read(self, begin: int, length: int) -> bytes:
        if begin < self._at - len(self._kept):
            self.drop()
        while self._at < begin + length and self._more(begin):
            pass
        first = self._at - len(self._kept)
        return bytes(self._kept[begin - first : begin - first + length])

    def data_after(self, begin: int) -> int | None:
        return begin if begin < self.size else None

    def fault(self) -> Damaged | None:
        """Once its end was read: why that is none."""
        return self._fault

    def _claim(self, size: int) -> None:
        self._room.claim(self, size + _KEPT_BYTES + _STEP_BYTES, self.drop)

    def _more(self, wanted: int | None = None) -> bool:
        """`wanted`: keep what is from there on."""
        if self._reader is None:
            self._reader = self._make(self._raw)
        part = self._reader.read(_STEP_BYTES)
        if not part:
            self._fault = self._reader.fault
            if self._grew and self._fault is not None and not isinstance(self._fault, CutOff):
                # It did not grow, it was written anew.
                self._fault, self._grew = None, False
                self.drop()
                return True
        kept = _KEPT_BYTES if wanted is None else max(self._at - wanted, _KEPT_BYTES)
        self._kept += part
        del self._kept[: -(kept + len(part))]
        self._at += len(part)
        return bool(part)
