"""The table of `matching.py`, row by row: what each file of a log is, among the others there."""

import gzip
import random
from typing import Any

import pytest

from tests.sources.scene import Scene
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.marks import STRONG_BYTES
from tiers.sources.tail.sightings import Sighting, StartAt, unseen
from tiers.sources.tail.verdicts import (
    Copied,
    Fresh,
    KnownText,
    Lost,
    Outgrown,
    Same,
    Undecided,
    Verdict,
)

LINE = 70  # bytes of each of the lines below
LONG = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))
OTHER = b"".join(b"othr %03d %s\n" % (i, b"y" * 60) for i in range(40))
MORE = b"".join(b"more %03d %s\n" % (i, b"z" * 60) for i in range(40))
SHORT = b"short\n"
NOISE = random.Random(1).randbytes(4096)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_a_verdict_says_where_nothing_is_said(scene: Scene) -> None:
    generation, file = scene.knows(LONG), scene.sees("app.log", LONG)
    begin = scene.start(file, 0)
    assert Same(generation, file) == Same(generation, file, False, False, None, 0)
    assert Fresh(file) == Fresh(file, False, StartAt(0, size=0), 0)
    assert Copied(file, file, begin) == Copied(file, file, begin, True, None)
    assert KnownText(file, begin) == KnownText(file, begin, True, False)
    assert Lost(generation) == Lost(generation, False)


# -- 2: the same text, moved ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app.log", "app.log.1"])
def test_a_strong_text_that_is_nowhere_any_more_has_moved(scene: Scene, name: str) -> None:
    generation = scene.knows(LONG, current=True)
    file = scene.sees(name, LONG + MORE)
    assert scene.decide([generation], [file]) == [Same(generation, file)]


def test_a_weak_text_is_not_known_again_at_the_path(scene: Scene) -> None:
    generation = scene.knows(SHORT, current=True)
    file = scene.sees("app.log", SHORT + MORE)
    assert scene.decide([generation], [file]) == [
        Lost(generation),
        Fresh(file, True, doubt=len(SHORT)),
    ]


def test_of_several_the_one_with_most_text_is_it(scene: Scene) -> None:
    generation = scene.knows(LONG)
    sizes = (10 * LINE, 20 * LINE, LINE)
    some, most, less = (
        scene.sees(f"app.log.{i}", LONG + MORE[:size]) for i, size in enumerate(sizes)
    )
    assert scene.decide([generation], [some, most, less]) == [
        Copied(some, most, scene.start(some, len(LONG) + 10 * LINE)),
        Copied(less, most, scene.start(less, len(LONG) + LINE)),
        Same(generation, most),
    ]


def test_of_equal_ones_it_is_the_one_at_the_path(scene: Scene) -> None:
    generation = scene.knows(LONG)
    beside, log = scene.sees("app.log.9", LONG), scene.sees("app.log", LONG)
    assert scene.decide([generation], [beside, log]) == [
        Copied(beside, log, scene.start(beside, len(LONG))),
        Same(generation, log),
    ]


def test_each_file_is_one_generation_the_longest_agreement_first(scene: Scene) -> None:
    less, more = scene.knows(LONG, 20 * LINE), scene.knows(LONG + MORE)
    file = scene.sees("app.log.1", LONG + MORE)
    assert scene.decide([less, more], [file]) == [Same(more, file), Lost(less)]


def test_what_is_held_open_has_moved_only_to_where_all_of_it_is(scene: Scene) -> None:
    for further, moved in ((LINE, True), (2 * LINE, False)):
        generation = scene.knows(LONG)
        scene.holds(generation, LONG + MORE[:further])
        file = scene.sees("app.log", LONG + MORE[:LINE] + OTHER)
        found = scene.decide([generation], [file])
        fresh = Fresh(file, start=scene.start(file, len(LONG)))
        assert found == [Same(generation, file) if moved else fresh]


def test_what_stayed_or_was_truncated_hides_none_that_moved(scene: Scene) -> None:
    log, other = scene.sees("app.log", OTHER), scene.sees("app.log.2", MORE)
    file = scene.sees("app.log.1", LONG)
    for stayed in (scene.knows(MORE, None, other), scene.knows(NOISE, None, other)):
        moved, weak = scene.knows(LONG, 20 * LINE), scene.knows(SHORT)
        same = [(stayed, other)] if stayed.head == scene.knows(MORE).head else []
        found = scene.decide([weak, stayed, moved], [log, other, file], same)
        assert Same(moved, file) in found


def test_of_those_that_go_on_differently_the_longest_is_it(scene: Scene) -> None:
    generation = scene.knows(LONG)
    files = [scene.sees(f"app.log.{i}", LONG + MORE[: i * LINE] + OTHER) for i in (1, 3, 2)]
    found = scene.decide([generation], files)
    assert found == [
        Same(generation, files[1]),
        *(Copied(one, generation, scene.start(one, one.status.size), False) for one in files[::2]),
    ]


# -- 3 and 4: copies, and what is left beside a path ---------------------------------------------


