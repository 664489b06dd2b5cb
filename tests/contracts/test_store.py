"""One contract for every store: commit.md's table of calls and the docstrings of `Store` (moving:
test_store_moves)."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contracts.conftest import Place, names
from tests.seeds import some_dice
from tests.waiting import wait_for
from tiers.contracts import Store
from tiers.core.commit.answers import Moved
from tiers.errors import StoreRefused, StoreUnavailable


def wrote(store: Store, path: str, content: bytes) -> bool:
    """False where the answer is "ask again": an earlier writer's call may land meanwhile."""
    try:
        return store.write(path, [content]) == len(content)
    except StoreUnavailable:
        return False


# Writing and reading


def test_a_fresh_store_is_empty_and_its_root_is_made_by_the_first_write(store: Store) -> None:
    assert store.list("") is None
    assert store.read("a/b") is None
    assert store.length("a/b") is None
    assert store.delete("a/b") is False
    assert store.move("a/b", "a/c") is Moved.SOURCE_GONE
    assert store.write("a/b", [b"one ", memoryview(b"two")]) == 7
    assert store.read("a/b") == b"one two"
    assert [store.read("a/b", bytes_max) for bytes_max in (2, 7)] == [b"one", b"one two"]
    assert store.length("a/b") == 7
    assert names(store.list("")) == ["a"]


def test_a_file_of_no_bytes(store: Store) -> None:
    assert store.write("tmp/empty", []) == 0
    assert store.read("tmp/empty") == b""
    assert store.length("tmp/empty") == 0


@pytest.mark.parametrize("sizes", [[1, 0, 2**20 - 1, 1, 2**20, 3 * 2**20 + 5, 7], [8192] * 300])
def test_chunks_of_any_size_arrive_in_order(store: Store, sizes: list[int]) -> None:
    chunks = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    assert store.write("tmp/f", iter(chunks)) == sum(sizes)
    assert store.read("tmp/f") == b"".join(chunks)


def test_writing_again_replaces(store: Store) -> None:
    assert store.write("tmp/f", [b"a longer text"]) == 13
    assert store.write("tmp/f", iter([b"short"])) == 5
    assert store.read("tmp/f") == b"short"
    assert names(store.list("tmp")) == ["f"]


def test_a_big_file_and_its_speed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    piece, count = random.Random(1).randbytes(2**20), 64
    began = time.perf_counter()
    assert store.write("tmp/big", (piece for _ in range(count))) == count * len(piece)
    took_s = time.perf_counter() - began
    assert store.length("tmp/big") == count * len(piece)
    with capsys.disabled():
        print(f"\n{store.where()}: 64 MiB in {took_s:.2f} s, {64 / took_s:.0f} MiB/s")


@pytest.mark.parametrize("error", [KeyError, BrokenPipeError, ConnectionResetError, OSError])
@pytest.mark.parametrize("before", [1, 5 * 2**20])
def test_an_error_of_the_chunks_comes_out_as_it_is(
    store: Store, error: type[Exception], before: int
) -> None:
    raised = error("the channel's own")

    def chunks() -> Iterator[bytes]:
        yield b"x" * before
        raise raised

    with pytest.raises(error) as caught:
        store.write("tmp/f", chunks())
    assert caught.value is raised
    # What is left, if anything, is a prefix; and the name can be written again.
    assert set(store.read("tmp/f") or b"") <= set(b"x")
    assert wait_for(lambda: wrote(store, "tmp/f", b"whole"))
    assert store.read("tmp/f") == b"whole"


def test_writers_of_one_name_leave_the_whole_content_of_one(place: Place) -> None:
    contents = [bytes([65 + number]) * 300_000 for number in range(6)]

    def write(content: bytes) -> bool:
        return wrote(place.open(), "tmp/f", content)

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    store = place.open()
    assert store.read("tmp/f") in contents
    assert write(contents[0])
    assert store.read("tmp/f") == contents[0]


