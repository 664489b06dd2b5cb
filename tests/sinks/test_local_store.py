"""What a directory does as a store beyond the contract (tests/contracts/test_store.py): what is
synced and when, and what is said when the file system will not."""

import contextlib
import ctypes
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tiers.core.commit.answers import Moved
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.files.stores import local
from tiers.sinks.files.stores.local import LocalStore


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths synced, in order. A power cut cannot be had here; this is what it would see."""
    paths: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    yield paths


def test_a_written_file_and_each_new_directory_are_synced(
    tmp_path: Path, synced: list[str]
) -> None:
    root = tmp_path / "new" / "root"
    store = LocalStore(root)
    store.write("a/b/f", [b"1"])
    above = [tmp_path, tmp_path / "new", root, root / "a"]
    assert set(map(str, above)) <= set(synced)
    # The name of the file last, after its content: never a name without it.
    assert synced[-2:] == [str(root / "a/b/f"), str(root / "a/b")]
    synced.clear()
    store.write("a/b/g", [b"1"])  # what is known as durable is not synced again
    assert synced == [str(root / "a/b/g"), str(root / "a/b")]


def test_a_directory_made_anew_is_synced_anew(tmp_path: Path, synced: list[str]) -> None:
    """It may even have the inode number of the one that was removed."""
    store = LocalStore(tmp_path)
    store.write("a/f", [b"1"])
    store.delete("a")
    synced.clear()
    store.write("a/f", [b"1"])
    assert str(tmp_path) in synced


def test_a_kernel_that_looks_at_the_target_first_gets_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_renameat2", lambda old, new: errno.EEXIST)
    store = LocalStore(tmp_path)
    store.write("there", [b"1"])
    assert store.move("gone", "there") is Moved.SOURCE_GONE
    assert store.move("there", "there") is Moved.TARGET_THERE


def test_a_directory_that_another_made_is_synced_before_it_is_used(
    tmp_path: Path, synced: list[str]
) -> None:
    """Its maker may have been killed between its mkdir and its fsync."""
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    LocalStore(root).write("a/b/f", [b"1"])
    assert {str(tmp_path), str(root), str(root / "a"), str(root / "a/b")} <= set(synced)


@pytest.mark.parametrize("replaces", [False, True])
def test_both_directories_of_a_move_are_synced_after_it(
    tmp_path: Path, synced: list[str], replaces: bool
) -> None:
    store = LocalStore(tmp_path)
    store.write("tmp/f", [b"1"])
    store.make_parents("out/f")
    synced.clear()
    move = store.replace if replaces else store.move
    assert move("tmp/f", "out/f") is Moved.DONE
    assert sorted(synced) == [str(tmp_path / "out"), str(tmp_path / "tmp")]


def test_what_is_told_of_names_is_durable_first(tmp_path: Path, synced: list[str]) -> None:
    """A sink that was killed after a rename, before its fsync, asks after its restart."""
    LocalStore(tmp_path).write("tmp/f", [b"1"])
    (tmp_path / "out").mkdir()
    (tmp_path / "tmp/f").rename(tmp_path / "out/f")
    synced.clear()
    store = LocalStore(tmp_path)
    assert store.length("tmp/f") is None
    assert store.list("out")
    assert synced == [str(tmp_path / "tmp"), str(tmp_path / "out")]


def test_a_failed_sync_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.write("tmp/f", [b"1"])
    store.make_parents("out/f")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    calls: list[Callable[[], object]] = [
        lambda: store.write("tmp/g", [b"1"]),
        lambda: store.move("tmp/f", "out/f"),
        lambda: store.replace("out/f", "tmp/f"),
        lambda: store.length("out/f"),
        lambda: store.list("out"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            call()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_noreplace_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(local, "_renameat2", lambda old, new: code)
    store = LocalStore(tmp_path)
    store.write("tmp/f", [b"1"])
    with pytest.raises(StoreRefused, match="RENAME_NOREPLACE"):
        store.move("tmp/f", "tmp/g")
    assert store.read("tmp/f") == b"1"


def test_the_bare_system_call_does_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a libc without renameat2."""
    libc = ctypes.CDLL(None, use_errno=True)

    class Bare:
        syscall = libc.syscall

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Bare)
    store = LocalStore(tmp_path)
    store.write("f", [b"1"])
    store.write("g", [b"2"])
    assert store.move("f", "g") is Moved.TARGET_THERE
    assert store.move("f", "h") is Moved.DONE
    assert store.move("f", "h") is Moved.SOURCE_GONE
    assert store.read("h") == b"1"


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "f").write_bytes(b"1")
    store = LocalStore(tmp_path / "root")
    store.write("trash/x", [b"1"])
    (tmp_path / "root/trash/link").symlink_to(kept)
    assert store.delete("trash") is True
    assert (kept / "f").read_bytes() == b"1"


def test_a_root_that_is_another_directory_than_before_is_not_believed(tmp_path: Path) -> None:
    """Below an unmounted file system all that was published would seem never to have been."""
    root = tmp_path / "mount point"
    store = LocalStore(root)
    store.write("f", [b"1"])
    root.rename(tmp_path / "away")
    root.mkdir()
    calls: list[Callable[[], object]] = [
        lambda: store.length("f"),
        lambda: store.read("f"),
        lambda: store.list("d"),
        lambda: store.delete("f"),
        lambda: store.move("f", "g"),
        lambda: store.write("g", [b"1"]),
        lambda: store.make_parents("d/g"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="another directory than before"):
            call()
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert store.read("f") == b"1"


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """A tmpfs of its own."""
    directory.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        # Being root is a machine's part that a person may lack; CI may not.
        assert os.environ.get("CI") != "true", done.stderr
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_unavailable_and_says_so(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=1m"):
        store = LocalStore(tmp_path / "small" / "root")
        store.write("f", [b"1"])
        with pytest.raises(StoreUnavailable, match="no space left"):
            store.write("tmp/big", [b"x" * 300_000] * 10)
        with pytest.raises(StoreUnavailable, match="no space left"):
            store.write("f", [b"x" * 300_000] * 10)
        assert store.read("f") == b"1"  # a replacement that failed replaces nothing
        assert store.list("") is not None
        assert [one.name for one in store.list("") or []] == ["f", "tmp"]


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "size=1m"):
        store = LocalStore(tmp_path / "fixed" / "root")
        store.write("f", [b"1"])
        remount = ["mount", "-o", "remount,ro", str(tmp_path / "fixed")]
        subprocess.run(remount, check=True)
        calls: list[Callable[[], object]] = [
            lambda: store.write("g", [b"1"]),
            lambda: store.move("f", "g"),
            lambda: store.replace("f", "g"),
            lambda: store.delete("f"),
            lambda: store.make_parents("d/g"),
        ]
        for call in calls:
            with pytest.raises(StoreRefused, match="read-only"):
                call()
        assert store.read("f") == b"1"


def test_a_part_on_another_file_system_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("tmp/f", [b"1"])
    with mounted(tmp_path / "other", "size=1m"):
        for move in (store.move, store.replace):
            with pytest.raises(StoreRefused, match="another file system"):
                move("tmp/f", "other/f")
    assert store.read("tmp/f") == b"1"


def test_what_is_no_file_is_read_as_an_empty_one(tmp_path: Path) -> None:
    """A pipe that somebody holds open and says nothing into has no content yet: that is another
    thing than not to be there."""
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    (tmp_path / "device").symlink_to("/dev/zero")
    try:
        assert LocalStore(tmp_path).read("pipe", 10) == b""
        assert LocalStore(tmp_path).read("device", 10) == b""
    finally:
        os.close(writer)
