"""Both ends of the status socket, on a real channel."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.channel.making import opened, put
from tiers.channel.channel import Channel
from tiers.channel.letters import every_letter
from tiers.core.change import Change
from tiers.core.entry.routes import everywhere
from tiers.dead.handling import LETTERS_PER_CALL, Handling
from tiers.dead.wire import TIMEOUT_S, Asked, routes
from tiers.errors import ChannelUnavailable, UsageError
from tiers.observe.client import exchange
from tiers.observe.meters import Meters
from tiers.observe.status import StatusServer

LARGE = bytes(range(256)) * 4096 + b"\n"  # more than a piece


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[tuple[Channel, Asked]]:
    """A channel with two letters, and who asks for them."""
    async with opened(directory) as channel:
        more = routes(Handling(channel, everywhere(["out"])))
        server = StatusServer(dict, dict, Meters(), list, lambda: None, directory, None, more)
        await server.start()
        try:
            for body in (LARGE, b"small\n"):
                await channel.submit(Change(puts=[put(channel, body)]))
            await channel.submit(Change(dead=[("out", 1, "bad"), ("out", 2, "worse")]))
            yield channel, Asked(directory)
        finally:
            await server.stop()


async def test_what_is_asked_is_what_there_is(tmp_path: Path) -> None:
    async with served(tmp_path) as (channel, asked):
        first = await asked.page((0, 0), 1)
        assert first + await asked.page(first[0].after, 9) == list(every_letter(channel))
        assert await asked.stored(1) == channel.record(1)
        assert await asked.stored(99) == b""
        done = await asked.retry([(1, "out"), (9, "out")])
        assert (done.letters, [one.position for one in done.refused]) == (1, [9])
        done = await asked.drop([(2, "out")] * (LETTERS_PER_CALL + 1))
        assert (done.letters, done.left) == (1, [(2, "out")])
        assert list(every_letter(channel)) == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/dead?after=x", None),
        ("GET", "/dead?after=1", None),
        ("GET", "/dead?after=-1.0", None),
        ("GET", "/dead?after=1.99999", None),
        ("GET", "/dead?limit=all", None),
        ("GET", "/dead/record", None),
        ("GET", "/dead/record?letter=-1", None),
        ("POST", "/dead/drop", b""),
        ("POST", "/dead/drop", b"[1]"),
        ("POST", "/dead/drop", b'[["1","out"]]'),
        ("POST", "/dead/retry", b'[[0,"out"]]'),
        ("POST", "/dead/retry", b"{}x"),
    ],
)
async def test_what_is_none_is_refused(
    tmp_path: Path, method: str, path: str, body: bytes | None
) -> None:
    async with served(tmp_path) as (channel, _):
        answer = await exchange(tmp_path, method, path, body, timeout_s=TIMEOUT_S)
        assert isinstance(answer, str)
        assert answer.startswith("answered 400: ")
        assert channel.stats().dead == 2


async def test_a_channel_that_does_not_do_its_part_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ChannelUnavailable("the disk sleeps")

    async with served(tmp_path) as (channel, asked):
        monkeypatch.setattr(channel, "letters", fails)
        for call in (asked.page((0, 0), 1), asked.drop([(1, "out")])):
            with pytest.raises(UsageError, match="answered 503: the disk sleeps"):
                await call