def test_a_copy_of_what_is_at_the_path_is_read_from_its_end_on(scene: Scene) -> None:
    log, copy = scene.sees("app.log", LONG), scene.sees("app.log.1", LONG[: 20 * LINE])
    generation = scene.knows(LONG, 30 * LINE, log)
    (same, copied) = scene.decide([generation], [log, copy], [(generation, log)])
    assert same == Same(generation, log, True)
    assert copied == Copied(copy, generation, scene.start(copy, 20 * LINE))


def test_a_copy_with_a_line_that_is_being_written_is_one_to_its_last_whole_line(
    scene: Scene,
) -> None:
    log, copy = scene.sees("app.log", LONG), scene.sees("app.log.1", LONG[: 20 * LINE] + b"torn")
    generation = scene.knows(LONG, 30 * LINE, log)
    found = scene.decide([generation], [log, copy], [(generation, log)])
    assert found[1] == Copied(copy, generation, scene.start(copy, 20 * LINE))


@pytest.mark.parametrize(("size", "is_copy"), [(1023, False), (1024, True)])
def test_less_than_a_kilobyte_is_no_copy_of_what_is_longer(
    scene: Scene, size: int, is_copy: bool
) -> None:
    text = LONG[: size - 1] + b"\n"
    log, copy = scene.sees("app.log", text + MORE), scene.sees("app.log.1", text)
    generation = scene.knows(text + MORE, None, log)
    found = scene.decide([generation], [log, copy], [(generation, log)])
    assert found[1] == (
        Copied(copy, generation, scene.start(copy, size)) if is_copy else Fresh(copy, doubt=size)
    )


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_copy_in_which_more_is_than_in_a_rotated_one_is_it(scene: Scene, is_longer: bool) -> None:
    file = scene.sees("app.log.1", LONG + OTHER[:LINE] + b"begun")
    other = scene.sees("app.log.2", LONG + MORE[:LINE] + b"begun" + b"." * is_longer)
    generation = scene.knows(LONG, None, file)
    same, copy = (other, file) if is_longer else (file, other)
    assert scene.decide([generation], [file, other], [(generation, file)]) == [
        Same(generation, same, not is_longer),
        Copied(copy, generation, scene.start(copy, len(LONG) + LINE), False),
    ]


def test_a_copy_in_which_more_is_than_at_the_path_is_read_from_there_on(scene: Scene) -> None:
    log, beside = scene.sees("app.log", LONG), scene.sees("app.log.1", LONG + MORE)
    generation = scene.knows(LONG, 20 * LINE, log)
    assert scene.decide([generation], [log, beside], [(generation, log)]) == [
        Same(generation, log, True),
        Fresh(beside, start=scene.start(beside, len(LONG))),
    ]


def test_a_log_that_was_truncated_and_begins_as_before_leaves_its_old_text_beside(
    scene: Scene,
) -> None:
    log = scene.sees("app.log", LONG + OTHER)
    beside = scene.sees("app.log.1", LONG + MORE)
    generation = scene.knows(LONG, None, log)
    assert scene.decide([generation], [log, beside], [(generation, log)]) == [
        Same(generation, beside),
        Fresh(log, start=scene.start(log, len(LONG))),
    ]


def test_what_is_held_open_has_copies_too(scene: Scene) -> None:
    generation = scene.knows(LONG)
    scene.holds(generation, LONG + MORE)
    copy = scene.sees("app.log.1", LONG + OTHER[:LINE])
    assert scene.decide([generation], [copy]) == [
        Copied(copy, generation, scene.start(copy, len(LONG) + LINE), False)
    ]


def test_a_copy_of_what_is_held_open_is_sure(scene: Scene) -> None:
    generation = scene.knows(LONG)
    scene.holds(generation, LONG)
    other, copy = scene.sees("app.log.1", OTHER), scene.sees("app.log.2", LONG[: 30 * LINE])
    assert scene.decide([generation], [other, copy]) == [
        Copied(copy, generation, scene.start(copy, 30 * LINE)),
        Fresh(other),
    ]


@pytest.mark.parametrize(
    ("read", "change", "is_held"),
    [
        (LONG, "", True),
        (b"", "", True),
        (LONG, "truncated", False),
        (LONG, "written anew", False),
        (LONG, "cannot be asked", True),
        (LONG, "at a name", False),
    ],
)
def test_what_is_held_open_is_not_lost_while_it_is_what_it_was(
    scene: Scene, read: bytes, change: str, is_held: bool
) -> None:
    generation = scene.knows(read)
    scene.holds(generation, LONG)
    (inode,) = scene.disk.descriptors.values()
    files = [scene.sees("app.log", OTHER)]
    if change == "truncated":
        del inode.data[100:]
    elif change == "written anew":
        inode.data[:] = OTHER
    elif change == "cannot be asked":
        scene.disk.fail_next["fstat"] = 5
    elif change == "at a name":  # with a text that is another
        files += [scene.sees("app.log.1", MORE)]
        generation.is_at(files[1].status)
    found = scene.decide([generation], files)
    assert (Lost(generation) in found) is not is_held


def test_what_is_left_of_a_finished_one_is_it(scene: Scene) -> None:
    for data, size, more in (
        (LONG, len(LONG), False),
        (LONG + MORE, len(LONG), True),
        (LONG + MORE, len(LONG + MORE), False),
    ):
        generation = scene.knows(LONG, done=True, size=size)
        file = scene.sees("app.log.1", data)
        assert scene.decide([generation], [file]) == [Same(generation, file, more=more)]


