"""Published files against their manifests, as `tiers audit --files` compares them."""

import gzip
from pathlib import Path

import pytest
import zstandard

from tiers.audit.counting import check_file
from tiers.core.codecs import compressor
from tiers.core.events import Event, pack
from tiers.sinks.files.stores.local import LocalStore

LINES = b"a line\n" * 1000


def written(
    root: Path, content: bytes, codec: str, events: int = 1000, cut: int = 0
) -> tuple[str, str, str, int, int]:
    """A file, and what its manifest says of it."""
    (root / "f").write_bytes(content[: len(content) - cut])
    return "f", codec, "text", len(content) - cut, events


FILES = {
    "none": LINES,
    "gzip": gzip.compress(LINES[:700]) + gzip.compress(LINES[700:]),
    "zstd": zstandard.compress(LINES[:700]) + zstandard.compress(LINES[700:]),
}


@pytest.mark.parametrize("codec", FILES)
def test_a_file_is_what_its_manifest_says(tmp_path: Path, codec: str) -> None:
    store = LocalStore(tmp_path)
    assert check_file(store, *written(tmp_path, FILES[codec], codec)) == ""
    assert check_file(store, *written(tmp_path, FILES[codec], codec, 999)) == (
        "f: 1000 events; its manifest says 999"
    )


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_file_that_ends_early_has_not_what_it_should_have(tmp_path: Path, codec: str) -> None:
    """Also where all its lines come out: readers of the file would say no."""
    store = LocalStore(tmp_path)
    pack = gzip.compress if codec == "gzip" else checked
    content = pack(LINES[:700]) + pack(LINES[700:])
    for cut in (1, 4, 5, len(content) // 2):
        told = check_file(store, *written(tmp_path, content, codec, cut=cut))
        assert told is not None
        assert f"cannot be opened as {codec}" in told
    for more in (b"\1", b"garbage behind it"):
        told = check_file(store, *written(tmp_path, content + more, codec))
        assert told is not None
        assert f"cannot be opened as {codec}" in told


def checked(text: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(text)


def test_a_file_of_another_length_and_one_that_is_gone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    told = written(tmp_path, LINES, "none")
    (tmp_path / "f").write_bytes(LINES + b"more\n")
    assert check_file(store, *told) == "f: 7005 bytes; its manifest says 7000"
    (tmp_path / "f").unlink()
    assert check_file(store, *told) is None


def test_a_codec_that_is_not_that_of_the_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for codec in ("gzip", "zstd"):
        assert "cannot be opened" in str(check_file(store, *written(tmp_path, LINES, codec)))


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_a_file_of_events(tmp_path: Path, codec: str) -> None:
    """Their newlines are no ends of anything."""
    store = LocalStore(tmp_path)
    raw = b"".join(pack(Event({"n": str(number)}, b"a\nb\n" * 9000)) for number in range(50))
    content = compressor(codec, 1)(raw)
    (tmp_path / "f").write_bytes(content)
    told = ("f", codec, "events", len(content))
    assert check_file(store, *told, 50) == ""
    assert check_file(store, *told, 49) == "f: 50 events; its manifest says 49"
    assert "only a newer version" in str(check_file(store, "f", codec, "parquet", len(content), 50))
    (tmp_path / "f").write_bytes(cut := raw[:-3])
    ended = check_file(store, "f", "none", "events", len(cut), 50)
    assert ended == "f: cannot be opened as none: body ends within an event"
