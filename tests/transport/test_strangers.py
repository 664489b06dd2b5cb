"""Whatever strangers say to the ends of a hop: it costs a count, or is refused in words, and never
costs the agent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import zmq

from tests.core.batches import a_record
from tests.hostile.speaking import GREETING, frame, ready
from tests.hostile.speaking import Stranger as RawStranger
from tests.metering import number
from tests.transport.hop import Hop, a_hop, flows
from tests.transport.parts import (
    SenderSide,
    Swallower,
    a_free_address,
)
from tests.waiting import eventually
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import (
    GREETING_BYTES_MAX,
    PROTOCOL,
    Bundle,
    Carried,
    Goodbye,
    Hello,
    Ping,
    Pong,
    Refuse,
    Welcome,
    decode,
    encode,
    encode_bundle,
)
from tiers.core.repeats import Repeats
from tiers.transport import meters


@pytest.fixture
async def hop(tmp_path: Path) -> AsyncIterator[Hop]:
    async with a_hop(tmp_path) as made:
        yield made


# -- what is no batch of ours --------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b""], id="empty"),
        pytest.param([b"\xc1garbage"], id="garbage"),
        pytest.param([b"\x91" * 1000 + b"\xc0"], id="deep"),
        pytest.param([(b"\xdd\x00\x0f\xff\xff") * 1000 + b"\xc0" * 1000], id="claims"),
    ],
)
async def test_a_malformed_word_costs_a_count(hop: Hop, parts: list[bytes]) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    stranger = hop.stranger()
    stranger.dealer.send_multipart(parts)
    refusal = await eventually(stranger.heard, "it is told why")
    assert isinstance(refusal, Refuse)
    assert f"this agent speaks protocol {PROTOCOL}" in refusal.reason
    assert receiver.end.malformed == 1
    assert "cannot be read" in receiver.troubles[0]
    await flows(sender, receiver)


async def test_a_long_word_from_who_has_no_session_is_not_read(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    stranger = hop.stranger()
    hello = Hello(PROTOCOL, "x" * GREETING_BYTES_MAX, "stranger", b"a" * 16, b"s" * 8)
    stranger.dealer.send(encode(hello))
    refusal = await eventually(stranger.heard, "it is told why")
    assert isinstance(refusal, Refuse)
    assert "from who has no session" in refusal.reason
    await flows(sender, receiver)


async def test_who_floods_is_not_read_any_more(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    stranger = hop.stranger()
    for _ in range(300):
        stranger.dealer.send(b"\xc1" * 1000)
    await eventually(lambda: receiver.end.purses.unpaid > 100, "most are dropped unread")
    assert receiver.end.malformed < 100
    await flows(sender, receiver)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b""], id="empty"),
        pytest.param([b"\xff" * 100], id="garbage"),
        pytest.param([b"\0\0\0\x01\xc0", b"more"], id="two parts"),
        pytest.param([(b"\0\0\x03\xe9" + b"\x91" * 1000 + b"\xc0")], id="deep"),
    ],
)
async def test_a_malformed_bundle_costs_a_count(hop: Hop, parts: list[bytes]) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    hop.stranger().push.send_multipart(parts)
    await eventually(lambda: receiver.end.malformed == 1, "it is counted")
    await flows(sender, receiver)


@pytest.mark.parametrize("which", ["push", "dealer"])
@pytest.mark.parametrize("count", [3, 20_000])
async def test_who_sends_many_parts_is_shown_the_door(hop: Hop, which: str, count: int) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await flows(sender, receiver)
    getattr(hop.stranger(), which).send_multipart([encode(Ping(b"s" * 8, 1))] + [b""] * (count - 1))
    await eventually(lambda: receiver.end.gate.turned_away == 1, "it is turned away")
    assert receiver.end.malformed == 1
    await flows(sender, receiver)


async def test_of_who_floods_with_garbage_the_first_is_told(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    await flows(sender, receiver)
    one = await asyncio.to_thread(RawStranger, hop.address.port, b"PUSH")
    with one:
        await asyncio.to_thread(one.send, frame(b"") * 20_000)
        await eventually(lambda: receiver.end.malformed > 1, "some came")
        await eventually(lambda: receiver.end.gate.turned_away == 1, "it is turned away")
    await flows(sender, receiver)
    assert receiver.end.gate.turned_away == 1


async def test_a_bundle_of_no_session_is_discarded(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    bundle = Bundle(
        b"s" * 8, b"a" * 16, receiver.channel.channel_id, 1, [Carried(a_record(1), False, ())]
    )
    hop.stranger().push.send(encode_bundle(bundle))
    await eventually(lambda: number(receiver.end, meters.DISCARDED) == 1, "it is counted")
    await flows(sender, receiver)


async def test_a_damaged_record_of_a_session_is_rejected(hop: Hop) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    stranger = hop.stranger()
    hello = Hello(PROTOCOL, "web-logs", "stranger", b"a" * 16, b"s" * 8)
    stranger.dealer.send(encode(hello))
    welcome = await eventually(stranger.heard, "it is welcome")
    assert isinstance(welcome, Welcome)
    good, bad = a_record(1), bytearray(a_record(2))
    bad[-1] ^= 1
    carried = [Carried(bytes(bad), False, ()), Carried(good, False, ())]
    stranger.push.send(encode_bundle(Bundle(welcome.token, b"a" * 16, welcome.channel, 1, carried)))
    await eventually(lambda: receiver.seqs() == [1], "the good one is stored")
    assert number(receiver.end, meters.REJECTED) == 1
    await flows(sender, receiver)


@pytest.mark.parametrize("which", ["data", "control"])
@pytest.mark.parametrize("size", [1, 64, 100_000])
async def test_garbage_on_the_wire_is_nothing(hop: Hop, which: str, size: int) -> None:
    receiver, sender = await hop.receiver(), await hop.sender()
    port = hop.address.port + (which == "control")
    for garbage in (Random(size).randbytes(size), b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(size)):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        writer.close()
    await flows(sender, receiver)  # 0xff may begin the ZMTP of old; then it is malformed messages


async def test_what_is_beyond_the_message_limit_does_not_come_in(hop: Hop) -> None:
    receiver = await hop.receiver(limits=ReceiverLimits(message_size_max=200_000))
    sender = await hop.sender()
    stranger = hop.stranger()
    stranger.push.send(b"\0" * 300_000)
    stranger.dealer.send(b"\0" * (2 << 20))
    await flows(sender, receiver)
    assert receiver.end.malformed == 0


async def test_a_receiver_that_talks_nonsense_costs_the_sender_nothing(hop: Hop) -> None:
    peer = Swallower(hop.context, hop.address, b"gone" * 4)
    sender = await hop.sender()
    route: bytes = await eventually(lambda: first_route(peer), "HELLO came")
    peer._router.send_multipart((route, b"\x91" * 1000 + b"\xc0"))
    peer._router.send_multipart((route, b"\xc1"))
    peer._router.send_multipart((route, *[b""] * 1000))
    await eventually(lambda: sender.troubles, "it is told")
    assert "agg-1 sent what cannot be read" in sender.troubles[0]
    peer.close()
    await flows(sender, await hop.receiver())


@pytest.mark.parametrize("which", ["push", "dealer"])
async def test_a_receiver_that_says_more_than_anybody_reads_is_left(
    hop: Hop, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Parts of a message of which the last never comes: no message tells of them."""
    monkeypatch.setattr("tiers.transport.sending.Repeats", lambda: Repeats(every_s=0.0))
    kinds, port = {"push": b"PULL", "dealer": b"ROUTER"}, hop.address.port
    servers = [socket.create_server(("127.0.0.1", port + n)) for n in range(2)]
    sender = await hop.sender()

    held = []

    def swamp() -> None:
        for server, kind in zip(servers, kinds.values(), strict=True):
            held.append(server.accept()[0])
            held[-1].sendall(GREETING + ready(kind))
            held[-1].recv(84, socket.MSG_WAITALL)  # its greeting, and most of its READY
        with suppress(OSError):
            held[list(kinds).index(which)].sendall(b"\x01\x00" * 1_200_000)

    await asyncio.to_thread(swamp)
    await eventually(
        lambda: any("more than anybody reads" in text for text in sender.troubles), "it is told"
    )
    for one in (*held, *servers):
        one.close()
    await flows(sender, await hop.receiver())


