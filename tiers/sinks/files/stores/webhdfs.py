"""WebHDFS as the store needs it: which NameNode is asked, what counts as an answer, what is raised.

Through the `hdfs` library, whose requests are a method each; around it, time-outs everywhere, and
its errors, those of requests and of urllib3 translated in one place (`translated`).
"""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import requests
from hdfs import HdfsError, InsecureClient
from hdfs.client import _to_error
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError

from tiers.core.batch import Buffer
from tiers.errors import StoreRefused, StoreUnavailable

T = TypeVar("T")

_PIECE_BYTES = 2**20  # 8 KiB chunks are slow, 1 MiB ones are as fast as Hadoop's own client
_TEXT_MAX = 300  # characters of a remote message that are shown

# Clear answers that a person must act upon. All others may pass: safe mode, no DataNode yet, ...
_REFUSALS = {
    "AccessControlException",
    "AuthorizationException",
    "DSQuotaExceededException",
    "FSLimitException",
    "IllegalArgumentException",
    "InvalidPathException",
    "InvalidToken",
    "MaxDirectoryItemsExceededException",
    "NSQuotaExceededException",
    "ParentNotDirectoryException",
    "PathComponentTooLongException",
    "QuotaByStorageTypeExceededException",
    "QuotaExceededException",
    "SecurityException",
    "UnsupportedOperationException",
}
_NOT_SERVING = {"StandbyException", "RetriableException"}  # certainly not carried out


class WebHdfs:
    """The NameNodes of one HDFS (`urls`, separated by `;`), asked as `user` (no security: HDFS
    believes it). For use by several threads.

    `connect_s` bounds each connecting, `read_s` each wait for an answer or for a piece of content
    to be taken. Raises StoreUnavailable and StoreRefused, the library's error being their cause.
    """

    def __init__(self, urls: str, user: str, connect_s: float, read_s: float) -> None:
        self._urls = [one.strip().rstrip("/") for one in urls.split(";") if one.strip()]
        assert self._urls, urls
        self._user = user
        self._timeout_s = (connect_s, read_s)
        self._active = 0  # the NameNode that answered last; a race of threads costs one try
        self._local = threading.local()  # the library's clients are not for several threads
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()

    def ask(self, what: str, call: Callable[[InsecureClient], T], repeatable: bool = False) -> T:
        """`call`, of the NameNode that serves. Another one is asked only where that is harmless."""
        with translated(what):
            first = self._active
            for step in range(len(self._urls)):
                number = (first + step) % len(self._urls)
                try:
                    answer = call(self._client(self._urls[number]))
                except HdfsError as error:
                    if error.exception not in _NOT_SERVING:
                        self._active = number  # a no is an answer too
                        raise
                    if step == len(self._urls) - 1:
                        raise
                except (requests.RequestException, HTTPError, OSError) as error:
                    harmless = repeatable or never_sent(error)
                    # The next call begins with another one: this one may be dead.
                    self._active = (number + 1) % len(self._urls)
                    if not harmless or step == len(self._urls) - 1:
                        raise
                else:
                    self._active = number
                    return answer
        raise AssertionError("the last NameNode's answer is returned or raised")

    def _client(self, url: str) -> InsecureClient:
        """This thread's client of one NameNode: where a token or Kerberos would go in."""
        clients = self._local.__dict__.setdefault("clients", {})
        if url not in clients:
            session = _Direct()
            adapter = _Adapter(send_s=self._timeout_s[1])
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            with self._lock:
                self._sessions.add(session)
            clients[url] = _Client(url, user=self._user, timeout=self._timeout_s, session=session)
        return clients[url]

    def put(self, what: str, address: str, body: "Upload") -> None:
        """Send content to the DataNode's `address`. What the chunks raise comes out as it is."""
        try:
            with translated(what):
                response = self._client(self._urls[self._active])._request(
                    "PUT", address, data=body
                )
                if response.status_code != 201:
                    raise _to_error(response)
        except _ChunksFailed:
            body.check()
            raise
        if not body.ended:
            raise StoreUnavailable(f"{what}: 201 before all of it was sent")

    def close(self) -> None:
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()


class _Client(InsecureClient):  # type: ignore[misc]  # the library has no types
    def resolve(self, hdfs_path: str) -> str:
        return hdfs_path  # full already; the library would expand "#LATEST" in a name


