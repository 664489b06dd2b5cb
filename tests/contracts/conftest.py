"""Each kind of store, for its contract. A new one gets the suite by adding a place here."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hdfs import InsecureClient

from tests.hadoop.cluster import HdfsCluster
from tests.simulation.place import SimPlace
from tiers.contracts import Store
from tiers.core.commit.answers import Listed
from tiers.sinks.files.stores.hdfs import HdfsStore
from tiers.sinks.files.stores.local import LocalStore

NOBODY = 65534


class Place(Protocol):
    """A root of one kind of store: how the suite opens it, once for each agent it plays."""

    def open(self) -> Store: ...

    def forbidden(self) -> contextlib.AbstractContextManager[Store]:
        """A store whose person forgot to give the agent's user its permissions; it holds "f"."""

    def unreachable(self) -> Store: ...


class DirectoryPlace:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> Store:
        return LocalStore(self._directory / "not" / "there yet")

    @contextlib.contextmanager
    def forbidden(self) -> Iterator[Store]:
        root = self._directory / "forbidden"
        LocalStore(root).write("f", [b"x"])
        root.chmod(0)
        me = os.geteuid()
        if me == 0:
            os.seteuid(NOBODY)
        try:
            yield LocalStore(root)
        finally:
            os.seteuid(me)
            root.chmod(0o700)

    def unreachable(self) -> Store:
        """A root that was there, such as on a file system that is unmounted since."""
        root = self._directory / "unmounted"
        store = LocalStore(root)
        store.write("f", [b"x"])
        root.rename(self._directory / "elsewhere")
        return store


class HdfsPlace:
    def __init__(self, cluster: HdfsCluster) -> None:
        self._cluster = cluster
        self._root = cluster.new_root()

    def open(self) -> Store:
        return self._cluster.store(f"{self._root}/there yet")

    @contextlib.contextmanager
    def forbidden(self) -> Iterator[Store]:
        root = self._cluster.new_root()
        owner = self._cluster.store(root, user="alice")
        owner.write("f", [b"x"])
        admin = InsecureClient(self._cluster.url, user="alice", timeout=60)
        admin.set_permission(root, "700")
        yield self._cluster.store(root, user="mallory")

    def unreachable(self) -> Store:
        return HdfsStore(url="http://127.0.0.1:1", user="logs", root="/", connect_s=1, read_s=1)


@pytest.fixture(params=["directory", "hdfs", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return DirectoryPlace(tmp_path)
    if request.param == "simulated":
        return SimPlace()
    return HdfsPlace(request.getfixturevalue("hdfs_cluster"))


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    store = place.open()
    yield store
    store.close()


def names(listed: Iterable[Listed] | None) -> list[str] | None:
    return None if listed is None else [one.name for one in listed]
