"""Lines that are made, and lines that are counted again."""

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tiers.trial import numbered_lines
from tiers.trial.numbered_lines import AccessLog, Tally, read_blocks

FEW = st.lists(st.sampled_from([b"a", b"b", b"", b"ccc", b"\xff\x00"]), max_size=60)


def block(of: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in of)


@pytest.fixture(autouse=True, scope="module")
def flushing_often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbered_lines, "_FLUSH_HASHES", 3)
        yield


@given(written=FEW, found=FEW)
def test_the_difference_is_that_of_multisets(
    tmp_path_factory: pytest.TempPathFactory, written: list[bytes], found: list[bytes]
) -> None:
    tally = Tally(tmp_path_factory.mktemp("tally") / "parts")
    for line in written:
        tally.add_written(line + b"\n")
    tally.add_found(block(found))
    more = Counter(found) - Counter(written)
    difference = tally.compare()
    assert (tally.written, tally.found) == (len(written), len(found))
    assert difference.missing == (Counter(written) - Counter(found)).total()
    assert difference.surplus == sum(n for line, n in more.items() if line in written)
    assert difference.foreign == sum(n for line, n in more.items() if line not in written)


def test_a_tally_leaves_nothing_behind(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "parts")
    tally.add_written(AccessLog(1).block(1000))
    assert any((tmp_path / "parts").iterdir())
    assert tally.compare().missing == 1000
    assert not (tmp_path / "parts").exists()


@given(
    data=st.binary(max_size=200).map(lambda data: data.replace(b"\x01", b"\n")),
    step=st.integers(1, 9),
)
def test_blocks_are_whole_lines_whatever_the_file_is_packed_as(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, step: int
) -> None:
    root = tmp_path_factory.mktemp("blocks")
    half = len(data) // 2
    packed = {
        "plain.log": data,
        # Published files are many members or frames, one after the other.
        "members.log.gz": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "frames.log.zst": zstandard.compress(data[:half]) + zstandard.compress(data[half:]),
    }
    for name, content in packed.items():
        (root / name).write_bytes(content)
        blocks = list(read_blocks(root / name, step))
        assert b"".join(blocks) == data
        assert all(each.endswith(b"\n") for each in blocks[:-1])


@pytest.mark.parametrize("name", ["a.gz", "a.zst"])
@pytest.mark.parametrize("cut", [1, 3, 40])
def test_a_file_that_ends_early_is_told(tmp_path: Path, name: str, cut: int) -> None:
    text = AccessLog(1).block(50)
    whole = gzip.compress(text) if name == "a.gz" else zstandard.compress(text)
    (tmp_path / name).write_bytes(whole * 2)
    assert b"".join(read_blocks(tmp_path / name)) == text * 2
    (tmp_path / name).write_bytes((whole * 2)[:-cut])
    with pytest.raises(OSError, match="end"):
        list(read_blocks(tmp_path / name))


def test_access_logs_are_as_long_and_as_random_as_real_ones() -> None:
    log = AccessLog(seed=7)
    raw = b"".join(log.blocks(20_000))
    numbers = [line.split(b"?id=")[1][:10] for line in raw.splitlines()]
    assert numbers == [b"%010d" % n for n in range(20_000)]
    assert 160 < len(raw) / 20_000 < 190
    assert 4 < len(raw) / len(zstandard.ZstdCompressor(level=1).compress(raw)) < 6
    assert raw == b"".join(AccessLog(seed=7).blocks(20_000, lines=777))
    assert raw != b"".join(AccessLog(seed=8).blocks(20_000))
