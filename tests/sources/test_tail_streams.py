"""Compressed files of all kinds: whole, cut off anywhere, growing, damaged, with zeros between."""

import bz2
import gzip
import lzma
import zlib
from functools import partial
from random import Random
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.compressed import KINDS, LINES, TEXT, VARIANTS, ZEROS, skippable
from tiers.sources.tail import packed, streams
from tiers.sources.tail.door import RealFiles
from tiers.sources.tail.packed import MAGIC_BYTES, PackedReader, reader
from tiers.sources.tail.streams import CutOff, Damaged, NotRead, Raw

STEP = 1 << 18


class Bytes(RealFiles):
    """A file that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return self.data[offset : offset + length]

    def data_after(self, descriptor: int, offset: int) -> int | None:
        return offset if offset < len(self.data) else None


def opened(data: bytes) -> tuple[PackedReader, Bytes]:
    found = reader(data[:MAGIC_BYTES])
    assert found
    door = Bytes(data)
    return found(Raw(door, 0)), door


def all_of(packed: PackedReader, step: int = STEP) -> bytes:
    pieces = []
    while piece := packed.read(step):
        assert len(piece) <= step
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("name", VARIANTS)
def test_all_of_it_is_read_and_an_early_end_is_told(name: str) -> None:
    whole, text = VARIANTS[name]
    packed, _ = opened(whole)
    assert all_of(packed) == text
    assert packed.fault is None
    end = len(whole.rstrip(b"\0")) - 1
    for cut in {max(at, MAGIC_BYTES) for at in (end, end - 4, end // 2, 20)}:
        packed, door = opened(whole[:cut])
        begin = all_of(packed)
        assert text.startswith(begin)
        assert packed.fault is None or isinstance(packed.fault, CutOff)
        assert cut == 20 or packed.fault or begin in (text, LINES) or "line" in name
        door.data = whole
        assert begin + all_of(packed) == text
        assert packed.fault is None


@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from([*KINDS.values(), lambda _: ZEROS, lambda _: skippable(b"no text")]),
            st.binary(max_size=40),
        ),
        max_size=4,
    ),
    first=st.sampled_from([*KINDS.values()]),
    data=st.data(),
)
def test_a_file_that_grows_gives_what_it_would_have_given_at_once(
    parts: list[Any], first: Any, data: st.DataObject
) -> None:
    """And is as it should be only where a stream ends, zeros or not."""
    whole, text, ends = first(b"begin"), b"begin", [0]
    texts = [0]
    ends.append(len(whole))
    texts.append(len(text))
    for pack, part in parts:
        one = pack(part)
        whole += one
        ends.append(len(whole))
        if one != ZEROS and not one.startswith(b"\x50\x2a\x4d\x18"):
            text += part
        texts.append(len(text))
    cuts = data.draw(st.lists(st.integers(MAGIC_BYTES, len(whole)), max_size=5).map(sorted))
    packed, door = opened(whole[: cuts[0] if cuts else len(whole)])
    taken = b""
    for cut in [*cuts, len(whole)]:
        door.data = whole[:cut]
        taken += all_of(packed)
        assert text.startswith(taken)
        padded = len(whole[:cut].rstrip(b"\0"))
        at_an_end = [t for e, t in zip(ends, texts, strict=True) if e == cut or padded <= e <= cut]
        assert (packed.fault is None) == bool(at_an_end)
        if at_an_end:
            assert len(taken) >= at_an_end[0]
    assert taken == text


def good(data: bytes, decoder: Any) -> bytes:
    """What comes out byte by byte until the decoder says no."""
    out = b""
    try:
        for at in range(len(data)):
            out += decoder.decompress(data[at : at + 1])
    except (zlib.error, lzma.LZMAError, OSError):
        return out
    raise AssertionError("no damage")


@pytest.mark.parametrize(
    ("pack", "decoder"),
    [
        (partial(gzip.compress, mtime=0), lambda: zlib.decompressobj(31)),
        (lambda text: bz2.compress(text, 1), bz2.BZ2Decompressor),
        (lzma.compress, lzma.LZMADecompressor),
    ],
    ids=["gzip", "bzip2", "xz"],
)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.999])
@pytest.mark.parametrize("step", [999, 20_000, STEP])
def test_all_that_is_good_before_the_damage_is_read(
    pack: Any, decoder: Any, part: float, step: int
) -> None:
    """But for one byte, which a decoder may keep when it says no."""
    damaged = bytearray(pack(Random(20).randbytes(20_000).hex().encode()))
    damaged[int(len(damaged) * part) - 2] ^= 0x55
    packed, _ = opened(pack(LINES) + damaged)
    taken = all_of(packed, step)
    wanted = LINES + good(bytes(damaged), decoder())
    # bzip2 sees what is wrong with a block only behind it.
    assert taken.startswith(wanted[:-1])
    assert decoder is bz2.BZ2Decompressor or len(taken) <= len(wanted)
    assert isinstance(packed.fault, Damaged)
    assert not isinstance(packed.fault, CutOff)
    assert packed.read(STEP) == b""


@pytest.mark.parametrize("at", [5, 8])
def test_all_of_a_member_whose_checksum_is_wrong_is_read(at: int) -> None:
    damaged = bytearray(gzip.compress(LINES, mtime=0))
    damaged[-at] ^= 1
    packed, _ = opened(bytes(damaged))
    assert all_of(packed) == LINES
    assert "incorrect" in str(packed.fault)


def test_blocks_of_zstd_before_a_damaged_one_are_read() -> None:
    text = Random(30).randbytes(300_000).hex().encode()
    whole = zstandard.ZstdCompressor(write_checksum=True).compress(text)
    for at in (len(whole) - 2, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        packed, _ = opened(bytes(damaged))
        taken = all_of(packed)
        assert isinstance(packed.fault, Damaged)
        assert len(taken) >= len(text) * at // len(whole) - (1 << 17)
        assert taken[: 1 << 17] == text[: 1 << 17]


@pytest.mark.parametrize("pack", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "garbage", [b"garbage of some kind", b"\x01", ZEROS + b"text\n", b"\x1f\x8c"]
)
def test_what_begins_no_stream_is_told(pack: Any, garbage: bytes) -> None:
    packed, _ = opened(pack(TEXT) + pack(LINES) + garbage)
    assert all_of(packed) == TEXT + LINES
    assert isinstance(packed.fault, Damaged)
    assert not isinstance(packed.fault, CutOff)


@pytest.mark.parametrize(
    "begin",
    [
        b"BZhello\n",
        b"BZh9 a line\n",
        b"(\xb5/ text",
        b"\x1f\x8bno",
        b"",
        b"\x60\x2a\x4d\x18",
        b"O*M\x18",
    ],
)
def test_what_begins_like_a_magic_number_and_goes_on_otherwise_is_text(begin: bytes) -> None:
    assert reader(begin[:MAGIC_BYTES]) is None


@pytest.mark.parametrize("begin", [b"", b"B", b"BZ", b"(", b"P", b"log"])
def test_a_few_letters_are_text(begin: bytes) -> None:
    assert not packed.may_become(begin)


@pytest.mark.parametrize(
    "begin", [b"\x1f", b"(\xb5", b"(\xb5/", b"\xfd7z", b"\x1f\x8b", b"BZh", b"LZI"]
)
def test_a_few_bytes_that_are_no_letters_may_become_a_stream(begin: bytes) -> None:
    assert packed.may_become(begin)


@pytest.mark.parametrize(
    "begin",
    [b"\x04\x22\x4d\x18" + bytes(9), b"\x1f\x9d\x90 compress", b"PK\x03\x04zip", b"]\0\0\x80lzma"],
)
def test_other_kinds_are_no_text(begin: bytes) -> None:
    found, _ = opened(begin)
    assert all_of(found) == b""
    assert isinstance(found.fault, NotRead)


def test_a_python_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_lzma", None)
    monkeypatch.setattr(streams, "_bz2", None)
    for name in (".xz", ".bz2"):
        found, _ = opened(KINDS[".gz"](LINES) + KINDS[name](LINES))
        assert all_of(found) == LINES
        assert isinstance(found.fault, NotRead)


def wide(text: bytes, log: int) -> bytes:
    """A frame that asks for a window of 2 ** `log` bytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packed.compress(text) + packed.flush()


def test_what_would_need_more_memory_is_not_read() -> None:
    found, _ = opened(wide(LINES, 27))
    assert all_of(found) == LINES
    found, _ = opened(wide(LINES, 28))
    assert all_of(found) == b""
    assert isinstance(found.fault, NotRead)
    found, _ = opened(with_dictionary(lzma.compress(LINES, preset=0), 32))
    assert all_of(found) == b""
    assert isinstance(found.fault, NotRead)


def with_dictionary(whole: bytes, bits: int) -> bytes:
    """An xz stream whose header says another size of dictionary (section 5.3.1)."""
    size = (whole[12] + 1) * 4
    header = bytearray(whole[12 : 12 + size - 4])
    at = header.index(b"\x21\x01") + 2
    header[at] = bits
    return (
        whole[:12] + bytes(header) + zlib.crc32(header).to_bytes(4, "little") + whole[12 + size :]
    )
