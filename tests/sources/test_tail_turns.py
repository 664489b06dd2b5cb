"""Whose turn it is: everyone's, one block each; and when a file that went is done."""

import errno
import gzip
from math import inf
from typing import Any

import pytest

from tests.sources.scene import Scene
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.problems import ReadProblems
from tiers.sources.tail.reading import Limits
from tiers.sources.tail.turns import LOOKS_MIN, ReadingTurns, TurnLimits
from tiers.sources.tail.walk import Stopped

WAIT_S = 5.0
LINES = [b"%d line\n" % i for i in range(4)]
NOW = 100.0


class Shared(Scene):
    """Files with lines of which none was read, and the turns between them."""

    def __init__(self, open_files_max: int = 100) -> None:
        super().__init__()
        self.problems = ReadProblems()
        limits = TurnLimits(Limits(len(LINES[0]), 1000), open_files_max, WAIT_S)
        self.turns = ReadingTurns(self.disk, limits, self.problems, lambda: 7.0, self.room)

    def follows(self, name: str, data: bytes = b"".join(LINES), **keys: Any) -> Generation:
        file = self.sees(name, data)
        given = {"path": file.where, "current": True, **keys}
        generation = self.knows(b"", None, file, **given)
        self.turns.follow(generation)
        return generation

    def names(self, count: int = 100, now: float = NOW) -> str:
        """Of the next blocks, each by the last letter of its file."""
        found = ""
        while len(found) < count and (block := self.turns.next_block(now)):
            found += block.path[-1]
        return found

    def opened(self) -> str:
        return "".join(each.now[-1] for each in self.turns.open.values())

    def leave(self, generation: Generation, quiet_since: float, looks: int = LOOKS_MIN) -> None:
        """It is read, and at its path no more."""
        assert self.turns.next_block(NOW) is None or generation.offset
        generation.current = False
        generation.quiet_since, generation.looks = quiet_since, looks
        self.turns.leaving[generation.key] = generation


def test_a_block_each() -> None:
    shared = Shared()
    for name in "abc":
        shared.follows(name)
    shared.follows("d", LINES[0])
    assert shared.names() == "abcd" + "abc" * 3
    assert not shared.turns.ready
    assert not shared.turns.leaving


@pytest.mark.parametrize(
    ("change", "order"),
    [
        ("", "aaaabbbbcccc"),
        ("elder is read", "bbbbcccc"),
        ("elder is let go of", "bbbbcccc"),
        ("elder is forgotten", "bbbbcccc"),
    ],
)
def test_the_elder_first_while_it_makes_progress(change: str, order: str) -> None:
    shared = Shared()
    a, b, c = (shared.follows(name) for name in "abc")
    c.elder, b.elder = b, a
    if change == "elder is read":
        del shared.turns.ready[a.key]
    if change == "elder is let go of":
        shared.turns.let_go(a)
    if change == "elder is forgotten":  # it is ready still
        del shared.turns.files[a.key]
    shared.turns.ready.move_to_end(c.key, last=False)
    assert shared.names() == order


def test_one_that_waits_holds_back_no_other() -> None:
    shared = Shared()
    a, b = shared.follows("a"), shared.follows("b")
    shared.follows("c")
    a.elder, b.elder = b, a  # it cannot be; and if it could
    assert shared.names() == "cccc"
    assert set(shared.turns.ready) == {a.key, b.key}
    assert shared.names() == ""


def test_compressed_ones_are_read_to_their_ends_one_after_the_other() -> None:
    shared = Shared()
    packed = gzip.compress(b"".join(LINES))
    a, b, c = (shared.follows(name, packed, packed=True) for name in "abc")
    shared.follows("d")
    for generation in (a, b, c):
        generation.unpacks = True
    assert shared.names(3) == "ada"
    other = shared.follows("e")
    a.elder = other  # from now on it waits itself
    assert shared.names(4) == "bdeb"
    rest = shared.names()
    assert sorted(rest) == sorted("aabbccccddeee")
    assert rest.rindex("b") < rest.index("c")


