"""The content of a file, over every pair of codecs."""

import random
import shutil
import subprocess
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.core.strangers import LINES, RESERVED, VARIANTS, Sealed, sealed, verified
from tests.sinks.parts import open_file, record
from tiers.core import codecs
from tiers.core.batch import Buffer, open_envelope, split
from tiers.core.codecs import EXTENSIONS, compressor
from tiers.core.commit.filing import Ref
from tiers.core.commit.planned import Plan
from tiers.errors import BatchError, ChannelUnavailable, StoreUnavailable
from tiers.sinks.files.body import CHUNK_BYTES, SMALL_BYTES, Body

CODECS = ["none", "gzip", "zstd"]


class Shelf:
    """Records by position."""

    def __init__(self, blocks: list[bytes], codec: str) -> None:
        self.records = {
            at: record(block, at, codec=codec) for at, block in enumerate(blocks, start=1)
        }

    def record(self, position: int) -> bytes:
        return self.records[position]

    def plan(self, codec: str) -> Plan:
        refs = []
        for position, data in self.records.items():
            envelope = open_envelope(data)
            refs.append(Ref(position, envelope.id, envelope.count, False, len(data), 0.0))
        return Plan("s", 1, "2026-11-23", "p", codec, refs, list(self.records))


def body(shelf: Shelf, codec: str) -> Body:
    return Body(shelf, shelf.plan(codec), 1, threading.Event())


def blocks(sizes: list[int]) -> list[bytes]:
    """Lines that hardly compress, so that sizes stay what they are."""
    dice = random.Random(4)
    return [dice.randbytes(size).replace(b"\n", b" ") + b"\n" for size in sizes]


BIG, SMALL = SMALL_BYTES * 2, 200


@pytest.mark.parametrize("sealed", CODECS)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "sizes",
    [[], [SMALL], [BIG], [SMALL] * 50, [SMALL, BIG, SMALL, SMALL, BIG, BIG], [CHUNK_BYTES * 2] * 2],
)
def test_all_lines_in_order_in_chunks(sealed: str, codec: str, sizes: list[int]) -> None:
    lines = blocks(sizes)
    chunks = [bytes(chunk) for chunk in body(Shelf(lines, sealed), codec)]
    content = b"".join(chunks)
    assert (open_file(f"x{EXTENSIONS[codec]}", content) if content else b"") == b"".join(lines)
    assert all(len(chunk) >= CHUNK_BYTES for chunk in chunks[:-1])


def frames(content: bytes) -> int:
    count = 0
    while content:
        opener = zstandard.ZstdDecompressor().decompressobj()
        opener.decompress(content)
        content, count = opener.unused_data, count + 1
    return count


def test_bodies_are_copied_and_small_ones_joined() -> None:
    lines = blocks([BIG, SMALL, SMALL, SMALL, BIG, SMALL, BIG])
    shelf = Shelf(lines, "zstd")
    content = b"".join(body(shelf, "zstd"))
    stored = [bytes(split(data)[1]) for data in shelf.records.values()]
    assert frames(content) == 5
    assert all(stored[index] in content for index in (0, 4, 5, 6)), "a body that stands alone"
    assert all(stored[index] not in content for index in (1, 2, 3)), "bodies that are joined"


def test_joined_ones_are_bounded() -> None:
    content = b"".join(body(Shelf([b"x" * 30_000 + b"\n"] * 100, "zstd"), "zstd"))
    assert frames(content) == 3  # of about 1 MiB raw each


def test_it_can_be_read_again() -> None:
    one = body(Shelf(blocks([SMALL] * 3), "zstd"), "gzip")
    assert b"".join(one) == b"".join(one)


def damage(shelf: Shelf) -> None:
    def gone(position: int) -> bytes:
        if position == 2:
            raise BatchError("there is no batch at position 2")
        return shelf.records[position]

    shelf.record = gone  # type: ignore[method-assign]


def swap(shelf: Shelf) -> None:
    shelf.records[2] = shelf.records[1]


def lie(shelf: Shelf) -> None:
    shelf.records[2] = record(b"a\n", 2, codec="none").replace(b"\xa4size\x02", b"\xa4size\x03")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("harm", "says", "whole"),
    [(damage, "no batch", False), (swap, "was planned", False), (lie, "opens to", True)],
)
def test_a_bad_batch_is_named(
    harm: Callable[[Shelf], None], says: str, whole: bool, codec: str
) -> None:
    shelf = Shelf([b"a\n", b"b\n", b"c\n"], "zstd")
    plan = shelf.plan(codec)
    harm(shelf)
    one = Body(shelf, plan, 1, threading.Event())
    with pytest.raises(BatchError):
        list(one)
    (bad,) = one.bad
    assert (bad.position, bad.whole) == (2, whole)
    assert says in bad.reason


