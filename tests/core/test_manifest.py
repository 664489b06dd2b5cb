"""The bytes of a manifest: read back as written, and anything else refused."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal.isal_zlib import crc32

from tiers.core import manifest
from tiers.core.batch import BatchId
from tiers.core.manifest import Item, Manifest, decode, encode
from tiers.errors import StoreRefused

items = st.builds(
    Item,
    st.builds(BatchId, st.binary(min_size=16, max_size=16), st.integers(0, 2**63 - 1)),
    st.integers(0, 2**32),
    st.booleans(),
)
ONE = Manifest(
    "s.o.1", 7, "2026-11-23.1", "web/ü/x.log", "zstd", 99, (Item(BatchId(b"o" * 16, 5), 3, True),)
)


@given(st.lists(items, max_size=20, unique_by=lambda item: item.id))
def test_read_back(some: list[Item]) -> None:
    back = decode(encode(replace(ONE, items=tuple(some))))
    assert sorted(back.items) == sorted(some)
    assert replace(back, items=ONE.items) == ONE
    assert back.name == "s.o.1-0000000007"


def test_a_person_can_read_it() -> None:
    first, second, rest = encode(ONE).split(b"\n")
    assert json.loads(first)["path"] == "web/ü/x.log"
    assert len(second) == 8 and rest == b""


@given(st.data())
def test_damage_is_noticed(data: st.DataObject) -> None:
    good = encode(ONE)
    bad = bytearray(good)
    at = data.draw(st.integers(0, len(good) - 1))
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StoreRefused):
        decode(bytes(bad))
    with pytest.raises(StoreRefused):
        decode(good[:at])


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(StoreRefused):
        decode(data)


def sign(line: bytes) -> bytes:
    return line + b"%08x\n" % crc32(line)


def test_a_manifest_of_too_many_bytes_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MANIFEST_BYTES_MAX", 20)
    with pytest.raises(StoreRefused, match="at most 20"):
        decode(encode(ONE))


def test_a_manifest_of_too_many_batches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MANIFEST_BATCHES_MAX", 0)
    with pytest.raises(StoreRefused, match="more than 0 batches"):
        decode(encode(ONE))


ORIGIN = "6f" * 16


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tiers": "claim"}, "not a manifest"),
        ({"version": 2}, "version 2"),
        ({"sink": 1}, "sink is 1"),
        ({"sink": ""}, "sink is ''"),
        ({"file": 0}, "file is 0"),
        ({"file": True}, "file is True"),
        ({"file": "7"}, "file is '7'"),
        ({"day": "today"}, "day is 'today'"),
        ({"path": None}, "path is None"),
        ({"path": "../f"}, "path is '../f'"),
        ({"path": "/f"}, "path is '/f'"),
        ({"path": "a/\0"}, "path is 'a/"),
        ({"path": "a/\ud800"}, "path is 'a/"),
        ({"sink": "x" * 8193}, "sink is 'xxx"),
        ({"bytes": -1}, "bytes is -1"),
        ({"batches": []}, "not a map"),
        ({"batches": {"zz": []}}, "not hex"),
        ({"batches": {"6f": []}}, "malformed"),
        ({"batches": {ORIGIN.upper(): []}}, "malformed"),
        ({"batches": {ORIGIN: {}}}, "malformed"),
        ({"batches": {ORIGIN: [1]}}, "not [seq"),
        ({"batches": {ORIGIN: [[1, 2]]}}, "not [seq"),
        ({"batches": {ORIGIN: [[-1, 2, 0]]}}, "seq is -1"),
        ({"batches": {ORIGIN: [[1, 2**33, 0]]}}, "events is"),
        ({"batches": {ORIGIN: [[1, 2, 2]]}}, "flagged is 2"),
        ({"batches": {ORIGIN: [[1, 2, True]]}}, "flagged is True"),
    ],
)
def test_wrong_fields(change: dict[str, object], says: str) -> None:
    entries = json.loads(encode(ONE).split(b"\n")[0]) | change
    with pytest.raises(StoreRefused) as raised:
        decode(sign(json.dumps(entries).encode() + b"\n"))
    assert says in str(raised.value)


@pytest.mark.parametrize("line", [b"{", b"[]\n", b"\xff\n", b"[" * 100_000])
def test_what_is_no_json_object(line: bytes) -> None:
    with pytest.raises(StoreRefused):
        decode(sign(line))
