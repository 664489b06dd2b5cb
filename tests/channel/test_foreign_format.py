"""A channel of another version: refused, and not a byte of it is changed."""

import struct
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgpack
import pytest

from tests.channel.making import LIMITS, opened, put
from tiers.channel.channel import Channel
from tiers.channel.inspection import look, problems
from tiers.channel.layout import FORMAT, IDENTITY, guard
from tiers.core.change import Change
from tiers.errors import UsageError


def rewrite(path: Path, change: Callable[["lmdb.Environment"], object]) -> None:
    environment = lmdb.Environment(str(path), map_size=64 << 20, max_dbs=20)
    change(environment)
    environment.close()


def identity(*values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        def put_it(environment: "lmdb.Environment") -> None:
            with environment.begin(write=True) as txn:
                value = guard(IDENTITY, msgpack.packb(list(values)))
                txn.put(IDENTITY, value, db=environment.open_db(b"meta", txn))

        rewrite(path, put_it)

    return change


def and_more_databases(path: Path) -> None:
    rewrite(path, lambda environment: environment.open_db(b"of-another-version"))
    identity(FORMAT + 1, b"i" * 16, 7)(path)


def and_other_values(path: Path) -> None:
    def put_it(environment: "lmdb.Environment") -> None:
        with environment.begin(write=True) as txn:
            txn.put(b"key", b"no checksum", db=environment.open_db(b"queue", txn))

    rewrite(path, put_it)
    identity(FORMAT + 1, b"i" * 16, 7)(path)


def another_lmdb(path: Path) -> None:
    with (path / "data.mdb").open("r+b") as file:
        for page in (0, 4096):
            file.seek(page + 20)
            file.write(struct.pack("=I", 2))


@pytest.mark.parametrize(
    "other",
    [
        identity(FORMAT - 1, b"i" * 16, 7),
        identity(FORMAT + 1, b"i" * 16, 7),
        identity(FORMAT + 1),
        identity(FORMAT + 1, {"id": "of a map"}, None, "and", "more"),
        identity(10**6, b"i" * 16, 7),
        and_more_databases,
        and_other_values,
        another_lmdb,
    ],
)
async def test_a_channel_of_another_format_is_refused_and_stays_as_it_is(
    tmp_path: Path, other: Callable[[Path], None]
) -> None:
    async with opened(tmp_path) as channel:
        await channel.submit(Change(puts=[put(channel)]))
    path = tmp_path / "channel"
    other(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    for _ in range(2):
        with pytest.raises(UsageError, match="nothing was changed"):
            await Channel.open(tmp_path, LIMITS, ["out"])
    for reading in (look, problems):
        with pytest.raises(UsageError, match="nothing was changed"):
            reading(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"channel", "lock"}


async def test_one_flipped_bit_in_a_version_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        await channel.submit(Change(puts=[put(channel)]))
    with (tmp_path / "channel" / "data.mdb").open("r+b") as file:
        file.seek(20)
        file.write(struct.pack("=I", 3))
    async with opened(tmp_path) as channel:
        assert "was set aside" in channel.stats().set_aside