def test_what_is_compressed_is_known_once_it_was_opened() -> None:
    shared = Shared()
    for name in "abc":
        shared.follows(name, gzip.compress(b"".join(LINES)))
    shared.follows("d")
    assert shared.names() == "abcd" + "adadad" + "bbb" + "ccc"


def test_what_comes_to_a_compressed_file_is_read_on() -> None:
    shared = Shared()
    packed = gzip.compress(b"".join(LINES), mtime=0) + gzip.compress(LINES[0], mtime=0)
    a = shared.follows("a", packed[:-20])
    assert shared.names() == "aaaa"
    shared.disk.write(shared.disk.names["/logs/a"], packed[-20:])
    shared.disk.names["/logs/a"].ctime_ns += 1
    shared.turns.ready[a.key] = None
    assert shared.names() == "a"


def test_one_whose_end_is_set_is_read_to_there() -> None:
    shared = Shared()
    a, b = shared.follows("a"), shared.follows("b")
    a.end = 2 * len(LINES[0])
    b.end, b.current = 0, False  # rotated: to its end
    assert shared.names() == "abab" + "bb"


# -- descriptors ---------------------------------------------------------------------------------


def test_of_open_files_the_one_that_was_read_longest_ago_is_closed() -> None:
    shared = Shared(open_files_max=2)
    for name in "abc":
        shared.follows(name)
    assert shared.names(2) == "ab"
    assert shared.opened() == "ab"
    assert shared.names(1) == "c"
    assert shared.opened() == "bc"
    assert shared.names(2) == "ab"
    assert shared.opened() == "ab"
    assert len(shared.disk.descriptors) == 2
    shared.turns.close()
    assert shared.opened() == ""
    assert not shared.disk.descriptors


def test_one_that_is_read_again_is_not_the_next_to_be_closed() -> None:
    shared = Shared(open_files_max=2)
    shared.follows("a")
    shared.follows("b")
    assert shared.names(3) == "aba"
    assert shared.opened() == "ba"


@pytest.mark.parametrize("change", ["gone", "deleted", "replaced", "renumbered"])
def test_one_that_could_not_be_opened_again_stays_open(change: str) -> None:
    shared = Shared(open_files_max=2)
    a, _, _ = (shared.follows(name) for name in "abc")
    shared.names(2)
    if change == "gone":
        a.gone = True
    elif change == "replaced":
        shared.disk.make("/logs/a").data += b"other\n"
    elif change == "renumbered":
        shared.disk.names["/logs/a"].birth_ns += 1
        shared.disk.descriptors[a.opened.descriptor] = shared.disk.names["/logs/a"]  # type: ignore[union-attr]
    else:
        shared.disk.unlink("/logs/a")
    assert shared.names(1) == "c"
    assert shared.opened() == "ac"
    for generation in shared.turns.files.values():
        generation.gone = True
    assert shared.names(3).startswith("a")
    assert len(shared.turns.open) == 3, "the limit is no reason to lose one"


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["open", "fstat", "pread"])
def test_what_cannot_be_read_holds_back_no_other_and_stands_until_it_was(call: str) -> None:
    shared = Shared()
    a = shared.follows("a")
    shared.follows("b")
    shared.disk.fail_next[call] = errno.EIO
    assert shared.names() == "bbbb"
    assert (a.failed, a.damaged, a.opened) == (True, False, None)
    assert not shared.turns.look_wanted
    (problem,) = shared.problems.all()
    assert (problem.text, problem.since_s) == ("cannot read /logs/a: Input/output error", 7.0)
    shared.turns.follow(a)
    assert shared.names() == "aaaa"
    assert not a.failed
    assert not shared.problems.all()


@pytest.mark.parametrize("call", ["fstat", "pread"])
def test_one_that_cannot_be_read_on_is_closed(call: str) -> None:
    shared = Shared()
    a = shared.follows("a")
    shared.follows("b")
    assert shared.names(2) == "ab"
    shared.disk.fail_next[call] = errno.EIO
    assert shared.names() == "bbb"
    assert (a.failed, a.opened) == (True, None)
    assert shared.opened() == "b"


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_what_is_not_where_it_was_a_look_will_find(change: str) -> None:
    shared = Shared()
    a = shared.follows("a")
    shared.follows("b")
    if change == "deleted":
        shared.disk.unlink("/logs/a")
    else:
        shared.disk.make("/logs/a").data += b"other\n"
    assert shared.names() == "bbbb"
    assert shared.turns.look_wanted
    assert not a.failed
    assert not shared.problems.all()