def test_of_two_finished_ones_it_is_the_one_that_was_read_further(scene: Scene) -> None:
    less, more = (scene.knows(LONG, lines * LINE, done=True) for lines in (20, 30))
    file = scene.sees("app.log.1", LONG)
    for generations in ([less, more], [more, less]):
        assert scene.decide(generations, [file]) == [Same(more, file, more=True)]


@pytest.mark.parametrize(
    ("data", "keys", "is_known"),
    [
        (SHORT, {}, True),
        (SHORT + b"begun", {}, True),  # to its last whole line
        (SHORT + MORE, {}, False),
        (SHORT, {"paths": ["/logs/app-1.log"], "added": False}, False),  # perhaps another log
        (SHORT, {"paths": ["/logs/app.log.1"], "added": True}, True),
    ],
)
def test_a_weak_text_beside_is_known_as_a_whole(
    scene: Scene, data: bytes, keys: dict[str, Any], is_known: bool
) -> None:
    generation = scene.knows(SHORT, done=True)
    file = scene.sees("app.log.1", data, **keys)
    (found,) = scene.decide([generation], [file])
    if is_known:
        assert found == Same(generation, file, more=len(data) > len(SHORT))
    else:
        assert found == Fresh(file, doubt=len(SHORT))


def test_one_weak_generation_excuses_one_file(scene: Scene) -> None:
    generation = scene.knows(SHORT, done=True)
    one, other = (scene.sees(f"app.log.{i}", SHORT) for i in (1, 2))
    assert scene.decide([generation], [one, other]) == [
        Same(generation, one),
        Fresh(other, doubt=len(SHORT)),
    ]


def test_a_compressed_one_is_asked_by_its_text(scene: Scene) -> None:
    generation = scene.knows(LONG, done=True)
    file = scene.sees("app.log.1.gz", gzip.compress(LONG + MORE, mtime=0))
    assert scene.decide([generation], [file]) == [Same(generation, file, more=True)]


# -- 5: replaced ---------------------------------------------------------------------------------


def truncated(scene: Scene, text: bytes, offset: int | None = None) -> tuple[Generation, Sighting]:
    """A generation whose inode has another text now."""
    log = scene.sees("app.log", OTHER)
    return scene.knows(text, offset, log, current=True), log


@pytest.mark.parametrize("offset", [20 * LINE, 40 * LINE])
def test_the_rest_of_a_truncated_log_is_in_its_longest_copy(scene: Scene, offset: int) -> None:
    generation, log = truncated(scene, LONG, offset)
    one = scene.sees("app.log.1", LONG + MORE + b"begun")
    two = scene.sees("app.log.2", LONG + OTHER[: 10 * LINE] + b"begun")
    found = scene.decide([generation], [log, two, one])
    assert found == [
        Same(generation, one),
        Copied(two, generation, scene.start(two, len(LONG) + 10 * LINE), False),
        Fresh(log, True),
    ]


def test_the_rest_of_a_short_truncated_log_is_in_its_youngest_copy(scene: Scene) -> None:
    generation, log = truncated(scene, SHORT)
    copies = [scene.sees(f"app.log.{i}", SHORT + b"%d\n" % i) for i in range(3)]
    found = scene.decide([generation], [log, copies[0], copies[2], copies[1]])
    assert found == [
        Same(generation, copies[2]),
        Fresh(copies[0], doubt=len(SHORT)),
        Fresh(copies[1], doubt=len(SHORT)),
        Fresh(log, True),
    ]


def test_where_the_rest_was_found_other_copies_are_compared_with_it(scene: Scene) -> None:
    generation, log = truncated(scene, SHORT)
    less, more = scene.sees("app.log.2", SHORT + b"x\n"), scene.sees("app.log.1", SHORT + b"x\ny\n")
    assert scene.decide([generation], [log, less, more]) == [
        Same(generation, more),
        Fresh(less, doubt=len(SHORT) + 2),
        Fresh(log, True),
    ]


def test_a_truncated_log_without_a_copy_is_lost(scene: Scene) -> None:
    for text in (LONG, SHORT):
        generation, log = truncated(scene, text)
        assert scene.decide([generation], [log]) == [Lost(generation), Fresh(log, True)]


def test_a_short_one_that_is_nowhere_is_not_what_begins_like_it(scene: Scene) -> None:
    log, beside = scene.sees("app.log", OTHER), scene.sees("app.log.1", SHORT + MORE)
    generation = scene.knows(SHORT, current=True)
    assert scene.decide([generation], [log, beside]) == [
        Lost(generation),
        Fresh(beside, doubt=len(SHORT)),
        Fresh(log, True),
    ]


def test_what_is_nowhere_is_lost_once_another_is_at_its_path(scene: Scene) -> None:
    beside = scene.sees("app.log.1", OTHER)
    fresh = Fresh(beside)
    waits = scene.knows(LONG, current=True)
    assert scene.decide([waits], [beside]) == [fresh]
    rotated = scene.knows(LONG, current=False)
    assert scene.decide([rotated], [beside]) == [Lost(rotated), fresh]
    log = scene.sees("app.log", MORE)
    assert scene.decide([waits], [beside, log]) == [Lost(waits), fresh, Fresh(log, True)]


