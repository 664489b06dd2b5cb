"""What a look changes in what is followed, when the next one is, and what is stored and counted."""

import errno
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.sources.scene import LOG
from tests.tailing.disk import Inode, ModelDisk
from tiers.sources.tail.following import STARTED, Following
from tiers.sources.tail.generation import Generation, unpack
from tiers.sources.tail.step import Advance, FollowOptions
from tiers.sources.tail.walk import Stopped

WAIT_S = 5.0
RESCAN_S = 1.0
RETENTION_S = 1000.0
LONG = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))


class Life:
    """A source over a disk in memory, with its clocks."""

    def __init__(self, *patterns: str, **keys: Any) -> None:
        self.disk = ModelDisk(births=True)
        options: dict[str, Any] = {
            "patterns": patterns or (LOG,),
            "start_at_end": False,
            "rescan_s": RESCAN_S,
            "rotate_wait_s": WAIT_S,
            "open_files_max": 100,
            "block_size_max": 1 << 20,
            "event_size_max": 1 << 20,
            "retention_s": RETENTION_S,
        }
        self.options = FollowOptions(**{**options, **keys})
        self.now = 100.0
        self.cost_s = 0.0  # of each look
        self.stored: dict[bytes, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.start()

    def start(self) -> None:
        ticks = 0.0

        def clock() -> float:  # asked at the beginning and the end of a look, and by the walk
            nonlocal ticks
            ticks += self.cost_s / 2
            return ticks

        self.following = Following(
            self.options, dict(self.stored), self.disk, lambda: self.disk.wall_ns, clock
        )

    def restart(self) -> None:
        self.following.close()
        self.start()

    def write(self, data: bytes, path: str = LOG) -> Inode:
        inode = self.disk.names.get(path) or self.disk.make(path)
        self.disk.write(inode, data)
        return inode

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.disk.passed(seconds)

    def step(
        self, woken: tuple[str, ...] = (), look: bool = False, draining: bool = False
    ) -> Advance:
        step = self.following.advance(self.now, woken, look, draining)
        self.counts.update(step.counts)
        if step.block is not None:
            step.positions[step.block.key] = step.block.position
        for key, value in step.positions.items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        return step

    def read(self, seconds: float = 2.0, draining: bool = False) -> bytes:
        self.pass_(seconds)
        data = b""
        while (step := self.step(draining=draining)).block or step.positions:
            data += bytes(step.block.data) if step.block else b""
        return data

    @property
    def one(self) -> Generation:
        (generation,) = self.following.files.values()
        return generation

    def kept(self) -> list[Generation]:
        return [unpack(key, value) for key, value in self.stored.items() if key != STARTED]


@pytest.fixture
def life() -> Life:
    return Life()


# -- when ----------------------------------------------------------------------------------------


def test_the_first_look_is_at_once_and_the_next_after_a_while(life: Life) -> None:
    life.write(LONG)
    step = life.step()
    assert (step.looked, bytes(step.block.data)) == (True, LONG)  # type: ignore[union-attr]
    step = life.step()
    assert (step.looked, step.block, step.wake_at) == (False, None, life.now + RESCAN_S)
    assert not life.following.is_look_due(life.now + RESCAN_S - 0.001)
    assert life.following.is_look_due(life.now + RESCAN_S)
    life.pass_(RESCAN_S)
    assert life.step().looked


def test_a_path_that_is_named_is_read_without_a_look(life: Life) -> None:
    life.write(LONG)
    life.read()
    life.write(b"more\n")
    assert life.step(("/logs/other.log",)).block is None
    step = life.step((LOG,))
    assert (step.looked, bytes(step.block.data)) == (False, b"more\n")  # type: ignore[union-attr]


def test_a_look_that_is_wished_for_is_taken_at_once_where_looks_are_cheap(life: Life) -> None:
    life.step()
    assert life.step(look=True).looked
    life.cost_s = 0.02
    life.pass_(RESCAN_S)
    assert life.step().looked
    cost_s = life.following._look_cost_s
    assert cost_s >= 0.02
    step = life.step(look=True)
    assert not step.looked
    assert step.wake_at == life.now + 10 * cost_s
    assert step.wake_at < life.now + RESCAN_S


def test_looks_take_no_more_than_a_tenth_of_the_time(life: Life) -> None:
    life.cost_s = 1.0
    step = life.step()
    cost_s = life.following._look_cost_s
    assert cost_s > 1
    assert step.wake_at == life.now + 10 * cost_s


def test_after_a_look_that_saw_things_change_the_next_is_soon(life: Life) -> None:
    life.write(LONG)
    life.disk.fail_next["open"] = errno.ENOENT
    assert life.step().wake_at == life.now + 0.1
    life = Life()
    life.write(LONG)
    life.cost_s = 0.04
    life.disk.fail_next["open"] = errno.ENOENT
    step = life.step()
    assert step.wake_at == life.now + 10 * life.following._look_cost_s


def test_one_that_is_not_where_it_was_is_looked_for_soon(life: Life) -> None:
    life.write(LONG)
    life.disk.write(life.disk.make("/logs/other.log"), LONG)
    life.step()
    life.one.close()
    life.disk.unlink(LOG)
    life.pass_(0.05)
    assert life.step((LOG,)).wake_at == pytest.approx(life.now + 0.05)
    life.pass_(0.5)
    life.following._turns.ready[life.one.key] = None
    life.following._look_at = life.now + 9
    assert life.step().wake_at == life.now
    step = life.step()
    assert (step.looked, step.wake_at) == (True, life.now + RESCAN_S)


def test_the_end_of_a_file_that_went_wakes(life: Life) -> None:
    life.write(LONG)
    life.read()
    life.disk.rename(LOG, "/logs/app.log.1")
    life.pass_(RESCAN_S)
    life.step()
    life.following._look_at = life.now + 99
    assert life.step().wake_at == life.now + WAIT_S


def test_it_can_be_stopped(life: Life) -> None:
    life.write(LONG)
    life.following.stop()
    with pytest.raises(Stopped):
        life.step()


# -- the beginning and the end -------------------------------------------------------------------


def test_that_it_has_looked_is_stored_once(life: Life) -> None:
    assert life.step().positions == {STARTED: b"1"}
    life.pass_(RESCAN_S)
    step = life.step()
    assert (step.looked, step.positions) == (True, {})
    life.restart()
    assert life.step().positions == {}


@pytest.mark.parametrize("known", [False, True])
def test_at_the_end_is_for_what_is_there_when_a_source_is_new(known: bool) -> None:
    life = Life("/logs/*.log", start_at_end=True)
    if known:
        life.stored[STARTED] = b"1"
        life.start()
    life.write(LONG)
    assert life.read() == (LONG if known else b"")
    life.write(b"later\n", "/logs/other.log")
    life.write(b"more\n")
    assert sorted(life.read().splitlines()) == [b"later", b"more"]


def test_draining_takes_what_is_there_and_no_more(life: Life) -> None:
    life.write(LONG + b"torn")
    life.step()
    step = life.step(draining=True)
    assert (step.looked, step.finished) == (True, False)
    assert bytes(step.block.data) == b"torn\n"  # type: ignore[union-attr]
    life.write(b"more\n")
    step = life.step((LOG,), draining=True)
    assert (step.block, step.finished) == (None, True)
    assert not life.step().finished


# -- what becomes of files -----------------------------------------------------------------------


def test_where_each_is_and_how_much_of_it_is_kept(life: Life) -> None:
    inode = life.write(LONG + b"torn")
    assert life.read() == LONG
    (kept,) = life.kept()
    assert (kept.path, kept.real, kept.now) == (LOG, LOG, LOG)
    assert (kept.inode, kept.birth_ns, kept.device) == (inode.number, inode.birth_ns, 1)
    assert (kept.offset, kept.done) == (len(LONG), False)
    life.disk.rename(LOG, "/logs/app.log.1")
    life.write(b"new\n")
    assert life.read() == b"new\n"
    old, new = life.kept()
    assert (old.now, old.path, old.done) == ("/logs/app.log.1", LOG, False)
    assert new.now == LOG
    assert old.key < new.key
    assert life.read(WAIT_S) == b"torn\n"
    for _ in range(3):
        life.read(WAIT_S)
    old, new = life.kept()
    assert (old.done, new.done) == (True, False)
    assert old.since_s == int(life.disk.wall_ns / 1e9) - 2 * WAIT_S
    assert list(life.following.files) == [new.key]


def test_keys_grow_whatever_the_clock_says(life: Life) -> None:
    life = Life("/logs/*.log")
    life.write(b"1\n", "/logs/1.log")
    life.read()
    life.disk.wall_ns -= 10**15
    life.write(b"2\n", "/logs/2.log")
    life.read()
    life.restart()
    life.write(b"3\n", "/logs/3.log")
    life.read()
    keys = {generation.path: int(generation.key, 16) for generation in life.kept()}
    assert keys["/logs/1.log"] < keys["/logs/2.log"] < keys["/logs/3.log"]
    assert keys["/logs/3.log"] == keys["/logs/1.log"] + 2


def _truncate(life: Life) -> None:
    life.disk.truncate(life.disk.names[LOG])
    life.write(b"new\n")


def _replace(life: Life) -> None:
    life.disk.unlink(LOG)
    life.write(b"new\n")


def _copy_and_truncate(life: Life) -> None:
    life.disk.copy(life.disk.names[LOG], "/logs/app.log.1")
    _truncate(life)


@pytest.mark.parametrize(
    ("change", "truncated", "lost"),
    [(_truncate, 1, 5), (_replace, 0, 5), (_copy_and_truncate, 1, 0)],
)
def test_what_was_gone_is_counted(
    life: Life, change: Callable[[Life], None], truncated: int, lost: int
) -> None:
    life.write(LONG)
    life.read()
    life.write(b"more\n")
    life.following.files[life.one.key].extent += 5  # as a look has seen it
    life.one.close()
    change(life)
    taken = life.read()
    assert sorted(taken.splitlines()) == ([b"new"] if lost else [b"more", b"new"])
    assert life.counts["files_truncated"] == truncated
    assert life.counts["bytes_lost"] == lost


def test_a_deleted_file_is_read_through_its_descriptor_and_then_done(life: Life) -> None:
    inode = life.write(LONG)
    life.read()
    inode.writers += 1
    life.disk.unlink(LOG)
    life.disk.write(inode, b"more\n")
    assert life.read() == b"more\n"
    assert life.one.gone
    assert not life.one.current
    life.read(WAIT_S)
    life.read(WAIT_S)
    assert not life.following.files
    (kept,) = life.kept()
    assert kept.done


def test_a_file_that_is_away_comes_back_or_is_forgotten(life: Life) -> None:
    life.write(LONG)
    life.read()
    for away_s, is_kept in ((RETENTION_S - 10, True), (RETENTION_S + 10, False)):
        life.restart()
        inode = life.disk.names[LOG]
        inode.writers = 1
        life.disk.unlink(LOG)
        assert life.read() == b""
        assert life.one.gone
        (kept,) = life.kept()
        assert kept.since_s == int(life.disk.wall_ns / 1e9)
        life.pass_(away_s)
        life.read()
        assert bool(life.following.files) is is_kept
        life.disk.link(LOG, inode)
        life.write(b"more\n")
        assert life.read() == b"more\n"
        assert not life.one.gone


def test_one_that_is_open_and_moved_out_of_sight_is_known_by_where_it_is(life: Life) -> None:
    life.write(LONG)
    life.read()
    life.disk.rename(LOG, "/logs/old/kept")
    life.read()
    assert life.one.now == "/logs/old/kept"
    (kept,) = life.kept()
    assert kept.now == "/logs/old/kept"
    life.disk.fail_next["where"] = errno.EIO
    life.read()
    assert life.one.now == "/logs/old/kept"


def test_an_elder_is_read_first(life: Life) -> None:
    life = Life(block_size_max=100)
    life.write(LONG)
    life.step()
    life.disk.rename(LOG, "/logs/app.log.1")
    life.write(b"new\n")
    taken = life.read()
    assert taken.endswith(b"new\n")
    assert len(taken) > len(LONG) - 100


def test_a_log_is_no_elder_of_what_lies_beside_it(life: Life) -> None:
    life = Life(block_size_max=100)
    life.write(LONG)
    life.step()
    life.write(b"beside\n", "/logs/app.log.1")
    taken = life.read()
    assert taken.index(b"beside\n") < len(LONG) - 200


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_one_that_cannot_be_opened_is_tried_at_each_look(life: Life, error: int) -> None:
    inode = life.write(LONG)
    inode.readable = False
    step = life.step()
    assert step.trouble == f"cannot read {LOG}: Permission denied"
    assert life.one.behind == len(LONG)
    inode.readable = True
    assert life.read() + life.read() == LONG
    assert life.step().trouble == ""
    life.write(b"more\n")
    life.disk.fail_next["pread"] = error
    assert life.step((LOG,)).trouble == f"cannot read {LOG}: {os.strerror(error)}"
    assert life.read() == b"more\n"
    assert life.step().trouble == ""


def test_of_what_cannot_be_read_it_is_known_how_much_there_is(life: Life) -> None:
    inode = life.write(LONG)
    life.read()
    life.restart()
    inode.readable = False
    life.write(b"more\n")
    life.pass_(RESCAN_S)
    step = life.step()
    assert step.trouble == f"cannot read {LOG}: Permission denied"
    assert (life.one.behind, life.one.gone) == (5, False)
    inode.readable = True
    assert life.read() + life.read() == b"more\n"


def test_a_remark_is_no_trouble(life: Life) -> None:
    step = life.step()
    assert (step.trouble, step.remark) == ("", f"no file is at {LOG}")


def test_directories_to_watch(life: Life) -> None:
    life = Life("/logs/*.log", "/logs/old/app.log")
    life.write(LONG)
    life.write(LONG[::-1], "/logs/old/app.log")
    life.read()
    watched = {"/logs": (1, 3), "/logs/old": (1, 4)}
    assert life.following.directories(100) == watched
    assert life.following.directories(2) == watched
    assert life.following.directories(1) == {"/logs": (1, 3)}
    assert life.following.directories(0) == {}
    for generation in life.following.files.values():
        generation.real = "/behind/app.log"
    assert life.following.directories(100) == watched, "it cannot be asked"
    life.following._directories.clear()
    for generation, real in zip(
        life.following.files.values(), ("/logs/app.log/x", "/logs/old/x"), strict=True
    ):
        generation.real = real
    assert life.following.directories(100) == {"/logs/old": (1, 4)}
    reals = ("/behind/x", "/logs/old/x")
    for generation, real in zip(life.following.files.values(), reals, strict=True):
        generation.real = real
    assert life.following.directories(100) == {"/logs/old": (1, 4)}
    for generation in life.following.files.values():
        generation.real = "/logs/old/x"
    assert life.following.directories(1) == {"/logs/old": (1, 4)}


def test_what_is_counted_within_a_step_is_told_once() -> None:
    life = Life(event_size_max=50)
    life.write(LONG + b"torn")
    assert life.step().counts["lines_split"] == 40
    assert life.step().counts["lines_split"] == 0
    life.read(draining=True)
    assert life.counts["lines_split"] == 40
    assert life.counts["lines_ended"] == 1
    life.following.close()
    assert not life.disk.descriptors


def test_where_a_sink_of_this_agent_writes_nothing_is_read() -> None:
    life = Life("/logs/**/*.log", not_below=("/logs/old",))
    life.write(b"a line\n")
    life.write(b"published\n", "/logs/old/x.log")
    assert life.read() == b"a line\n"
    assert "/logs/old is where a sink of this agent writes" in life.step().trouble


def test_what_changed_just_now_is_compared_once_more(life: Life) -> None:
    """Its ctime may not be the last with what was written in the same tick of the clock."""
    life.write(LONG)
    life.step()
    assert life.one.seen is None
    life.pass_(RESCAN_S)
    life.step()
    assert life.one.seen == life.disk.stat(LOG)


def test_positions_of_a_path_at_no_glob_sleep(life: Life) -> None:
    life.write(LONG)
    life.read()
    (kept,) = life.stored.keys() - {STARTED}
    life.options = FollowOptions(**{**_fields(life.options), "patterns": ("/logs/other.log",)})
    life.restart()
    life.read()
    assert not life.following.files
    life.options = FollowOptions(**{**_fields(life.options), "patterns": ("/logs/*.log",)})
    life.write(b"more\n")
    life.restart()
    assert life.read() == b"more\n"
    assert list(life.following.files) == [kept]


def test_where_a_log_is_at_the_start_is_known_from_its_position(life: Life) -> None:
    life.write(LONG)
    life.read()
    life.restart()
    assert life.one.current
    life.disk.rename(LOG, "/logs/app.log.1")
    life.read()
    life.restart()
    assert not life.one.current


def _fields(options: FollowOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in FollowOptions.__slots__}
