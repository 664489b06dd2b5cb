"""What the door tells of files: by statx, and by stat where there is no statx."""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tiers.sources.tail import door
from tiers.sources.tail.door import DirectoryEntry, RealFiles, Status


def told(path: Path) -> dict[str, Status]:
    """Of a link: where it leads, itself, and an open file."""
    disk = RealFiles()
    descriptor = disk.open(str(path))
    try:
        return {
            "stat": disk.stat(str(path)),
            "lstat": disk.lstat(str(path)),
            "fstat": disk.fstat(descriptor),
        }
    finally:
        disk.close(descriptor)


@pytest.fixture
def link(tmp_path: Path) -> Path:
    (tmp_path / "log").write_bytes(b"12345")
    (tmp_path / "log").chmod(0o640)
    os.link(tmp_path / "log", tmp_path / "another")
    os.utime(tmp_path / "log", ns=(1_000_000_001, 1_795_424_645_123_456_789))
    (tmp_path / "link").symlink_to("log")
    return tmp_path / "link"


def as_stat_tells(found: os.stat_result) -> Status:
    times = (found.st_mtime_ns, found.st_ctime_ns)
    who = (found.st_mode, found.st_uid, found.st_nlink)
    return Status(found.st_dev, found.st_ino, 0, found.st_size, *times, *who)


def fails_with(code: int) -> Callable[..., int]:
    def call(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    return call


def test_what_statx_tells_is_what_stat_tells_and_the_birth(link: Path) -> None:
    expected = {"stat": link.stat(), "lstat": link.lstat(), "fstat": link.stat()}
    for name, status in told(link).items():
        assert status._replace(birth_ns=0) == as_stat_tells(expected[name]), name
        assert 0 <= status.birth_ns <= status.ctime_ns


def test_a_file_is_told_alike_in_each_way(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(link.parent)
    for found in (told(Path("log")), told(link.with_name("log"))):
        assert len(set(found.values())) == 1
    assert RealFiles().stat("log") == RealFiles().stat(str(link))
    with pytest.raises(FileNotFoundError):
        RealFiles().stat("none")


@pytest.mark.parametrize(
    "call", [None, *map(fails_with, (errno.ENOSYS, errno.EPERM, errno.EINVAL))]
)
def test_without_statx_all_but_the_birth_is_told(
    link: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., int] | None
) -> None:
    with_statx = told(link)
    monkeypatch.setattr(door, "_call", call)
    for name, status in told(link).items():
        assert status == with_statx[name]._replace(birth_ns=0), name
    with pytest.raises(FileNotFoundError):
        RealFiles().stat(str(link.with_name("none")))


def test_what_statx_refuses_is_not_asked_again(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_call", fails_with(errno.EACCES))
    with pytest.raises(PermissionError) as raised:
        RealFiles().stat(str(link))
    assert raised.value.filename == str(link)


def test_a_birth_that_is_not_told_is_none(link: Path) -> None:
    data = bytearray(256)
    data[0:4] = (0x7FF).to_bytes(4, "little")  # all but the birth
    data[80:88] = (1_700_000_000).to_bytes(8, "little")
    assert door._unpack(bytes(data)).birth_ns == 0
    data[0:4] = (0xFFF).to_bytes(4, "little")
    assert door._unpack(bytes(data)).birth_ns == 1_700_000_000 * 10**9


def test_kinds_of_entries_are_told_in_the_order_of_names(link: Path) -> None:
    directory = link.parent
    (directory / "b").mkdir()
    (directory / "a-link").symlink_to("b")
    found = RealFiles().entries(str(directory))
    inodes = {entry.name: entry.lstat().st_ino for entry in directory.iterdir()}
    assert found == [
        DirectoryEntry("a-link", inodes["a-link"], is_directory=False, is_link=True),
        DirectoryEntry("another", inodes["another"], is_directory=False, is_link=False),
        DirectoryEntry("b", inodes["b"], is_directory=True, is_link=False),
        DirectoryEntry("link", inodes["link"], is_directory=False, is_link=True),
        DirectoryEntry("log", inodes["log"], is_directory=False, is_link=False),
    ]


def test_opening_waits_for_nobody_and_is_not_inherited(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    descriptor = RealFiles().open(str(tmp_path / "pipe"))
    try:
        assert not os.get_inheritable(descriptor)
    finally:
        RealFiles().close(descriptor)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(descriptor)


def test_what_cannot_be_told_to_be_a_directory_is_none() -> None:
    class DirectoryEntry:
        def is_dir(self, *, follow_symlinks: bool) -> bool:
            raise PermissionError(follow_symlinks)

    assert not door._is_directory(DirectoryEntry())  # type: ignore[arg-type]


def test_holes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, file = RealFiles(), tmp_path / "log"
    with file.open("wb") as log:
        log.write(b"x")
        log.truncate(10 << 20)
    descriptor = disk.open(str(file))
    try:
        assert disk.data_after(descriptor, 0) == 0
        assert disk.data_after(descriptor, 5 << 20) is None
        assert disk.data_after(descriptor, 10 << 20) is None
        file.unlink()
        assert disk.where(descriptor) == str(file)

        def seek(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "lseek", seek)
        code = errno.EINVAL
        assert disk.data_after(descriptor, 5 << 20) == 5 << 20, "no holes are known there"
        code = errno.EIO
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            disk.data_after(descriptor, 5 << 20)
    finally:
        disk.close(descriptor)
