"""One listening socket of the status server, and how much of the agent its callers may take.

Connections are few, short and, where anybody may call, in no hurry: those beyond the rate wait
their turn unread, the oldest go when there are too many, and none outlives an answer by far. What
strangers say that is no HTTP is counted; none of it comes into the log.
"""

import asyncio
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tiers.core.repeats import Repeats

CONNECTIONS_MAX: Final = 64
LIFE_S: Final = 30.0  # of a connection, whatever it does
RATE_PER_S: Final = 100.0  # connections where anybody may call
BURST: Final = 100
_BACKLOG: Final = 64
# A request that is none, a body that is not what it says, a connection that ends within it.
_THEIRS: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionError, TimeoutError)
_log = logging.getLogger("tiers")


class StatusDoor:
    """`runner` is set up; its application answers. `open` once, `close` any number of times."""

    def __init__(self, runner: web.AppRunner, *, anybody: bool) -> None:
        self.runner = runner
        self._anybody = anybody
        self._server: asyncio.Server | None = None
        self._open: OrderedDict[asyncio.Transport, asyncio.TimerHandle] = OrderedDict()
        self._turn_s = 0.0  # when the next connection has its turn

    async def open(self, listener: socket.socket) -> None:
        """OSError where it cannot listen."""
        loop = asyncio.get_running_loop()
        make = lambda: _Entry(self)  # noqa: E731 a factory
        self._server = await loop.create_server(make, sock=listener, backlog=_BACKLOG)

    def admit(self, transport: asyncio.Transport) -> None:
        """A connection was accepted: it is read when it has its turn."""
        loop = asyncio.get_running_loop()
        for one in [one for one in self._open if one.is_closing()]:
            self._open.pop(one).cancel()
        if len(self._open) >= CONNECTIONS_MAX:
            oldest, end = self._open.popitem(last=False)
            end.cancel()
            oldest.abort()
        self._open[transport] = loop.call_later(LIFE_S, transport.abort)
        wait_s = self._wait_s(loop.time())
        if wait_s > 0:
            transport.pause_reading()
            loop.call_later(wait_s, self._begin, transport)
        else:
            self._begin(transport)

    def _wait_s(self, now: float) -> float:
        if not self._anybody:
            return 0.0
        self._turn_s = max(self._turn_s, now - BURST / RATE_PER_S) + 1 / RATE_PER_S
        return self._turn_s - now

    def _begin(self, transport: asyncio.Transport) -> None:
        server = self.runner.server
        if transport.is_closing() or server is None:
            return
        handler = server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        transport.resume_reading()

    async def close(self) -> None:
        """Answers under way get the runner's time for it."""
        if self._server is not None:
            self._server.close()
        await self.runner.cleanup()
        while self._open:
            transport, end = self._open.popitem()
            end.cancel()
            transport.abort()


class _Entry(asyncio.Protocol):
    """A connection that has not had its turn."""

    def __init__(self, door: StatusDoor) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.admit(cast(asyncio.Transport, transport))


class Complaints(logging.Handler):
    """What aiohttp says of its callers: told once in a while, without their words. What is our
    own mistake goes to the log as it is, as often: who found it could repeat it."""

    def __init__(self) -> None:
        super().__init__()
        self._strangers = Repeats()
        self._ours = Repeats()

    def logger(self) -> logging.Logger:
        """To be given to aiohttp."""
        logger = logging.Logger("tiers.status", logging.WARNING)
        logger.addHandler(self)
        return logger

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        theirs = any(isinstance(one, _THEIRS) for one in _chain(error))
        repeats = self._strangers if theirs else self._ours
        repeats.note("status: a request that cannot be " + ("read" if theirs else "answered"))
        if text := repeats.due(time.monotonic()):
            _log.warning("%s", text)
            if not theirs:
                _log.handle(record)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
