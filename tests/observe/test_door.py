"""What callers of the status server may take of the agent."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.observe.test_status_server import Agent, free_address, served
from tests.waiting import eventually
from tiers.observe import door
from tiers.observe.client import ask
from tiers.observe.status import split_address

NONSENSE = (
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"\0forged\x1b]0;pwned\x07\r\n\r\n",
    b"GET /status HTTP/1.1\r\nbad header\r\n\r\n",
    b"POST /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: gzip\r\n"
    b"Content-Length: 10\r\n\r\n0123456789",
    b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n012",
    b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
)


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    made = free_address()
    _, server = await served(tmp_path, made)
    yield made
    await server.stop()


async def said(address: str, data: bytes) -> bytes:
    host, port = split_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        return await reader.read(100)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_nonsense_is_told_once_without_its_words(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        for nonsense in NONSENSE:
            await said(address, nonsense)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in told] == ["status: a request that cannot be read"]
    assert told[0].exc_info is None
    assert isinstance(await ask(None, address), dict)


async def test_our_own_mistake_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agent, "snapshot", lambda self: 1 // 0)
    _, server = await served(tmp_path)
    for _ in range(3):
        assert "answered 500" in str(await ask(tmp_path))
    assert caplog.text.count("ZeroDivisionError: ") == 1, "who found it could repeat it"
    await server.stop()


async def test_who_connects_and_says_nothing_is_in_nobodys_way(address: str) -> None:
    host, port = split_address(address)
    held = [await asyncio.open_connection(host, port) for _ in range(door.CONNECTIONS_MAX + 20)]
    assert isinstance(await ask(None, address, timeout_s=20.0), dict)
    assert await held[0][0].read(1) == b"", "the oldest went"
    for _, writer in held:
        writer.close()


async def test_no_connection_outlives_its_time(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "LIFE_S", 0.1)
    host, port = split_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    with pytest.raises(ConnectionResetError):
        while True:  # a header that never ends
            writer.write(b"G")
            await writer.drain()
            await asyncio.sleep(0.01)
    assert reader.exception() is not None


async def test_calls_beyond_the_rate_wait_their_turn(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BURST", 2)
    monkeypatch.setattr(door, "RATE_PER_S", 20.0)
    loop, answers = asyncio.get_running_loop(), list[float]()
    began = loop.time()

    async def call() -> None:
        assert isinstance(await ask(None, address, timeout_s=20.0), dict)
        answers.append(loop.time() - began)

    await asyncio.gather(*(call() for _ in range(8)))
    assert max(answers) > 5 / 20.0
    await eventually(lambda: len(answers) == 8, "all are answered")