def test_what_stays_or_cannot_be_read_hides_none_that_is_lost(scene: Scene) -> None:
    log = scene.sees("app.log", OTHER)
    current, failed, gone = scene.knows(OTHER, None, log), scene.knows(LONG), scene.knows(MORE)
    identity = (failed.inode, failed.birth_ns)
    found = scene.decide([current, failed, gone], [log], [(current, log)], [identity])
    assert found == [Same(current, log, True), Lost(gone)]


def test_what_cannot_be_read_is_neither_lost_nor_in_its_copy(scene: Scene) -> None:
    for text, current in ((LONG, True), (LONG, False), (SHORT, True)):
        generation = scene.knows(text, current=current)
        copy = scene.sees("app.log.1", text + MORE)
        identity = (generation.inode, generation.birth_ns)
        found = scene.decide([generation], [copy], failed=[identity])
        assert found == ([] if text == LONG else [Fresh(copy, doubt=len(SHORT))])


def test_the_log_written_anew_is_read_behind_what_was_read(scene: Scene) -> None:
    less, more = (scene.knows(LONG, lines * LINE, done=True) for lines in (20, 30))
    log = scene.sees("app.log", LONG + MORE)
    for generations in ([less, more], [more, less]):
        fresh = Fresh(log, start=scene.start(log, 30 * LINE))
        assert scene.decide(generations, [log]) == [fresh]


def test_the_log_written_anew_is_read_behind_what_another_will_be_read_to(scene: Scene) -> None:
    file = scene.sees("app.log.1", LONG[: 35 * LINE])
    generation = scene.knows(LONG, 20 * LINE, file)
    for text, to in (
        (LONG[: 30 * LINE] + b"begun", 30),
        (LONG[: 30 * LINE] + OTHER, 20),
        (LONG, 35),
    ):
        log = scene.sees("app.log", text)
        assert scene.decide([generation], [file, log], [(generation, file)]) == [
            Same(generation, file, True),
            Fresh(log, start=scene.start(log, to * LINE)),
        ]


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (LONG[:1023], 1023),  # too little to tell
        (LONG[:1024], 0),
        (SHORT + MORE, len(SHORT)),
        (b"", 0),
        (b"s", 1),
        (OTHER, 0),
    ],
)
def test_of_a_log_that_begins_as_others_did_it_is_in_doubt(
    scene: Scene, text: bytes, doubt: int
) -> None:
    strong, weak = scene.sees("app.log.1", LONG), scene.sees("app.log.2", SHORT)
    generations = [scene.knows(LONG, None, strong), scene.knows(SHORT, None, weak)]
    same = list(zip(generations, (strong, weak), strict=True))
    log = scene.sees("app.log", text)
    for order in (1, -1):
        found = scene.decide(generations[::order], [strong, weak, log], same)
        assert found[2:] == [Fresh(log, True, doubt=doubt)]
    held = scene.knows(SHORT)
    scene.holds(held, SHORT)
    packed = scene.sees("app.log.3.gz", gzip.compress(LONG, mtime=0))
    other = scene.knows(LONG, None, packed)
    found = scene.decide([held, other], [log, packed], [(other, packed)])
    assert found == [Same(other, packed, True), Fresh(log, True, doubt=doubt)]


# -- offset 0 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "doubt"),
    [({}, 0), ({"failed": True}, len(SHORT)), ({"now": "/logs/app.log.1"}, len(SHORT))],
)
def test_of_what_nothing_was_read_inode_and_birth_have_to_do(
    scene: Scene, keys: dict[str, Any], doubt: int
) -> None:
    """Where it moved, or could not be read so far, it may be another with that inode."""
    log = scene.sees("app.log", SHORT + b"more\n")
    before = scene.knows(SHORT, done=True)
    generation = scene.knows(SHORT, 0, log, current=True, **keys)
    assert scene.decide([generation, before], [log]) == [Same(generation, log, True, doubt=doubt)]


def test_a_copy_that_could_not_be_read_so_far_is_read_behind_what_it_is_a_copy_of(
    scene: Scene,
) -> None:
    log = scene.sees("app.log", LONG + MORE)
    before = scene.knows(LONG, done=True)
    generation = scene.knows(LONG, 0, log, current=True, failed=True)
    begin = scene.start(log, len(LONG))
    assert scene.decide([generation, before], [log]) == [Same(generation, log, True, start=begin)]


@pytest.mark.parametrize(
    ("offset", "failed", "is_itself"), [(0, True, True), (0, False, False), (1400, True, False)]
)
def test_only_what_could_not_be_read_at_all_is_itself_before_it_is_a_copy(
    scene: Scene, offset: int, failed: bool, is_itself: bool
) -> None:
    file, longer = scene.sees("app.log.1", LONG), scene.sees("app.log.2", LONG + MORE)
    generation = scene.knows(OTHER, offset, file, failed=failed)
    doubt = len(LONG) if is_itself else 0
    fresh = Fresh(longer, doubt=doubt)
    found = scene.decide([generation], [file, longer])
    if is_itself:
        assert found == [Same(generation, file, True, doubt=doubt), fresh]
    else:
        copied = Copied(file, longer, scene.start(file, len(LONG)))
        assert found == [copied, Lost(generation), fresh]


