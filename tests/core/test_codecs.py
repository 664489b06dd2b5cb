"""Bodies: what is compressed opens to the same, several frames to all of them, and nothing that
is no body costs more than an error."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.batch import CODECS
from tiers.core.codecs import EXTENSIONS, PART_BYTES, compressor, decompress, joined, opened
from tiers.errors import BatchError

LINES = b"GET /index.html 200 127.0.0.1\n" * 500
LEVELS = [("none", 1), ("gzip", 1), ("gzip", 3), ("gzip", 6), ("gzip", 9), ("zstd", 1),
          ("zstd", 19)]  # fmt: skip


def test_every_codec_has_an_extension() -> None:
    assert set(EXTENSIONS) == set(CODECS)


@pytest.mark.parametrize(("codec", "level"), LEVELS)
@given(raw=st.binary(max_size=5000))
def test_what_is_compressed_opens_to_the_same(codec: str, level: int, raw: bytes) -> None:
    compress = compressor(codec, level)
    assert decompress(codec, compress(raw), len(raw)) == raw
    assert decompress(codec, memoryview(compress(memoryview(raw))), len(raw)) == raw


@pytest.mark.parametrize(("codec", "level"), LEVELS)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_frames_and_members_are_read_to_the_last(
    codec: str, level: int, pieces: list[bytes]
) -> None:
    compress = compressor(codec, level)
    raw = b"".join(pieces)
    assert decompress(codec, b"".join(map(compress, pieces)), len(raw)) == raw


@pytest.mark.parametrize(("codec", "level"), LEVELS)
def test_others_can_read_it(codec: str, level: int) -> None:
    body = compressor(codec, level)(LINES)
    readers: dict[str, Callable[[bytes], bytes]] = {
        "none": bytes,
        "gzip": gzip.decompress,
        "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data),
    }
    assert readers[codec](body) == LINES
    assert codec == "none" or len(body) < len(LINES) // 10


@pytest.mark.parametrize(("codec", "level"), LEVELS)
@pytest.mark.parametrize("off", [-len(LINES), -1, 1, 1 << 20])
def test_a_wrong_size_is_found(codec: str, level: int, off: int) -> None:
    with pytest.raises(BatchError, match="its envelope says"):
        decompress(codec, compressor(codec, level)(LINES), len(LINES) + off)


@pytest.mark.parametrize(("codec", "level"), LEVELS)
def test_every_truncation_is_found(codec: str, level: int) -> None:
    body = compressor(codec, level)(LINES)
    for length in range(0, len(body) - 8, 1 + len(body) // 300):
        with pytest.raises(BatchError):
            decompress(codec, body[:length], len(LINES))


@pytest.mark.parametrize("codec", CODECS)
@given(body=st.binary(max_size=200), size=st.integers(0, 300))
def test_any_bytes_are_a_batch_error_at_worst(codec: str, body: bytes, size: int) -> None:
    with suppress(BatchError):
        assert len(decompress(codec, body, size)) == size


@given(st.sampled_from(["gzip", "zstd"]), st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_body_is_a_batch_error_at_worst(codec: str, at: int, flip: int) -> None:
    body = bytearray(compressor(codec, 3)(LINES))
    body[at % len(body)] ^= flip
    with suppress(BatchError):
        assert len(decompress(codec, body, len(LINES))) == len(LINES)


def test_what_follows_a_member_must_be_one() -> None:
    with pytest.raises(BatchError, match="gzip"):
        decompress("gzip", gzip.compress(LINES) + b"garbage", len(LINES))


def _skippable(length: int, data: bytes) -> bytes:
    return (0x184D2A57).to_bytes(4, "little") + length.to_bytes(4, "little") + data


def _unfinished(raw: bytes) -> bytes:
    """All of it can be read, and no frame ends."""
    begun = zstandard.ZstdCompressor().compressobj()
    return begun.compress(raw) + begun.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


_FRAME = zstandard.ZstdCompressor().compress(LINES)
_EMPTY = zstandard.ZstdCompressor().compress(b"")
_SUMMED = zstandard.ZstdCompressor(write_checksum=True).compress(LINES)


@pytest.mark.parametrize(
    "body",
    [
        _unfinished(LINES),
        *(_SUMMED[:-cut] for cut in range(1, 5)),
        *(_FRAME + more for more in (b"\x28", b"\x28\xb5\x2f", b"\0", b"\0" * 4, b"garbage!")),
        *(_FRAME + _EMPTY[:length] for length in range(1, len(_EMPTY))),
        *(_FRAME + _FRAME[:length] for length in range(1, 18)),
        _FRAME + _skippable(5, b"four"),
        _FRAME + _skippable(2**32 - 1, b"four"),
        *(_FRAME + _skippable(0, b"")[:length] for length in range(1, 8)),
        _FRAME + _EMPTY * 70_000,
        _FRAME + _EMPTY * 32_768,
        _FRAME + _skippable(0, b"") * 65_535,  # each a step, as a block and a frame are
    ],
)
def test_a_body_of_zstd_ends_where_a_frame_ends(body: bytes) -> None:
    """Else what follows it in a file is read as the rest of its last frame. zstd's reader gives
    all lines of each of these, and no word."""
    with pytest.raises(BatchError):
        decompress("zstd", body, len(LINES))


@pytest.mark.parametrize(
    "body",
    [
        _SUMMED,
        _FRAME + _EMPTY * 32_767,
        _FRAME + _skippable(0, b"") * 65_534,
        _skippable(3, b"abc") + _FRAME + _skippable(0, b""),
        zstandard.ZstdCompressor(write_content_size=False).compress(LINES),
        _unfinished(LINES) + b"\x01\x00\x00",
    ],
)
def test_frames_of_any_kind_that_end_are_taken(body: bytes) -> None:
    assert decompress("zstd", body, len(LINES)) == LINES


def test_blocks_of_one_byte_repeated_are_walked_over() -> None:
    raw = bytes(1 << 20)
    assert decompress("zstd", zstandard.ZstdCompressor().compress(raw), len(raw)) == raw


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        ("zstd", zstandard.ZstdCompressor().compress(bytes(64 << 20))),
        ("gzip", zlib.compress(bytes(64 << 20), wbits=31)),
    ],
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_bomb_is_opened_no_further_than_its_size(codec: str, body: bytes, size: int) -> None:
    tracemalloc.start()
    with pytest.raises(BatchError, match="its envelope says"):
        decompress(codec, body, size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * size + (2 << 20)


@pytest.mark.parametrize(("codec", "level"), LEVELS)
def test_room_is_made_for_what_is_there(codec: str, level: int) -> None:
    """An envelope that claims a gigabyte does not get one."""
    body = compressor(codec, level)(LINES)
    tracemalloc.start()
    with pytest.raises(BatchError):
        decompress(codec, body, 1 << 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_members_without_end_are_refused() -> None:
    """Each member costs a copy of what follows it: 200,000 took ten seconds."""
    empty = gzip.compress(b"")
    assert decompress("gzip", empty * 64, 0) == b""
    with pytest.raises(BatchError, match="more than 64"):
        decompress("gzip", empty * 200_000, 100)


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ([], []),
        ([5], [5]),
        ([PART_BYTES], [PART_BYTES]),
        ([PART_BYTES - 1], [PART_BYTES - 1]),
        ([PART_BYTES - 1, 1], [PART_BYTES]),
        ([PART_BYTES - 1, 3], [PART_BYTES + 2]),
        ([PART_BYTES, PART_BYTES + 7, 5], [PART_BYTES, PART_BYTES + 7, 5]),
        ([5, PART_BYTES, 6], [PART_BYTES + 5, 6]),
        ([100_000] * 12, [600_000, 600_000]),
    ],
)
def test_small_blocks_are_joined_and_large_ones_stay_as_they_are(
    sizes: list[int], found: list[int]
) -> None:
    blocks = [bytes([number]) * size for number, size in enumerate(sizes)]
    made = [bytes(part) for part in joined(blocks, PART_BYTES)]
    assert [len(part) for part in made] == found
    assert b"".join(made) == b"".join(blocks)


@pytest.mark.parametrize("strictly", [False, True])
def test_many_members_together_get_no_more_room_than_one(strictly: bool) -> None:
    size = 1 << 20
    body = gzip.compress(bytes(size)) * 60
    tracemalloc.start()
    with pytest.raises(BatchError):
        for _ in opened("gzip", body, size, strictly=strictly):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * size
