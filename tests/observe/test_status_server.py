"""The status server and its client, over real sockets."""

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.cluster import free_port_pair
from tests.observe.stand_in import plain_status
from tests.waiting import eventually
from tiers.channel.meters import PUTS
from tiers.core.meters import Sample
from tiers.errors import UsageError
from tiers.observe.client import ask, ask_all, tell_drain
from tiers.observe.meters import Meters
from tiers.observe.status import StatusServer, split_address


class Agent:
    """What a server asks of its agent."""

    def __init__(self) -> None:
        self.drains = 0
        self.asked = 0
        self.numbers = Meters()
        self.reasons: list[str] = []

    def snapshot(self) -> dict[str, Any]:
        self.asked += 1
        return plain_status("edge-1")

    def audit(self) -> dict[str, Any]:
        return {"origins": {}}

    def meters(self) -> Iterator[Sample]:
        self.asked += 1
        yield PUTS.of(self.asked)

    def unready(self) -> list[str]:
        return self.reasons

    def drain(self) -> None:
        self.drains += 1


async def served(directory: Path, address: str | None = None) -> tuple[Agent, StatusServer]:
    agent = Agent()
    server = StatusServer(
        agent.snapshot,
        agent.audit,
        agent.numbers,
        agent.unready,
        agent.drain,
        directory,
        address,
    )
    await server.start()
    return agent, server


def free_address() -> str:
    return f"127.0.0.1:{free_port_pair()}"


async def test_answers_on_its_unix_socket_which_is_its_owner_s_alone(tmp_path: Path) -> None:
    _, server = await served(tmp_path)
    answer = await ask(tmp_path, agent="edge-1")
    assert isinstance(answer, dict)
    assert answer["agent"] == "edge-1"
    assert "audit" not in answer
    assert stat.S_IMODE((tmp_path / "status.sock").stat().st_mode) == 0o600
    audited = await ask(tmp_path, audit=True)
    assert isinstance(audited, dict)
    assert "audit" in audited
    await server.stop()
    assert not (tmp_path / "status.sock").exists()
    assert await ask(tmp_path) == "not running: no status socket"


async def test_a_directory_deeper_than_a_socket_address_holds(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-directory-name"] * 8)
    deep.mkdir(parents=True)
    _, server = await served(deep)
    assert isinstance(await ask(deep, agent="edge-1"), dict)
    await server.stop()


async def test_a_dead_agents_socket_is_in_nobodys_way(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "status.sock"))
    dead.close()
    assert await ask(tmp_path) == "not running: connection refused"
    _, server = await served(tmp_path)
    assert isinstance(await ask(tmp_path), dict)
    await server.stop()


async def test_unix_first_then_tcp(tmp_path: Path) -> None:
    address = free_address()
    _, server = await served(tmp_path, address)
    elsewhere = tmp_path / "elsewhere"
    assert isinstance(await ask(elsewhere, address, agent="edge-1"), dict)
    assert isinstance(await ask(None, address), dict)
    await server.stop()
    answer = await ask(elsewhere, address)
    assert isinstance(answer, str)
    assert str(elsewhere) in answer
    assert "connection refused" in answer


async def test_it_moves_to_another_address_and_its_socket_stays(tmp_path: Path) -> None:
    first, second = free_address(), free_address()
    _, server = await served(tmp_path)
    socket_file = (tmp_path / "status.sock").stat().st_ino
    await server.move(first)
    assert isinstance(await ask(None, first), dict)
    await server.move(second)
    assert isinstance(await ask(None, second), dict)
    assert isinstance(await ask(None, first), str), "nobody is there any more"
    await server.move(second.replace("127.0.0.1", "0.0.0.0"))  # the same port, at every address
    assert isinstance(await ask(None, second), dict)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="in use"):
            await server.move(f"127.0.0.1:{taken.getsockname()[1]}")
    assert isinstance(await ask(None, second), dict), "it answers where it did"
    await server.move(None)
    assert isinstance(await ask(None, second), str)
    assert (tmp_path / "status.sock").stat().st_ino == socket_file
    assert isinstance(await ask(tmp_path), dict)
    await server.stop()


async def test_drain_is_heard_on_the_unix_socket_and_refused_on_tcp(tmp_path: Path) -> None:
    address = free_address()
    agent, server = await served(tmp_path, address)
    async with aiohttp.ClientSession() as session, session.post(f"http://{address}/drain") as told:
        assert told.status == 403
    assert agent.drains == 0
    assert isinstance(await tell_drain(tmp_path), dict)
    assert agent.drains == 1
    await server.stop()


async def test_the_wrong_agent_is_told_apart(tmp_path: Path) -> None:
    _, server = await served(tmp_path)
    answer = await ask(tmp_path, agent="edge-2")
    assert answer == "the agent that answered is 'edge-1', not 'edge-2'"
    await server.stop()