def test_what_could_not_be_read_and_is_a_copy_of_what_is_followed_is_one(scene: Scene) -> None:
    log, file = scene.sees("app.log", LONG), scene.sees("app.log.1", LONG)
    current = scene.knows(LONG, 20 * LINE, log, current=True)
    generation = scene.knows(OTHER, 0, file, failed=True)
    assert scene.decide([current, generation], [log, file], [(current, log)]) == [
        Same(current, log, True),
        Copied(file, current, scene.start(file, len(LONG)), False),
        Lost(generation),
    ]


def test_what_was_not_read_is_one_file_of_two_with_its_inode(scene: Scene) -> None:
    """On two disks; and what was read holds back none that was not."""
    log, other = scene.sees("app.log", SHORT), scene.sees("app.log.1", OTHER)
    third = scene.sees("app.log.2", MORE)
    for file in (other, third):
        inode = scene.disk.names[file.where]
        inode.number, inode.birth_ns = log.status.inode, log.status.birth_ns
        device = file.status.inode
        file.status = log.status._replace(device=device, size=file.status.size)
    read, generation = scene.knows(NOISE), scene.knows(SHORT, 0, log, current=True)
    assert scene.decide([read, generation], [log, other, third]) == [
        Same(generation, log, True),
        Lost(read),
        Fresh(other),
        Fresh(third),
    ]


# -- 1, finished ---------------------------------------------------------------------------------


def finished(scene: Scene, data: bytes, read: bytes, **keys: Any) -> tuple[Generation, Sighting]:
    file = scene.sees("app.log.1", data)
    return scene.knows(read, None, file, done=True, **keys), file


@pytest.mark.parametrize(
    ("data", "size", "more"),
    [
        (LONG, 0, False),
        (LONG + SHORT, 0, True),
        (LONG + SHORT, len(LONG + SHORT) - 1, True),
        (LONG + SHORT, len(LONG + SHORT), False),
        (LONG + bytes(100), 0, False),  # zeros are not there yet
    ],
)
def test_a_finished_one_that_has_grown_has_more(
    scene: Scene, data: bytes, size: int, more: bool
) -> None:
    generation, file = finished(scene, data, LONG, size=max(size, len(LONG)))
    found = scene.decide([generation], [file], [(generation, file)])
    assert found == [Same(generation, file, not more, more)]


def test_a_finished_one_that_is_as_it_was_is_not_opened(scene: Scene) -> None:
    generation, file = finished(scene, LONG + SHORT, LONG)
    generation.seen = file.status
    scene.disk.fail_next["open"] = 5
    found = scene.decide([generation], [file], [(generation, file)])
    assert found == [Same(generation, file, True)]
    assert scene.disk.fail_next, "not opened"
    scene.disk.fail_next.clear()
    generation.seen = file.status._replace(size=1)
    found = scene.decide([generation], [file], [(generation, file)])
    assert found == [Same(generation, file, False, True)]


@pytest.mark.parametrize("now", ["/logs/app.log.1", "/logs/app.log"])
@pytest.mark.parametrize("read", [LONG, SHORT])
@pytest.mark.parametrize("added", [b"", b"more\n"])
def test_a_weak_one_that_moved_and_grew_may_be_another(
    scene: Scene, now: str, read: bytes, added: bytes
) -> None:
    generation, file = finished(scene, read + added, read, now=now)
    found = scene.decide([generation], [file], [(generation, file)])
    doubtful = now != file.where and read == SHORT and added
    doubt = len(read + added) if doubtful else 0
    assert found == [Same(generation, file, not added, bool(added), doubt=doubt)]


def test_a_copy_that_is_still_being_made_is_one(scene: Scene) -> None:
    log, copy = scene.sees("app.log", LONG + MORE), scene.sees("app.log.1", LONG)
    generation = scene.knows(LONG, None, log)
    entry = scene.knows(LONG, 20 * LINE, copy, done=True)
    same = [(generation, log), (entry, copy)]
    assert scene.decide([generation, entry], [log, copy], same) == [
        Same(generation, log, True),
        Copied(copy, generation, scene.start(copy, len(LONG)), entry=entry),
    ]


def of_a_truncated(
    scene: Scene, copied: bytes, looked: bytes | None, text: bytes = LONG, **keys: Any
) -> tuple[list[Generation], list[Sighting]]:
    """A log that was truncated after `text` was read of it, `looked` by the last look, and a copy
    beside it."""
    log, copy = scene.sees("app.log", b""), scene.sees("app.log.1", copied, **keys)
    generation = scene.knows(text, None, log, current=True)
    if looked is not None:
        generation.looked = scene.knows(looked).seam
    return [generation], [log, copy]


