"""syslog over real sockets, by hand and with Debian's `logger`."""

import asyncio
import logging
import logging.handlers
import os
import resource
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.faults.cluster import free_port_pair
from tests.sources.intake import RecordingIntake
from tests.waiting import eventually
from tiers.sources.listening import parse_address
from tiers.sources.syslog import Syslog, SyslogOptions


def make(**keys: Any) -> Syslog:
    return Syslog(options(**keys))


def options(**keys: Any) -> SyslogOptions:
    return SyslogOptions.model_validate({"type": "syslog", "listen": "127.0.0.1:0", **keys})


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


def noted(source: Syslog, what: str) -> list[dict[str, Any]]:
    rows = source.status()["noted"]
    assert isinstance(rows, list)
    return [row for row in rows if row["what"] == what]


def held(source: Syslog) -> int:
    size = source.status()["unfinished_bytes"]
    assert isinstance(size, int)
    return size


async def receive(connection: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 1), 30)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def udp(source: Syslog) -> socket.socket:
    sender = socket.socket(type=socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", ports(source)["udp"]))
    return sender


HERE = "127.0.0.1"
DATAGRAMS = {
    b"<1>one": b"<1>one",
    b"<2>two\n": b"<2>two",
    b"<3>three\n4\0": b"<3>three#0124",
    b"": b"",
    b"\n": b"",
    b"\0\0": b"",
    b"<5>\xff\r\n": b"<5>\xff\r",
    b"<6>six\n\0\n": b"<6>six",
    b"<7>": b"<7>",
    b"8 <8>count": b"<8>count",  # logger --udp --octet-count
    b"7 <9>count": b"7 <9>count",
}


async def test_udp_messages_become_lines() -> None:
    intake = RecordingIntake()
    async with listening(intake, headers={"service": "net"}) as source:
        with udp(source) as sender:
            for message in DATAGRAMS:
                sender.send(message)
            await eventually(lambda: intake.events >= 8)
    assert intake.lines == [event + b"\n" for event in DATAGRAMS.values() if event]
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


async def test_every_address_takes_ipv4_too() -> None:
    intake = RecordingIntake()
    async with listening(intake, listen="[::]:0") as source:
        with udp(source) as sender, await connect(source) as connection:
            sender.send(b"<1>u")
            connection.send(b"10 <1>t45678901x")
            await eventually(lambda: intake.events == 2)
            [note] = await eventually(lambda: noted(source, "messages_odd"))
            assert note["peer"] == HERE


async def test_a_name_with_several_addresses_is_listened_to_at_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (
            socket.AF_INET6,
            socket.SOCK_STREAM,
            0,
            "",
            ("2001:db8::1", 0, 0, 0),
        ),  # not of this machine
        (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)),
    ]

    async def addresses(*_: object, **__: object) -> list[Any]:
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    intake = RecordingIntake()
    source = make(listen="localhost:0")
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: len(source.status()["listening"]) == 2)  # type: ignore[arg-type]
    listening_at: Any = source.status()["listening"]
    tcp = [parse_address(one) for one in listening_at["tcp"].split(", ")]
    udp_at = [parse_address(one) for one in listening_at["udp"].split(", ")]
    assert [host for host, _ in tcp] == [host for host, _ in udp_at] == ["::1", "127.0.0.1"]
    for place in tcp:
        with socket.create_connection(place) as connection:
            connection.send(b"5 <1>t\n")
    for host, port in udp_at:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"<1>u", (host, port))
    await eventually(lambda: intake.events == 4)
    source.drain()
    await task


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
            [note] = noted(source, "dropped_channel_full")
            size = sum(len(b"<1>%d" % i) for i in range(50))
            assert (note["peer"], note["times"], note["bytes"]) == (HERE, 50, size)
    assert intake.counters["dropped_channel_full_bytes"] == size
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


async def test_an_odd_count_is_noted_with_its_peer_and_costs_no_connection() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as odd:
            odd.send(b"8 <1>garbage9 <2>behind")
            await eventually(lambda: intake.events == 3)
            odd.send(b"8 <3>later")
            await eventually(lambda: intake.events == 4)
            [note] = noted(source, "messages_odd")
            assert (note["peer"], note["times"], note["bytes"]) == (HERE, 1, 8)
    assert intake.data == b"<1>garba\nge\n<2>behind\n<3>later\n"
    assert intake.counters["messages_odd"] == 1
    assert intake.counters["messages_odd_bytes"] == 8


async def test_a_first_line_is_put_when_it_is_quiet() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as connection:
            sent_s = asyncio.get_running_loop().time()
            connection.send(b"<1>first and only\n")
            await eventually(lambda: intake.events == 1)
            assert asyncio.get_running_loop().time() - sent_s >= 0.5, "what follows has a chance"


