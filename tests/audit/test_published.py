"""What a store holds, as the audit reads it."""

import tracemalloc

import pytest

from tests.audit.test_audit import DAY, EDGE, a_manifest
from tests.sinks.parts import MemoryStore, unavailable
from tiers.audit.audit import accounts
from tiers.audit.published import Double, read_store
from tiers.core.commit import store_names
from tiers.core.commit.manifest import Manifest, encode
from tiers.errors import StoreRefused


def keep(store: MemoryStore, one: Manifest, *places: str) -> None:
    """A file's manifest, and the file in `tmp` or `void` if told."""
    files = {store_names.manifest_path(DAY, one.name): encode(one)}
    if "tmp" in places:
        files[store_names.tmp_path(DAY, one.name)] = b""
    if "void" in places:
        files[store_names.void_path(DAY, one.name)] = b""
    for path, content in files.items():
        store.make_parents(path)
        store.files[path] = content


def test_what_became_of_each_file() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1))
    keep(store, a_manifest([2], 2), "tmp")
    keep(store, a_manifest([3], 3), "void")
    keep(store, a_manifest([4], 4), "tmp", "void")
    shelf = read_store(store)
    assert [one.path for one in shelf.published] == ["file-1.log"]
    assert (shelf.pending, shelf.void, shelf.problems) == (2, 1, [])


def test_manifests_are_listed_before_tmp_and_tmp_before_void() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1), "tmp", "void")
    store.seen.clear()
    read_store(store)
    looks = [name.rpartition("/")[2] for name in store.seen if name.startswith("list")]
    assert looks == ["list .tiers", "manifests", "tmp", "void", "list .tiers", "closed"]


def test_what_is_no_mark_of_a_day_forgets_none() -> None:
    store = MemoryStore()
    for name in ("README", DAY):
        store.make_parents(store_names.closed_path(name))
        store.files[store_names.closed_path(name)] = b""
    assert read_store(store).forgotten == {DAY}


def test_an_empty_store() -> None:
    shelf = read_store(MemoryStore())
    assert not (shelf.published or shelf.problems)


def test_manifests_that_cannot_be_believed_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    for file_id in (1, 2, 3):
        keep(store, a_manifest([1] if file_id < 3 else range(1, 100), file_id))
    path = [store_names.manifest_path(DAY, a_manifest([], n).name) for n in (1, 2, 3)]
    store.files[path[0]] = store.files[path[0]][:-3]
    store.files[path[1]] = encode(a_manifest([1], 9))
    monkeypatch.setattr(
        "tiers.core.commit.manifest.MANIFEST_BYTES_MAX", len(store.files[path[2]]) - 1
    )
    problems = read_store(store).problems
    assert ["checksum" in problems[0], "says that it is" in problems[1]] == [True, True]
    assert "too many" in problems[2]


def test_a_manifest_that_vanishes_is_a_problem() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1))
    store.before = lambda _n, name: store.files.clear() if name.startswith("read") else None
    assert "gone" in read_store(store).problems[0]


def test_a_day_that_is_forgotten_while_it_is_read_is_no_problem() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1))

    def forget(_number: int, name: str) -> None:
        if name.startswith("read"):
            store.files.clear()
            store.directories -= {one for one in store.directories if DAY in one}
            store._put(store_names.closed_path(DAY), b"")

    store.before = forget
    shelf = read_store(store)
    assert (shelf.problems, shelf.forgotten) == ([], {DAY})


def test_directories_are_no_files_of_ours() -> None:
    store = MemoryStore()
    keep(store, a_manifest([1], 1))
    for place in (store_names.tmp_path, store_names.void_path):
        store.make_parents(f"{place(DAY, a_manifest([], 1).name)}/x")
    store.make_parents(f"{store_names.manifest_path(DAY, 'directory')}/x")
    shelf = read_store(store)
    assert (len(shelf.published), shelf.pending, shelf.void, shelf.problems) == (1, 0, 0, [])


def test_what_is_refused_hides_nothing_else() -> None:
    store = MemoryStore()
    for file_id in (1, 2):
        keep(store, a_manifest([file_id], file_id))

    def refuse(_number: int, name: str) -> None:
        if name == f"read {store_names.manifest_path(DAY, a_manifest([], 1).name)}":
            raise StoreRefused("permission denied")

    store.before = refuse
    shelf = read_store(store)
    assert [one.path for one in shelf.published] == ["file-2.log"]
    (problem,) = shelf.problems
    assert "permission denied" in problem


def test_doubles_are_looked_up_once_more() -> None:
    store = MemoryStore()
    for file_id, seqs in enumerate(([1, 2, 3], [4, 4], [3, 5], [2]), 1):
        keep(store, a_manifest(seqs, file_id))
    shelf = read_store(store)
    assert shelf.doubles == {
        EDGE: [
            Double(2, 10, ("file-1.log", "file-4.log")),
            Double(3, 10, ("file-1.log", "file-3.log")),
            Double(4, 10, ("file-2.log", "file-2.log")),
        ]
    }


def test_a_double_whose_manifest_has_vanished_is_a_problem() -> None:
    store = MemoryStore()
    for file_id in (1, 2):
        keep(store, a_manifest([1], file_id))
    first = store_names.manifest_path(DAY, a_manifest([], 1).name)

    def vanish(_number: int, name: str) -> None:
        if name == f"read {first}" and store.seen.count(name) == 2:
            del store.files[first]

    store.before = vanish
    shelf = read_store(store)
    assert "gone while it was read" in shelf.problems[0]
    assert [double.seq for double in shelf.doubles[EDGE]] == [1]


@pytest.mark.parametrize(("sinks", "bytes_max"), [(1, 5), (2, 60)])
def test_little_is_kept_of_many_batches(sinks: int, bytes_max: int) -> None:
    """A store tells of millions of them; by turns in the files of two sinks, they make no runs."""
    store, count, files = MemoryStore(), 1000, 40
    for file_id in range(files):
        group, turn = divmod(file_id, sinks)
        first = 1 + group * sinks * count + turn
        keep(store, a_manifest(range(first, first + sinks * count, sinks), file_id + 1))
    tracemalloc.start()
    shelf = read_store(store)
    (one,) = accounts(shelf, [])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert one.published == [[1, files * count]]
    assert kept < bytes_max * count * files, f"{kept / count / files} bytes for each batch"


def test_a_store_that_cannot_be_read_is_a_problem() -> None:
    store = MemoryStore()
    store.before = unavailable
    assert "out of order" in read_store(store).problems[0]
