"""The directory of an agent: its own, or one line that says what to do."""

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.topologies import GOOD
from tiers.cli import main
from tiers.errors import ChannelUnavailable, UsageError
from tiers.host.durable import write_durably
from tiers.host.own_directory import Footing, make_own, opening


def mode(directory: Path) -> int:
    return stat.S_IMODE(directory.stat().st_mode)


@pytest.mark.parametrize("before", [None, 0o755, 0o777, 0o750, 0o700])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_for_its_user_alone(tmp_path: Path, before: int | None, umask: int) -> None:
    directory = tmp_path / "data" / "edge-1"
    if before is not None:
        directory.mkdir(parents=True)
        directory.chmod(before)
    old = os.umask(umask)
    try:
        make_own(directory)
    finally:
        os.umask(old)
    assert mode(directory) == 0o700
    assert mode(directory.parent) != 0o700 or umask == 0o077


def a_file_above(top: Path) -> Path:
    (top / "file").write_text("")
    return top / "file" / "edge-1"


def a_file_in_its_place(top: Path) -> Path:
    (top / "edge-1").write_text("")
    return top / "edge-1"


def a_link_to_nothing(top: Path) -> Path:
    (top / "edge-1").symlink_to(top / "nothing")
    return top / "edge-1"


def a_ring_of_links(top: Path) -> Path:
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    return top / "a" / "edge-1"


def too_long(top: Path) -> Path:
    return top / ("x" * 300)


def of_the_kernel(top: Path) -> Path:
    return Path("/proc/data/edge-1")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_file_above, "file is no directory"),
        (a_file_in_its_place, "edge-1 is no directory"),
        (a_link_to_nothing, "edge-1 is no directory"),
        (a_ring_of_links, "go in a circle"),
        (too_long, "name is too long"),
        (of_the_kernel, "No such file"),
    ],
)
def test_what_is_in_the_way_is_said_with_what_to_do(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make_own(make(tmp_path))
    assert said in str(caught.value)
    assert "give another directory with --data" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EACCES, "chown"),
        (errno.EPERM, "chown"),
        (errno.EROFS, "mount it writable"),
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_a_file_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(UsageError, match=said):
        make_own(tmp_path / "edge-1")


def test_one_that_may_not_be_written_is_said_before_anything_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may always
    with pytest.raises(UsageError, match=rf"{tmp_path} cannot be used: user .*chown"):
        make_own(tmp_path)


@pytest.mark.parametrize("command", ["agent", "up"])
def test_a_command_says_it_in_one_line(tmp_path: Path, command: str) -> None:
    file = tmp_path / "file.toml"
    file.write_text(GOOD)
    words = [command, str(file), *(["edge-1"] if command == "agent" else []), "--data", str(file)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "is no directory; give another directory with --data" in result.stderr


# --- what lies in it -----------------------------------------------------------------------------


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_directory(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}")


def a_ring(path: Path) -> None:
    path.symlink_to(path.name)


def a_link_to_no_directory(path: Path) -> None:
    path.symlink_to("/nothing/there")


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


OTHERS = [a_pipe, a_directory, a_socket, a_ring, a_link_to_no_directory, a_device]


@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.parametrize(
    "name", ["channel", "channel/data.mdb", "channel/begun", "lock", "running", "topology.toml",
             "agent.log"],
)  # fmt: skip
def test_what_is_none_of_its_files_is_told_and_not_opened(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    if name == "channel" and make is a_directory:
        make_own(tmp_path)
        return
    with pytest.raises(UsageError, match=f"{name} (is|leads).*; move it away, and start again$"):
        make_own(tmp_path)


def test_links_to_what_is_wanted_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "edge-1").mkdir()
    (tmp_path / "edge-1" / "channel").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "edge-1" / "agent.log").symlink_to(tmp_path / "not-there-yet.log")
    make_own(tmp_path / "edge-1")


def test_up_refuses_such_a_directory_too(tmp_path: Path) -> None:
    topology = tmp_path / "t.toml"
    topology.write_text(GOOD)
    (tmp_path / "edge-1").mkdir()
    (tmp_path / "edge-1" / "channel").write_text("")
    result = CliRunner().invoke(main, ["up", str(topology), "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "edge-1/channel is a file, and a directory is wanted" in result.output


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_ring, a_device])
def test_what_is_in_the_way_of_a_new_file_is_removed(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "begun.new")
    write_durably(tmp_path / "begun", b"x")
    assert (tmp_path / "begun").read_bytes() == b"x"


def test_a_channel_that_is_deleted_or_replaced_under_its_agent_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "channel" / "data.mdb"
    file.parent.mkdir()
    file.write_text("x")
    footing = Footing(tmp_path)
    assert footing.lost() == ""
    file.rename(tmp_path / "other")
    assert "deleted" in footing.lost()
    file.write_text("y")
    assert "replaced" in footing.lost()
    (tmp_path / "other").rename(file)
    assert footing.lost() == ""


def test_a_channel_that_cannot_be_opened_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ChannelUnavailable, match="make room on its disk"), opening(tmp_path):
        raise ChannelUnavailable("disk full: open: none left")
    with pytest.raises(ChannelUnavailable, match="look at its disk"), opening(tmp_path):
        raise ChannelUnavailable("open: an error")
