"""The walk: what is at the globs, each directory once, and what it has to say."""

import errno
import glob
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tiers.sources.tail.door import DirectoryEntry, RealFiles, Status
from tiers.sources.tail.ours import Ours
from tiers.sources.tail.walk import WALK_S_MAX, Listings, Stopped, Walk, Walked, absolute


def walk(
    *patterns: Path | str,
    follow_links: bool | None = None,
    door: RealFiles | None = None,
    written: Sequence[Path] = (),
) -> Walked:
    globs = [absolute(str(pattern)) for pattern in patterns]
    door = door or RealFiles()
    ours = Ours(door, [str(directory) for directory in written])
    ours.look_begins()
    return Walk(door, globs, follow_links, lambda: 0.0, lambda: None, ours).run()


def paths(walked: Walked) -> list[str]:
    return sorted(path for found in walked.files.values() for path in found.paths)


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.mark.parametrize(
    "pattern",
    [
        "a.log",
        "*.log",
        "*",
        "?.log",
        "[ab].log",
        "[!a].log",
        ".*",
        "**/*.log",
        "**/a.log",
        "**",
        "x/**/*.log",
        "x/*/z/*.log",
        "x/**/z/**/*.log",
        "*/*.log",
        "**/.hidden/*.log",
        "a**b.log",
        "nothing/*.log",
        "x/y",
    ],
)
def test_finds_what_glob_finds(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path, "a.log", "b.log", ".a.log", "c.txt", "x/a.log", "x/y/z/a.log", "x/y/z/w/z/b.log")
    fill(tmp_path, "x/.hidden/a.log", ".hidden/a.log", "aXb.log", "x/w/z/c.log")
    found = glob.glob(str(tmp_path / pattern), recursive=True)  # noqa: PTH207 what it is measured by
    assert paths(walk(tmp_path / pattern)) == sorted({p for p in found if Path(p).is_file()})
    for path in found:
        if Path(path).is_file():
            assert absolute(str(tmp_path / pattern)).matches(path)
    assert not absolute(str(tmp_path / pattern)).matches(str(tmp_path.parent / "other.log"))


def test_links_in_circles_are_walked_once_round(tmp_path: Path) -> None:
    fill(tmp_path, "app/a.log", "app/deep/b.log")
    for name, target in (("x", "."), ("y", "."), ("deep/up", ".."), ("deep/top", "../..")):
        (tmp_path / "app" / name).symlink_to(target)
    walked = walk(tmp_path / "**" / "*.log")
    assert paths(walked) == [str(tmp_path / "app/a.log"), str(tmp_path / "app/deep/b.log")]
    assert walked.complete


def test_a_file_is_known_by_its_own_path_before_a_link(tmp_path: Path) -> None:
    fill(tmp_path, "z/a.log")
    (tmp_path / "a").symlink_to("z")
    assert paths(walk(tmp_path / "**" / "*.log")) == [str(tmp_path / "z/a.log")]
    assert paths(walk(tmp_path / "*" / "*.log")) == [str(tmp_path / "z/a.log")]


class Owned(RealFiles):
    """Says who owns what."""

    def __init__(self, owners: dict[str, int]) -> None:
        self.owners = owners

    def lstat(self, path: str) -> Status:
        return super().lstat(path)._replace(owner=self.owners.get(Path(path).name, 0))

    def stat(self, path: str) -> Status:
        name = Path(path).resolve().name
        return super().stat(path)._replace(owner=self.owners.get(name, 0))


@pytest.mark.parametrize(
    ("link", "target", "follow_links", "followed"),
    [
        (0, 7, None, True),  # root's
        (7, 7, None, True),  # of the target's owner
        (7, 0, None, False),
        (7, 8, None, False),
        (7, 0, True, True),
        (0, 0, False, False),
    ],
)
@pytest.mark.parametrize("pattern", ["link.log", "*.log", "**/*.log"])
def test_whose_links_are_followed(
    tmp_path: Path, link: int, target: int, follow_links: bool | None, followed: bool, pattern: str
) -> None:
    fill(tmp_path, "secret")
    (tmp_path / "link.log").symlink_to("secret")
    door = Owned({"link.log": link, "secret": target})
    walked = walk(tmp_path / pattern, follow_links=follow_links, door=door)
    assert paths(walked) == ([str(tmp_path / "link.log")] if followed else [])
    said = [why for path, why in walked.problems if "owner" in str(why)]
    assert bool(said) is (not followed and follow_links is None)


