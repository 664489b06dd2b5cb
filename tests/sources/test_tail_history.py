"""Which finished generations are kept, and which names are whose."""

import pytest

from tests.sources.scene import Scene
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.history import KEPT_MAX, History
from tiers.sources.tail.logs import Logs

RETENTION_S = 100.0
NOW_S = 1000.0


def done(scene: Scene, path: str, since_s: float) -> Generation:
    return scene.knows(b"line\n", done=True, path=path, since_s=since_s)


@pytest.mark.parametrize(
    ("ages_s", "is_followed", "is_there", "is_kept"),
    [
        ([101], False, False, False),
        ([100], False, False, True),
        ([101, 99], False, False, True),  # a path is forgotten as a whole
        ([101, 500], False, False, False),
        ([101], True, False, True),
        ([101, 101], False, True, True),
    ],
)
def test_a_path_is_forgotten_when_nothing_of_it_was_there_for_long(
    ages_s: list[float], is_followed: bool, is_there: bool, is_kept: bool
) -> None:
    scene, history = Scene(), History(RETENTION_S)
    generations = [done(scene, "/a.log", NOW_S - age_s) for age_s in ages_s]
    other = done(scene, "/b.log", NOW_S)
    for generation in (*generations, other):
        history.add(generation)
    there = {(generations[-1].inode, generations[-1].birth_ns)} if is_there else set()
    followed = [scene.knows(b"line\n", path="/a.log")] if is_followed else []
    forgotten = history.prune(there, NOW_S, followed)
    assert forgotten == ([] if is_kept else [generation.key for generation in generations])
    assert list(history.all()) == [*(generations if is_kept else []), other]


def test_of_one_path_the_youngest_are_kept_beside_those_that_are_there() -> None:
    scene, history = Scene(), History(RETENTION_S)
    generations = [done(scene, "/a.log", NOW_S - 3 + i % 2) for i in range(KEPT_MAX + 5)]
    for generation in generations:
        history.add(generation)
    there = {(generations[i].inode, generations[i].birth_ns) for i in (0, 2)}
    # The eldest first; of equal age, the one that was found first.
    eldest = [generations[i].key for i in (4, 6, 8)]
    assert history.prune(there, NOW_S, []) == eldest
    assert len(list(history.all())) == KEPT_MAX + 2
    assert history.prune(there, NOW_S, []) == []


def test_what_is_removed_twice_is_gone() -> None:
    scene, history = Scene(), History(RETENTION_S)
    one, other = done(scene, "/a.log", 0), done(scene, "/a.log", 0)
    history.add(one)
    history.add(other)
    for generation in (one, one, other, other):
        history.remove(generation)
    assert list(history.all()) == []


def logs(*paths: str) -> Logs:
    found = Logs()
    for path in paths:
        found.add(path, path)
    return found


def test_logs_whose_names_rotation_may_have_made_belong_to_another() -> None:
    found = logs("/l/app.log", "/l/app.log.1", "/l/app-1.log", "/l/other.log", "/m/app.log.2")
    found.settle()
    kin = {"/l/app.log": "/l/app.log", "/l/app.log.1": "/l/app.log", "/l/app-1.log": "/l/app.log"}
    kin |= {path: path for path in ("/l/other.log", "/m/app.log.2", "/unknown")}
    for path, of in kin.items():
        assert found.kin(path) == of
    assert found.directories() == ["/l", "/m"]
    assert found.of("/l", "app.log.1.gz") == ("/l/app.log", "app.log")
    assert found.of("/l", "other.log-20261123") == ("/l/other.log", "other.log")
    assert found.of("/l", "app.log.tail") is None
    assert found.of("/m", "app.log.1") is None
    assert found.of("/n", "app.log.1") is None


def test_a_log_of_a_log_of_a_log_is_the_firsts() -> None:
    for paths in (("a.log", "a.log.1", "a.log.1.1"), ("a.log.1.1", "a.log.1", "a.log")):
        found = logs(*(f"/l/{name}" for name in paths))
        found.settle()
        assert {found.kin(f"/l/{name}") for name in paths} == {"/l/a.log"}


def test_where_generations_were_seen_to_go() -> None:
    found = logs("/l/app.log")
    found.learn("/l", "/l/app.log", "/l/app.log")
    found.learn("/old", "/l/app.log", "/l/app.log")
    assert found.directories() == ["/l", "/old"]
    assert (found.is_learned("/l"), found.is_learned("/old")) == (False, True)
    for name in ("app.log", "app.log.1"):
        assert found.of("/old", name) == ("/l/app.log", "app.log")
    assert found.of("/old", "other.log") is None
    for directory, is_in in (("/l", True), ("/old", True), ("/m", False)):
        assert found.is_in("/l/app.log", directory) is is_in
        assert not found.is_in("/l/other.log", directory)
    found.add("/old/x.log", "/old/x.log")
    assert found.directories() == ["/l", "/old"]


def test_two_paths_of_one_file_are_one_log() -> None:
    found = Logs()
    found.add("/l/app.log", "/real/app.log")
    found.add("/m/app.log", "/real/app.log")
    assert found.kin("/m/app.log") == "/l/app.log"
    assert found.of("/real", "app.log.1") == ("/l/app.log", "app.log")
    assert found.of("/l", "app.log.1") is None


def test_a_link_to_the_newest_of_its_own_generations() -> None:
    found = Logs()
    found.add("/l/app.log", "/l/app.log-20261123")
    assert found.of("/l", "app.log-20261122") == ("/l/app.log", "app.log")