@pytest.mark.parametrize(
    ("copied", "looked", "is_known"),
    [
        (LONG[: 30 * LINE], LONG[: 20 * LINE], True),
        (LONG[: 20 * LINE], LONG[: 20 * LINE], True),
        (LONG[: 20 * LINE - 1], LONG[: 20 * LINE], False),  # less than it was made of
        (LONG[: 25 * LINE] + b"begun", LONG[: 20 * LINE], True),  # what it ends with is not asked
        (LONG[: 30 * LINE], b"", True),  # by its head alone
        (LONG[: 30 * LINE], None, False),  # not looked at since the start
        (OTHER[: 30 * LINE], LONG[: 20 * LINE], False),
        (OTHER[: 30 * LINE], b"", False),
        (LONG[: 5 * LINE], LONG[: 3 * LINE], True),  # weak
        (LONG[: 5 * LINE], LONG[: 6 * LINE], False),
        (OTHER[: 5 * LINE], LONG[: 3 * LINE], False),
    ],
)
def test_a_copy_ends_where_its_log_went_on_before_it_was_truncated(
    scene: Scene, copied: bytes, looked: bytes | None, is_known: bool
) -> None:
    (generation,), (log, copy) = of_a_truncated(scene, copied, looked)
    found = scene.decide([generation], [log, copy])
    doubt = len(copied) if looked is None else 0
    assert found == [
        *([Copied(copy, generation, scene.start(copy, len(copied)), False)] if is_known else []),
        Lost(generation),
        *([] if is_known else [Fresh(copy, doubt=doubt)]),
        Fresh(log, True),
    ]


@pytest.mark.parametrize(("copied", "is_known"), [(5, True), (9, True), (10, False), (12, False)])
def test_a_short_copy_of_what_was_written_since_the_last_look(
    scene: Scene, copied: int, is_known: bool
) -> None:
    """What was read is at hand, as far as it goes."""
    text = LONG[: 12 * LINE]
    (generation,), files = of_a_truncated(scene, text[: copied * LINE - 1], b"", text)
    generation.first = text[: 9 * LINE]
    found = scene.decide([generation], files)
    assert isinstance(found[0], Copied) is is_known


def test_a_whole_copy_is_taken_before_one_that_is_cut_short(scene: Scene) -> None:
    (generation,), (log, short) = of_a_truncated(scene, LONG[: 30 * LINE], LONG[: 20 * LINE])
    whole = scene.sees("app.log.2", LONG)
    assert scene.decide([generation], [log, short, whole]) == [
        Copied(short, whole, scene.start(short, 30 * LINE)),
        Same(generation, whole),
        Fresh(log, True),
    ]


@pytest.mark.parametrize("added", [False, True])
def test_a_short_one_at_a_glob_may_be_a_log_of_its_own(scene: Scene, added: bool) -> None:
    (generation,), files = of_a_truncated(
        scene, LONG[: 5 * LINE], LONG[: 3 * LINE], paths=["/logs/app.log.1"], added=added
    )
    found = scene.decide([generation], files)
    assert any(isinstance(one, Copied) for one in found) is added


@pytest.mark.parametrize("read", [LONG, LONG[: 30 * LINE]])
def test_the_rest_of_a_copy_came_before_its_log_was_truncated(scene: Scene, read: bytes) -> None:
    (generation,), (log, copy) = of_a_truncated(scene, LONG, LONG[: 25 * LINE], read)
    entry = scene.knows(LONG, 20 * LINE, copy, done=True)
    assert scene.decide([generation, entry], [log, copy], [(entry, copy)]) == [
        Outgrown(entry),
        Same(generation, copy),
        Fresh(log, True),
    ]


def test_the_rest_of_a_copy_that_is_cut_short(scene: Scene) -> None:
    (generation,), (log, copy) = of_a_truncated(scene, LONG[: 30 * LINE], LONG[: 20 * LINE])
    entry = scene.knows(LONG, 15 * LINE, copy, done=True)
    assert scene.decide([generation, entry], [log, copy], [(entry, copy)]) == [
        Copied(copy, generation, scene.start(copy, 30 * LINE), entry=entry),
        Lost(generation),
        Fresh(log, True),
    ]


RECENT = (0, 1 << 62)


@pytest.mark.parametrize(
    ("text", "keys", "waits"),
    [
        (SHORT, {}, True),
        (SHORT[:-3], {}, True),
        (b"", {}, True),
        (SHORT + MORE[:100], {}, False),  # more than the log has
        (OTHER[:100], {}, False),
        (SHORT, {"paths": ["/logs/app.log.1"], "added": True}, True),
        (SHORT, {"paths": ["/logs/app-1.log"], "added": False}, False),
        (gzip.compress(SHORT, mtime=0), {}, False),
    ],
)
@pytest.mark.parametrize("new", [False, True])
def test_a_short_copy_in_the_making_waits(
    scene: Scene, text: bytes, keys: dict[str, Any], waits: bool, new: bool
) -> None:
    log, copy = scene.sees("app.log", SHORT), scene.sees("app.log.1", text, **keys)
    generation = scene.knows(SHORT, None, log)
    generations, same = ([], []) if new else ([generation], [(generation, log)])
    begun = [Fresh(log, True)] if new else [Same(generation, log, True)]
    if waits:
        seam = scene.start(copy, len(text)).seam
        undecided = [] if new or not (text or keys) else [Undecided(generation, seam)]
        expected = [*begun, *undecided]
        assert scene.decide(generations, [log, copy], same, recent_ns=RECENT) == expected
    for recent_ns in [(0, 0), *([] if waits else [RECENT])]:
        found = scene.decide(generations, [log, copy], same, recent_ns=recent_ns)
        read = [one.sighting for one in found if isinstance(one, Fresh)]
        assert (copy in read) is bool(text or keys)


