"""An end has begun: each waits until it is quiet, and no longer than until all is over."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.waiting import eventually
from tiers.sources import listening
from tiers.sources.listening import Draining, Readable, host_of, name_of, parse_address

QUIET_S, MAX_S = listening._QUIET_S, listening._DRAIN_MAX_S


class Clock:
    now = 100.0


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: found.now)
    return found


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


async def test_how_long_it_is_waited_for(clock: Clock) -> None:
    draining = Draining()
    assert (draining.is_over(), draining.quiet_at()) == (False, None)
    draining.begin()
    assert (draining.is_over(), draining.quiet_at()) == (False, 100 + QUIET_S)
    clock.now += MAX_S - QUIET_S / 2
    assert (draining.is_over(), draining.quiet_at()) == (False, 100 + MAX_S)
    draining.begin()
    clock.now = 100 + MAX_S
    assert (draining.is_over(), draining.quiet_at()) == (True, 100 + MAX_S)


async def test_who_waits_is_woken_when_it_begins_and_not_before(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    draining = Draining()
    readable = Readable(pair[0], draining)
    assert not readable.waits
    readable.wake()
    task = asyncio.create_task(readable.wait())
    await eventually(lambda: draining.waiting == {readable})
    before = readable.waits
    draining.begin()
    assert (before, readable.waits) == (True, False)
    assert await task
    assert draining.waiting == set()
    assert not await readable.wait(), "it is quiet"
    pair[1].send(b"x")
    assert await readable.wait()


async def test_a_quiet_one_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    readable = Readable(pair[0], Draining())
    assert not await readable.wait(0.001)
    pair[1].send(b"x")
    assert await readable.wait(10)
    assert not asyncio.get_running_loop().remove_reader(pair[0]), "the loop is told no more"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("127.0.0.1", 5), "127.0.0.1:5"),
        (("::1", 5, 0, 0), "[::1]:5"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1:5"),
    ],
)
def test_names_of_addresses(address: tuple[object, ...], name: str) -> None:
    assert name_of(address) == name
    assert parse_address(name) == (host_of(address), 5)


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", "host:x", "host:65536", "host:-1", ":5", "*:5", "::1:5", "a b:5", "[]:5",
     "a\x01:5", "host:٣"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        parse_address(text)


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_every_port_is_one(port: int) -> None:
    assert parse_address(f"host:{port}") == ("host", port)
