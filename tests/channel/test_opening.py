"""Who may open a channel, and what an open does with what it finds."""

import asyncio
import os
from datetime import datetime, tzinfo
from pathlib import Path

import lmdb
import pytest

from tests.channel.making import LIMITS, arrived, opened, put, python, python_beside
from tests.waiting import eventually
from tiers.channel import checking, disk, inspection, mounts, opening, writer
from tiers.channel.channel import Channel
from tiers.channel.checking import structure_problems
from tiers.channel.disk import lock_directory
from tiers.channel.mounts import file_system, mount_table, refuse_network
from tiers.core.batch import BatchId
from tiers.core.change import Change
from tiers.errors import UsageError

TABLE = r"""
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 28 0:35 / /srv rw,relatime shared:2 master:3 - nfs4 server:/export rw,vers=4.2,addr=10.0.0.1
41 40 8:1 / /srv/local rw,relatime - xfs /dev/sda1 rw
42 28 0:36 / /mnt/my\040share rw - cifs //server/share rw
43 28 0:37 / /home rw,relatime - ext4 /dev/sdb1 rw
44 43 0:38 / /home/me/remote rw,nosuid,nodev - fuse.sshfs me@host: rw,user_id=1000
45 28 0:39 / /over rw - nfs server:/a rw
46 28 0:40 / /over rw - ext4 /dev/sdc1 rw
broken line
47 28 0:41 / /host rw - 9p hostshare rw
48 28 0:42 / /ceph rw - ceph mon:/ rw
"""


@pytest.mark.parametrize(
    ("path", "mount", "kind"),
    [
        ("/var/lib/tiers", "/", "ext4"),
        ("/srv", "/srv", "nfs4"),
        ("/srv/data", "/srv", "nfs4"),
        ("/srvdata", "/", "ext4"),
        ("/srv/local/data", "/srv/local", "xfs"),
        ("/mnt/my share/data", "/mnt/my share", "cifs"),
        ("/mnt/my", "/", "ext4"),
        ("/home/me", "/home", "ext4"),
        ("/home/me/remote/x", "/home/me/remote", "fuse.sshfs"),
        ("/over/x", "/over", "ext4"),
    ],
)
def test_the_file_system_is_told_from_the_mount_table(path: str, mount: str, kind: str) -> None:
    assert file_system(Path(path), TABLE) == (mount, kind)


@pytest.mark.parametrize(
    "path", ["/srv/a", "/mnt/my share", "/home/me/remote", "/host/a", "/ceph/b"]
)
def test_a_network_file_system_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="network file system"):
        refuse_network(Path(path), TABLE)


def test_a_local_disk_is_not_refused(tmp_path: Path) -> None:
    refuse_network(Path("/srv/local/data"), TABLE)
    refuse_network(tmp_path.resolve(), mount_table())
    assert file_system(tmp_path.resolve(), mount_table())[1] != ""
    assert file_system(Path("/x"), "") == ("", "")


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"\xff\xfe", b"a\xc2\x85b", b"a\xe2\x80\xa8b", b"a\rb"]
)
def test_mount_points_need_not_be_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"28 1 254:0 / / rw - ext4 /dev/vda rw\n47 28 0:41 / /mnt/%s rw - nfs4 a:/%s rw\n"
        % (name, name)
    )
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)
    assert file_system(Path("/var/lib"), mount_table()) == ("/", "ext4")
    there = Path(os.fsdecode(b"/mnt/%s/data" % name))
    with pytest.raises(UsageError, match="nfs4"):
        refuse_network(there, mount_table())


async def test_open_asks_the_mount_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"40 28 0:35 / {tmp_path.resolve()} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)
    with pytest.raises(UsageError, match="nfs4"):
        await Channel.open(tmp_path / "edge-1", LIMITS, ["out"])
    monkeypatch.undo()
    async with opened(tmp_path / "edge-1"):
        pass  # the refused open has let go of the lock


async def test_a_directory_whose_name_is_no_text(tmp_path: Path) -> None:
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\x1b\n"))
    for _ in range(2):
        async with opened(directory) as channel:
            await channel.submit(Change(puts=[put(channel)]))
    assert inspection.look(directory / "channel").head.state.batches == 2
    assert inspection.problems(directory / "channel") == []


async def test_a_second_agent_on_the_directory_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(UsageError, match=rf"another agent runs on .*\(pid {os.getpid()}\)"):
            await Channel.open(tmp_path, LIMITS, ["out"])
        code = (
            "import sys; from pathlib import Path\n"
            "from tiers.channel.disk import lock_directory\n"
            "lock_directory(Path(sys.argv[1]))\n"
        )
        other = python(code, tmp_path)
        assert other.returncode == 1
        assert f"(pid {os.getpid()})" in other.stderr
    async with opened(tmp_path):
        pass