async def test_a_port_in_use_is_the_callers_to_solve_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"{address}.*in use"):
            await served(tmp_path, address)
    assert not (tmp_path / "status.sock").exists()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "no answer"),
        (b"nonsense\r\n\r\n", "no answer"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{"a"', "not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "not a JSON object"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noops", "answered 500: oops"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "no answer"),
    ],
)
async def test_whatever_answers_is_a_reason_and_no_crash(said: bytes, reason: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = await ask(None, f"127.0.0.1:{port}")
    server.close()
    assert isinstance(answer, str)
    assert reason in answer


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.observe.client.ANSWER_BYTES_MAX", 1 << 16)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1 << 20))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    answer = await ask(None, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    assert isinstance(answer, str)
    assert answer.endswith("no answer: more than 65536 bytes")


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """It takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


async def test_a_silent_agent_is_given_up(silent: socket.socket) -> None:
    mute = f"127.0.0.1:{silent.getsockname()[1]}"
    assert await ask(None, mute, timeout_s=0.1) == f"{mute}: no answer within 0.1 s"


async def test_one_silent_agent_does_not_hold_up_the_others(
    tmp_path: Path, silent: socket.socket
) -> None:
    agent, server = await served(tmp_path)
    mute = f"127.0.0.1:{silent.getsockname()[1]}"
    who = {"edge-2": (None, mute), "edge-1": (tmp_path, None), "edge-3": (None, None)}
    asking = asyncio.create_task(ask_all(who, timeout_s=30.0))
    held, _ = await asyncio.to_thread(silent.accept)
    await eventually(lambda: agent.asked, "edge-1 is asked meanwhile")
    assert not asking.done()
    held.close()
    silent.close()  # it is asked once more
    answers = await asking
    await server.stop()
    assert list(answers) == [*who]
    assert isinstance(answers["edge-1"], dict)
    assert answers["edge-2"] == f"{mute}: not running: connection refused"
    assert answers["edge-3"] == "neither a data directory here nor a status address"


async def test_asking_leaves_no_descriptors_open(tmp_path: Path) -> None:
    _, server = await served(tmp_path)
    await ask(tmp_path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        assert isinstance(await ask(tmp_path), dict)
        assert isinstance(await ask(tmp_path / "nowhere"), str)
    await eventually(
        lambda: len(os.listdir("/proc/self/fd")) <= before,  # noqa: PTH208
        "the server has closed its end, too",
    )
    await server.stop()


async def got(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_who_is_not_ready_says_why_a_line_each_and_names_no_channel(tmp_path: Path) -> None:
    address = free_address()
    agent, server = await served(tmp_path, address)
    assert await got(f"http://{address}/readyz") == (200, "ready\n")
    agent.reasons = [f"no_peer x: met {'ab' * 16}\nand more", "disk_floor channel: full"]
    told = "no_peer x: met (an id) and more\ndisk_floor channel: full\n"
    assert await got(f"http://{address}/readyz") == (503, told)
    assert await got(f"http://{address}/healthz") == (200, "alive\n")
    await server.stop()


async def test_numbers_are_read_when_somebody_asks(tmp_path: Path) -> None:
    address = free_address()
    agent, server = await served(tmp_path, address)
    url = f"http://{address}/metrics"
    assert await got(url) == (200, "")
    agent.numbers.register(agent)
    assert (await got(url))[1].splitlines()[-1] == f"{PUTS.shown} 1.0"
    assert (await got(url))[1].splitlines()[-1] == f"{PUTS.shown} 2.0"
    await server.stop()


@pytest.mark.parametrize("address", ["", "7400", "host:", "host:x", "host:65536", ":80"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="wanted HOST:PORT"):
        split_address(address)


def test_addresses() -> None:
    assert split_address("10.0.0.1:80") == ("10.0.0.1", 80)
    assert split_address("[::1]:80") == ("::1", 80)


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:80", 200),
        ("10.1.2.3:9999", 200),  # a port that is forwarded
        ("localhost:80", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("2130706433", 421),
        ("::1", 421),
        ("[127.0.0.1]", 421),
        ("", 421),
        (None, 421),
        ("127.0.0.1\r\nHost: evil.example", 421),
    ],
)
@pytest.mark.parametrize(
    "request_line",
    ["GET /status", "GET /metrics", "GET /healthz", "GET /readyz", "POST /drain", "GET /nothing"],
)
async def test_over_tcp_only_addresses_are_answered_to(
    tmp_path: Path, host: str | None, answered: int, request_line: str
) -> None:
    address = free_address()
    _, server = await served(tmp_path, address)
    name, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    header = "" if host is None else f"Host: {host}\r\n"
    writer.write(f"{request_line} HTTP/1.1\r\n{header}Connection: close\r\n\r\n".encode())
    said = int((await reader.readline()).split()[1])
    writer.close()
    await server.stop()
    others = {"POST /drain": 403, "GET /nothing": 404}
    wanted = {others.get(request_line, 200)} if answered == 200 else {421, 400}
    assert said in wanted


async def test_over_tcp_no_id_of_a_channel_is_told(tmp_path: Path) -> None:
    address = free_address()
    _, server = await served(tmp_path, address)
    own, another = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    told = plain_status("edge-1")
    told["channel"]["id"] = own
    told["receiver"] = {"senders": [{"agent": "x", "error": f"channels {own} and {another}"}]}
    server._snapshot = lambda: told
    inside = await ask(tmp_path)
    outside = await ask(None, address)
    assert isinstance(inside, dict)
    assert isinstance(outside, dict)
    assert inside["channel"]["id"] == own
    assert outside["channel"]["id"] == "(an id)"
    assert own not in str(outside)
    assert another not in str(outside)
    assert outside["receiver"]["senders"][0]["error"] == "channels (an id) and (an id)"
    assert outside["channel"]["used_bytes"] == told["channel"]["used_bytes"]
    await server.stop()
