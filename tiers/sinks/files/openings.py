"""Which batches were being opened when the process died.

A batch may take its whole process with it: by the memory it wants, by a fault in a decoder. Nobody
is left then to say which it was, and at the next start it would do so again. So each position is
noted in a small file beside the channel while its batch is opened:

    slot: | position u64 BE | tries u64 BE |   position 0: free

What a start finds there was being opened at the end of the run before. The notes of tries (alone,
see writing.py) are synced, the others are not: they outlive a process, and the end of a machine is
no batch's doing.
"""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tiers.errors import ChannelUnavailable

_SLOTS: Final = 32  # more than there are writers
_SLOT: Final = struct.Struct(">QQ")
_FREE: Final = (0, 0)
Opening = Callable[[int], AbstractContextManager[object]]  # `Openings.of`


class Noted(NamedTuple):
    slot: int
    position: int
    tries: int  # alone


class Openings:
    """The notes of one output. What cannot be noted is not: it costs no more than that a batch is
    not found out. ChannelUnavailable where there can be no such file."""

    def __init__(self, file: Path) -> None:
        try:
            self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ChannelUnavailable(f"{file}: {error.strerror}") from error
        self._lock = threading.Lock()
        self._free = [slot for slot in range(_SLOTS) if self._read(slot) == _FREE]

    def close(self) -> None:
        os.close(self._file)

    @contextmanager
    def of(self, position: int) -> Iterator[None]:
        """While a batch is opened, in any thread."""
        with self._lock:
            slot = self._free.pop()
        self._note(slot, position, 0)
        try:
            yield
        finally:
            self._clear(slot)

    @contextmanager
    def alone(self, noted: Noted) -> Iterator[None]:
        """While a batch that was found here is opened once more."""
        self._note(noted.slot, noted.position, noted.tries + 1)
        with suppress(OSError):
            os.fsync(self._file)
        try:
            yield
        finally:
            self._clear(noted.slot)

    def found(self) -> list[Noted]:
        """What is noted now: before anything is opened, what an earlier run has left."""
        slots = ((slot, *self._read(slot)) for slot in range(_SLOTS))
        return [Noted(*one) for one in slots if one[1]]

    def forget(self, noted: Noted) -> None:
        self._clear(noted.slot)

    def _clear(self, slot: int) -> None:
        self._note(slot, *_FREE)
        with self._lock:
            self._free.append(slot)

    def _note(self, slot: int, position: int, tries: int) -> None:
        with suppress(OSError):
            os.pwrite(self._file, _SLOT.pack(position, tries), slot * _SLOT.size)

    def _read(self, slot: int) -> tuple[int, int]:
        with suppress(OSError):
            data = os.pread(self._file, _SLOT.size, slot * _SLOT.size)
            if len(data) == _SLOT.size:
                position, tries = _SLOT.unpack(data)
                return position, tries
        return _FREE