def test_links_to_directories_of_others(tmp_path: Path) -> None:
    fill(tmp_path, "there/a.log", "in/x.txt")
    (tmp_path / "in" / "link").symlink_to("../there")
    pattern = tmp_path / "in" / "**" / "*.log"
    door = Owned({"link": 7})
    assert paths(walk(pattern, door=door)) == []
    assert paths(walk(pattern, door=door, follow_links=True)) == [str(tmp_path / "in/link/a.log")]
    # What the pattern names in full is the administrator's word.
    assert paths(walk(tmp_path / "in" / "link" / "*.log", door=door)) != []
    # A link that the pattern has no use for is nobody's concern.
    (tmp_path / "in" / "other").symlink_to("../there/a.log")
    walked = walk(pattern, door=Owned({"other": 7}))
    assert walked.problems == []


class Denied(RealFiles):
    def __init__(self, name: str) -> None:
        self.name = name

    def entries(self, directory: str) -> list:  # type: ignore[type-arg]
        if Path(directory).name == self.name:
            raise PermissionError(13, "Permission denied")
        return super().entries(directory)


@pytest.mark.parametrize("pattern", ["secret/*.log", "**/*.log", "*/*.log", "secret/**/a.log"])
def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path, "secret/a.log", "open/a.log")
    walked = walk(tmp_path / pattern, door=Denied("secret"))
    assert [path for path, _ in walked.problems] == [str(tmp_path / "secret")]


def test_what_matches_nothing_and_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "directory.log").mkdir()
    fill(tmp_path, "a.log")
    walked = walk(tmp_path / "*.log", tmp_path / "*.txt", tmp_path / "missing.log")
    assert paths(walked) == [str(tmp_path / "a.log")]
    assert walked.problems == []
    assert [Path(path).name for path, _ in walked.remarks] == ["pipe.log", "*.txt", "missing.log"]
    assert "a pipe" in walked.remarks[0][1]


def test_it_has_a_time_limit_and_can_be_stopped(tmp_path: Path) -> None:
    for i in range(50):
        fill(tmp_path, f"{i}/a.log")
    ticks = iter(range(100_000))
    pattern = absolute(str(tmp_path / "**" / "*.log"))
    limited = Walk(RealFiles(), [pattern], None, lambda: float(next(ticks)), lambda: None).run()
    assert not limited.complete
    assert f"{WALK_S_MAX:g} s" in str(limited.problems[0][1])

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        Walk(RealFiles(), [pattern], None, lambda: 0.0, stop).run()


@pytest.mark.parametrize(
    "pattern", ["to/*.log", "to/web/*.log", "web/*.log", "**/*.log", "to/a.log"]
)
def test_what_a_sink_writes_is_not_read_by_whatever_path(tmp_path: Path, pattern: str) -> None:
    root = tmp_path / "out"
    fill(root, "a.log", "web/b.log")
    fill(tmp_path / "logs", "c.log")
    (tmp_path / "logs" / "to").symlink_to(root)
    (tmp_path / "logs" / "web").symlink_to(root / "web")
    walked = walk(tmp_path / "logs" / pattern, written=[root])
    found = [tmp_path / "logs" / "c.log"] if pattern.startswith("**") else []
    assert paths(walked) == [str(path) for path in found]
    assert {key for key, _ in walked.problems} == {str(root)}
    assert not any(directory.endswith(("to", "web")) for directory in walked.directories)


def test_a_sink_that_writes_by_a_link_is_not_read_either(tmp_path: Path) -> None:
    fill(tmp_path, "out/a.log", "out2/b.log")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    walked = walk(tmp_path / "out*" / "*.log", written=[tmp_path / "link"])
    assert paths(walked) == [str(tmp_path / "out2" / "b.log")]


def test_a_directory_of_a_sink_that_is_not_there_yet_is_no_matter(tmp_path: Path) -> None:
    fill(tmp_path, "a.log")
    walked = walk(tmp_path / "*.log", written=[tmp_path / "out"])
    assert paths(walked) == [str(tmp_path / "a.log")]
    assert not walked.problems


