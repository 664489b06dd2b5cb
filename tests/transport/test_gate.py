"""The bounds of what strangers' connections hold, on real sockets."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq

from tests.hostile.speaking import Stranger
from tests.transport.hop import Hop, a_hop, flows
from tests.waiting import eventually
from tiers.core.hop.messages import PROTOCOL, Hello
from tiers.core.hop.visitors import VisitorLimits
from tiers.transport.gate import Gate, OwnMemory, network

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH"
FEW = VisitorLimits(strangers_max=8, bytes_max=1 << 20)


@pytest.fixture
async def hop(tmp_path: Path) -> AsyncIterator[Hop]:
    async with a_hop(tmp_path) as made:
        yield made


def connect(hop: Hop, port: int = 0) -> socket.socket:
    connection = socket.create_connection((hop.address.host, hop.address.port + port))
    connection.settimeout(10.0)
    return connection


@pytest.mark.parametrize("port", [0, 1])
async def test_a_flood_of_connections_leaves_few_of_them(hop: Hop, port: int) -> None:
    receiver, sender = await hop.receiver(visitors=FEW), await hop.sender()
    await flows(sender, receiver)
    held = [connect(hop, port) for _ in range(100)]
    gate = receiver.end.gate
    await eventually(lambda: gate.turned_away >= 90, "most are turned away")
    assert gate.status()["strangers"] <= FEW.strangers_max
    await flows(sender, receiver)
    assert any("most of them from 127.0.0.1" in text for text in receiver.troubles)
    for one in held:
        one.close()


async def test_frames_that_are_never_finished_go(hop: Hop) -> None:
    receiver, sender = await hop.receiver(visitors=FEW), await hop.sender()
    await flows(sender, receiver)
    held = []
    for _ in range(4):
        one = connect(hop)
        held.append(one)
        one.sendall(GREETING + READY + b"\x02" + struct.pack(">Q", 2 << 20))
        await asyncio.to_thread(one.sendall, bytes(700_000))
    await eventually(lambda: receiver.end.gate.turned_away >= 3, "the first are turned away")
    await flows(sender, receiver)
    assert receiver.end.gate.status()["strangers"] == 1
    for one in held:
        one.close()


async def test_many_small_parts_that_never_end_go(hop: Hop) -> None:
    few = VisitorLimits(swollen_bytes_max=8 << 20)
    receiver, sender = await hop.receiver(visitors=few), await hop.sender()
    await flows(sender, receiver)
    memory = OwnMemory()
    memory.tidy()  # what other tests have freed would be filled first
    memory.close()
    with connect(hop) as one:
        one.sendall(GREETING + READY)
        await asyncio.to_thread(one.recv, 1000)
        await asyncio.to_thread(one.sendall, b"\x01\x00" * 600_000)
        await eventually(lambda: receiver.end.gate.turned_away == 1, "it is turned away")
    await flows(sender, receiver)
    assert any("many times its bytes" in text for text in receiver.troubles)


def test_who_is_given_a_descriptor_does_not_answer_for_what_was_left_there() -> None:
    gate = Gate(VisitorLimits(), lambda port, session: None, lambda: 0)
    told: list[int] = []
    gate._tell = lambda descriptor, *_: told.append(descriptor)  # type: ignore[method-assign]
    gate._left = {"data": {7}, "control": set()}
    assert not gate.expel(7, "garbage")
    gate.drained("control")
    assert not gate.expel(7, "garbage")
    gate.drained("data")
    assert gate.expel(7, "garbage")
    assert not gate.expel(7, "garbage"), "it was said"
    assert told == [7]


def test_an_end_that_is_told_late_is_not_that_of_who_has_the_descriptor_now() -> None:
    gate = Gate(VisitorLimits(), lambda port, session: None, lambda: 0)
    gate._left = {"data": set(), "control": set()}
    list(gate._visitors.came(7, "data", "10.0.0.1", 0.0))
    gate._disconnected(7, "control")
    assert gate.status()["connections"] == 1
    gate._disconnected(7, "data")
    assert gate.status()["connections"] == 0


async def test_who_sends_what_is_no_bundle_is_shown_the_door(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    hop.stranger().push.send(b"\xff" * 100)
    await eventually(lambda: receiver.end.gate.turned_away == 1, "it is turned away")
    await flows(sender, receiver)


async def test_a_sender_without_a_batch_is_no_stranger(hop: Hop) -> None:
    receiver, _ = await hop.receiver(), await hop.sender()
    gate = receiver.end.gate
    await eventually(lambda: gate.status()["connections"] == 2, "it is connected")
    await eventually(lambda: gate.status()["strangers"] == 0, "it is known on both ports")


async def test_who_leaves_gives_back_its_place_and_its_credit(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await eventually(lambda: receiver.end.receiver.senders, "it has a session")
    await hop.stop(sender)
    await eventually(lambda: not receiver.end.receiver.senders, "it is gone")
    assert receiver.end.receiver.credits.held == 0


async def test_who_leaves_before_the_gate_has_heard_of_it_gives_back_its_place(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear, go_on = Gate._hear, threading.Event()

    def late(gate: Gate, port: str, monitor: "zmq.Socket[bytes]") -> bool:
        return go_on.wait(60) and hear(gate, port, monitor)

    monkeypatch.setattr(Gate, "_hear", late)
    receiver, sender = await hop.receiver(), await hop.sender()
    senders = receiver.end.receiver.senders
    await eventually(lambda: senders, "it has a session")
    route = senders["edge-1"].route
    await hop.stop(sender)
    await eventually(lambda: not receiver.end._router.send(route, b""), "its connection is over")
    assert senders
    go_on.set()
    await eventually(lambda: not senders, "it is gone")


async def test_a_hello_that_is_read_after_its_sender_has_left_takes_no_place(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await flows(sender, receiver)
    receiver.end._router.pause(True)
    stranger = await asyncio.to_thread(Stranger, hop.address.port + 1, b"DEALER")
    stranger.say(Hello(PROTOCOL, "web-logs", "edge-9", b"a" * 16, b"s" * 8))
    gate = receiver.end.gate
    await eventually(lambda: gate.status()["connections"] == 3, "it is connected")
    await asyncio.to_thread(stranger.close)
    await eventually(lambda: gate.status()["connections"] == 2, "it is gone")
    receiver.end._router.pause(False)
    await flows(sender, receiver)
    assert list(receiver.end.receiver.senders) == ["edge-1"]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_closing_leaves_no_thread_and_no_descriptor(hop: Hop) -> None:
    async def opened_and_closed(where: str) -> None:
        receiver = await hop.receiver(where)
        gate, held = receiver.end.gate, [connect(hop) for _ in range(20)]
        await eventually(lambda: gate.status()["connections"] == 20, "counted")
        for one in held:
            one.close()
        await eventually(lambda: gate.status()["connections"] == 0, "gone")
        await hop.stop(receiver)
        assert not [thread for thread in threading.enumerate() if thread.name == "gate"]

    await opened_and_closed("r")  # the first time libzmq opens its own
    before = descriptors()
    await opened_and_closed("t")
    # libzmq closes its sockets in a thread of its own, after close() has returned
    await eventually(lambda: descriptors() <= before + 2, "all are closed")


@pytest.mark.parametrize(
    ("address", "of"),
    [
        ("::ffff:10.0.0.9", "10.0.0.9"),
        ("10.0.0.9", "10.0.0.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::"),
        ("2001:db8:1:2::9", "2001:0db8:0001:0002::"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::"),
    ],
)
def test_addresses_of_one_network_are_one(address: str, of: str) -> None:
    assert network(address) == of
