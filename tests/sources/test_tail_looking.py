"""One look: what it takes for files of a log, and what it says only if a second one agrees."""

import errno
import gzip
import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.sources.scene import LOG, Scene
from tests.tailing.disk import ModelDisk
from tiers.sources.tail.door import DirectoryEntry
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.looking import Look, Looked
from tiers.sources.tail.sightings import Sighting
from tiers.sources.tail.verdicts import Lost, Outgrown, Undecided
from tiers.sources.tail.walk import Found, Walked

LONG = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))
OTHER = b"".join(b"othr %03d %s\n" % (i, b"y" * 60) for i in range(40))
SHORT = b"short\n"


class Failing(ModelDisk):
    """A disk with calls that fail, by name and path."""

    def __init__(self) -> None:
        super().__init__(births=True)
        self.fails: dict[tuple[str, object], int] = {}

    def _fail(self, name: str, what: object) -> None:
        if error := self.fails.get((name, what), 0):
            raise OSError(error, os.strerror(error), what)

    def entries(self, directory: str) -> list[DirectoryEntry]:
        self._fail("entries", directory)
        return super().entries(directory)

    def lstat(self, path: str) -> Any:
        self._fail("lstat", path)
        return super().stat(path)

    def open(self, path: str) -> int:
        self._fail("open", path)
        return super().open(path)

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        self._fail("pread", descriptor)
        return super().pread(descriptor, length, offset)


class Site(Scene):
    def __init__(self) -> None:
        super().__init__()
        self.disk: Failing = Failing()
        self.walked = Walked()

    def file(self, name: str, data: bytes, *, at_globs: bool = False) -> Sighting:
        seen = self.sees(name, data)
        if at_globs:
            status = seen.status
            found = self.walked.files.setdefault((status.device, status.inode), Found([], status))
            found.paths.append(seen.where)
        return seen

    def look(
        self,
        *generations: Generation,
        dormant: Sequence[Generation] = (),
        skip: bool = False,
        quiet_ns: int = 0,
    ) -> Looked:
        look = Look(self.disk, self.walked, generations, dormant, skip, self.room, quiet_ns, (0, 0))
        looked = look.run()
        held = sum(generation.opened is not None for generation in generations)
        assert len(self.disk.descriptors) == held, "descriptors are left open"
        return looked


def said(looked: Looked) -> list[tuple[str, str]]:
    """Of each verdict its kind, and where."""
    return [
        (type(one).__name__, one.generation.now if isinstance(one, Lost) else one.sighting.where)
        for one in looked.verdicts
        if not isinstance(one, Outgrown | Undecided)
    ]


def shape(sighting: Sighting) -> tuple[object, ...]:
    marks = ("rotated", "added", "elder", "named")
    given = {mark for mark in marks if getattr(sighting, mark)}
    return sighting.where, sighting.kin, sighting.paths, given


@pytest.fixture
def site() -> Site:
    return Site()


# -- what is there -------------------------------------------------------------------------------


def test_files_of_a_log_by_their_names(site: Site) -> None:
    names = ["app-1.log", "app.log", "app.log.1", "app.log.tail", "other.log", "xapp.log"]
    for name in names:
        site.file(name, name.encode(), at_globs=name in ("app.log", "xapp.log"))
    assert [shape(one) for one in site.look().sightings] == [
        (LOG, LOG, [LOG], {"named"}),
        ("/logs/xapp.log", "/logs/xapp.log", ["/logs/xapp.log"], {"named"}),
        ("/logs/app-1.log", LOG, [], {"rotated", "named"}),
        ("/logs/app.log.1", LOG, [], {"rotated", "added", "named"}),
    ]


def test_rotated_ones_at_the_globs_are_their_logs(site: Site) -> None:
    for name in ("app-1.log", "app.log", "app.log.1"):
        site.file(name, name.encode(), at_globs=True)
    assert [shape(one) for one in site.look().sightings] == [
        ("/logs/app-1.log", LOG, ["/logs/app-1.log"], {"rotated", "named"}),
        (LOG, LOG, [LOG], {"named"}),
        ("/logs/app.log.1", LOG, ["/logs/app.log.1"], {"rotated", "added", "named"}),
    ]


def test_a_log_with_a_link_that_rotation_may_have_named_is_itself(site: Site) -> None:
    log = site.file("app.log", LONG)
    site.disk.link("/logs/app.log.1", site.disk.names[LOG])
    status = site.disk.stat(LOG)
    paths = ["/logs/app.log.1", LOG]
    site.walked.files[status.device, status.inode] = Found(paths, status)
    (found,) = site.look(site.knows(LONG, None, log)).sightings
    assert (found.kin, found.rotated, found.at_path) == (LOG, False, True)


