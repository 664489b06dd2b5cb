"""ZMTP 3.0 by hand, for saying what no library says (rfc.zeromq.org/spec/23)."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final

from tiers.core.hop.messages import PROTOCOL, Hello, Message, Welcome, decode, encode
from tiers.errors import PeerError

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
PING: Final = b"\x04\x07\x04PING\0\0"
PATIENCE_S: Final = 5.0


def ready(kind: bytes) -> bytes:
    """The READY of a socket of that kind."""
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return b"\x04" + bytes([len(body)]) + body


def frame(data: bytes) -> bytes:
    """One message of one part."""
    if len(data) < 256:
        return b"\0" + bytes([len(data)]) + data
    return b"\x02" + struct.pack(">Q", len(data)) + data


class Stranger:
    """A connection to a port on loopback. Whatever becomes of it, sending raises nothing."""

    def __init__(self, port: int, kind: bytes = b"") -> None:
        self.open = True
        self.session = b""
        self.channel = os.urandom(16)
        self.receiver = b""
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        except OSError:
            self.socket, self.open = socket.socket(), False
        if kind:
            self.send(GREETING + ready(kind))
            self.read(64 + 20)

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, data: bytes) -> bool:
        """False once the other end has had enough."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.open = False
        return self.open

    def read(self, least: int) -> bytes:
        data = b""
        with suppress(OSError):
            while len(data) < least and (more := self.socket.recv(65_536)):
                data += more
        return data

    def say(self, message: Message) -> bool:
        return self.send(frame(encode(message)))

    def hello(self, topology: str, agent: str) -> bool:
        """A session as any agent has it, on the control port. Whether it was given."""
        said = self.say(Hello(PROTOCOL, topology, agent, self.channel, os.urandom(8)))
        heard = self.read(100) if said else b""
        for message in _messages(heard):
            if isinstance(message, Welcome):
                self.session, self.receiver = message.token, message.channel
        return bool(self.session)

    def reset(self) -> None:
        """Ends the connection at once, whatever is under way."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.open = False
        self.socket.close()


def _messages(data: bytes) -> Iterator[Message]:
    """Those that lie somewhere in what was read: the rest of a handshake may be before them."""
    for start in range(len(data)):
        with suppress(PeerError, IndexError, struct.error):
            if data[start] == 0:
                head, length = 2, data[start + 1]
            else:
                head, length = 9, struct.unpack_from(">Q", data, start + 1)[0]
            yield decode(data[start + head : start + head + length])