def test_beside_a_log_that_cannot_be_asked_a_short_one_waits(scene: Scene) -> None:
    generation, copy = scene.knows(SHORT, inode=77), scene.sees("app.log.1", b"any\n")
    failed = [(77, generation.birth_ns)]
    found = scene.decide([generation], [copy], failed=failed, recent_ns=RECENT)
    assert found == [Undecided(generation)]


def test_a_short_one_that_was_there_at_first_and_grows_waits(scene: Scene) -> None:
    log, copy = scene.sees("app.log", SHORT + SHORT), scene.sees("app.log.1", SHORT)
    generation = scene.knows(SHORT + SHORT, None, log)
    entry = scene.knows(SHORT, 3, copy, done=True)
    same = [(generation, log), (entry, copy)]
    found = scene.decide([generation, entry], [log, copy], same, recent_ns=RECENT)
    seam = scene.start(copy, len(SHORT)).seam
    assert found == [Same(generation, log, True), Undecided(generation, seam)]
    found = scene.decide([generation, entry], [log, copy], same)
    assert found == [Same(generation, log, True), Same(entry, copy, False, True)]


def test_what_is_a_copy_of_another_is_asked_where_a_finished_one_beside_has_grown(
    scene: Scene,
) -> None:
    """Not at the path, where it is read on; and not where nothing was added."""
    for name, read in (("app.log", 20 * LINE), ("app.log.1", 40 * LINE)):
        scene = Scene()
        other = scene.sees("app.log.9", LONG + MORE)
        generation = scene.knows(LONG, None, other)
        file = scene.sees(name, LONG)
        entry = scene.knows(LONG, read, file, done=True)
        same = [(generation, other), (entry, file)]
        found = scene.decide([generation, entry], [other, file], same)
        assert found == [
            Same(generation, other, True),
            Same(entry, file, read == len(LONG), read < len(LONG)),
        ]


@pytest.mark.parametrize("rest", [b"", SHORT])
def test_what_others_were_added_to_an_archive_is_not_more(scene: Scene, rest: bytes) -> None:
    log = scene.sees("app.log", MORE)
    generation = scene.knows(MORE, None, log)
    archive, file = finished(scene, LONG + MORE + rest, LONG)
    same = [(generation, log), (archive, file)]
    begin = scene.start(file, len(LONG + MORE))
    assert scene.decide([generation, archive], [log, file], same) == [
        Same(generation, log, True),
        Same(archive, file, not rest, bool(rest), start=begin),
    ]


def test_what_was_added_twice_was_not_read_twice(scene: Scene) -> None:
    archive, file = finished(scene, LONG + LONG, LONG)
    found = scene.decide([archive], [file], [(archive, file)])
    assert found == [Same(archive, file, False, True)]


@pytest.mark.parametrize(
    ("added", "read"),
    [
        ([MORE, OTHER], 2),
        ([OTHER, MORE], 2),
        ([MORE, NOISE], 1),
        ([NOISE, MORE], 0),
        ([MORE, SHORT], 2),  # a short one at the end alone
        ([SHORT, MORE], 0),
        ([MORE, MORE], 2),
        ([MORE, b"tail\n"], 2),  # as far as one of them goes
    ],
)
def test_as_far_as_an_archive_is_of_others(scene: Scene, added: list[bytes], read: int) -> None:
    log = scene.sees("app.log", b"new\n")
    current = scene.knows(b"new\n", None, log)
    texts = (MORE, MORE + b"tail\n", OTHER, SHORT)
    others = [scene.knows(text, done=True) for text in texts]
    archive, file = finished(scene, LONG + b"".join(added), LONG)
    at = len(LONG + b"".join(added[:read]))
    begin = scene.start(file, at) if read else None
    same = [(current, log), (archive, file)]
    found = scene.decide([current, archive, *others], [log, file], same)
    more = at < file.status.size
    assert found == [Same(current, log, True), Same(archive, file, not more, more, begin)]


def blind(
    scene: Scene, name: str, data: bytes, size: int, packed: bool
) -> tuple[Generation, Sighting]:
    file = scene.sees(name, data)
    keys = {"blind": True, "done": True, "packed": packed, "size": size}
    return scene.knows(data, size, file, **keys), file


def test_a_blind_one_is_read_from_the_line_on_in_which_it_was_left(scene: Scene) -> None:
    generation, file = blind(scene, "app.log.1", LONG, 20 * LINE + 7, packed=False)
    found = scene.decide([generation], [file], [(generation, file)])
    assert found == [Same(generation, file, False, True, scene.start(file, 20 * LINE))]
    (kept,) = scene.decide([generation], [file], [(generation, file)], hidden=True)
    assert kept == Same(generation, file, True), "not while the log cannot be asked"


def test_a_blind_one_that_is_compressed_is_known(scene: Scene) -> None:
    data = gzip.compress(LONG, mtime=0)
    generation, file = blind(scene, "app.log.1.gz", data, len(data), packed=False)
    found = scene.decide([generation], [file], [(generation, file)])
    assert found == [Same(generation, file, True, start=scene.texts.known(file))]
    generation.packed = True
    found = scene.decide([generation], [file], [(generation, file)])
    assert found == [Same(generation, file, True)]


