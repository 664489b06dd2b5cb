"""The door through which people and programs look at a running agent: HTTP, on a Unix socket in
the agent's directory always, on TCP where the topology says so.

    GET  /status            what the agent is doing, as one JSON object
    GET  /status?audit=1    the same with the batch ids it holds, for `tiers audit`
    GET  /metrics           its numbers, for Prometheus
    GET  /healthz           200 while its loop turns
    GET  /readyz            200 while it is healthy, else 503 with the reasons, a line each
    POST /drain             begin to drain (Unix socket only)
    POST /reload            read the topology file now (Unix socket only)

and, on the Unix socket only, what dead/wire.py tells of dead letters.

Draining is for whoever may write in the data directory: on TCP anyone who reaches the port, or
any web page open in a browser that does, could stop the agent. What is told there: outside.py.
`_routes` is the one place where more is added (the page).
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from tiers.errors import UsageError
from tiers.host.binding import why_not
from tiers.host.host_port import split_host_port
from tiers.observe.door import Complaints, StatusDoor
from tiers.observe.meters import Meters
from tiers.observe.metrics import text_of
from tiers.observe.outside import hide_ids, is_address, without_ids

SOCKET_NAME: Final = "status.sock"
_NOT_KEPT: Final = {"Cache-Control": "no-store"}
_CLOSE_TIMEOUT_S: Final = 1.0  # what an answer under way may still take when the agent stops


@contextlib.contextmanager
def socket_path(directory: Path) -> Iterator[str]:
    """A short path to `directory`'s status socket, good while the context is open.

    A Unix socket's address holds 107 bytes of path (unix(7)), and data directories may be deeper;
    the way through a descriptor of the directory is always short. OSError as from `open`."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[V6]:PORT`. Raises UsageError."""
    parts = split_host_port(address)
    if parts is None or not parts.host or parts.port < 0:
        raise UsageError(f"status address {address!r}: wanted HOST:PORT")
    return parts.host, parts.port


