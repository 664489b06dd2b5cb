"""An address that cannot be listened on is told with what to do."""

import errno
import socket

import pytest
import zmq

from tiers.host.binding import why_not
from tiers.transport.sockets import Socket, TransportError


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EADDRINUSE, "Address already in use (another program has it"),
        (errno.EADDRNOTAVAIL, "give one of its own as `listen`"),
        (errno.EACCES, "CAP_NET_BIND_SERVICE"),
        (errno.EIO, "Input/output error"),
        (socket.EAI_NONAME, "no such name"),
        (None, "no such name"),
    ],
)
def test_why(code: int | None, said: str) -> None:
    text = "" if code == errno.EIO else "no such name"
    assert said in why_not(code, text)


@pytest.mark.parametrize(
    ("address", "said"), [("203.0.113.1:7400", "no such address"), ("127.0.0.1:x", "argument")]
)
async def test_a_socket_says_it(address: str, said: str) -> None:
    with zmq.Context() as context:
        one = Socket(context, zmq.PULL, {})
        try:
            with pytest.raises(TransportError, match=said):
                one.bind(f"tcp://{address}")
        finally:
            one.close()
