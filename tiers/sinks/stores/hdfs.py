"""The store in HDFS, over WebHDFS (commit.md's column "HDFS"; what it does is in Hadoop's WebHDFS
REST API page; how it fails, where no page says so, was tried out on 3.4.3).

An upload that breaks off becomes a finished file with whatever had arrived, so only a 201 for all
of the content, and then its exact length, count. 201 alone is page cache: SYNC_BLOCK is what syncs.
A call whose answer was lost is never sent again from here, to another NameNode neither: a second
rename would find its source gone and deny what the first one did.
"""

import contextlib
import posixpath
import secrets
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from email.utils import parsedate_to_datetime
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
from tiers.sinks.stores.store import Listed, Moved

T = TypeVar("T")

_PIECE_BYTES = 2**20  # 8 KiB chunks are slow, 1 MiB ones are as fast as Hadoop's own client
_DATANODES_MAX = 3  # DataNodes asked for when one cannot be connected to
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


class HdfsStore:
    """A `Store` (see there for the contract) below `root` of an HDFS.

    `url` is WebHDFS of the NameNode, or of several, separated by `;` ("http://nn1:9870;http://nn2:9870").
    Files are made as `user` (no security: HDFS believes it). `connect_s` bounds each connecting,
    `read_s` each wait for an answer or for a piece of content to be taken.
    """

    def __init__(
        self, url: str, user: str, root: str, connect_s: float = 5.0, read_s: float = 60.0
    ) -> None:
        assert root.startswith("/"), root
        self._urls = [one.rstrip("/") for one in url.split(";") if one]
        assert self._urls, url
        self._url, self._user, self._root = url, user, posixpath.normpath(root)
        self._timeout_s = (connect_s, read_s)
        self._active = 0  # the NameNode that answered last; a race of threads costs one try
        self._local = threading.local()  # the library's clients are not for several threads
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()

    def write(self, path: str, chunks: Iterable[Buffer]) -> int:
        target = self._full(path)
        body = _Body(chunks)
        if self._status(target) is None:
            self._upload(target, body)
        else:
            # Written beside and renamed over it. To delete or overwrite in place would be shorter,
            # but such a call may land late, when the file is complete and counted upon.
            beside = f"{target}.{secrets.token_hex(8)}.small"
            self._upload(beside, body)
            if (found := self._rename(beside, target, "OVERWRITE")) is not Moved.DONE:
                raise StoreUnavailable(f"write {target}: its replacement has {found.value}")
        status = self._status(target)
        length = None if status is None else status["length"]
        if length != body.taken_bytes:
            raise StoreUnavailable(f"write {target}: {length} bytes there, not {body.taken_bytes}")
        return body.taken_bytes

    def move(self, source: str, target: str) -> Moved:
        return self._rename(self._full(source), self._full(target), "NONE")

    def replace(self, source: str, target: str) -> Moved:
        return self._rename(self._full(source), self._full(target), "OVERWRITE")

    def make_parents(self, path: str) -> None:
        parent = posixpath.dirname(self._full(path))
        what = f"make {parent}"
        answer = self._ask(what, lambda client: _json(client._mkdirs(parent)), repeatable=True)
        with _translated(what):
            if answer["boolean"] is not True:
                raise StoreUnavailable(f"{what}: not made, for no reason given")

    def read(self, path: str) -> bytes | None:
        target = self._full(path)

        def content(client: InsecureClient) -> bytes:
            with contextlib.closing(client._open(target)) as response:
                data: bytes = response.content  # urllib3 checks it against Content-Length
            return data

        return self._unless_absent(f"read {target}", content)

    def length(self, path: str) -> int | None:
        target = self._full(path)
        status = self._status(target)
        if status is None:
            return None
        with _translated(f"ask the length of {target}"):
            return int(status["length"]) if status["type"] == "FILE" else None

    def list(self, path: str) -> list[Listed] | None:
        directory = self._full(path) if path else self._root
        what = f"list {directory}"
        # One answer, which the NameNode puts together page by page (dfs.ls.limit).
        found = self._unless_absent(what, lambda client: _json(client._list_status(directory)))
        if found is None:
            return None
        with _translated(what):
            entries = found["FileStatuses"]["FileStatus"]
            if len(entries) == 1 and not entries[0]["pathSuffix"]:
                return None  # `directory` is a file
            return sorted(
                Listed(
                    name=entry["pathSuffix"],
                    size_bytes=int(entry["length"]),
                    modified_ms=int(entry["modificationTime"]),
                    is_directory=entry["type"] == "DIRECTORY",
                )
                for entry in entries
            )

    def delete(self, path: str) -> bool:
        target = self._full(path)
        what = f"delete {target}"
        answer = self._ask(what, lambda client: _json(client._delete(target, recursive="true")))
        with _translated(what):
            return answer["boolean"] is True

    def now_ms(self) -> int:
        """The NameNode's clock, by its answer's Date: to the second, rounded down."""
        what = "ask the time"
        response = self._ask(what, lambda client: client._get_file_status("/"), repeatable=True)
        with _translated(what):
            date = response.headers["Date"][:29]  # RFC 9110 5.6.7; Hadoop sends it twice
            return round(parsedate_to_datetime(date).timestamp() * 1000)

    def where(self) -> str:
        return f"hdfs {self._url} {self._root}"

    def close(self) -> None:
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _full(self, path: str) -> str:
        """A wrong path is our own mistake: header values are made safe before they get here."""
        parts = path.split("/")
        assert all(part not in ("", ".", "..") and "\0" not in part for part in parts), path
        return posixpath.join(self._root, path)

    def _status(self, target: str) -> dict[str, Any] | None:
        what = f"ask for {target}"
        found = self._unless_absent(what, lambda client: _json(client._get_file_status(target)))
        if found is None:
            return None
        with _translated(what):
            status: dict[str, Any] = found["FileStatus"]
            return status

    def _upload(self, target: str, body: "_Body") -> None:
        """CREATE only: if the file is there by now, that is another writer's and stays."""
        what = f"write {target}"

        def location(client: InsecureClient) -> str:
            # The NameNode only names a DataNode here; the file is made by the PUT to that.
            answer = client._create(target, overwrite="false", createflag="CREATE,SYNC_BLOCK")
            address: str = answer.headers["Location"]
            return address

        for attempt in range(1, _DATANODES_MAX + 1):
            address = self._ask(what, location, repeatable=True)
            try:
                with _translated(what):
                    client = self._client(self._urls[self._active])
                    response = client._request("PUT", address, data=body)
                    if response.status_code != 201:
                        raise _to_error(response)
                    if not body.ended:
                        raise StoreUnavailable(f"{what}: 201 before all of it was sent")
            except _ChunksFailed:
                body.check()
                raise
            except StoreUnavailable as error:
                # The NameNode goes on naming a dead DataNode for a while, and others as well.
                if attempt == _DATANODES_MAX or not _never_sent(error.__cause__):
                    raise
                continue
            return

    def _rename(self, old: str, new: str, option: str) -> Moved:
        what = f"move {old} to {new}"

        def rename(client: InsecureClient) -> bytes:
            response = client._rename(old, destination=new, renameoptions=option)
            content: bytes = response.content
            return content

        try:
            content = self._ask(what, rename)
        except (StoreRefused, StoreUnavailable) as error:
            found = self._why_not(error.__cause__, old, new, option)
            if found is None:
                raise
            return found
        if content:
            # A plain rename answers {"boolean": ...}, and moves *into* a directory.
            raise StoreRefused(f"{what}: this server does not know renameoptions (HttpFS?)")
        return Moved.DONE

    def _why_not(
        self, error: BaseException | None, old: str, new: str, option: str
    ) -> Moved | None:
        """What a refused rename found, asked anew where its exception has two meanings."""
        name = error.exception if isinstance(error, HdfsError) else None
        if name == "FileAlreadyExistsException" and option == "NONE":
            return Moved.TARGET_THERE  # it looks at the source first, so that was there too
        if name == "FileNotFoundException":
            if self._status(old) is None:
                return Moved.SOURCE_GONE
            return Moved.NO_PARENT if self._status(posixpath.dirname(new)) is None else None
        if name in ("IOException", "ParentNotDirectoryException") or (
            name and _is_below_file(error)
        ):
            # A file onto a directory, or either of the two below a file.
            if self._status(old) is None:
                return Moved.SOURCE_GONE
            if self._status(new) is not None:
                if option == "NONE":
                    return Moved.TARGET_THERE
                raise StoreRefused(f"move {old} to {new}: {_text(error)}") from error
        return None

    def _unless_absent(self, what: str, call: Callable[[InsecureClient], T]) -> T | None:
        """None only where the NameNode itself says that there is none."""
        try:
            return self._ask(what, call, repeatable=True)
        except (StoreRefused, StoreUnavailable) as error:
            cause = error.__cause__
            if isinstance(cause, HdfsError) and _is_absence(cause):
                return None
            raise

    def _ask(self, what: str, call: Callable[[InsecureClient], T], repeatable: bool = False) -> T:
        """`call`, of the NameNode that serves. Another one is asked only where that is harmless."""
        with _translated(what):
            first = self._active
            for step in range(len(self._urls)):
                number = (first + step) % len(self._urls)
                try:
                    answer = call(self._client(self._urls[number]))
                except HdfsError as error:
                    if error.exception not in _NOT_SERVING or step == len(self._urls) - 1:
                        raise
                except (requests.RequestException, HTTPError, OSError) as error:
                    harmless = repeatable or _never_sent(error)
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
            session = requests.Session()
            adapter = _Adapter(send_s=self._timeout_s[1])
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            with self._lock:
                self._sessions.add(session)
            clients[url] = _Client(url, user=self._user, timeout=self._timeout_s, session=session)
        return clients[url]