# -- 6 and 7: new ones ---------------------------------------------------------------------------


def test_new_ones_are_read_elder_ones_first_and_the_log_last(scene: Scene) -> None:
    log = scene.sees("app.log", LONG)
    one, two = scene.sees("app.log.1", OTHER), scene.sees("app.log.2", MORE)
    one.status = one.status._replace(birth_ns=7, mtime_ns=9)
    two.status = two.status._replace(birth_ns=7, mtime_ns=8)
    three, empty = scene.sees("app.log.3", SHORT), scene.sees("app.log.4", b"")
    three.status = three.status._replace(birth_ns=6, mtime_ns=10)
    gone = scene.knows(NOISE, done=True)
    for each in (one, two, three):  # opened by what they were when they were made
        inode = scene.disk.names[each.where]
        inode.birth_ns = each.status.birth_ns
    found = scene.decide([gone], [log, one, two, three, empty])
    assert found == [Fresh(three), Fresh(two), Fresh(one), Fresh(log, True)]


def test_in_a_directory_that_is_new_what_is_elder_was_there_before(scene: Scene) -> None:
    gone = scene.knows(NOISE, done=True)
    file = scene.sees("app.log.1", LONG, elder=True)
    assert scene.decide([gone], [file]) == [KnownText(file, scene.texts.known(file))]


@pytest.mark.parametrize("done", [False, True])
def test_noise_in_place_of_a_known_one_is_not_read(scene: Scene, done: bool) -> None:
    file = scene.sees("app.log.1", NOISE)
    generation = scene.knows(LONG, None, file, done=done)
    lost: list[Verdict] = [] if done else [Lost(generation)]
    known = KnownText(file, unseen(file), overwritten=True)
    assert scene.decide([generation], [file]) == [*lost, known]
    text = scene.sees("app.log.2", OTHER)
    generation.is_at(text.status)
    assert scene.decide([generation], [file, text]) == [*lost, Fresh(file), Fresh(text)]


def test_files_with_nothing_to_tell_their_birth_are_no_known_ones(scene: Scene) -> None:
    scene.disk.births = False
    file = scene.sees("app.log.1", NOISE)
    generation = scene.knows(LONG, None, file, done=True)
    assert scene.decide([generation], [file]) == [Fresh(file)]


# -- the first look ------------------------------------------------------------------------------


def test_at_first_what_is_at_the_path_is_read_and_what_is_beside_is_known(scene: Scene) -> None:
    log, beside = scene.sees("app.log", LONG), scene.sees("app.log.1", OTHER)
    known = KnownText(beside, scene.texts.known(beside))
    assert scene.decide([], [log, beside], first=True) == [Fresh(log, True), known]
    skipped = Fresh(log, True, scene.texts.known(log))
    assert scene.decide([], [log, beside], first=True, skip=True) == [skipped, known]


def test_at_first_a_copy_waits_until_its_log_was_read(scene: Scene) -> None:
    log, copy = scene.sees("app.log", LONG), scene.sees("app.log.1", LONG)
    copied = Copied(copy, log, scene.start(copy, len(LONG)))
    fresh = Fresh(log, True, doubt=len(LONG))
    assert scene.decide([], [log, copy], first=True) == [fresh, copied]


def test_at_first_a_compressed_copy_is_known_without_a_look_into_it(scene: Scene) -> None:
    log, copy = (
        scene.sees("app.log", LONG),
        scene.sees("app.log.1.gz", gzip.compress(LONG, mtime=0)),
    )
    known = KnownText(copy, scene.texts.known(copy))
    for hidden in (False, True):
        found = scene.decide([], [log, copy], first=True, hidden=hidden)
        assert found == [Fresh(log, True, doubt=STRONG_BYTES), known]


def test_at_first_files_beside_are_no_copies_of_each_other(scene: Scene) -> None:
    files = [scene.sees(f"app.log.{i}", LONG) for i in (1, 2)]
    known = [KnownText(file, scene.texts.known(file)) for file in files]
    assert scene.decide([], files, first=True) == known


def test_at_first_nothing_is_known_beside_a_log_that_cannot_be_asked(scene: Scene) -> None:
    beside = scene.sees("app.log.1", LONG)
    assert scene.decide([], [beside], first=True, hidden=True) == [
        KnownText(beside, unseen(beside))
    ]


def test_at_first_two_logs_at_the_globs_may_be_copies_of_each_other(scene: Scene) -> None:
    log = scene.sees("app.log", LONG)
    other = scene.sees("app.log.1", LONG, paths=["/logs/app.log.1"])
    copied = Copied(other, log, scene.start(other, len(LONG)))
    assert scene.decide([], [log, other], first=True) == [copied, Fresh(log, True)]
    weak = scene.sees("app.log.2", SHORT, paths=["/logs/app.log.2"])
    longer = scene.sees("app.log.3", SHORT + SHORT, paths=["/logs/app.log.3"])
    assert scene.decide([], [weak, longer], first=True) == [
        Fresh(weak, True, doubt=len(SHORT)),
        Fresh(longer, True, doubt=len(SHORT)),
    ]
