"""Foreign things among what is ours in a store, of every kind and at every place: each line is
published once, or waits and the status says why; and nothing of theirs is removed."""

import os
import stat
from pathlib import Path

import pytest

from tests.sinks.parts import MemorySink, Said, fill
from tests.sinks.test_two_sinks import BLOCKS, DAY, channel_with, lines, running
from tests.waiting import eventually
from tiers.core.batch import BatchId
from tiers.core.commit import store_names
from tiers.core.commit.claim import Claim, encode_claim
from tiers.core.commit.manifest import Item, Manifest, encode, sealed_line
from tiers.sinks.files.stores.local import LocalStore

ID = BatchId(b"o" * 16, 1)
SINK = "x.out.0"


def make(path: Path, kind: str) -> None:
    """Something foreign at this place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "directory":
            path.mkdir()
            (path / "inside").write_bytes(b"theirs")
        case "full directory":
            for number in range(300):
                (path / f"{number}").mkdir(parents=True)
        case "loop":
            path.symlink_to(path)
        case "dangling link":
            path.symlink_to(path.parent / "nowhere")
        case "pipe":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)  # sparse
        case _:
            path.write_bytes(CONTENTS[kind])


CONTENTS = {
    "empty": b"",
    "text": b"not ours\n",
    "cut": encode_claim(Claim(SINK, ID, 5))[:-3],
    "claim": encode_claim(Claim(SINK, ID, 5)),
    "claim of no text": sealed_line(
        {
            "tiers": "claim",
            "version": 1,
            "origin": ID.origin.hex(),
            "seq": 1,
            "sink": "\ud800",
            "number": "5",
        }
    ),
    "manifest": encode(Manifest(SINK, 1, DAY, "elsewhere", "none", 3, [Item(ID, 1, True)])),
    "deep": b"[" * 100_000,
}
KINDS = (
    *("directory", "full directory", "loop", "dangling link", "pipe", "socket", "huge"),
    *CONTENTS,
)
FILE = store_names.file_name(SINK, 1).encode()
CLAIM = store_names.claim_name(ID).encode()
# What may be there, and how many lines may have to wait for it.
PLACES = {
    "beside": (
        (
            *(f"{DAY}/claims/{name}".encode() for name in ("README", "x" * 200)),
            *(f"{DAY}/{room}/README".encode() for room in ("void", "tmp")),
            *(DAY.encode() + b"/" + room + b"/" + FILE for room in (b"void", b"tmp")),
            DAY.encode() + b"/claims/caf\xe9",
            *(
                b"closed/" + name
                for name in (b"README", b"caf\xe9", b"2026-99-99", b"2026-11-23.1")
            ),
            *(b"README", b"2026-13-13", b"trash.old", b"a\nERROR forged"),
            *(b"closed/2026-11-23\n", DAY.encode() + b"/claims/a\nERROR forged"),
        ),
        0,
    ),
    "claim": ((f"{DAY}/claims/".encode() + CLAIM,), 1),
    "manifest": ((f"{DAY}/manifests/".encode() + FILE,), len(BLOCKS)),
    "other manifests": (
        tuple(
            f"{DAY}/manifests/".encode() + name for name in (b"README", b"caf\xe9", b"-1", b"a\nb")
        ),
        len(BLOCKS),
    ),
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", KINDS)
async def test_foreign_things(tmp_path: Path, kind: str, where: str) -> None:
    names, waiting_max = PLACES[where]
    root = tmp_path / "out"
    foreign = [Path(os.fsdecode(os.fsencode(root / ".tiers") + b"/" + name)) for name in names]
    for path in foreign:
        make(path, kind)
    before = [seen(path) for path in foreign]
    async with channel_with(tmp_path / "a", flagged=True) as channel:
        await fill(channel, [b"unflagged\n"], 100)
        sink = MemorySink(Said(channel), LocalStore(root), path="", roll_size=1, takeover_after=0.4)
        async with running(sink):
            await eventually(lambda: lines(root)[b"unflagged\n"])
            await eventually(lambda: settled(sink, root))
        status = sink.status()
    found = lines(root)
    assert max(found.values()) == 1
    assert len(found) >= len(BLOCKS) + 1 - waiting_max
    if len(found) + sink.counts.dropped <= len(BLOCKS):
        assert status["stopped"], "it says why"
    # A whole claim is as good as one of ours: when it is old it is taken over.
    if (where, kind) != ("claim", "claim"):
        assert [seen(path) for path in foreign] == before


def settled(sink: MemorySink, root: Path) -> bool:
    """Everything is published, or waits in a way that the status tells."""
    status = sink.status()
    stopped = status["stopped"]
    assert isinstance(stopped, list)
    told = sum(int(one["what"].split()[0]) for one in stopped)
    return sum(lines(root).values()) + told + sink.counts.dropped == len(BLOCKS) + 1


def seen(path: Path) -> object:
    found = os.lstat(path)
    return found.st_ino, found.st_mode, found.st_size
