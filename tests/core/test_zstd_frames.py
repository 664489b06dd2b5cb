"""Frames of zstd against what zstd itself makes and opens."""

from collections.abc import Callable
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.zstd_frames import FrameKind, frame, is_cut_off

TEXT = Random(6).randbytes(150_000) + b"x" * 300_000


def there(data: bytes) -> Callable[[int, int], bytes]:
    return lambda at, size: data[at : at + size]


def growing(data: bytearray) -> Callable[[int, int], bytes]:
    return lambda at, size: bytes(data[at : at + size])


def packed(text: bytes, checksum: bool, size: bool) -> bytes:
    compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=size)
    return compressor.compress(text)


SKIPPABLE = b"\x5f\x2a\x4d\x18\x03\0\0\0abc"
BOTH = (False, True)
FRAMES = st.sampled_from(
    [SKIPPABLE, *(packed(t, c, s) for t in (TEXT, b"", b"ab") for c in BOTH for s in BOTH)]
)


@given(st.lists(FRAMES, min_size=1, max_size=3), st.data())
def test_frames_are_cut_off_anywhere_but_at_their_ends(
    frames: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(frames)
    ends = {sum(map(len, frames[:n])) for n in range(1, len(frames) + 1)}
    assert not is_cut_off(there(whole))
    near = st.sampled_from(sorted(ends)).flatmap(lambda end: st.integers(end - 12, end + 12))
    cut = data.draw(st.one_of(st.integers(1, len(whole)), near))
    cut = min(max(cut, 1), len(whole))
    assert is_cut_off(there(whole[:cut])) is (cut not in ends)


def test_pieces_come_once_they_are_there() -> None:
    whole = packed(TEXT, checksum=True, size=True)
    for step in (1, 7, 50_000):
        part = bytearray()
        pieces = []
        opener = zstandard.ZstdDecompressor().decompressobj()
        text = b""
        for piece in frame(growing(part), 0):
            while len(part) < min(piece.at + piece.size, len(whole)):
                part += whole[len(part) : len(part) + step]
            if piece.kind is not FrameKind.CUT:
                pieces.append(piece)
                text += opener.decompress(part[piece.at : piece.at + piece.size])
        assert text == TEXT
        assert pieces[0].kind is FrameKind.HEADER
        assert pieces[-1].kind is FrameKind.CHECKSUM
        assert pieces[-1].at + pieces[-1].size == len(whole)


@pytest.mark.parametrize("steps", [0, 3])
def test_steps_are_bounded(steps: int) -> None:
    with pytest.raises(EOFError, match="blocks"):
        is_cut_off(there(packed(TEXT, checksum=False, size=True) * 3), steps)


@pytest.mark.parametrize(
    "wrong",
    [
        b"no frame at all",
        b"\x28\xb5\x2f\xfd\x20\x03\xff\xff\xff" + b"x" * 99,  # a block of a reserved type
        b"\x28\xb5\x2f\xfd\x20\x03\x01\x00\xff" + b"x" * 99,  # one that is too long
        b"\x28\xb5\x2f\xfd\xff" + b"\xff" * 40,  # a header with a bit that is reserved
    ],
)
def test_what_is_no_frame_is_refused(wrong: bytes) -> None:
    with pytest.raises(zstandard.ZstdError):
        is_cut_off(there(wrong))


def test_nothing_is_not_cut_off() -> None:
    assert not is_cut_off(there(b""))
