"""Where syslog stops reading, what it still reads of one that it closes, which ports it takes."""

import asyncio
import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.sources.intake import RecordingIntake
from tests.sources.test_syslog import (
    HERE,
    connect,
    listening,
    make,
    ports,
    udp,
)
from tests.waiting import eventually
from tiers.sources import syslog_tcp
from tiers.sources.listening import Draining, Headers
from tiers.sources.notes import Notes
from tiers.sources.syslog_udp import UdpSyslog

READ_BYTES = 64 * 1024


async def closed_for_memory(size: int) -> RecordingIntake:
    """What was put of one connection that had delivered `size` bytes of one message when it was
    told to leave, at its second read."""
    intake = RecordingIntake(keep=False)
    keys = {"transports": ["tcp"], "unfinished_size_max": "100KiB"}
    async with listening(intake, **keys) as source:
        with await connect(source) as connection:
            # In one step of the loop: it is all delivered before the first of it is read.
            assert connection.send(b"<1>" + b"x" * (size - 3)) == size
            await eventually(lambda: intake.counters["connections_over_memory"] > 0)
            await eventually(lambda: source.status()["connections"] == 0)
    assert intake.counters["connections_over_memory"] == 1
    return intake


async def test_what_one_had_delivered_when_it_was_closed_is_read() -> None:
    size = 300_000
    intake = await closed_for_memory(size)
    assert size < intake.bytes <= size + 3, "in two or three pieces, each with its newline"


async def test_of_one_that_is_closed_no_more_is_read_than_there_is_a_limit_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syslog_tcp, "_LAST_BYTES_MAX", 2 * READ_BYTES)
    intake = await closed_for_memory(8 * READ_BYTES)
    # Two reads before it was told, and two since; a read gives a little less at times.
    assert 3 * READ_BYTES < intake.bytes <= 4 * READ_BYTES + 3


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("begun", [b"<1>", b"6000 <1>", b"6000"])
async def test_who_left_holds_no_memory(begun: bytes, reset: bool) -> None:
    intake = RecordingIntake(keep=False)
    async with listening(intake, transports=["tcp"]) as source:
        for _ in range(3):
            with await connect(source) as connection:
                connection.sendall(begun + b"x" * 5000)
                await eventually(lambda: source.status()["unfinished_bytes"] or intake.bytes)
                if reset:
                    now = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            await eventually(lambda: source.status()["connections"] == 0)
    assert intake.bytes >= 3 * 5000
    assert source.status()["unfinished_bytes"] == 0


async def test_one_that_is_not_to_be_served_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[socket.socket] = []

    def fail(connection: socket.socket) -> None:
        accepted.append(connection)
        raise OSError(errno.EINVAL, "no such option")

    monkeypatch.setattr(syslog_tcp, "_keep_alive", fail)
    source = make(transports=["tcp"])
    task = asyncio.create_task(source.run(RecordingIntake()))
    await eventually(lambda: ports(source))
    with await connect(source):
        with pytest.raises(ExceptionGroup):
            await task
        assert [one.fileno() for one in accepted] == [-1]


async def test_no_two_share_a_port_for_datagrams() -> None:
    """Each would get a part of the messages."""
    first, second = RecordingIntake(), RecordingIntake()
    async with listening(first, transports=["udp"]) as source:
        late = make(transports=["udp"], listen=f"{HERE}:{ports(source)['udp']}")
        task = asyncio.create_task(late.run(second))
        await eventually(lambda: "another program has it" in second.last_trouble or ports(late))
        assert not ports(late)
        late.drain()
        await task


async def test_old_connections_do_not_keep_a_port() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"], idle_after="100ms") as source:
        port = ports(source)["tcp"]
        with await connect(source):
            await eventually(lambda: intake.counters["connections_idle"] == 1)
            await eventually(lambda: source.status()["connections"] == 0)
    # We closed first, so that the system remembers the connection for a minute.
    async with listening(intake, transports=["tcp"], listen=f"{HERE}:{port}"):
        assert intake.troubles == []


class Losing:
    """A socket with a datagram for each count of those that the kernel lost before it."""

    def __init__(self) -> None:
        self.counts: Iterator[int] = iter(())

    def recvmsg(self, size: int, ancillary_size: int) -> tuple[object, ...]:
        count = next(self.counts, None)
        if count is None:
            raise BlockingIOError
        told = [(socket.SOL_SOCKET, 40, struct.pack("=I", count))] if count else []
        return b"<1>x", told, 0, (HERE, 514)


async def test_what_the_kernel_lost_is_counted_once_and_beyond_its_counters_end() -> None:
    intake = RecordingIntake()
    notes = Notes("syslog")
    notes.begin(intake)
    source = UdpSyslog(f"{HERE}:0", Headers({}, ""), 4096, 1.0, Draining(), notes)
    losing, lost = Losing(), []
    for counts in ([], [0], [5], [5, 5], [6, 7], [2**32 - 1], [3], []):
        before = intake.counters["dropped_kernel"]
        losing.counts = iter(counts)
        assert len(source._receive(losing, intake)) == len(counts)  # type: ignore[arg-type]
        lost.append(intake.counters["dropped_kernel"] - before)
    assert lost == [0, 0, 5, 0, 2, 2**32 - 8, 4, 0]
    [row] = notes.rows()
    assert (row["peer"], row["times"]) == ("", sum(lost))
    notes.end()


class Counting(RecordingIntake):
    """Notes how often it is asked for room."""

    asked = 0

    def has_room(self) -> bool:
        self.asked += 1
        return super().has_room()


async def test_a_datagram_waits_for_room_and_lets_others_go_on() -> None:
    intake = Counting()
    intake.close_gate()
    async with listening(intake, transports=["udp"], full_wait="1h") as source:
        with udp(source) as sender:
            sender.send(b"<1>x")
            await eventually(lambda: intake.asked >= 3)
            assert intake.asked < 1000, "not without a pause between"
            intake.open_gate()
            await eventually(lambda: intake.events == 1)
    assert not intake.counters