def test_what_is_not_what_it_was_a_look_will_tell() -> None:
    shared = Shared()
    a = shared.follows("a")
    shared.follows("b")
    shared.names(2)
    before = shared.turns.look_wanted
    shared.disk.names["/logs/a"].data[0] ^= 1
    assert shared.names() == "bbb"
    assert a.suspect
    assert (before, shared.turns.look_wanted) == (False, True)
    assert not a.failed


def test_damage_is_not_tried_again_before_it_changes() -> None:
    shared = Shared()
    packed = bytearray(gzip.compress(bytes(range(256)) * 500, mtime=0))
    packed[20:40] = b"\xff" * 20
    a = shared.follows("a", bytes(packed), packed=True)
    shared.names()
    assert (a.failed, a.damaged) == (True, True)


def test_what_is_counted() -> None:
    shared = Shared()
    shared.follows("a", b"x" * 1500 + b"\n")
    shared.follows("b", bytes(100) + b"line\n")
    shared.names()
    assert shared.turns.counts == {"lines_split": 1, "lines_ended": 0, "bytes_hole": 100}


# -- the end of a file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quiet_s", "looks", "is_done"),
    [(WAIT_S, 1, True), (WAIT_S - 0.1, 1, False), (WAIT_S, 0, False), (WAIT_S + 9, 2, True)],
)
def test_a_file_that_went_is_done_when_it_was_quiet_and_a_look_saw_it(
    quiet_s: float, looks: int, is_done: bool
) -> None:
    shared = Shared()
    a = shared.follows("a", LINES[0])
    shared.names()
    shared.leave(a, NOW - quiet_s, looks)
    assert shared.turns.next_ending(NOW, False) is None
    assert shared.turns.finished == ([a] if is_done else [])
    assert (a.key in shared.turns.leaving) is not is_done
    assert shared.turns.look_wanted is (not is_done and looks < LOOKS_MIN)
    assert shared.turns.wake_at == (inf if quiet_s >= WAIT_S else a.quiet_since + WAIT_S)


def test_the_next_that_was_quiet_long_enough_wakes() -> None:
    shared = Shared()
    for name, quiet_s in (("a", 1.0), ("b", 3.0), ("c", 2.0)):
        generation = shared.follows(name, LINES[0])
        shared.names()
        shared.leave(generation, NOW - quiet_s)
    shared.turns.next_ending(NOW, False)
    assert shared.turns.wake_at == NOW - 3 + WAIT_S
    shared.turns.next_ending(NOW + 2, False)
    assert [each.now for each in shared.turns.finished] == ["/logs/b"]
    assert shared.turns.wake_at == NOW - 2 + WAIT_S


@pytest.mark.parametrize("draining", [False, True])
def test_its_last_line_gets_a_newline_and_then_it_is_quiet_anew(draining: bool) -> None:
    shared = Shared()
    a = shared.follows("a", LINES[0] + b"torn")
    assert shared.names() == "a"
    shared.leave(a, NOW - WAIT_S)
    block = shared.turns.next_ending(NOW, draining)
    assert block is not None
    assert (bytes(block.data), block.ended) == (b"torn\n", True)
    assert shared.turns.counts["lines_ended"] == 1
    assert a.quiet_since == NOW
    assert shared.turns.finished == []
    assert shared.turns.next_ending(NOW + (0 if draining else WAIT_S), draining) is None
    assert shared.turns.finished == [a]


def test_lines_that_came_at_last_are_taken_before_it_is_done() -> None:
    shared = Shared()
    a = shared.follows("a", LINES[0])
    shared.names()
    shared.leave(a, NOW - WAIT_S)
    shared.disk.names["/logs/a"].data += LINES[1] + b"torn"
    data = [bytes(block.data) for _ in range(2) if (block := shared.turns.next_ending(NOW, True))]
    assert data == [LINES[1], b"torn\n"]