def first_route(peer: Swallower) -> bytes:
    try:
        return peer._router.recv_multipart(1)[0]
    except Exception:
        return b""


async def test_a_sender_that_is_back_is_heard_though_its_old_connection_is_not_over(
    hop: Hop,
) -> None:
    await hop.receiver()
    for session in (b"1" * 8, b"2" * 8):  # its host was gone without a word: TCP does not know yet
        dealer = hop.context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, b"edge-1/aggregator/x")
        dealer.connect(hop.address.control)
        dealer.send(encode(Hello(PROTOCOL, "web-logs", "edge-1", b"a" * 16, session)))
        welcome = decode(await eventually(lambda d=dealer: heard(d), "it is welcome"))  # type: ignore[misc]
        assert isinstance(welcome, Welcome)
        assert welcome.session == session
    # Both are open until the context ends.


def heard(dealer: "zmq.Socket[bytes]") -> bytes:
    try:
        return dealer.recv(zmq.NOBLOCK)
    except zmq.Again:
        return b""


# -- who may not talk to whom --------------------------------------------------------------------


async def refused(sender: SenderSide, peer: str = "agg-1") -> str:
    await eventually(lambda: sender.error(peer), "an error is shown")
    assert sender.state(peer) == "down"
    shown = [each["error"] for each in sender.group.status()["peers"] if each["agent"] == peer]
    return str(shown[0])