class _Client(InsecureClient):  # type: ignore[misc]  # the library has no types
    def resolve(self, hdfs_path: str) -> str:
        return hdfs_path  # full already; the library would expand "#LATEST" in a name


class _Body:
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
    """`_Body.check` raises what did it."""


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
def _translated(what: str) -> Iterator[None]:
    """Errors of hdfs, requests and urllib3 to StoreRefused or StoreUnavailable, the cause kept."""
    try:
        yield
    except HdfsError as error:
        text = f"{what}: {_text(error)}"
        if error.exception in _REFUSALS or _is_unauthorized(error):
            raise StoreRefused(text) from error
        raise StoreUnavailable(text) from error
    except (requests.RequestException, HTTPError, OSError) as error:
        raise StoreUnavailable(f"{what}: {_text(error)}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The library looks for "RemoteException" in any JSON; and ours must have its fields.
        raise StoreUnavailable(f"{what}: an answer that is not WebHDFS's ({error!r})") from error


def _is_absence(error: HdfsError) -> bool:
    if error.exception in ("FileNotFoundException", "ParentNotDirectoryException"):
        return True
    return _is_below_file(error)


def _is_below_file(error: HdfsError) -> bool:
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


def _never_sent(error: BaseException | None) -> bool:
    """True where not even a connection was made."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    reason = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(reason, MaxRetryError) and isinstance(reason.reason, NewConnectionError)


def _text(error: BaseException | None) -> str:
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


def _json(response: Any) -> dict[str, Any]:
    found = response.json()
    if not isinstance(found, dict):
        raise TypeError(f"a JSON object was wanted, {type(found).__name__} came")
    return found
