"""The contract of `Store.move` and `Store.replace`: commit.md's table of calls."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contracts.conftest import Place, names
from tiers.contracts import Store
from tiers.core.commit.answers import Moved
from tiers.errors import StoreRefused


def test_a_move_and_the_same_again(store: Store) -> None:
    store.write("tmp/f", [b"1"])
    store.make_parents("out/deep/f")
    assert store.move("tmp/f", "out/deep/f") is Moved.DONE
    assert store.read("tmp/f") is None
    assert store.read("out/deep/f") == b"1"
    assert store.move("tmp/f", "out/deep/f") is Moved.SOURCE_GONE
    assert store.replace("tmp/f", "out/deep/f") is Moved.SOURCE_GONE
    assert store.read("out/deep/f") == b"1"


def test_a_move_never_replaces(store: Store) -> None:
    store.write("tmp/f", [b"new"])
    store.write("out/f", [b"old"])
    assert store.move("tmp/f", "out/f") is Moved.TARGET_THERE
    assert store.move("tmp/f", "out/f") is Moved.TARGET_THERE
    assert (store.read("tmp/f"), store.read("out/f")) == (b"new", b"old")
    assert store.move("tmp/f", "tmp/f") is Moved.TARGET_THERE
    assert store.read("tmp/f") == b"new"


@pytest.mark.parametrize("full", [False, True])
def test_a_file_never_moves_into_a_directory(store: Store, full: bool) -> None:
    store.write("tmp/f", [b"new"])
    store.make_parents("out/f/x")
    if full:
        store.write("out/f/x", [b"x"])
    assert store.move("tmp/f", "out/f") is Moved.TARGET_THERE
    with pytest.raises(StoreRefused):
        store.replace("tmp/f", "out/f")
    assert store.read("tmp/f") == b"new"
    assert names(store.list("out/f")) == (["x"] if full else [])


def test_directories_move_and_never_replace(store: Store) -> None:
    store.write("day/manifests/m", [b"m"])
    store.write("other/x", [b"x"])
    store.make_parents("trash/x")
    assert store.move("day", "other") is Moved.TARGET_THERE
    assert store.move("day", "other/x") is Moved.TARGET_THERE
    assert store.move("day", "trash/day") is Moved.DONE
    assert store.list("day") is None
    assert store.read("trash/day/manifests/m") == b"m"
    assert store.move("day", "trash/day") is Moved.SOURCE_GONE


def test_what_is_missing_is_named(store: Store) -> None:
    store.write("tmp/f", [b"1"])
    assert store.move("tmp/f", "none/here/f") is Moved.NO_PARENT
    assert store.replace("tmp/f", "none/here/f") is Moved.NO_PARENT
    assert store.move("tmp/g", "none/here/f") is Moved.SOURCE_GONE
    assert store.move("none/f", "tmp/g") is Moved.SOURCE_GONE
    assert store.replace("none/f", "tmp/g") is Moved.SOURCE_GONE
    assert store.read("tmp/f") == b"1"
    store.make_parents("none/here/f")
    store.make_parents("none/here/f")
    assert store.move("tmp/f", "none/here/f") is Moved.DONE


def test_replace_replaces(store: Store) -> None:
    store.write("tmp/f", [b"new"])
    store.write("out/f", [b"old and longer"])
    assert store.replace("tmp/f", "out/f") is Moved.DONE
    assert store.read("out/f") == b"new"
    assert store.length("tmp/f") is None
    store.write("tmp/f", [b"fresh"])
    assert store.replace("tmp/f", "out/g") is Moved.DONE
    assert store.read("out/g") == b"fresh"


def test_a_file_where_a_directory_is_needed(store: Store) -> None:
    store.write("a", [b"1"])
    store.write("b", [b"2"])
    assert store.read("a/x") is None
    assert store.length("a/x/y") is None
    assert store.list("a/x") is None
    assert store.move("a/x", "c") is Moved.SOURCE_GONE
    for call in (
        lambda: store.write("a/x", [b"3"]),
        lambda: store.make_parents("a/x/y"),
        lambda: store.move("b", "a/x"),
        lambda: store.replace("b", "a/x"),
    ):
        with pytest.raises(StoreRefused):
            call()
    assert (store.read("a"), store.read("b")) == (b"1", b"2")


def test_a_directory_is_no_file_and_a_file_no_directory(store: Store) -> None:
    store.write("d/f", [b"1"])
    assert store.read("d") is None
    assert store.length("d") is None
    assert store.list("d/f") is None


def test_of_racing_moves_exactly_one_wins(place: Place) -> None:
    """Claims: several sinks move their own file to one name."""
    movers, rounds = 6, 12
    stores = [place.open() for _ in range(movers)]
    stores[0].make_parents("claims/x")
    with ThreadPoolExecutor(movers) as pool:
        for number in range(rounds):

            def prepare(mover: int, number: int = number) -> None:
                stores[mover].write(f"tmp/{number}-{mover}", [b"%d" % mover])

            def claim(mover: int, number: int = number) -> Moved:
                return stores[mover].move(f"tmp/{number}-{mover}", f"claims/{number}")

            list(pool.map(prepare, range(movers)))
            answers = list(pool.map(claim, range(movers)))
            winners = [mover for mover, answer in enumerate(answers) if answer is Moved.DONE]
            assert len(winners) == 1, answers
            assert set(answers) == {Moved.DONE, Moved.TARGET_THERE}
            assert stores[0].read(f"claims/{number}") == b"%d" % winners[0]


def test_of_racing_publish_and_fence_exactly_one_wins(place: Place) -> None:
    """One tmp, moved to its final path by its sink and to void by the others."""
    movers, rounds = 4, 12
    stores = [place.open() for _ in range(movers)]
    stores[0].make_parents("out/x")
    with ThreadPoolExecutor(movers) as pool:
        for number in range(rounds):

            def take(mover: int, number: int = number) -> Moved:
                return stores[mover].move(f"tmp/{number}", f"out/{number}-{mover}")

            stores[0].write(f"tmp/{number}", [b"x"])
            answers = list(pool.map(take, range(movers)))
            assert sorted(answer.value for answer in answers) == sorted(
                ["done"] + ["source gone"] * (movers - 1)
            )
            winner = answers.index(Moved.DONE)
            assert stores[0].read(f"out/{number}-{winner}") == b"x"
    assert len(stores[0].list("out") or []) == rounds
