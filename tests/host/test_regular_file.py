"""What may lie at a path where a file should be."""

import errno
import os
import socket
from pathlib import Path

import pytest

from tiers.host.regular_file import read_regular_file


def test_a_file_up_to_the_limit_is_read_whole(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"x" * 100)
    link.symlink_to(file)
    assert read_regular_file(link, 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than 99 B") as caught:
        read_regular_file(file, 99)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.timeout(20)  # a pipe that is opened waits for its writer
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a device"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(str(path))
        elif kind == "device":
            path = Path("/dev/zero")
        else:
            path.symlink_to("/dev/zero")
        with pytest.raises(OSError, match="not a regular file"):
            read_regular_file(path, 100)


def test_a_directory_and_nothing_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_regular_file(tmp_path, 100)
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "none", 100)