def test_all_that_are_bad_are_found_in_one_go() -> None:
    sizes = [BIG] * 4
    shelf = Shelf(blocks(sizes), "zstd")
    plan = shelf.plan("zstd")
    for seq in (2, 4):
        shelf.records[seq] = sealed(Sealed(seq, b"no zstd at all", size=BIG + 1, codec="zstd"))
    one = Body(shelf, plan, 1, threading.Event())
    with pytest.raises(BatchError, match="2 batches"):
        list(one)
    assert [bad.position for bad in one.bad] == [2, 4]


# -- what a stranger seals ----------------------------------------------------------------------

GOOD = {one.name: one for one in VARIANTS if one.fate == "published"}
BAD = {one.name: one for one in VARIANTS if one.fate == "dead"}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_open_to_its_lines_is_in_no_file(name: str, codec: str) -> None:
    variant = BAD[name]
    shelf = Shelf([b"a\n", b"b\n", b"c\n"], "zstd")
    shelf.records[2] = verified(sealed(variant.sealed(2)))
    one = Body(shelf, shelf.plan(codec), 1, threading.Event())
    with pytest.raises(BatchError):
        list(one)
    (bad,) = one.bad
    assert (bad.position, bad.whole) == (2, True)
    assert variant.says in bad.reason


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", GOOD)
def test_what_opens_to_its_lines_opens_for_everybody(name: str, codec: str, tmp_path: Path) -> None:
    variant = GOOD[name]
    shelf = Shelf([b"a\n", b"b\n", b"c\n"], "zstd")
    shelf.records[2] = verified(sealed(variant.sealed(2)))
    content = b"".join(Body(shelf, shelf.plan(codec), 1, threading.Event()))
    assert open_file(f"x{EXTENSIONS[codec]}", content) == b"a\n" + variant.lines + b"c\n"
    tool = {"gzip": "gzip", "zstd": "zstd"}.get(codec)
    if tool is not None and shutil.which(tool):
        file = tmp_path / f"x{EXTENSIONS[codec]}"
        file.write_bytes(content)
        subprocess.run([tool, "-t", str(file)], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("codec", CODECS)
def test_a_member_that_only_our_decoder_takes_is_not_copied(codec: str) -> None:
    shelf = Shelf([b"a\n"], codec)
    shelf.records[1] = sealed(Sealed(1, RESERVED, LINES.count(b"\n"), len(LINES), "gzip"))
    one = Body(shelf, shelf.plan(codec), 1, threading.Event())
    if codec == "gzip":
        with pytest.raises(BatchError):
            list(one)
    else:
        assert open_file(f"x{EXTENSIONS[codec]}", b"".join(one)) == LINES


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_memory_follows_the_size_that_may_be_and_not_the_body(codec: str) -> None:
    """A few bytes that open to a gigabyte, under an envelope that says as little."""
    bomb = compressor(codec, 9)(bytes(64 << 20))
    shelf = Shelf([b"a\n"], codec)
    shelf.records[1] = sealed(Sealed(1, bomb * 16, size=1 << 20, codec=codec))
    tracemalloc.start()
    try:
        with pytest.raises(BatchError):
            list(body(shelf, codec))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_no_memory_is_no_fault_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise zstandard.ZstdError("zstd decompress error: Allocation error : not enough memory")

    monkeypatch.setattr(codecs, "_open_zstd", fail)
    one = body(Shelf([b"a\n"], "zstd"), "zstd")
    with pytest.raises(MemoryError):
        list(one)
    assert one.bad == []


def test_a_channel_that_cannot_be_read_breaks_the_upload_and_blames_no_batch() -> None:
    def closed(position: int) -> bytes:
        raise ChannelUnavailable(f"{position} cannot be read at the moment")

    shelf = Shelf([b"a\n"], "zstd")
    shelf.record = closed  # type: ignore[method-assign]
    one = body(shelf, "none")
    with pytest.raises(StoreUnavailable, match="at the moment"):
        list(one)
    assert one.bad == []


def test_it_ends_when_the_sink_stops() -> None:
    stop = threading.Event()
    shelf = Shelf(blocks([CHUNK_BYTES] * 3), "none")
    pieces = iter(Body(shelf, shelf.plan("none"), 1, stop))
    first: Buffer = next(pieces)
    assert first
    stop.set()
    with pytest.raises(StoreUnavailable, match="stopped"):
        next(pieces)