async def test_another_topologys_agent_is_refused(hop: Hop) -> None:
    await hop.receiver(topology="metrics")
    sender = await hop.sender(topology="web-logs")
    error = await refused(sender)
    assert error == "refused: topology 'web-logs'; agg-1 belongs to 'metrics'"


async def test_another_protocol_is_refused(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    await hop.receiver()
    monkeypatch.setattr("tiers.core.hop.sender.PROTOCOL", 2)
    monkeypatch.setattr("tiers.core.hop.sender.PROTOCOL_MIN", 2)
    error = await refused(await hop.sender())
    assert error == "refused: protocol 2; agg-1 speaks 1: upgrade agg-1"


async def test_a_hello_that_cannot_be_read_is_refused(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a protocol so new that even its HELLO is another."""
    receiver = await hop.receiver()
    plain: Callable[..., bytes] = encode
    monkeypatch.setattr(
        "tiers.transport.sending.encode",
        lambda message: plain(message).replace(b"topology", b"topologi"),
    )
    error = await refused(await hop.sender())
    assert error == "refused: hello: topology is missing (this agent speaks protocol 1)"
    assert receiver.end.malformed > 0


async def test_peers_with_different_stores_are_told_apart(hop: Hop) -> None:
    other = a_free_address()
    one = await hop.receiver("r", stores={"sink/out": "store-1"})
    two = await hop.receiver("t", other, name="agg-2", stores={"sink/out": "store-2"})
    sender = await hop.sender(peers={"agg-1": hop.address})
    await eventually(lambda: sender.state() == "up", "agg-1 is up")
    sender.group.set_peers({"agg-1": hop.address, "agg-2": other})
    error = await refused(sender, "agg-2")
    assert "writes sink/out to store store-2, other peers to store-1" in error
    await flows(sender, one)
    assert two.seqs() == []


async def test_words_of_a_stranger_are_answered(hop: Hop) -> None:
    receiver = await hop.receiver()
    stranger = hop.stranger()
    stranger.dealer.send(encode(Ping(b"s" * 8, 77)))
    pong = await eventually(stranger.heard, "pong")
    assert isinstance(pong, Pong)
    assert (pong.session, pong.sent_ms, pong.limit) == (b"", 77, 0)
    stranger.dealer.send(encode(Goodbye(b"s" * 8)))
    await flows(await hop.sender(), receiver)