@pytest.mark.parametrize("change", ["let go of", "back at its path", "failed"])
def test_one_that_does_not_leave_any_more_is_not_done(change: str) -> None:
    shared = Shared()
    a, b = shared.follows("a", LINES[0]), shared.follows("b", LINES[0])
    shared.names()
    for generation in (a, b):
        shared.leave(generation, NOW - WAIT_S)
    if change == "let go of":
        del shared.turns.files[a.key]
    a.current, a.failed = change == "back at its path", change == "failed"
    assert shared.turns.next_ending(NOW, False) is None
    assert shared.turns.finished == [b], "and holds back no other"
    assert not shared.turns.leaving


@pytest.mark.parametrize("change", ["failed", "suspect"])
def test_one_that_cannot_be_read_at_its_end_is_not_done(change: str) -> None:
    shared = Shared()
    a = shared.follows("a", LINES[0] + b"torn")
    b = shared.follows("b", LINES[0])
    shared.names()
    for generation in (a, b):
        shared.leave(generation, NOW - WAIT_S)
    if change == "failed":
        shared.disk.fail_next["pread"] = errno.EIO
    else:
        shared.disk.names["/logs/a"].data[0] ^= 1
    assert shared.turns.next_ending(NOW, False) is None
    assert getattr(a, change)
    assert shared.turns.finished == [b]
    assert not shared.turns.leaving


def test_a_file_that_waits_to_leave_holds_back_no_other() -> None:
    shared = Shared()
    for name, quiet_s, looks in (("a", 1.0, 1), ("b", 9.0, 0), ("c", 9.0, 1)):
        generation = shared.follows(name, LINES[0])
        shared.names()
        shared.leave(generation, NOW - quiet_s, looks)
    shared.turns.next_ending(NOW, False)
    assert [each.now[-1] for each in shared.turns.finished] == ["c"]


def test_draining_ends_the_lines_that_are_there_at_the_paths_too() -> None:
    shared = Shared()
    a, b, c = (shared.follows(name, LINES[0] + b"torn") for name in "abc")
    a.end = c.end = len(LINES[0]) + 4
    b.end = len(LINES[0])
    shared.names()
    data = []
    while block := shared.turns.next_ending(NOW, True):
        data.append((block.path[-1], bytes(block.data)))
    assert data == [("a", b"torn\n"), ("c", b"torn\n")]
    assert a.end == a.offset
    assert shared.turns.next_ending(NOW, True) is None


def test_what_stays_cut_off_at_a_glob_is_told_when_it_is_quiet() -> None:
    shared = Shared()
    packed = gzip.compress(b"".join(LINES), mtime=0)
    a = shared.follows("a", packed[:-9], packed=True)
    shared.names()
    assert a.cut_off
    a.quiet_since = NOW
    assert shared.turns.cut_off(NOW + WAIT_S) == []
    ((where, text),) = shared.turns.cut_off(NOW + WAIT_S + 0.1)
    assert where == "/logs/a"
    assert text.startswith("/logs/a: damaged: it ends within")
    a.current = False
    assert shared.turns.cut_off(NOW + 99) == []
    a.current, a.cut_off = True, False
    assert shared.turns.cut_off(NOW + 99) == []


def test_a_file_that_is_left_and_has_nothing_more_waits_for_its_end() -> None:
    shared = Shared()
    a = shared.follows("a", LINES[0], current=False)
    shared.follows("b", LINES[0])
    assert shared.names() == "ab"
    assert list(shared.turns.leaving) == [a.key]
    assert a.quiet_since == NOW
    shared.turns.ready[a.key] = None
    shared.turns.let_go(a)
    turns = shared.turns
    assert not {a.key} & {*turns.leaving, *turns.files, *turns.open, *turns.ready}
    assert a.opened is None


def test_between_two_files_it_can_be_stopped() -> None:
    shared = Shared()
    shared.follows("a")

    def stop() -> None:
        raise Stopped

    shared.room.go_on = stop
    with pytest.raises(Stopped):
        shared.turns.next_block(NOW)


def test_a_block_is_news() -> None:
    shared = Shared()
    a = shared.follows("a", LINES[0], quiet_since=1.0, looks=5)
    shared.names()
    assert (a.quiet_since, a.looks) == (NOW, 0)