async def test_framing_is_an_option() -> None:
    said = b"6 <1>ONE<2>two\nthree\0"
    expected = {
        "auto": b"<1>ONE\n<2>two\nthree\n",
        "octet": b"<1>ONE\n<2>two\nthree\n",
        "newline": b"6 <1>ONE<2>two\nthree\0\n",
        "nul": b"6 <1>ONE<2>two#012three\n",
    }
    for framing, events in expected.items():
        intake = RecordingIntake()
        async with listening(intake, transports=["tcp"], framing=framing) as source:
            with await connect(source) as connection:
                connection.send(said)
            await eventually(lambda: intake.data == events, framing)  # noqa: B023


async def test_the_longest_idle_connection_makes_room() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"], connections_max=2) as source:
        with await connect(source) as a, await connect(source) as b:
            for number, one in enumerate((b, a)):
                one.send(b"<1>x\n<1>half")
                await eventually(lambda: intake.events == number + 1)  # noqa: B023
            with await connect(source) as c:
                await eventually(lambda: intake.counters["connections_evicted"] == 1)
                assert (await receive(b)) == b""
                assert [note["peer"] for note in noted(source, "connections_evicted")] == [HERE]
                await eventually(lambda: intake.data.count(b"half") == 1, "what it held")
                a.send(b"<1>a\n")
                c.send(b"<1>c\n<1>")
                await eventually(lambda: b"c\n" in intake.data and b"a\n" in intake.data)
        await eventually(lambda: source.status()["connections"] == 0)


async def test_one_address_does_not_take_all_places() -> None:
    intake = RecordingIntake()
    keys = {"transports": ["tcp"], "listen": "0.0.0.0:0", "connections_per_address_max": 2}
    async with listening(intake, **keys) as source:
        port = ports(source)["tcp"]
        with socket.create_connection(("127.0.0.2", port), source_address=("127.0.0.2", 0)) as far:
            await eventually(lambda: source.status()["connections"] == 1)
            many = [await connect(source) for _ in range(5)]
            await eventually(lambda: intake.counters["connections_evicted"] == 3)
            far.send(b"<1>far\n<1>")
            many[-1].send(b"<1>last\n<1>")
            await eventually(lambda: intake.events == 2)
            for one in many:
                one.close()


async def test_without_a_descriptor_the_longest_idle_makes_room() -> None:
    intake = RecordingIntake()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as idle:
            await eventually(lambda: source.status()["connections"] == 1)
            with socket.create_connection(("127.0.0.1", ports(source)["tcp"])) as late:
                late.send(b"<1>late\n<1>")
                next_one = os.dup(0)
                os.close(next_one)
                resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
                try:
                    assert (await receive(idle)) == b""
                    await eventually(lambda: intake.events == 1)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot accept" in intake.troubles[0]
    assert intake.last_trouble == ""


async def test_a_new_connection_waits_while_all_others_are_held_back() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"], connections_max=1) as source:
        intake.close_gate()
        with await connect(source) as a, await connect(source) as b:
            a.send(b"<1>a\n<1>a\n")
            await eventually(lambda: intake.waiting == 1)
            b.send(b"<1>b\n<1>b\n")
            assert source.status()["connections"] == 1
            intake.open_gate()
            await eventually(lambda: intake.counters["connections_evicted"] == 1)
            await eventually(lambda: b"b" in intake.data)


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"], idle_after="100ms") as source:
        with await connect(source) as connection:
            connection.send(b"<1>x\n<1>half")
            assert (await receive(connection)) == b""
            await eventually(lambda: source.status()["connections"] == 0)
    assert intake.data == b"<1>x\n<1>half\n"
    assert intake.counters["connections_idle"] == 1


async def test_one_that_never_said_a_word_is_idle_since_it_came() -> None:
    async with listening(RecordingIntake(), transports=["tcp"], idle_after="1s") as source:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        with await connect(source) as connection:
            assert (await receive(connection)) == b""
            assert loop.time() - begun_s >= 1


async def test_a_quiet_connection_is_probed() -> None:
    async with listening(RecordingIntake(), transports=["tcp"]) as source:
        with await connect(source) as connection:
            await eventually(lambda: source.status()["connections"] == 1)
            two = (connection.getpeername(), connection.getsockname())
            ends = tuple(f":{port:04X}" for _, port in two)
            rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            # proc(5): local and remote address, state, queues, timer: 02 is keepalive
            [timer] = [row[5] for row in rows if (row[1][-5:], row[2][-5:]) == ends]
            assert timer.startswith("02:")


async def test_what_a_reset_connection_had_delivered_is_kept() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as connection:
            await eventually(lambda: source.status()["connections"] == 1)
            connection.send(b"".join(b"<1>%d\n" % number for number in range(1000)))
            reset(connection)
        await eventually(lambda: source.status()["connections"] == 0)
    assert intake.events == 1000


