"""The door to pyzmq: errors in our words, nothing stalls, nothing is sent after the end."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import zmq

from tests.transport.parts import Context, a_context, a_free_address
from tests.waiting import eventually
from tiers.contracts import Link
from tiers.transport.sockets import Socket, TransportError


@pytest.fixture
async def context() -> AsyncIterator[Context]:
    async with a_context() as made:
        yield made


def texts(into: list[bytes], parts: list[zmq.Frame]) -> None:
    into.append(parts[-1].bytes)


async def test_a_taken_address_is_the_operators_to_mend(context: Context) -> None:
    address = a_free_address().data
    one, two = (Socket(context, zmq.PULL, {}, lambda parts: None) for _ in range(2))
    one.bind(address)
    with pytest.raises(TransportError, match=f"cannot listen on {address}: Address already in use"):
        two.bind(address)
    with pytest.raises(TransportError, match="cannot connect to nonsense"):
        two.connect("nonsense")
    one.close()
    two.close()


async def test_everything_that_was_sent_comes_in_order(context: Context) -> None:
    address, heard = a_free_address().data, list[bytes]()
    pull = Socket(context, zmq.PULL, {}, lambda parts: texts(heard, parts))
    push = Socket(context, zmq.PUSH, {})
    pull.bind(address)
    push.connect(address)
    count = 775
    for number in range(count):
        await eventually(lambda number=number: push.send(b"%d" % number), "room")  # type: ignore[misc]
    await eventually(lambda: len(heard) == count, "all have come")
    assert heard == [b"%d" % number for number in range(count)]
    push.close()
    pull.close()


async def test_a_flood_does_not_take_the_turns_of_others(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.transport.sockets.TURN_S", 0.0)
    address, order = a_free_address().data, list[str]()

    def receive(parts: list[zmq.Frame]) -> None:
        order.append("flood")
        asyncio.get_running_loop().call_soon(order.append, "other")

    pull = Socket(context, zmq.PULL, {}, receive)
    push = Socket(context, zmq.PUSH, {})
    pull.bind(address)
    push.connect(address)
    pull.pause(True)
    for _ in range(100):
        await eventually(lambda: push.send(b"x"), "room")
    pull.pause(False)
    await eventually(lambda: order.count("flood") == 100, "all have come")
    assert "fff" not in "".join(one[0] for one in order), "what else is ready has its turn"
    push.close()
    pull.close()


async def test_of_a_message_of_many_parts_the_first_are_taken_in_turns(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.transport.sockets.TURN_S", 0.0)
    address, heard, turns = a_free_address().data, list[list[bytes]](), list[int]()
    pull = Socket(
        context, zmq.PULL, {}, lambda parts: heard.append([p.bytes for p in parts]), parts_max=2
    )
    plain = pull._readable

    def counted() -> None:
        turns.append(1)
        plain()

    monkeypatch.setattr(pull, "_readable", counted)
    push = Socket(context, zmq.PUSH, {})
    pull.bind(address)
    push.connect(address)
    for parts in ([b"1"], [b"1", b"2"], [b"%d" % n for n in range(1, 501)], [b"1"]):
        await eventually(lambda parts=parts: push.send(*parts), "room")  # type: ignore[misc]
    await eventually(lambda: len(heard) == 4, "all have come")
    assert heard == [[b"1"], [b"1", b"2"], [b"1", b"2", b"3"], [b"1"]]
    assert len(turns) > 500
    push.close()
    pull.close()


async def test_a_failing_callback_stalls_nothing(context: Context) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, told: complaints.append(str(told["exception"]))
    )
    address, heard = a_free_address().data, list[bytes]()

    def receive(parts: list[zmq.Frame]) -> None:
        texts(heard, parts)
        if len(heard) % 3 == 0:
            raise ValueError(f"at {len(heard)}")

    pull = Socket(context, zmq.PULL, {}, receive)
    push = Socket(context, zmq.PUSH, {})
    pull.bind(address)
    push.connect(address)
    for number in range(10):
        assert push.send(b"%d" % number)
    await eventually(lambda: len(heard) == 10, "all have come")
    assert complaints == ["at 3", "at 6", "at 9"]
    push.close()
    pull.close()


async def test_links_are_told(context: Context) -> None:
    address, told = a_free_address().data, list[Link]()
    pull = Socket(context, zmq.PULL, {}, lambda parts: None)
    pull.bind(address)
    options: dict[int, int | bytes] = {zmq.IMMEDIATE: 1, zmq.RECONNECT_IVL: 10}
    push = Socket(context, zmq.PUSH, options, link=told.append)
    assert not push.send(b"nobody is there")
    push.connect(address)
    await eventually(lambda: told == [Link.UP], "up")
    pull.close()
    await eventually(lambda: told == [Link.UP, Link.LOST], "lost")
    assert not push.send(b"nobody is there any more")
    pull = Socket(context, zmq.PULL, {}, lambda parts: None)
    await eventually(lambda: bound(pull, address), "the address is free again")
    await eventually(lambda: told[-1] is Link.UP, "up again")
    push.close()
    pull.close()


def bound(socket: Socket, address: str) -> bool:
    try:
        socket.bind(address)
    except TransportError:
        return False
    return True


async def test_after_the_end_nothing_is_sent(context: Context) -> None:
    socket = Socket(context, zmq.DEALER, {}, lambda parts: None, link=lambda change: None)
    socket.close()
    socket.close()
    assert not socket.send(b"too late")


async def test_a_callback_may_close_its_socket(context: Context) -> None:
    address, heard = a_free_address().data, list[bytes]()

    def receive(parts: list[zmq.Frame]) -> None:
        texts(heard, parts)
        pull.close()

    pull = Socket(context, zmq.PULL, {}, receive)
    push = Socket(context, zmq.PUSH, {})
    pull.bind(address)
    push.connect(address)
    push.send(b"one")
    push.send(b"two")
    await eventually(lambda: heard, "one has come")
    await asyncio.sleep(0)
    assert heard == [b"one"]
    push.close()


async def test_a_paused_socket_receives_nothing_and_spins_nobody(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []

    def counted(plain: Callable[[Socket], None]) -> Callable[[Socket], None]:
        def turn(self: Socket) -> None:
            turns.append(plain.__name__)
            plain(self)

        return turn

    for plain in (Socket._woken, Socket._readable):
        monkeypatch.setattr(Socket, plain.__name__, counted(plain))
    address, heard = a_free_address().data, list[bytes]()
    pull = Socket(context, zmq.PULL, {}, lambda parts: texts(heard, parts))
    pull.bind(address)
    pull.pause(True)
    push = context.socket(zmq.PUSH)
    push.connect(address)
    push.send(b"one")
    with pytest.raises(AssertionError):
        await eventually(lambda: heard, "nothing is heard", deadline_s=0.3)
    assert len(turns) < 10, "a loop that spins has thousands"
    pull.pause(False)
    await eventually(lambda: heard == [b"one"], "it is heard at last")
    push.close(0)
    pull.close()