# Names


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "Größe-日本-🎉",
        "100%",
        "%41%2F%",
        "a+b=c&d;e,f",
        "#LATEST",
        "?op=DELETE",
        "quote'\"`",
        "star*[x]{y}",
        "back\\slash",
        "~tilde@home!$()",
        ".hidden",
        "-dash",
        "x" * 200,
    ],
)
def test_any_name_is_just_a_name(store: Store, name: str) -> None:
    path = f"tmp/{name}/{name}"
    assert store.write(path, [b"1"]) == 1
    assert store.read(path) == b"1"
    assert store.length(path) == 1
    assert names(store.list(f"tmp/{name}")) == [name]
    assert store.write(path, [b"12"]) == 2
    assert names(store.list(f"tmp/{name}")) == [name]
    assert store.move(path, f"tmp/{name}/2{name}") is Moved.DONE
    assert names(store.list(f"tmp/{name}")) == [f"2{name}"]
    assert store.replace(f"tmp/{name}/2{name}", path) is Moved.DONE
    assert store.read(path) == b"12"
    assert store.delete(f"tmp/{name}") is True
    assert names(store.list("tmp")) == []


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../b", "..", ".", "a//b", "a/", "a\0b"])
def test_paths_that_leave_the_root_are_our_own_mistake(store: Store, path: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.write(path, [b"x"]),
        lambda: store.move(path, "b"),
        lambda: store.move("b", path),
        lambda: store.replace("b", path),
        lambda: store.make_parents(path),
        lambda: store.read(path),
        lambda: store.length(path),
        lambda: store.delete(path),
    ]
    if path:  # "" is the root
        calls.append(lambda: store.list(path))
    for call in calls:
        with pytest.raises(AssertionError):
            call()


# Listing


def test_a_listing_tells_sizes_times_and_kinds(store: Store) -> None:
    before_ms = store.now_ms()
    store.write("d/b", [b"12"])
    store.write("d/a", [b""])
    store.write("d/c/x", [b"1"])
    after_ms = store.now_ms()
    listed = store.list("d")
    assert listed is not None
    shown = [(one.name, one.size_bytes, one.is_directory) for one in listed]
    assert shown == [("a", 0, False), ("b", 2, False), ("c", 0, True)]
    for one in listed:  # whole seconds, and a kernel's clock for files lags by a tick
        assert before_ms - 50 <= one.modified_ms < after_ms + 1000
    assert store.delete("d/c") is True
    assert store.delete("d/c") is False
    assert names(store.list("d")) == ["a", "b"]


def test_an_empty_directory_is_not_a_missing_one(store: Store) -> None:
    store.make_parents("d/x")
    assert store.list("d") == []
    assert store.list("e") is None
    assert store.list("d/e/f") is None


def test_a_listing_of_many_is_whole_and_sorted(place: Place) -> None:
    """More than the NameNode puts on a page (dfs.ls.limit is 50 in the tests' cluster)."""
    count = 120
    stores = [place.open() for _ in range(8)]

    def make(number: int) -> None:
        stores[number % 8].write(f"many/entry-{number:04d}", [])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(count)))
    assert names(stores[0].list("many")) == [f"entry-{number:04d}" for number in range(count)]


def test_a_listing_while_entries_come_and_go(place: Place) -> None:
    """Each entry that is there all the time is in every listing."""
    store, other = place.open(), place.open()
    for number in range(60):
        store.write(f"d/stay-{number:02d}", [])
    stay = [f"stay-{number:02d}" for number in range(60)]

    def churn(_: int) -> None:
        for number in range(20):
            other.write(f"d/come-{number}", [])
            other.move(f"d/come-{number}", f"d/went-{number}")
            other.delete(f"d/went-{number}")

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn, 0)
        while not churning.done():
            found = names(store.list("d"))
            assert found is not None
            assert [name for name in found if name in stay] == stay
        churning.result()
    assert names(store.list("d")) == stay


