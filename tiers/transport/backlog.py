"""How much of what a peer says waits to be read.

No pipe is ever full (see `KEEPALIVE` in sockets.py), so that a peer that talks faster than anybody
reads would fill the memory; so would parts of a message of which the last never comes. The kernel
tells how much came over a connection.
"""

from typing import Final

import zmq

from tiers.transport.gate import received
from tiers.transport.sockets import source_of

# An answer to all that may be asked at once takes a fourth; of the smallest parts it is 80 MB.
BACKLOG_BYTES_MAX: Final = 2 << 20
GREETING_BYTES: Final = 4096  # a handshake takes some hundred


class Backlog:
    """Of the connection to one peer."""

    def __init__(self) -> None:
        self._connection = -1
        self._taken = 0  # bytes, of this connection

    def took(self, frame: zmq.Frame) -> None:
        """A message was taken."""
        connection = source_of(frame)
        if connection != self._connection:
            self._connection, self._taken = connection, 0
        self._taken += len(frame) + (2 if len(frame) < 256 else 9)  # and its header (ZMTP 3.1)

    def is_too_much(self, connection: int) -> bool:
        """Whether more waits of this connection than is ever read; -1: there is none."""
        if connection < 0:
            return False
        taken = self._taken if connection == self._connection else 0
        return received(connection) - taken > BACKLOG_BYTES_MAX + GREETING_BYTES