def test_a_file_with_two_names_is_seen_once(site: Site) -> None:
    site.file("app.log", LONG, at_globs=True)
    site.disk.link("/logs/app.log.1", site.disk.names[LOG])
    site.disk.link("/logs/app.log.2", site.disk.names[LOG])
    assert [one.where for one in site.look().sightings] == [LOG]
    one = site.disk.make("/logs/app.log.3")
    site.disk.link("/logs/app.log.4", one)
    assert [one.where for one in site.look().sightings] == [LOG, "/logs/app.log.3"]


@pytest.mark.parametrize(
    ("since", "done", "elder"), [(1, False, True), (0, False, False), (1, True, False)]
)
def test_where_a_rotation_has_just_led_to_there_are_elder_ones(
    site: Site, since: int, done: bool, elder: bool
) -> None:
    """From before the log was first looked at: not where generations went to before."""
    site.file("app.log", OTHER, at_globs=True)
    site.file("old/app.log.2", SHORT)
    mtime_ns = site.disk.stat("/logs/old/app.log.2").mtime_ns
    gone = site.file("old/app.log.1", LONG)
    generation = site.knows(LONG, None, gone, key=b"%016x" % (mtime_ns + since))
    youngest = site.knows(SHORT, None, done=True, key=b"%016x" % (mtime_ns + 10))
    generation.done = done
    found = {one.where: one for one in site.look(generation, youngest).sightings}
    assert found["/logs/old/app.log.2"].elder is elder
    assert not found[LOG].elder


@pytest.mark.parametrize(
    ("name", "complete", "paths", "marks"),
    [
        ("kept", True, [], {"rotated"}),
        ("kept", False, [], {"rotated"}),
        ("app.log", True, [], {"rotated"}),
        ("app.log", False, [LOG], set()),  # what the walk did not come to is where it was
    ],
)
def test_a_generation_is_found_by_its_inode_under_any_name(
    site: Site, name: str, complete: bool, paths: list[str], marks: set[str]
) -> None:
    file = site.file(name, LONG)
    site.file("app.log.1", OTHER)
    site.walked.complete = complete
    generation = site.knows(LONG, None, file)
    looked = site.look(generation)
    assert [shape(one) for one in looked.sightings] == [
        ("/logs/app.log.1", LOG, [], {"rotated", "added", "named"}),
        (file.where, LOG, paths, marks),
    ]
    assert ("Same", file.where) in said(looked)


def test_an_inode_is_looked_for_where_it_was_and_beside_its_log(site: Site) -> None:
    here, there = site.file("kept", LONG), site.file("old/kept", OTHER)
    site.file("old/else", SHORT)
    one = site.knows(LONG, None, here, now="/logs/old/app.log")
    two = site.knows(OTHER, None, there, now="/logs/old/kept")
    assert {each.where for each in site.look(one, two).sightings} == {here.where, there.where}


def test_an_inode_that_is_another_by_the_time_it_is_asked_is_none(site: Site) -> None:
    file = site.file("kept", LONG)
    generation = site.knows(LONG, None, file)
    real = site.disk.lstat
    site.disk.lstat = lambda path: real(path)._replace(inode=99)  # type: ignore[method-assign]
    assert site.look(generation).sightings == []
    site.disk.lstat = lambda path: real(path)._replace(mode=0o40755)  # type: ignore[method-assign]
    assert site.look(generation).sightings == []


def test_what_beside_is_no_regular_file_is_none_of_a_log(site: Site) -> None:
    site.file("app.log", LONG, at_globs=True)
    site.file("app.log.1", OTHER)
    real = site.disk.lstat
    site.disk.lstat = lambda path: real(path)._replace(mode=0o10644)  # type: ignore[method-assign]
    assert [one.where for one in site.look().sightings] == [LOG]


@pytest.mark.parametrize(("error", "is_told"), [(errno.ENOENT, False), (errno.EIO, True)])
def test_a_file_beside_that_cannot_be_asked(site: Site, error: int, is_told: bool) -> None:
    site.file("app.log", LONG, at_globs=True)
    site.file("app.log.1", OTHER)
    site.disk.fails["lstat", "/logs/app.log.1"] = error
    looked = site.look()
    assert [one.where for one in looked.sightings] == [LOG]
    assert [path for path, _ in looked.problems()] == (["/logs/app.log.1"] if is_told else [])


