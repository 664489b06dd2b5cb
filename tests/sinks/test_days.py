"""Days are closed and forgotten by marks of ours alone (the way through: test_two_sinks)."""

import os
from pathlib import Path

import pytest

from tiers.core.commit import store_names
from tiers.core.commit.answers import Listed
from tiers.host.clock import CLOCK
from tiers.sinks.files.days import closed_days, tend_days
from tiers.sinks.files.stores.local import LocalStore

DAY = "2026-11-23"
RETENTION_MS = 50_000


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Of a day of which something is older than the retention, and this is new."""
    path = tmp_path / store_names.manifest_path(DAY, "m")
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def old(path: Path) -> None:
    os.utime(path, (1, 1))


def test_an_old_mark_alone_removes_no_day_that_is_in_use(tmp_path: Path, manifest: Path) -> None:
    mark = tmp_path / store_names.closed_path(DAY)
    mark.parent.mkdir()
    mark.touch()
    old(mark)
    store = LocalStore(tmp_path)
    assert tend_days(store, "x", RETENTION_MS, CLOCK) == ({DAY}, set())
    assert manifest.exists()
    for path in (manifest, *list(manifest.parents)[:2]):
        old(path)
    assert tend_days(store, "x", RETENTION_MS, CLOCK) == ({DAY}, {DAY})
    assert not manifest.exists()


def test_of_a_day_in_use_no_file_is_looked_at(tmp_path: Path, manifest: Path) -> None:
    """There are thousands of them, and each sink looks every few minutes."""
    listed = []

    class Listing(LocalStore):
        def list(self, path: str) -> "list[Listed] | None":
            listed.append(path)
            return super().list(path)

    old(manifest.parents[1])
    assert tend_days(Listing(tmp_path), "x", RETENTION_MS, CLOCK) == (set(), set())
    assert listed == [store_names.CLOSED, store_names.OWN, f".tiers/{DAY}", store_names.TRASH]
    old(manifest.parent)
    assert tend_days(Listing(tmp_path), "x", RETENTION_MS, CLOCK) == (set(), set()), (
        "the manifest is new"
    )
    assert store_names.manifests_path(DAY) in listed


def test_a_directory_is_no_mark(tmp_path: Path, manifest: Path) -> None:
    (tmp_path / store_names.closed_path(DAY)).mkdir(parents=True)
    for path in (tmp_path / store_names.closed_path(DAY), manifest, *list(manifest.parents)[:2]):
        old(path)
    store = LocalStore(tmp_path)
    for _ in range(2):
        assert tend_days(store, "x", RETENTION_MS, CLOCK) == (set(), set())
    assert manifest.exists()
    assert closed_days(store) == {}


def test_what_is_no_day_is_no_closed_day(tmp_path: Path) -> None:
    (tmp_path / store_names.CLOSED).mkdir(parents=True)
    (tmp_path / store_names.closed_path("README")).touch()
    assert tend_days(LocalStore(tmp_path), "x", RETENTION_MS, CLOCK) == (set(), set())
