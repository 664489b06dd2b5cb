"""Asks a running agent: through the Unix socket in its directory first, then over TCP.

An answer is the agent's JSON object, or a reason in words why there is none: whoever asks shows
that in place of the answer and goes on. Nothing here raises for what an agent does or does not.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp

from tiers.errors import UsageError
from tiers.observe.status import socket_path, split_address

TIMEOUT_S: Final = 2.0  # for one way of asking, all in all
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024

Answer = dict[str, Any] | str


async def ask(
    directory: Path | None,
    address: str | None = None,
    *,
    agent: str = "",
    audit: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """The status of the agent whose files are in `directory`, or that answers on `address`
    (HOST:PORT). `agent` is the name it must have. Takes at most twice `timeout_s`."""
    path = "/status?audit=1" if audit else "/status"
    answer = await _ask_both("GET", path, directory, address, timeout_s)
    if isinstance(answer, str) or not agent or answer.get("agent") == agent:
        return answer
    return f"the agent that answered is {str(answer.get('agent'))[:40]!r}, not {agent!r}"


def ask_now(
    directory: Path | None,
    address: str | None = None,
    *,
    agent: str = "",
    audit: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """`ask` for code that has no loop."""
    return asyncio.run(ask(directory, address, agent=agent, audit=audit, timeout_s=timeout_s))


async def ask_all(
    agents: Mapping[str, tuple[Path | None, str | None]],
    *,
    audit: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Answer]:
    """`ask` of many agents at the same time: directory and address by agent name."""
    answers = await asyncio.gather(
        *(
            ask(directory, address, agent=name, audit=audit, timeout_s=timeout_s)
            for name, (directory, address) in agents.items()
        )
    )
    return dict(zip(agents, answers, strict=True))


async def tell_drain(directory: Path, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """Tells the agent in `directory` to drain. A dict means it has heard."""
    return await _ask_both("POST", "/drain", directory, None, timeout_s)


async def tell_reload(directory: Path, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """Tells the agent in `directory` to read its topology file now. A dict means it has heard."""
    return await _ask_both("POST", "/reload", directory, None, timeout_s)


async def _ask_both(
    method: str, path: str, directory: Path | None, address: str | None, timeout_s: float
) -> Answer:
    reasons: list[str] = []
    if directory is not None:
        answer = await _ask_unix(method, path, directory, timeout_s)
        if isinstance(answer, dict):
            return answer
        reasons.append(answer)
    if address is not None:
        answer = await _ask_tcp(method, path, address, timeout_s)
        if isinstance(answer, dict):
            return answer
        reasons.append(f"{address}: {answer}")
    return "; ".join(reasons) or "neither a data directory here nor a status address"


async def exchange(
    directory: Path, method: str, path: str, body: bytes | None = None, *, timeout_s: float
) -> bytes | str:
    """What the agent in `directory` answers on its Unix socket; a text where it does not."""
    with ExitStack() as stack:
        try:
            place = stack.enter_context(socket_path(directory))
        except FileNotFoundError:
            return f"not running here: no directory {directory}"
        except OSError as error:
            return f"{directory}: {error.strerror or error}"
        connector = aiohttp.UnixConnector(path=place)
        return await _exchange(connector, method, f"http://agent{path}", timeout_s, body)


async def _ask_unix(method: str, path: str, directory: Path, timeout_s: float) -> Answer:
    return _object(await exchange(directory, method, path, timeout_s=timeout_s))


async def _ask_tcp(method: str, path: str, address: str, timeout_s: float) -> Answer:
    try:
        host, port = split_address(address)
    except UsageError as error:
        return str(error)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}{path}"
    return _object(await _exchange(aiohttp.TCPConnector(), method, url, timeout_s))


async def _exchange(
    connector: aiohttp.BaseConnector,
    method: str,
    url: str,
    timeout_s: float,
    data: bytes | None = None,
) -> bytes | str:
    """One request and what is answered. This is the door to aiohttp's errors."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, url, data=data, allow_redirects=False) as response,
        ):
            body = await _body(response)
            if response.status != 200:
                return f"answered {response.status}: {body[:200].decode(errors='replace').strip()}"
            return body
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except aiohttp.ClientConnectorError as error:
        return _why(error.os_error)
    except (aiohttp.ClientError, OSError) as error:
        return f"no answer: {error or type(error).__name__}"


def _object(body: bytes | str) -> Answer:
    """Its JSON object."""
    if isinstance(body, str):
        return body
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"the answer is not JSON: {error}"
    return answer if isinstance(answer, dict) else "the answer is not a JSON object"


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "not running: no status socket"
    if isinstance(error, ConnectionRefusedError):
        return "not running: connection refused"
    return error.strerror or str(error)
