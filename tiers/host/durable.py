"""Small files and names that are there after a power cut: as they are now, or as they were.

What a file holds is on disk once it is synced, its name once its directory is.
"""

import os
from contextlib import suppress
from pathlib import Path


def write_durably(file: Path, data: bytes) -> None:
    """The file with this content, or as it was before. Raises OSError."""
    temporary = file.with_suffix(".new")
    try:
        temporary.unlink(missing_ok=True)  # left by a kill, or a pipe, which would hold us up
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError:
        with suppress(OSError):  # half of it would only take room, and there may be none
            temporary.unlink()
        raise
    sync_directory(file.parent)


def rename_durably(old: Path, new: Path) -> None:
    """Within one directory, in place of what was there. Raises OSError."""
    old.replace(new)
    sync_directory(new.parent)


def sync_directory(directory: Path) -> None:
    """The names in it. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