class StatusServer:
    """Serves one agent's status from `start` until `stop`, on the loop it was started on.

    `snapshot()` gives the object to show; `audit()` what is added for an audit, from a worker
    thread since it may take long; `meters` are its numbers; `unready()` says why it is not
    healthy, in no line where it is; `drain()` begins draining and may be called any number of
    times. `directory` is the agent's own, which it has locked: a socket found there is
    a dead one's. `address` is HOST:PORT or None. `more` is answered to on the Unix socket
    alone."""

    def __init__(
        self,
        snapshot: Callable[[], dict[str, Any]],
        audit: Callable[[], dict[str, Any]],
        meters: Meters,
        unready: Callable[[], list[str]],
        drain: Callable[[], None],
        directory: Path,
        address: str | None,
        more: Sequence[web.RouteDef] = (),
    ) -> None:
        self._more = more
        self._snapshot = snapshot
        self._audit = audit
        self._meters = meters
        self._unready = unready
        self._drain = drain
        self._directory = directory
        self._address = address
        self._doors: list[StatusDoor] = []
        self._complaints = Complaints()

    async def start(self) -> None:
        """Returning means both doors are open. UsageError when one cannot be."""
        try:
            await self._open(self._unix_socket(), local=True)
            await self._open_tcp(self._address)
        except BaseException:
            await self.stop()
            raise

    async def move(self, address: str | None) -> None:
        """Returning means that it answers on TCP there, or not at all. UsageError when it cannot:
        it answers where it did. The old door is closed first: both may be of one port."""
        before = self._address
        await self._close_tcp()
        try:
            await self._open_tcp(address)
        except UsageError:
            with contextlib.suppress(UsageError):
                await self._open_tcp(before)
            raise

    async def _open_tcp(self, address: str | None) -> None:
        if address is not None:
            await self._open(_tcp_socket(address), local=False)
        self._address = address

    async def _close_tcp(self) -> None:
        while len(self._doors) > 1:
            await self._doors.pop().close()

    async def stop(self) -> None:
        """Closes both doors; answers under way get a second. May be called again."""
        while self._doors:
            await self._doors.pop().close()
        with contextlib.suppress(OSError):
            (self._directory / SOCKET_NAME).unlink()

    async def _open(self, listener: socket.socket, *, local: bool) -> None:
        checks = () if local else (_only_by_address,)
        application = web.Application(client_max_size=64 * 1024, middlewares=checks)
        application.add_routes(self._routes(local=local))
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=self._complaints.logger(),
            shutdown_timeout=_CLOSE_TIMEOUT_S,
            handle_signals=False,
        )
        door = StatusDoor(runner, anybody=not local)
        self._doors.append(door)
        await runner.setup()
        await door.open(listener)

    def _routes(self, *, local: bool) -> list[web.RouteDef]:
        return [
            web.get("/status", self._get_status if local else self._tell_anybody),
            web.get("/metrics", self._get_metrics),
            web.get("/healthz", _get_healthz),
            web.get("/readyz", self._get_readyz),
            web.post("/drain", self._post_drain if local else _refuse_drain),
            *(self._more if local else ()),
        ]

    async def _get_status(self, request: web.Request) -> web.Response:
        return _json(await self._answer(request))

    async def _tell_anybody(self, request: web.Request) -> web.Response:
        return _json(without_ids(await self._answer(request)))

    async def _answer(self, request: web.Request) -> dict[str, Any]:
        answer = self._snapshot()
        if request.query.get("audit") == "1":
            answer["audit"] = await asyncio.to_thread(self._audit)
        return answer

    async def _get_metrics(self, request: web.Request) -> web.Response:
        reading = self._meters.read()
        accept = request.headers.get("Accept", "")
        body, kind = await asyncio.to_thread(text_of, reading, accept)
        return web.Response(body=body, headers={**_NOT_KEPT, "Content-Type": kind})

    async def _get_readyz(self, request: web.Request) -> web.Response:
        unready = [hide_ids(line) for line in self._unready()]
        text = "".join(f"{' '.join(line.split())}\n" for line in unready or ["ready"])
        return web.Response(status=503 if unready else 200, text=text, headers=_NOT_KEPT)

    async def _post_drain(self, request: web.Request) -> web.Response:
        self._drain()
        return web.json_response({"state": self._snapshot().get("state", "draining")})

    def _unix_socket(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                (self._directory / SOCKET_NAME).unlink()
            with socket_path(self._directory) as path:
                listener.bind(path)
                # Before `listen` nobody can connect, so there is no moment of a wider mode.
                os.chmod(path, 0o600)  # noqa: PTH101 the path is a descriptor's
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            place = self._directory / SOCKET_NAME
            raise UsageError(f"status socket {place}: {error.strerror or error}") from error
        return listener


def _tcp_socket(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        ((family, kind, protocol, _, target), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        why = why_not(error.errno, error.strerror or str(error))
        raise UsageError(f"status address {address}: {why}") from error
    try:
        # A restarted agent must not wait for connections of its former life to time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        why = why_not(error.errno, error.strerror or str(error))
        raise UsageError(f"status address {address}: {why}") from error
    return listener


@web.middleware
async def _only_by_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not is_address(hosts[0]):
        text = "ask by an address, not by a name: the Host of this request is none\n"
        return web.Response(status=421, text=text)
    return await handler(request)


def reload_route(reload: Callable[[], None]) -> web.RouteDef:
    """One more for the Unix socket: `reload()` as `POST /reload`."""

    async def post(request: web.Request) -> web.Response:
        reload()
        return web.json_response({})

    return web.post("/reload", post)


async def _get_healthz(request: web.Request) -> web.Response:
    return web.Response(text="alive\n", headers=_NOT_KEPT)


async def _refuse_drain(request: web.Request) -> web.Response:
    text = "drain is taken on the agent's Unix socket only\n"
    return web.Response(status=403, text=text)


def _json(answer: object) -> web.Response:
    return web.json_response(answer, dumps=_compact, headers=_NOT_KEPT)


def _compact(answer: object) -> str:
    return json.dumps(answer, separators=(",", ":"))