def test_deleting_a_tree_that_another_deletes_too(place: Place) -> None:
    stores = [place.open() for _ in range(3)]
    for number in range(30):
        stores[0].write(f"trash/day/{number % 3}/{number}", [])
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda store: store.delete("trash/day"), stores))
    assert any(answers)
    assert stores[0].list("trash") == []


def test_directories_made_and_removed_at_once_by_several(place: Place) -> None:
    """A day's directories are made by the first who needs them, and all may be the first."""
    stores = [place.open() for _ in range(5)]

    def publish(mover: int) -> Moved:
        stores[mover].write(f".tiers/day/tmp/{mover}", [b"x"])
        stores[mover].make_parents(f"a/b/c/d/{mover}")
        return stores[mover].move(f".tiers/day/tmp/{mover}", f"a/b/c/d/{mover}")

    with ThreadPoolExecutor(5) as pool:
        assert set(pool.map(publish, range(5))) == {Moved.DONE}
    assert names(stores[0].list("a/b/c/d")) == [str(mover) for mover in range(5)]


# Refusals and outages


def test_a_lack_of_permission_is_refused_and_named(place: Place) -> None:
    with place.forbidden() as store:
        calls: list[Callable[[], object]] = [
            lambda: store.write("g", [b"x" * 100]),
            lambda: store.write("big", (b"x" * 2**20 for _ in range(8))),
            lambda: store.write("d/g", [b"x"]),
            lambda: store.move("f", "g"),
            lambda: store.replace("f", "g"),
            lambda: store.make_parents("d/g"),
            lambda: store.read("f"),
            lambda: store.length("f"),
            lambda: store.length("g"),  # nobody may say that this is not there
            lambda: store.list(""),
            lambda: store.delete("f"),
        ]
        for call in calls:
            with pytest.raises(StoreRefused, match=r"(?i)permission denied"):
                call()


def test_an_outage_is_unavailable_and_never_an_absence(place: Place) -> None:
    store = place.unreachable()
    calls: list[Callable[[], object]] = [
        lambda: store.write("g", [b"x"]),
        lambda: store.move("f", "g"),
        lambda: store.replace("f", "g"),
        lambda: store.make_parents("d/g"),
        lambda: store.read("f"),
        lambda: store.length("f"),
        lambda: store.list("d"),
        lambda: store.list(""),
        lambda: store.delete("f"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()


def test_a_closed_store_and_its_name(place: Place) -> None:
    store = place.open()
    assert "there yet" in store.where()
    store.close()
    store.close()


# Against a model


def test_random_calls_answer_as_a_dictionary_would(store: Store) -> None:
    rng = some_dice()
    model: dict[str, bytes] = {}
    paths = [f"{directory}/{name}" for directory in ("a", "b", "c") for name in ("x", "y", "z")]
    made: set[str] = set()
    for step in range(150):
        path, target = rng.choice(paths), rng.choice(paths)
        match rng.choice(["write", "move", "replace", "read", "length", "list", "delete"]):
            case "write":
                content = b"%d" % step
                assert store.write(path, [content]) == len(content)
                model[path] = content
                made.add(path[0])
            case "move" | "replace" as call:
                if path == target:
                    continue
                answer = store.move(path, target) if call == "move" else store.replace(path, target)
                if path not in model:
                    assert answer is Moved.SOURCE_GONE
                elif target[0] not in made:
                    assert answer is Moved.NO_PARENT
                elif call == "move" and target in model:
                    assert answer is Moved.TARGET_THERE
                else:
                    assert answer is Moved.DONE
                    model[target] = model.pop(path)
            case "read":
                assert store.read(path) == model.get(path)
            case "length":
                content_there = model.get(path)
                assert store.length(path) == (None if content_there is None else len(content_there))
            case "list":
                there = sorted(one[2:] for one in model if one[0] == path[0])
                assert names(store.list(path[0])) == (there if path[0] in made else None)
            case _:
                assert store.delete(path) is (model.pop(path, None) is not None)