class _Direct(requests.Session):
    """Asks NameNodes and DataNodes themselves. A proxy that the environment names (HTTP_PROXY) is
    for the web: it does not know these hosts, or keeps what it was sent for itself."""

    def merge_environment_settings(self, *args: Any, **named: Any) -> Any:
        return {**super().merge_environment_settings(*args, **named), "proxies": {}}

    def rebuild_proxies(self, prepared_request: Any, proxies: Any) -> dict[str, str]:
        return {}  # of a redirect


class Upload:
    """The content of an upload in pieces of 1 MiB, and what became of it.

    Taken once. An error of the chunks themselves is kept, and another one sent up in its stead: of
    an OSError the HTTP libraries would make one of theirs, or, after a BrokenPipeError, wait.
    """

    def __init__(self, chunks: Iterable[Buffer]) -> None:
        self.taken_bytes = 0
        self._chunks = chunks
        self._ended = False
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Buffer]:
        gathered = bytearray()
        try:
            for chunk in self._chunks:
                self.taken_bytes += len(chunk)
                if gathered or len(chunk) < _PIECE_BYTES:
                    gathered += chunk
                    if len(gathered) >= _PIECE_BYTES:
                        yield bytes(gathered)
                        gathered.clear()
                    continue
                view = memoryview(chunk)
                for start in range(0, len(view), _PIECE_BYTES):
                    yield view[start : start + _PIECE_BYTES]
            if gathered:
                yield bytes(gathered)
            self._ended = True
        except Exception as error:
            self._error = error
            raise _ChunksFailed from error

    def check(self) -> None:
        """Raises what the chunks raised."""
        if self._error is not None:
            raise self._error

    @property
    def ended(self) -> bool:
        return self._ended


class _ChunksFailed(Exception):
    """`Body.check` raises what did it."""


class _Adapter(HTTPAdapter):
    """Lets `send_s` pass, not the time for connecting, before a piece must have been taken.

    A DataNode that syncs a block takes nothing meanwhile, and urllib3 has no such time-out.
    """

    def __init__(self, send_s: float) -> None:
        super().__init__()

        class Plain(HTTPConnection):
            def send(self, data: Any) -> None:
                _patient(self, send_s)
                super().send(data)

        class Secure(HTTPSConnection):
            def send(self, data: Any) -> None:
                _patient(self, send_s)
                super().send(data)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _patient(connection: HTTPConnection, send_s: float) -> None:
    if connection.sock is None:
        connection.connect()
    connection.sock.settimeout(send_s)  # urllib3 sets the time for the answer after the request


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of hdfs, requests and urllib3 to StoreRefused or StoreUnavailable, the cause kept."""
    try:
        yield
    except HdfsError as error:
        text = f"{what}: {text_of(error)}"
        if error.exception in _REFUSALS or _is_unauthorized(error):
            raise StoreRefused(text) from error
        raise StoreUnavailable(text) from error
    except (requests.RequestException, HTTPError, OSError) as error:
        raise StoreUnavailable(f"{what}: {text_of(error)}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The library looks for "RemoteException" in any JSON; and ours must have its fields.
        raise StoreUnavailable(f"{what}: an answer that is not WebHDFS's ({error!r})") from error


def is_absence(error: HdfsError) -> bool:
    if error.exception in ("FileNotFoundException", "ParentNotDirectoryException"):
        return True
    return is_below_file(error)


def is_below_file(error: HdfsError) -> bool:
    """The NameNode's word for a path that leads through a file, where it looks at permissions."""
    text = str(error.message)
    return (
        error.exception == "AccessControlException"
        and text.endswith("(is not a directory)")
        and not text.startswith("Permission denied")  # a name might end so
    )


def _is_unauthorized(error: HdfsError) -> bool:
    """A 401, which the library tells by its text alone."""
    return error.exception is None and "Authentication failure" in str(error.message)


def never_sent(error: BaseException | None) -> bool:
    """True where not even a connection was made."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    reason = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(reason, MaxRetryError) and isinstance(reason.reason, NewConnectionError)


def text_of(error: BaseException | None) -> str:
    """One short line for a person."""
    if isinstance(error, HdfsError):
        raw = error.message
        message = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        text = f"{error.exception}: {message}" if error.exception else message
    elif isinstance(error, requests.ConnectionError | requests.Timeout):
        reason = error.args[0] if error.args else error
        text = str(getattr(reason, "reason", None) or reason)
    else:
        text = f"{type(error).__name__}: {error}"
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _TEXT_MAX else line[:_TEXT_MAX] + "..."


def json_of(response: Any) -> dict[str, Any]:
    found = response.json()
    if not isinstance(found, dict):
        raise TypeError(f"a JSON object was wanted, {type(found).__name__} came")
    return found
