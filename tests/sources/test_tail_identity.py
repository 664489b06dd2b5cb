"""Row 1 of the table: what has the inode and birth of a generation, and its text, is that one."""

import gzip
from typing import Any

import pytest

from tests.sources.scene import Scene
from tiers.sources.tail.identity import identify, is_unchanged, same
from tiers.sources.tail.verdicts import Same

LINE = 70
LONG = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))
OTHER = b"".join(b"othr %03d %s\n" % (i, b"y" * 60) for i in range(40))
SHORT = b"short\n"


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("name", ["app.log", "app.log.1"])
@pytest.mark.parametrize(
    ("read", "there", "is_same"),
    [
        (SHORT, SHORT, True),
        (SHORT, SHORT + b"more\n", True),
        (SHORT, b"other\n", False),
        (SHORT, SHORT[:-1], False),
        (LONG, LONG, True),
        (LONG, LONG[:-1], False),
        (LONG, OTHER, False),
        (b"", SHORT, False),  # an offset of 0 agrees with nothing
    ],
)
def test_by_its_text(scene: Scene, name: str, read: bytes, there: bytes, is_same: bool) -> None:
    file = scene.sees(name, there)
    assert same(scene.knows(read, None, file), file, scene.texts) is is_same


@pytest.mark.parametrize(
    ("change", "is_known"),
    [({}, True)] + [({key: 7}, False) for key in ("inode", "birth_ns", "size", "ctime_ns")],
)
def test_what_is_as_it_was_is_not_opened(
    scene: Scene, change: dict[str, int], is_known: bool
) -> None:
    file = scene.sees("app.log", LONG)
    generation = scene.knows(OTHER, None, file, seen=file.status._replace(**change))
    assert is_unchanged(generation, file) is same(generation, file, scene.texts) is is_known
    generation.suspect = True
    assert not is_unchanged(generation, file)
    generation.seen = None
    assert not is_unchanged(generation, file)


@pytest.mark.parametrize(
    ("packed", "there", "size", "offset", "is_same"),
    [
        (False, SHORT, 6, 6, True),
        (False, SHORT, 9, 6, True),
        (False, SHORT, 7, 7, False),
        (True, SHORT, 6, 0, True),
        (True, SHORT, 5, 0, False),
        (True, SHORT, 7, 0, False),
        (False, gzip.compress(SHORT, mtime=0), len(gzip.compress(SHORT, mtime=0)), 1, True),
        (False, gzip.compress(SHORT, mtime=0), len(gzip.compress(SHORT, mtime=0)) - 1, 1, False),
    ],
)
def test_a_blind_one_by_its_size(
    scene: Scene, packed: bool, there: bytes, size: int, offset: int, is_same: bool
) -> None:
    file = scene.sees("app.log.1", there)
    generation = scene.knows(b"?" * offset, None, file, blind=True, packed=packed, size=size)
    assert same(generation, file, scene.texts) is is_same


@pytest.mark.parametrize(
    ("read", "added", "at", "keys", "is_same"),
    [
        (SHORT, b"", "app.log.1", {}, True),
        (SHORT, b"more\n", "app.log.1", {}, False),
        (SHORT, b"", "app.log", {}, False),
        (SHORT, b"more\n", "app.log", {"done": False}, True),
        (SHORT, b"more\n", "app.log", {"birth_ns": 5}, True),
        (LONG, b"more\n", "app.log", {}, True),
    ],
)
def test_a_finished_weak_one_whose_birth_is_not_told_is_not_read_on(
    scene: Scene, read: bytes, added: bytes, at: str, keys: dict[str, Any], is_same: bool
) -> None:
    file = scene.sees(at, read + added)
    given = {"done": True, "birth_ns": 0, **keys}
    assert same(scene.knows(read, None, file, **given), file, scene.texts) is is_same


@pytest.mark.parametrize(
    ("there", "name", "keys", "is_same"),
    [
        (LONG, "app.log", {"size": 41 * LINE}, False),  # it has shrunk
        (LONG, "app.log", {"size": 40 * LINE}, True),
        (LONG, "app.log.1", {"size": 41 * LINE}, True),  # beside: a copy of the rest
        (LONG, "app.log", {"size": 41 * LINE, "packed": True}, True),
        (LONG + bytes(9), "app.log", {"size": 41 * LINE}, False),
    ],
)
def test_one_that_has_shrunk_is_another(
    scene: Scene, there: bytes, name: str, keys: dict[str, Any], is_same: bool
) -> None:
    file = scene.sees(name, there)
    generation = scene.knows(LONG, 30 * LINE, file, **keys)
    assert same(generation, file, scene.texts) is is_same


def test_zeros_that_were_cut_off_are_no_text(scene: Scene) -> None:
    file = scene.sees("app.log", LONG)
    generation = scene.knows(LONG, 30 * LINE, file)
    generation.seen = file.status._replace(size=len(LONG) + 100)
    for size, is_same in ((len(LONG), True), (len(LONG) + 1, False)):
        generation.size = size
        assert same(generation, file, scene.texts) is is_same


def test_of_those_with_one_inode_the_strongest_has_it_and_only_one(scene: Scene) -> None:
    """Where births are not told, a finished one may have had the inode before."""
    file = scene.sees("app.log", LONG)
    less, more, least = (scene.knows(LONG, lines * LINE, file) for lines in (20, 30, 10))
    assert identify([less, more, least], [file], scene.texts) == [Same(more, file, True)]


def test_one_that_is_on_two_disks_is_the_one_on_its_own(scene: Scene) -> None:
    near, far = scene.sees("app.log", LONG), scene.sees("app.log.1", LONG)
    scene.disk.names[far.where].number = near.status.inode
    scene.disk.names[far.where].birth_ns = near.status.birth_ns
    near.status = near.status._replace(device=2)
    far.status = near.status._replace(device=3)
    for device, wanted in ((2, near), (3, far)):
        generation = scene.knows(LONG, None, near, device=device)
        for order in ([near, far], [far, near]):
            assert identify([generation], order, scene.texts) == [Same(generation, wanted, True)]


def test_others_have_no_part(scene: Scene) -> None:
    file, other = scene.sees("app.log", LONG), scene.sees("app.log.1", LONG)
    nowhere = scene.knows(LONG)
    here = scene.knows(LONG, None, file)
    assert identify([nowhere, here], [other, file], scene.texts) == [Same(here, file, True)]
