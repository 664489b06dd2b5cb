"""Files that others write and we read whole: a topology, one that was kept.

What lies at a path may be anything by now: a pipe waits for its writer, `/dev/zero` never ends.
Reading costs no more than the limit says. It may take long all the same (a network file system):
not for the loop.
"""

import errno
import os
import stat
from pathlib import Path

from tiers.units import show_size


def read_regular_file(path: Path, bytes_max: int) -> bytes:
    """All of the regular file at `path`, links followed. OSError as from `open`; besides, EINVAL
    for what is no regular file, and EFBIG for one of more than `bytes_max` bytes."""
    _check(os.stat(path), path)  # noqa: PTH116 before it is opened: that alone moves some devices
    # It may have become a pipe since: opening one would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check(os.fstat(descriptor), path)
        with open(descriptor, "rb", closefd=False) as file:
            # Its size is not asked: it may be growing.
            data = file.read(bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"larger than {show_size(bytes_max)}", str(path))
    return data


def _check(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