def test_what_was_found_out_of_a_directory_is_kept_for_the_next_look(tmp_path: Path) -> None:
    """No longer, and not where a sink's own place has changed."""
    fill(tmp_path, "out/a.log", "logs/b.log", "more/c.log")
    asked: list[str] = []

    class Asked(RealFiles):
        def real(self, path: str) -> str:
            asked.append(Path(path).name)
            return super().real(path)

    ours = Ours(Asked(), [str(tmp_path / "out")])
    logs, more = str(tmp_path / "logs"), str(tmp_path / "more")
    for directories, new in (
        ([logs], ["logs"]),
        ([logs, more], ["more"]),
        ([more], []),
        ([logs, more], ["logs"]),
    ):
        ours.look_begins()
        asked.clear()
        for directory in directories * 2:
            status = RealFiles().stat(directory)
            assert ours.root_of(directory, (status.device, status.inode)) == ""
        assert sorted(set(asked)) == new
    (tmp_path / "out").rename(tmp_path / "away")
    (tmp_path / "out").symlink_to(tmp_path / "logs")
    ours.look_begins()
    status = RealFiles().stat(logs)
    assert ours.root_of(logs, (status.device, status.inode)) == str(tmp_path / "out")


def test_a_directory_is_a_sinks_by_its_identity_too(tmp_path: Path) -> None:
    """A file system that is mounted at two places; and others are asked where one is not there."""
    fill(tmp_path, "out/a.log", "elsewhere/b.log")
    out, none = tmp_path / "out", tmp_path / "none"
    for written in ([none, out], [out, none]):
        ours = Ours(RealFiles(), [str(path) for path in written])
        ours.look_begins()
        status = RealFiles().stat(str(out))
        elsewhere = str(tmp_path / "elsewhere")
        assert ours.root_of(elsewhere, (status.device, status.inode)) == str(out)
        assert ours.root_of(elsewhere, (status.device + 1, status.inode)) == ""
        assert ours.root_of(elsewhere, (status.device, status.inode + 1)) == ""
        for path, root in ((out, str(out)), (out / "deep", str(out)), (tmp_path / "out2", "")):
            assert ours.root_of(str(path), (1, 1)) == root
    nothing = Ours(RealFiles(), [])
    assert nothing.root_of("/", (1, 1)) == ""


@pytest.mark.parametrize(
    ("pattern", "watched"),
    [
        ("a/*.log", ["a"]),
        ("a/x.log", ["a"]),
        ("a/none/*.log", ["a"]),  # what is not there yet appears in the one above
        ("none/*.log", ["."]),
        ("none/deep/*.log", ["."]),
        ("a/x.log/*.log", ["a"]),
        ("*/*.log", [".", "a", "b"]),
        ("**/*.log", [".", "a", "b", "b/c"]),
        ("b/**", ["b", "b/c"]),
        ("a/*.txt", ["a"]),
    ],
)
def test_directories_that_are_worth_a_watch(
    tmp_path: Path, pattern: str, watched: list[str]
) -> None:
    fill(tmp_path, "a/x.log", "b/c/y.log")
    walked = walk(tmp_path / pattern)
    found = [os.path.relpath(path, tmp_path) for path in walked.directories]
    assert sorted(found) == watched
    for path, identity in walked.directories.items():
        status = Path(path).stat()
        assert identity == (status.st_dev, status.st_ino)
    wrong = [path for path, _ in walked.problems]
    assert wrong == ([str(tmp_path / "a/x.log")] if "x.log/" in pattern else [])


class Refusing(RealFiles):
    """Some calls of some names fail."""

    def __init__(self, fails: dict[tuple[str, str], int]) -> None:
        self.fails = fails

    def _ask(self, call: str, path: str) -> None:
        if code := self.fails.get((call, Path(path).name), 0):
            raise OSError(code, os.strerror(code), path)

    def stat(self, path: str) -> Status:
        self._ask("stat", path)
        return super().stat(path)

    def lstat(self, path: str) -> Status:
        self._ask("lstat", path)
        return super().lstat(path)

    def entries(self, directory: str) -> list[DirectoryEntry]:
        self._ask("entries", directory)
        return super().entries(directory)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES])