# -- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app.log", "app.log.1"])
@pytest.mark.parametrize(
    ("call", "error", "again"),
    [
        ("open", errno.EACCES, False),
        ("open", errno.ENOENT, True),
        ("open", errno.EIO, False),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_cannot_be_read(
    site: Site, name: str, call: str, error: int, again: bool, known: bool
) -> None:
    """It is there, and no answer to anything; where it has just gone, the next look comes soon."""
    log = site.file("app.log", LONG, at_globs=True)
    beside = site.file("app.log.1", OTHER)
    bad, good = (log, beside) if name == "app.log" else (beside, log)
    site.disk.fails[call, bad.where] = error
    generations = [site.knows(LONG, None, log, current=True)] if known else []
    looked = site.look(*generations)
    assert looked.again is again
    assert [one.where for one, _ in looked.unreadable] == ([] if again else [bad.where])
    assert looked.failed == {bad.identity}
    assert bad.where not in [where for _, where in said(looked)]
    assert [path for path, _ in looked.problems()] == ([] if again else [bad.where])
    if not known:
        assert looked.first_kins == (set() if again else {LOG})
        kind = {"app.log": "Fresh", "app.log.1": "KnownText"}[good.where.removeprefix("/logs/")]
        assert said(looked) == ([] if again else [(kind, good.where)])
        (start,) = [one.start for one in looked.verdicts] or [None]  # type: ignore[union-attr]
        if start is not None and bad is log:
            assert start.blind, "it may be a copy of what cannot be read"


def test_a_directory_that_cannot_be_listed_hides_what_was_in_it(site: Site) -> None:
    log = site.file("app.log", LONG, at_globs=True)
    gone = site.knows(OTHER, current=False, now="/logs/old/app.log.1", real=LOG)
    current = site.knows(LONG, None, log, current=True)
    site.disk.fails["entries", "/logs/old"] = errno.EACCES
    looked = site.look(current, gone)
    assert said(looked) == [("Same", LOG)]
    assert [path for path, _ in looked.problems()] == ["/logs/old"]
    site.disk.fails["entries", "/logs/old"] = errno.ENOENT
    looked = site.look(current, gone)
    assert said(looked) == [("Same", LOG)]
    assert looked.problems() == []
    site.disk.fails.clear()
    assert said(site.look(current, gone)) == [("Same", LOG), ("Lost", "/logs/old/app.log.1")]
    site.walked.complete = False
    assert said(site.look(current, gone)) == [("Same", LOG)]


def test_a_directory_that_cannot_be_listed_hides_no_other(site: Site) -> None:
    site.file("bad/app.log", LONG, at_globs=True)
    site.file("app.log", LONG, at_globs=True)
    site.file("app.log.1", OTHER)
    site.disk.fails["entries", "/logs/bad"] = errno.EACCES
    assert "/logs/app.log.1" in [one.where for one in site.look().sightings]


@pytest.mark.parametrize("problem", [LOG, "/logs/app.log.1", "/elsewhere"])
def test_what_the_walk_could_not_ask_is_not_gone(site: Site, problem: str) -> None:
    other = site.file("app.log", OTHER, at_globs=True)
    generation = site.knows(LONG, now="/logs/app.log.1", current=False)
    site.walked.problem(problem, OSError(5, "Input/output error"))
    looked = site.look(generation)
    is_hidden = problem != "/elsewhere"
    assert ((generation.inode, generation.birth_ns) in looked.failed) is is_hidden
    kinds = [] if is_hidden else [("Lost", "/logs/app.log.1")]
    assert said(looked) == [*kinds, ("Fresh", other.where)]


def test_where_a_descriptor_that_is_held_fails_its_own_turn_will_tell(site: Site) -> None:
    log = site.file("app.log", OTHER, at_globs=True)
    current = site.knows(OTHER, None, log, current=True)
    held = site.knows(LONG)
    site.holds(held, LONG)
    assert held.opened is not None
    site.file("app.log.1", LONG)
    site.disk.fails["pread", held.opened.descriptor] = errno.EIO
    looked = site.look(current, held)
    assert said(looked) == [("Same", LOG)]
    assert looked.again
    site.disk.fails.clear()
    looked = site.look(current, held)
    assert said(looked) == [("Same", LOG), ("Copied", "/logs/app.log.1")]
    assert not looked.again


# -- a second listing ----------------------------------------------------------------------------

Change = Callable[[Site], object]


def _write(name: str, data: bytes = b"x\n") -> Change:
    return lambda site: site.disk.names[f"/logs/{name}"].data.extend(data)


def _make(name: str) -> Change:
    return lambda site: site.disk.make(f"/logs/{name}")


def _fail(call: str, path: str) -> Change:
    return lambda site: site.disk.fails.update({(call, path): errno.EIO})


@pytest.mark.parametrize(
    ("change", "is_as_seen"),
    [
        (lambda _: None, True),
        (_write("app.log"), True),  # a log grows at any time
        (_write("app.log.1"), False),
        (lambda site: site.disk.unlink("/logs/app.log.1"), False),
        (lambda site: site.disk.rename("/logs/app.log.1", "/logs/app.log.2"), False),
        (_make("app.log"), False),
        (_make("app.log.2"), False),
        (_make("other.log.1"), True),
        (_make("app.log.tail"), True),
        (_fail("entries", "/logs"), False),
        (_make("old/app.log.1"), False),
        (_make("old/other.log.1"), True),
        (_fail("entries", "/logs/old"), False),
        (_make("else/other.log.1"), True),
        (_fail("entries", "/logs/else"), True),  # another log's
    ],
)
def test_what_is_not_sure_is_said_when_nothing_changed_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: Change, is_as_seen: bool
) -> None:
    log = site.file("app.log", OTHER, at_globs=True)
    other = site.file("else/other.log", SHORT, at_globs=True)
    site.file("app.log.1", LONG)
    generations = [
        site.knows(OTHER, None, log, current=True),
        site.knows(LONG),
        site.knows(b"gone\n", done=True, now="/logs/old/app.log.7"),
        site.knows(SHORT, None, other, path=other.where, real=other.where, current=True),
    ]
    really = Look._is_as_seen

    def later(self: Look, kin: str, sightings: Any, same: Any) -> bool:
        change(site)
        return really(self, kin, sightings, same)

    monkeypatch.setattr(Look, "_is_as_seen", later)
    looked = site.look(*generations)
    sure, unsure = [("Same", LOG), ("Same", other.where)], [("Same", "/logs/app.log.1")]
    assert sorted(said(looked)) == sorted(sure + (unsure if is_as_seen else []))
    assert looked.again is not is_as_seen


# -- no log --------------------------------------------------------------------------------------

CUT = gzip.compress(LONG, mtime=0)[:12]
DAMAGED = gzip.compress(LONG, mtime=0)[:10] + b"\xff" * 50
LZ4 = b"\x04\x22\x4d\x18" + bytes(range(60))


@pytest.mark.parametrize(
    ("name", "data", "quiet", "is_read", "told"),
    [
        ("app.log.1", OTHER, True, True, ""),
        ("app.log.1", b"", True, True, ""),
        ("app.log.1.gz", gzip.compress(OTHER, mtime=0), True, True, ""),
        ("app.log.1", gzip.compress(OTHER, mtime=0), True, True, ""),
        ("app.log.1.gz", CUT, False, False, ""),  # still being written
        ("app.log.1.gz", CUT, True, False, "problem"),
        ("app.log.1", DAMAGED, False, False, ""),
        ("app.log.1", DAMAGED, True, False, "problem"),
        ("app.log.1.lz4", LZ4, False, False, "remark"),
        ("app.log.1", LZ4, True, False, "remark"),
        ("app.log.1.br", OTHER, False, False, "remark"),
        ("app.log.1.br", OTHER, True, False, "remark"),
        ("app.log.1.br", b"", True, False, ""),
        ("app.log.1.gz", b"", True, False, ""),
        ("app.log.1.gz", OTHER, False, False, ""),  # it may become one that can be read
        ("app.log.1.gz", OTHER, True, False, "remark"),
    ],
)
def test_what_beside_a_log_is_no_text(
    site: Site, name: str, data: bytes, quiet: bool, is_read: bool, told: str
) -> None:
    log = site.file("app.log", LONG, at_globs=True)
    beside = site.file(name, data)
    generation = site.knows(LONG, None, log, current=True)
    quiet_ns = beside.status.ctime_ns + (1 if quiet else 0)
    looked = site.look(generation, quiet_ns=quiet_ns)
    fresh = [("Fresh", beside.where)] if is_read and data else []
    assert said(looked) == [("Same", LOG), *fresh]
    assert [path for path, _ in looked.problems()] == ([beside.where] if told == "problem" else [])
    assert [path for path, _ in looked.remarks] == ([beside.where] if told == "remark" else [])
    assert not looked.again


# -- whose it is ---------------------------------------------------------------------------------


def test_a_generation_that_slept_is_the_logs_where_it_woke(site: Site) -> None:
    file = site.file("new.log", LONG, at_globs=True)
    slept = site.knows(LONG, None, file, path="/away/app.log", real="/away/app.log")
    looked = site.look(dormant=[slept])
    assert said(looked) == [("Same", file.where)]
    assert looked.first_kins == set(), "its log was looked at before"
    new = Site()
    new.file("new.log", LONG, at_globs=True)
    assert new.look().first_kins == {"/logs/new.log"}


def test_a_generation_that_went_to_another_logs_place_is_still_its_own(site: Site) -> None:
    file = site.file("other.log", LONG, at_globs=True)
    generation = site.knows(LONG, None, file, current=True)
    looked = site.look(generation)
    assert said(looked) == [("Same", file.where)]
    assert looked.verdicts[0].generation is generation  # type: ignore[union-attr]