async def test_what_was_delivered_to_a_full_channel_outlives_a_reset() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        intake.close_gate()
        fill, sender = await connect(source), await connect(source)
        with fill, sender:
            fill.send(b"<1>fill\n<1>fill\n")
            await eventually(lambda: intake.waiting == 1)
            sender.send(b"".join(b"<1>message %d\n" % number for number in range(100)))
            reset(sender)
            late = await connect(source)  # even before it was accepted
            late.send(b"<1>late\n")
            reset(late)
            intake.open_gate()
            await eventually(lambda: intake.events == 103)
    assert intake.data.count(b"message") == 100


async def test_memory_goes_from_the_one_that_holds_most() -> None:
    intake = RecordingIntake()
    keys = {"transports": ["tcp"], "unfinished_size_max": "100KiB"}
    async with listening(intake, **keys) as source:
        with await connect(source) as a, await connect(source) as b, await connect(source) as c:
            for one, size in ((a, 20_000), (b, 60_000)):
                one.send(b"<1>" + b"x" * size)
            await eventually(lambda: held(source) > 80_000)
            c.send(b"<1>" + b"c" * 30_000)
            await eventually(lambda: intake.counters["connections_over_memory"] == 1)
            assert (await receive(b)) == b""
            [note] = noted(source, "connections_over_memory")
            assert note["peer"] == HERE
            await eventually(lambda: source.status()["connections"] == 2)
            assert held(source) < 60_000
            for one in (a, c):
                one.send(b"\n<1>\n<1>")
            await eventually(lambda: intake.events == 5)
    assert intake.bytes == 20_004 + 60_004 + 30_004 + 2 * 4 + 2 * 4


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
    port = free_port_pair()  # which no connection is given meanwhile
    taken = socket.create_server(("127.0.0.1", port))
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
    assert options(listen="[::1]:514").listen_addresses() == ("[::1]:514",)


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


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_pythons_own_handler(kind: socket.SocketKind) -> None:
    intake = RecordingIntake()
    async with listening(intake) as source:
        port = ports(source)["tcp" if kind is socket.SOCK_STREAM else "udp"]

        def log() -> None:
            handler = logging.handlers.SysLogHandler(("127.0.0.1", port), socktype=kind)
            logger = logging.Logger("app")
            logger.addHandler(handler)
            try:
                raise ValueError("blåbær")
            except ValueError:
                logger.exception("it failed")
            logger.warning("two\nlines")
            handler.close()

        await asyncio.to_thread(log)
        await eventually(lambda: intake.events == 2)
    trace, warning = intake.lines
    assert trace.startswith(b"<11>it failed#012Traceback (most recent call last):#012  File ")
    assert trace.endswith("#012ValueError: blåbær\n".encode())
    assert warning == b"<12>two#012lines\n"


async def test_what_is_noted_is_told_at_once_and_then_summed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    intake = RecordingIntake()
    async with listening(intake, full_wait="10ms", transports=["udp"]) as source:
        with udp(source) as sender:
            intake.close_gate()
            for number in range(3):
                sender.send(b"<1>x")
                await eventually(
                    lambda: intake.counters["dropped_channel_full"] == number + 1  # noqa: B023
                )
    told = [record.getMessage() for record in caplog.records]
    why = "of 127.0.0.1 ({} B): dropped, the channel was full"
    assert told == [f"syslog: 1 {why.format(4)}", f"syslog: 2 {why.format(8)}"]


async def test_the_sender_of_each_message_as_a_header() -> None:
    intake = RecordingIntake()
    hosts = ("127.0.0.2", "127.0.0.3")
    async with listening(intake, headers={"a": "b"}, client_header="client") as source:
        for number, host in enumerate(hosts * 3):
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                sender.bind((host, 0))
                sender.sendto(b"<1>%d" % number, (HERE, ports(source)["udp"]))
        await eventually(lambda: intake.events == 6)
        for number, host in enumerate(hosts, 6):
            there = (HERE, ports(source)["tcp"])
            with socket.create_connection(there, source_address=(host, 0)) as sender:
                sender.sendall(b"<1>%d\n" % number)
        await eventually(lambda: intake.events == 8)
    found = {line: put.headers for put in intake.puts for line in put.block.splitlines()}
    assert found == {
        b"<1>%d" % number: {"a": "b", "client": hosts[number % 2]} for number in range(8)
    }


def test_the_header_is_another_than_those_there_are() -> None:
    with pytest.raises(ValidationError, match="another header"):
        make(headers={"client": "x"}, client_header="client")
    options = SyslogOptions(type="syslog", headers={"a": "b"}, client_header="client")
    assert options.header_names() == {"a", "client"}
