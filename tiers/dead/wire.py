"""Dead letters on an agent's status socket, both ends of it. Only its owner may open that: on TCP
none of this is answered to.

    GET  /dead?after=POSITION.OUTPUT-ID&limit=N   {"letters": [...]}: the next ones, without bodies
    GET  /dead/record?letter=POSITION             the record as stored, damaged or not
    POST /dead/retry                              [[position, output], ...]: back to their queues
    POST /dead/drop                               the same: gone for good
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from tiers.core.batch import BatchId, Hop
from tiers.core.change import LetterHead
from tiers.dead.handling import (
    LETTERS_PER_PAGE,
    Done,
    Handling,
    Key,
    Refused,
    page,
)
from tiers.errors import ChannelDamaged, ChannelUnavailable, UsageError
from tiers.observe.client import exchange

TIMEOUT_S: Final = 60.0  # for one call
PIECE_BYTES: Final = 256 << 10  # of a record are written at a time


def routes(handling: Handling) -> list[web.RouteDef]:
    """For the status server's Unix socket."""

    async def letters(request: web.Request) -> web.Response:
        try:
            position, _, output_id = request.query.get("after", "0.0").partition(".")
            after = int(position), int(output_id)
            limit = int(request.query.get("limit", LETTERS_PER_PAGE))
            if not (0 <= after[0] < 1 << 63 and 0 <= after[1] < (1 << 16) - 1):
                raise ValueError(f"after={position}.{output_id}")
        except ValueError as error:
            return web.Response(status=400, text=f"after=POSITION.OUTPUT-ID, limit=N: {error}\n")
        text = await asyncio.to_thread(_page_text, handling, after, limit)
        return web.Response(text=text, content_type="application/json")

    async def record(request: web.Request) -> web.StreamResponse:
        position = request.query.get("letter", "")
        if not (position.isascii() and position.isdigit() and len(position) < 19):
            return web.Response(status=400, text="letter=POSITION\n")
        found = await asyncio.to_thread(handling.reader.stored, int(position))
        response = web.StreamResponse(headers={"Content-Length": str(len(found))})
        await response.prepare(request)
        for at in range(0, len(found), PIECE_BYTES):
            await response.write(found[at : at + PIECE_BYTES])
        return response

    def change(do: Callable[[Sequence[Key]], Awaitable[Done]]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            try:
                keys = [
                    (_position(at), str(output)) for at, output in json.loads(await request.read())
                ]
            except (ValueError, TypeError) as error:
                return web.Response(status=400, text=f"wanted [[position, output], ...]: {error}\n")
            return web.json_response(asdict(await do(keys)))

        return handler

    return [
        web.get("/dead", _saying_why(letters)),
        web.get("/dead/record", _saying_why(record)),
        web.post("/dead/retry", _saying_why(change(handling.retry))),
        web.post("/dead/drop", _saying_why(change(handling.drop))),
    ]


def _saying_why(handler: Handler) -> Handler:
    """503 where the channel does not do its part."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (ChannelDamaged, ChannelUnavailable) as error:
            return web.Response(status=503, text=f"{error}\n")

    return answer


def _position(told: Any) -> int:
    if type(told) is not int or not 0 < told < 1 << 63:
        raise ValueError(f"{told!r} is no position")
    return told


def _page_text(handling: Handling, after: tuple[int, int], limit: int) -> str:
    return json.dumps({"letters": [to_json(one) for one in page(handling.reader, after, limit)]})


def to_json(head: LetterHead) -> dict[str, Any]:
    """As it is told, and shown by `--json`."""
    return {
        "letter": head.position,
        "output": head.output,
        "reason": head.reason,
        "at_ms": head.at_ms,
        "id": str(head.id),
        "flagged": head.flagged,
        "hops": [list(hop) for hop in head.hops],
        "events": head.count,
        "bytes": head.size,
        "output_id": head.after[1],
        "twice_given": head.twice_given,
    }


def _from_json(told: Any) -> LetterHead:
    origin, _, seq = told["id"].partition("-")
    position = int(told["letter"])
    return LetterHead(
        position,
        str(told["output"]),
        str(told["reason"]),
        int(told["at_ms"]),
        BatchId(bytes.fromhex(origin), int(seq)),
        bool(told["flagged"]),
        tuple(Hop(str(agent), int(at_ms)) for agent, at_ms in told["hops"]),
        int(told["events"]),
        int(told["bytes"]),
        (position, int(told["output_id"])),
        bool(told["twice_given"]),
    )


class Asked:
    """The dead letters of the running agent in `directory`. UsageError where it does not answer, or
    says no."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def page(self, after: tuple[int, int], limit: int) -> list[LetterHead]:
        path = f"/dead?after={after[0]}.{after[1]}&limit={limit}"
        try:
            return [_from_json(one) for one in (await self._json("GET", path))["letters"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._malformed(error) from error

    async def stored(self, position: int) -> bytes:
        path = f"/dead/record?letter={position}"
        answer = await exchange(self._directory, "GET", path, timeout_s=TIMEOUT_S)
        if isinstance(answer, str):
            raise self._refused(answer)
        return answer

    async def retry(self, keys: Sequence[Key]) -> Done:
        return await self._change("/dead/retry", keys)

    async def drop(self, keys: Sequence[Key]) -> Done:
        return await self._change("/dead/drop", keys)

    async def _change(self, path: str, keys: Sequence[Key]) -> Done:
        told = await self._json("POST", path, json.dumps(keys).encode())
        try:
            return Done(
                int(told["letters"]),
                int(told["events"]),
                int(told["size_bytes"]),
                [Refused(int(at), str(output), str(why)) for at, output, why in told["refused"]],
                [(int(at), str(output)) for at, output in told["left"]],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._malformed(error) from error

    async def _json(self, method: str, path: str, body: bytes | None = None) -> Any:
        answer = await exchange(self._directory, method, path, body, timeout_s=TIMEOUT_S)
        if isinstance(answer, str):
            raise self._refused(answer)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise self._malformed(error) from error

    def _refused(self, answer: str) -> UsageError:
        return UsageError(f"the agent in {self._directory}: {answer}")

    def _malformed(self, error: Exception) -> UsageError:
        return self._refused(f"its answer is malformed: {type(error).__name__} {error}")
