"""What is kept of a generation, and what is said of it."""

from dataclasses import fields
from typing import Any

import msgpack
import pytest

from tests.sources.scene import Scene
from tiers.errors import ChannelDamaged
from tiers.sources.tail.generation import Generation, unpack
from tiers.sources.tail.marks import NOTHING, Mark, Shifted

KEY = b"0000000000000007"
STORED = bytes.fromhex(
    "9f02cd05789364cd0400c41068686868686868686868686868686868"  # version, offset, head
    "93cd0178cd0400c41073737373737373737373737373737373"  # seam
    "c40d2f6c6f67732f6170702e6c6f67c40d2f7265616c2f6170702e6c6f67"  # path, real
    "c40e2f6f6c642f6170702e6c6f672e31"  # now
    "0b1621c3c2c3cd05dcce6553f100"  # inode, birth, device, marks, size, since
)
KEPT = Generation(
    key=KEY,
    path="/logs/app.log",
    real="/real/app.log",
    now="/old/app.log.1",
    inode=11,
    birth_ns=22,
    device=33,
    offset=1400,
    head=Mark(100, 1024, b"h" * 16),
    seam=Mark(376, 1024, b"s" * 16),
    done=True,
    packed=True,
    size=1500,
    since_s=1_700_000_000.0,
    begin=100,
)
LONG = b"".join(b"line %03d %s\n" % (i, b"x" * 60) for i in range(40))


def test_what_was_stored_before_is_read() -> None:
    """The bytes on disks of today: whoever changes them has another version."""
    assert KEPT.pack() == STORED
    found = unpack(KEY, STORED)
    for field in fields(Generation):
        assert getattr(found, field.name) == getattr(KEPT, field.name), field.name


@pytest.mark.parametrize("version", [0, 1, 3])
def test_another_version_is_refused(version: int) -> None:
    values = msgpack.unpackb(STORED)
    with pytest.raises(ChannelDamaged, match=f"version {version}"):
        unpack(KEY, msgpack.packb([version, *values[1:]]))


@pytest.mark.parametrize("length", [1023, 1024])
def test_strong_from_a_kilobyte_on(length: int) -> None:
    assert Scene().knows(LONG, length).strong is (length == 1024)


@pytest.mark.parametrize(
    ("keys", "behind", "unread"),
    [
        ({}, 0, 0),
        ({"size": 130}, 30, 30),
        ({"extent": 150}, 50, 50),
        ({"size": 130, "extent": 150}, 50, 50),
        ({"size": 150, "extent": 130}, 50, 50),
        ({"size": 50, "extent": 60}, 0, 0),
        ({"extent": 150, "unfinished": 20}, 50, 30),
        ({"extent": 150, "unfinished": 60}, 50, 0),
        ({"extent": 150, "blind": True}, 0, 0),
    ],
)
def test_how_much_is_not_put_yet(keys: dict[str, Any], behind: int, unread: int) -> None:
    generation = Scene().knows(LONG, 100, **keys)
    assert (generation.behind, generation.unread) == (behind, unread)


@pytest.mark.parametrize(
    ("read", "there", "keys", "agrees"),
    [
        (2000, LONG, {}, True),
        (2000, LONG[:2000], {}, True),
        (2000, LONG[:1999], {}, False),
        (2000, b"X" + LONG[1:], {}, False),
        (2000, LONG[:1999] + b"X", {}, False),
        (0, LONG, {}, False),
        (2000, LONG, {"blind": True}, False),
    ],
)
def test_with_what_it_agrees(read: int, there: bytes, keys: dict[str, Any], agrees: bool) -> None:
    scene = Scene()
    file, archive = scene.sees("app.log", there), scene.sees("app.log.1", b"before\n" + there)
    text, added = scene.texts.of(file), scene.texts.of(archive)
    generation = scene.knows(LONG, read, **keys)
    assert generation.agrees(text) is agrees
    assert generation.agrees(Shifted(added, 7)) is agrees


@pytest.mark.parametrize(
    ("looked", "first", "is_told"),
    [
        (None, b"", False),
        (NOTHING, b"", False),
        (NOTHING, b"a", True),
        (Mark(0, 1, b"h"), b"", True),
    ],
)
def test_what_begins_with_it_can_be_told_since_a_look(
    looked: Mark | None, first: bytes, is_told: bool
) -> None:
    generation = Scene().knows(LONG, looked=looked, first=first)
    assert generation.is_told is is_told
    generation.note_look()
    assert generation.looked == generation.seam
    assert not generation.first
