"""Store calls, and where their answers are read."""

import threading
from pathlib import Path

import pytest

from tiers.core.batch import BatchId
from tiers.core.commit import manifest_index
from tiers.core.commit.calls import Read
from tiers.core.commit.manifest import Item, Manifest, encode
from tiers.core.commit.manifest_index import File, Manifests
from tiers.sinks.files.performing import perform
from tiers.sinks.files.stores.local import LocalStore
from tiers.sinks.workers import Workers

FILE = File("2026-11-23", "s.o.1-0000000007")


class Reader:
    """A machine that reads one manifest."""

    def __init__(self) -> None:
        self.manifests = Manifests("other")

    def content(self, data: bytes | None) -> None:
        self.manifests.read(FILE, data)

    def answer(self, answer: object) -> None: ...

    def listed(self, entries: object) -> None: ...


async def test_a_long_manifest_is_read_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [Item(BatchId(b"o" * 16, 2 * n), 1, False) for n in range(20_000)]
    content = encode(Manifest("s.o.1", 7, FILE.day, "web/x.log", "none", 1, items))
    (tmp_path / "manifest").write_bytes(content)
    readers = set()
    decode = manifest_index.decode  # type: ignore[attr-defined]

    def noted(data: bytes) -> Manifest:
        readers.add(threading.current_thread())
        return decode(data)

    monkeypatch.setattr(manifest_index, "decode", noted)
    machine, workers = Reader(), Workers("test", 1)
    await perform(machine, Read("manifest"), LocalStore(tmp_path), workers)
    assert machine.manifests.has(FILE, BatchId(b"o" * 16, 2))
    assert not machine.manifests.has(FILE, BatchId(b"o" * 16, 3))
    assert threading.current_thread() not in readers
    assert len(readers) == 1
    workers.close(1.0)