@pytest.mark.parametrize(
    ("pattern", "call", "name"),
    [
        ("in/*.log", "stat", "in"),
        ("*/*.log", "stat", "in"),
        ("in/*.log", "entries", "in"),
        ("in/*.log", "lstat", "b.log"),
        ("in/link.log", "stat", "link.log"),
        ("in/*.log", "lstat", "link.log"),
        ("**/*.log", "entries", "in"),
    ],
)
def test_what_just_went_is_no_problem_and_what_is_refused_is_one(
    tmp_path: Path, pattern: str, call: str, name: str, code: int
) -> None:
    fill(tmp_path, "in/a.log", "in/b.log", "out/c.log")
    (tmp_path / "in" / "link.log").symlink_to(tmp_path / "out" / "c.log")
    whole = paths(walk(tmp_path / pattern))
    walked = walk(tmp_path / pattern, door=Refusing({(call, name): code}))
    assert [Path(path).name for path, _ in walked.problems] == [name] * (code != errno.ENOENT)
    assert set(paths(walked)) < set(whole)
    if name.endswith(".log") and "*" in pattern:
        left = [path for path in whole if Path(path).name != name]
        assert paths(walked) == left, "it hides no other"


def test_a_file_with_two_names_at_the_globs_is_one(tmp_path: Path) -> None:
    fill(tmp_path, "a.log")
    os.link(tmp_path / "a.log", tmp_path / "b.log")
    walked = walk(tmp_path / "*.log", tmp_path / "a.log")
    (found,) = walked.files.values()
    assert found.paths == [str(tmp_path / "a.log"), str(tmp_path / "b.log")]
    assert walked.remarks == []


def test_each_directory_is_listed_once(tmp_path: Path) -> None:
    """`**` asks twice, for files and for what is deeper."""
    fill(tmp_path, "a.log", "x/b.log", "x/y/c.log")
    listed: list[str] = []

    class Listed(RealFiles):
        def entries(self, directory: str) -> list[DirectoryEntry]:
            listed.append(directory)
            return super().entries(directory)

    walk(tmp_path / "**" / "*.log", door=Listed())
    assert sorted(listed) == [str(tmp_path), str(tmp_path / "x"), str(tmp_path / "x/y")]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/logs/*.log", "/logs/a.log", True),
        ("/logs/*.log", "/logs/x/a.log", False),
        ("/logs/*.log", "/logs/.a.log", False),
        ("/logs/.*", "/logs/.a.log", True),
        ("/logs/**", "/logs/x/a.log", True),
        ("/logs/**", "/logs", False),
        ("/logs/**/a.log", "/logs/a.log", True),
        ("/logs/**/a.log", "/logs/x/y/a.log", True),
        ("/logs/**/a.log", "/logs/.x/a.log", False),
        ("/logs/**/y/*", "/logs/x/y/y/a.log", True),
        ("/logs/a.log", "/logs/a.log", True),
        ("/logs/a.log", "/logs/a.logx", False),
        ("/logs/a.log", "/logs", False),
        ("/logs/a.log", "/logs/a.log/x", False),
        ("/logs/[ab].log", "/logs/b.log", True),
    ],
)
def test_what_is_at_a_glob_whatever_the_disk_says(pattern: str, path: str, matches: bool) -> None:
    assert absolute(pattern).matches(path) is matches


@pytest.mark.parametrize(
    ("code", "is_told"),
    [
        (errno.EACCES, True),
        (errno.EIO, True),
        (errno.ELOOP, False),  # of names that are none: what leads there is told elsewhere
        (errno.ENAMETOOLONG, False),
    ],
)
def test_a_directory_that_cannot_be_listed_is_asked_once_and_told(code: int, is_told: bool) -> None:
    asked: list[str] = []

    class Refusing(RealFiles):
        def entries(self, directory: str) -> list[DirectoryEntry]:
            asked.append(directory)
            raise OSError(code, os.strerror(code), directory)

    told: list[str] = []
    listings = Listings(Refusing(), lambda directory, _: told.append(directory))
    assert [listings.of("/logs") for _ in range(3)] == [None] * 3
    assert asked == ["/logs"]
    assert told == ["/logs"] * is_told
