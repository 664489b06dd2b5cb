"""The bytes of a manifest: read back as written, and anything else refused."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal.isal_zlib import crc32

from tiers.core.batch import BatchId
from tiers.core.commit import manifest
from tiers.core.commit.filing import FILE_BATCHES_MAX
from tiers.core.commit.manifest import Item, Manifest, decode, encode
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
    data = encode(ONE)
    monkeypatch.setattr(manifest, "MANIFEST_BYTES_MAX", len(data))
    assert decode(data) == ONE
    monkeypatch.setattr(manifest, "MANIFEST_BYTES_MAX", len(data) - 1)
    with pytest.raises(StoreRefused, match=f"at most {len(data) - 1}"):
        decode(data)


def test_a_manifest_of_too_many_batches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two = replace(ONE, items=(*ONE.items, Item(BatchId(b"p" * 16, 1), 1, False)))
    monkeypatch.setattr(manifest, "MANIFEST_BATCHES_MAX", 2)
    assert decode(encode(two)) == two
    monkeypatch.setattr(manifest, "MANIFEST_BATCHES_MAX", 1)
    with pytest.raises(StoreRefused, match="more than 1 batches"):
        decode(encode(two))


def test_a_manifest_of_the_most_batches_is_not_too_long() -> None:
    longest = f"[{2**63 - 1},{2**32},1],"
    assert len(longest) * manifest.MANIFEST_BATCHES_MAX < manifest.MANIFEST_BYTES_MAX
    assert manifest.MANIFEST_BATCHES_MAX > FILE_BATCHES_MAX


def test_a_manifest_of_the_most_batches_is_read() -> None:
    most = manifest.MANIFEST_BATCHES_MAX
    items = tuple(Item(BatchId(b"p" * 16, seq), 1, False) for seq in range(1, most + 1))
    full = replace(ONE, items=items)
    assert decode(encode(full)) == full


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
        ({"batches": {ORIGIN: [[2**63, 2, 0]]}}, "seq is 9223372036854775808"),
        ({"bytes": 2**63}, "bytes is 9223372036854775808"),
        ({"file": 10**10}, "file is 10000000000"),
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


@pytest.mark.parametrize(
    "change",
    [
        {"sink": "x"},
        {"sink": "x" * 8192},
        {"file": 1},
        {"file": 10**10 - 1},
        {"bytes": 0},
        {"bytes": 2**63 - 1},
        {"batches": {}},
        {"batches": {ORIGIN: [[0, 0, 0]]}},
        {"batches": {ORIGIN: [[2**63 - 1, 2**32, 1]]}},
    ],
)
def test_what_is_within_the_limits_is_read(change: dict[str, object]) -> None:
    entries = json.loads(encode(ONE).split(b"\n")[0]) | change
    read = decode(sign(json.dumps(entries).encode() + b"\n"))
    wanted = entries if entries["batches"] else entries | {"batches": {}}
    assert json.loads(encode(read).split(b"\n")[0]) == wanted


@pytest.mark.parametrize("line", [b"{", b"[]\n", b"\xff\n", b"[" * 100_000])
def test_what_is_no_json_object(line: bytes) -> None:
    with pytest.raises(StoreRefused):
        decode(sign(line))


@pytest.mark.parametrize("filling", ["[[],[]]", "[{}]", "[1,1,1,1]"])
def test_what_is_made_to_take_memory_is_not_unpacked(
    filling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", None)
    many = ",".join([filling] * (2 * manifest.MANIFEST_BATCHES_MAX))
    with pytest.raises(StoreRefused, match="little but lists"):
        decode(sign(f"[{many}]\n".encode()))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"," * (5 * (1 << 18) + 16_384), "is not JSON"),
        (b"," * (5 * (1 << 18) + 16_385), "little but lists"),
        (b"[" * (5 * (1 << 18) + 16_385), "little but lists"),
        (b"{" * (5 * (1 << 18) + 16_385), "little but lists"),
        (b" " * ((16 << 20) - 9), "is not JSON"),
        (b" " * ((16 << 20) - 8), "at most 16777216"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_the_limits_of_a_manifest_are_those(line: bytes, says: str) -> None:
    with pytest.raises(StoreRefused, match=says):
        decode(sign(line))


def test_a_claim_is_short() -> None:
    entries = {"tiers": "claim", "version": 1, "x": ""}
    entries["x"] = "x" * (65_536 - len(manifest.sealed_line(entries)))
    assert manifest.opened_line(manifest.sealed_line(entries), "claim") == entries
    entries["x"] = f"{entries['x']}x"
    with pytest.raises(StoreRefused, match="at most 65536"):
        manifest.opened_line(manifest.sealed_line(entries), "claim")
