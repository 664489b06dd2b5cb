"""syslog over real sockets, by hand and with Debian's `logger`."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from tests.sources.intake import RecordingIntake
from tests.waiting import eventually
from tiers.sources.syslog import Syslog, SyslogOptions, parse_address


def make(**keys: Any) -> Syslog:
    return Syslog(SyslogOptions.model_validate({"type": "syslog", "listen": "127.0.0.1:0", **keys}))


@asynccontextmanager
async def listening(intake: RecordingIntake, **keys: Any) -> AsyncIterator[Syslog]:
    source = make(**keys)
    task = asyncio.create_task(source.run(intake))
    transports = set(keys.get("transports", ("udp", "tcp")))
    await eventually(lambda: task.done() or ports(source).keys() == transports)
    try:
        yield source
        source.drain()
        await asyncio.wait_for(task, 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ports(source: Syslog) -> dict[str, int]:
    addresses = source.status()["listening"]
    assert isinstance(addresses, dict)
    return {name: parse_address(address)[1] for name, address in addresses.items()}


async def connect(source: Syslog) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", ports(source)["tcp"]))
    return connection


def udp(source: Syslog) -> socket.socket:
    sender = socket.socket(type=socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", ports(source)["udp"]))
    return sender


async def test_udp_messages_become_lines() -> None:
    intake = RecordingIntake()
    async with listening(intake, headers={"service": "net"}) as source:
        with udp(source) as sender:
            for message in (b"<1>one", b"<2>two\n", b"<3>three\n4\0", b"", b"\n", b"<5>\xff\r\n"):
                sender.send(message)
            await eventually(lambda: intake.events >= 4)
    assert intake.data == b"<1>one\n<2>two\n<3>three#0124\n<5>\xff\r\n"
    assert all(put.headers == {"service": "net"} for put in intake.puts)


async def test_tcp_in_both_framings_at_once() -> None:
    intake = RecordingIntake()
    async with listening(intake) as source:
        lines, counted = await connect(source), await connect(source)
        with lines, counted:
            lines.send(b"<1>one\n<2>two\nhalf")
            counted.send(b"6 <1>ONE9 <2>T\nW O\n6 <1>HA")
            await eventually(lambda: intake.events == 4)
        await eventually(lambda: intake.events == 6, "unfinished messages at the end")
        await eventually(lambda: source.status()["connections"] == 0)
    assert sorted(intake.data.split(b"\n")[:-1]) == sorted(
        [b"<1>one", b"<2>two", b"half", b"<1>ONE", b"<2>T#012W O", b"<1>HA"]
    )


async def test_ipv6() -> None:
    intake = RecordingIntake()
    async with listening(intake, listen="[::1]:0") as source:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"<1>u", ("::1", ports(source)["udp"]))
        with socket.create_connection(("::1", ports(source)["tcp"])) as connection:
            connection.send(b"<1>t\n")
            await eventually(lambda: intake.events == 2)


async def test_a_full_channel_holds_tcp_back() -> None:
    intake = RecordingIntake(keep=False)
    line = b"<1>" + b"x" * 996 + b"\n"
    async with listening(intake, transports=["tcp"]) as source:
        intake.close_gate()
        with await connect(source) as connection:
            sent = 0
            waiting = 0
            while waiting < 20:  # until nothing more fits for a while
                try:
                    sent += connection.send(line * 100)
                    waiting = 0
                except BlockingIOError:
                    await asyncio.sleep(0.01)
                    waiting += 1
            assert intake.events == 0
            assert sent < 64 * 1024 * 1024
            intake.open_gate()
            await eventually(lambda: intake.bytes >= sent - len(line))
        await eventually(lambda: source.status()["connections"] == 0)
    rest = sent % len(line)
    assert intake.bytes == sent + (1 if rest else 0)


async def test_a_full_channel_drops_datagrams_and_counts_each() -> None:
    intake = RecordingIntake()
    async with listening(intake, full_wait="20ms") as source:
        with udp(source) as sender:
            intake.close_gate()
            for i in range(50):
                sender.send(b"<1>%d" % i)
            await eventually(lambda: intake.counters["dropped_channel_full"] == 50)
            intake.open_gate()
            sender.send(b"<1>after")
            await eventually(lambda: intake.events == 1)
    assert intake.data == b"<1>after\n"


async def test_a_short_stop_of_the_channel_drops_nothing() -> None:
    intake = RecordingIntake()
    async with listening(intake, full_wait="1h") as source:
        with udp(source) as sender:
            intake.close_gate()
            for i in range(50):
                sender.send(b"<1>%d" % i)
            intake.open_gate()
            await eventually(lambda: intake.events == 50)
    assert not intake.counters


async def test_datagrams_that_the_kernel_lost_are_counted() -> None:
    intake, sent = RecordingIntake(), 0

    def send(message: bytes) -> None:
        nonlocal sent
        sender.send(message)
        sent += 1

    def knock() -> bool:
        # The kernel tells of losses only with the next datagram that arrives.
        send(b"<1>knock")
        return intake.counters["dropped_kernel"] > 0

    async with listening(intake, full_wait="1h", receive_buffer="4KiB") as source:
        with udp(source) as sender:
            intake.close_gate()
            for _ in range(200):
                send(b"<1>" + b"x" * 500)
            intake.open_gate()
            await eventually(knock)
            await eventually(lambda: intake.events + intake.counters["dropped_kernel"] == sent)
    assert intake.events < sent
    assert "dropped_channel_full" not in intake.counters


@pytest.mark.parametrize("bad", [b"9999999999 x", b"3 <1>garbage"])
async def test_a_malformed_count_costs_the_connection_only(bad: bytes) -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as good, await connect(source) as evil:
            evil.send(bad)
            await eventually(lambda: intake.counters["connections_malformed"] == 1)
            await eventually(lambda: source.status()["connections"] == 1)
            good.send(b"<1>fine\n")
            await eventually(lambda: b"<1>fine\n" in intake.data)


async def test_connections_are_limited() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"], connections_max=2) as source:
        with await connect(source) as a, await connect(source), await connect(source) as c:
            await eventually(lambda: intake.counters["connections_refused"] == 1)
            a.send(b"<1>a\n")
            await eventually(lambda: intake.events == 1)
            assert c.fileno() > 0


async def test_memory_for_unfinished_messages_is_limited() -> None:
    intake = RecordingIntake()
    keys = {"transports": ["tcp"], "unfinished_size_max": "100KiB"}
    async with listening(intake, **keys) as source:
        with await connect(source) as a, await connect(source) as b:
            a.send(b"<1>" + b"a" * 60_000)
            b.send(b"<1>" + b"b" * 60_000)
            await eventually(lambda: intake.counters["connections_over_memory"] == 1)
            await eventually(lambda: source.status()["connections"] == 1)
    assert len(intake.data) == 2 * 60_004


async def test_long_messages_are_split_and_counted() -> None:
    intake = RecordingIntake(event_size_max=100)
    async with listening(intake) as source:
        with udp(source) as sender, await connect(source) as connection:
            sender.send(b"u" * 150)
            connection.send(b"<" * 150 + b"\n")
            await eventually(lambda: intake.events == 4)
    assert intake.counters["lines_split"] == 2
    assert max(map(len, intake.lines)) == 100


async def test_drain_takes_what_was_sent_and_closes() -> None:
    intake = RecordingIntake()
    async with listening(intake) as source:
        port = ports(source)["tcp"]
        with udp(source) as sender, await connect(source) as connection:
            connection.send(b"<1>\n")
            await eventually(lambda: intake.events == 1)
            connection.send(b"<1>line\n<1>half")
            sender.send(b"<1>datagram")
            source.drain()
            await eventually(lambda: not source.status()["listening"])
            with socket.socket() as late:
                late.setblocking(False)
                with pytest.raises(OSError):
                    await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", port))
    assert sorted(intake.data.split()) == [b"<1>", b"<1>datagram", b"<1>half", b"<1>line"]


async def test_an_address_that_is_taken_is_tried_again() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    intake = RecordingIntake()
    source = make(listen=f"127.0.0.1:{port}", transports=["tcp"])
    task = asyncio.create_task(source.run(intake))
    with taken:
        await eventually(lambda: "cannot listen" in intake.last_trouble)
    await eventually(lambda: ports(source) == {"tcp": port})
    assert intake.last_trouble == ""
    source.drain()
    await task


def test_wrong_options_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"transports": []}, {"transports": ["tls"]}, {"port": 514}]
    for listen in ("514", "host:", ":514", "::1:514", "h:99999", "h:-1", "[::1]"):
        wrong.append({"listen": listen})
    for keys in wrong:
        with pytest.raises(ValidationError):
            make(**keys)
    assert make(listen="[::1]:514")._options.listen_addresses() == ("[::1]:514",)


LOGGER = shutil.which("logger")


@pytest.mark.skipif(
    LOGGER is None and os.environ.get("CI") != "true", reason="no logger (bsdutils) here"
)
@pytest.mark.parametrize("form", ["--rfc3164", "--rfc5424"])
@pytest.mark.parametrize("way", [["--udp"], ["--tcp"], ["--tcp", "--octet-count"]])
async def test_debians_logger(form: str, way: list[str]) -> None:
    assert LOGGER
    intake = RecordingIntake()
    async with listening(intake) as source:
        port = str(ports(source)[way[0].strip("-")])
        command = [LOGGER, "--server", "127.0.0.1", "--port", port, form, *way, "-t", "app"]
        await asyncio.to_thread(
            subprocess.run, command, input=b"first line\nsecond 1 2 3\n", check=True
        )
        await eventually(lambda: intake.events == 2)
    first, second = intake.lines
    assert first.startswith(b"<13>") and first.endswith(b"first line\n")
    assert second.endswith(b"second 1 2 3\n")
