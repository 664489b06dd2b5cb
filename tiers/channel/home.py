"""Where a channel's file is: on which machine, and which file. A clone, or a directory put back
from a copy, is another than the one that the last start wrote down.

A file's number alone is not enough: it is given again soon after a file was deleted. Its time of
birth (statx(2), Linux 4.11; not every file system keeps one) tells them apart.
"""

import ctypes
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

MACHINE_ID: Final = Path("/etc/machine-id")
_MACHINE_CHARS_MAX: Final = 128
_AT_FDCWD: Final = -100  # linux/fcntl.h
_STATX_BTIME: Final = 0x800  # linux/stat.h
_STATX_BYTES: Final = 256
_MASK: Final = struct.Struct("=I")  # at 0
_BIRTH: Final = struct.Struct("=qI")  # seconds and nanoseconds, at 80


class Home(NamedTuple):
    """All that can be told; empty or 0 where it cannot."""

    machine: str
    inode: int
    born_ns: int


def home_of(file: Path) -> Home:
    """Raises OSError when the file cannot be looked at."""
    try:
        machine = MACHINE_ID.read_text(errors="replace").strip()[:_MACHINE_CHARS_MAX]
    except OSError:
        machine = ""
    return Home(machine, file.stat().st_ino, _born_ns(file))


def _born_ns(file: Path) -> int:
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)  # glibc 2.28, musl 1.2.3
    if statx is None:
        return 0
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(_AT_FDCWD, os.fsencode(file), 0, _STATX_BTIME, found) != 0:
        return 0
    if not _MASK.unpack_from(found)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(found, 80)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