def count_checks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every path that is verified from now on."""
    verified: list[Path] = []

    def counting(path: Path) -> list[str]:
        verified.append(path)
        return structure_problems(path)

    monkeypatch.setattr(disk, "structure_problems", counting)
    return verified


async def test_every_open_checks_whatever_the_stop_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = count_checks(monkeypatch)
    async with opened(tmp_path) as channel:
        channel_id, origin = channel.channel_id, channel.origin
        (position,) = await channel.submit(Change(puts=[put(channel)]))
        assert verified == [], "nothing was there"
    async with opened(tmp_path) as channel:
        assert channel.channel_id == channel_id
        assert channel.entries("out")[0].position == position
        assert len(verified) == 1
    code = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from tests.channel.making import LIMITS; from tiers.channel.channel import Channel\n"
        "asyncio.run(Channel.open(Path(sys.argv[1]), LIMITS, ['out'])); os._exit(0)\n"
    )
    assert python(code, tmp_path).returncode == 0
    async with opened(tmp_path) as channel:
        assert len(verified) == 2
        assert channel.channel_id == channel_id
        assert (channel.next_seq(), channel.origins()[origin].last) == (1, 1)


async def test_outputs_may_be_added_and_taken_away(tmp_path: Path) -> None:
    async with opened(tmp_path, outputs=["a"]) as channel:
        await channel.submit(Change(puts=[put(channel, outputs=["a"])]))
    async with opened(tmp_path, outputs=["b", "a"]) as channel:
        await channel.submit(Change(puts=[put(channel, outputs=["a", "b"])]))
        assert [entry.position for entry in channel.entries("a")] == [1, 2]
        assert [entry.position for entry in channel.entries("b")] == [2]
    async with opened(tmp_path, outputs=["b"]) as channel:
        await channel.submit(Change(releases=[("b", 2)]))
        queues = channel.stats().queues
        assert (queues["a"].batches, queues["b"].batches) == (2, 0)
        assert channel.stats().batches == 2
    async with opened(tmp_path, outputs=["a", "b"]) as channel:
        assert [entry.position for entry in channel.entries("a")] == [1, 2]
        await channel.submit(Change(releases=[("a", 1), ("a", 2)]))
        assert channel.stats().batches == 0


async def test_a_stale_reader_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "TEND_EVERY_S", 0.0)
    monkeypatch.setattr(writer, "IDLE_S", 0.01)
    code = (
        "import lmdb, os, sys\n"
        "env = lmdb.Environment(sys.argv[1], max_dbs=8, readonly=True)\n"
        "txn = env.begin(); print('reading', flush=True); sys.stdin.read()\n"
    )
    async with opened(tmp_path) as channel:
        environment: lmdb.Environment = channel._environment._opened()
        with python_beside(code, tmp_path / "channel") as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"reading\n"
            assert str(child.pid) in environment.readers()
            child.kill()
        await eventually(
            lambda: str(child.pid) not in environment.readers(), "the reader's slot is freed"
        )


async def test_windows_are_forgotten_after_the_batches_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TEND_EVERY_S", 0.0)
    monkeypatch.setattr(writer, "IDLE_S", 0.01)
    monkeypatch.setattr(writer, "TEND_BLOCKS_MAX", 2)
    limits = type(LIMITS)(size_bytes_max=64 << 20, free_floor_bytes=0, dedupe_retention_s=0.0)
    async with opened(tmp_path, limits) as channel:
        ids = [BatchId(bytes([n]) * 16, 5) for n in range(9)]
        changes = [Change(puts=[arrived(*one)]) for one in ids]
        places = [(await channel.submit(change))[0] for change in changes]
        assert channel.seen(ids).keys() == set(ids)
        await channel.submit(Change(releases=[("out", place) for place in places[1:]]))
        await eventually(
            lambda: channel.seen(ids).keys() == {ids[0]}, "all but the held one forgotten"
        )
        assert await channel.submit(changes[0]) == (0,)
        assert await channel.submit(changes[1]) != (0,)


async def test_windows_are_kept_while_the_retention_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TEND_EVERY_S", 0.0)
    async with opened(tmp_path) as channel:
        one = BatchId(b"o" * 16, 5)
        (position,) = await channel.submit(Change(puts=[arrived(*one)]))
        await channel.submit(Change(releases=[("out", position)]))
        for _ in range(5):
            await channel.submit(Change(records={b"agent/x": b""}))
        assert channel.seen([one]).keys() == {one}
        assert await channel.submit(Change(puts=[arrived(*one)])) == (0,)


def test_the_lock_is_dropped_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from tiers.channel.disk import lock_directory\n"
        "lock_directory(Path(sys.argv[1])); os._exit(0)\n"
    )
    assert python(code, tmp_path).returncode == 0
    os.close(lock_directory(tmp_path))


async def test_who_only_looks_in_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.channel.disk.LOCK_WITHIN_S", 60.0)
    held = lock_directory(tmp_path)
    begun = asyncio.create_task(Channel.open(tmp_path, LIMITS, ("out",)))
    done, _ = await asyncio.wait({begun}, timeout=0.2)
    assert not done
    os.close(held)
    await (await begun).close()


def test_channels_set_aside_in_one_second_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls(2026, 11, 29, 18, 5, 9, tzinfo=tz)

    monkeypatch.setattr(opening, "datetime", Stopped)
    names = []
    for number in range(3):
        (tmp_path / "channel").mkdir()
        (tmp_path / "channel" / "data.mdb").write_text(f"damaged {number}")
        names.append(opening._set_aside(tmp_path, tmp_path / "channel"))
    stem = "channel.damaged-20261129T180509Z"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]
    for number, name in enumerate(names):
        assert (tmp_path / name / "data.mdb").read_text() == f"damaged {number}"


@pytest.mark.parametrize(
    ("groups", "wrong"),
    [([], 0), ([5], 0), ([None, 4], 0), ([5, None], 0), ([5, 4], 0), ([5, 5], 0), ([3, 5], 1)],
)
def test_the_newer_commit_is_not_the_older_one(
    monkeypatch: pytest.MonkeyPatch, groups: list[int | None], wrong: int
) -> None:
    monkeypatch.setattr(checking, "committed_groups", lambda file: groups)
    found = checking._order_problems(Path())
    assert found == ["the newer meta page leads to group 3, the older one to 5"][:wrong]
