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
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from hdfs import HdfsError, InsecureClient

from tiers.core.batch import Buffer
from tiers.core.commit.answers import Listed, Moved
from tiers.core.printable import without_user
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.files.stores.webhdfs import (
    Upload,
    WebHdfs,
    is_absence,
    is_below_file,
    json_of,
    never_sent,
    text_of,
    translated,
)

T = TypeVar("T")

_DATANODES_MAX = 3  # DataNodes asked for when one cannot be connected to


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
        self._url, self._root = url, posixpath.normpath(root)
        self._web = WebHdfs(url, user, connect_s, read_s)

    def write(self, path: str, chunks: Iterable[Buffer]) -> int:
        target = self._full(path)
        body = Upload(chunks)
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
        answer = self._web.ask(
            what, lambda client: json_of(client._mkdirs(parent)), repeatable=True
        )
        with translated(what):
            if answer["boolean"] is not True:
                raise StoreUnavailable(f"{what}: not made, for no reason given")

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        target = self._full(path)
        part = {} if bytes_max is None else {"length": bytes_max + 1}

        def content(client: InsecureClient) -> bytes:
            with contextlib.closing(client._open(target, **part)) as response:
                data: bytes = response.content  # urllib3 checks it against Content-Length
            return data

        return self._unless_absent(f"read {target}", content)

    def length(self, path: str) -> int | None:
        target = self._full(path)
        status = self._status(target)
        if status is None:
            return None
        with translated(f"ask the length of {target}"):
            return int(status["length"]) if status["type"] == "FILE" else None

    def list(self, path: str) -> list[Listed] | None:
        directory = self._full(path) if path else self._root
        what = f"list {directory}"
        # One answer, which the NameNode puts together page by page (dfs.ls.limit).
        found = self._unless_absent(what, lambda client: json_of(client._list_status(directory)))
        if found is None:
            return None
        with translated(what):
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
        answer = self._web.ask(
            what, lambda client: json_of(client._delete(target, recursive="true"))
        )
        with translated(what):
            return answer["boolean"] is True

    def now_ms(self) -> int:
        """The NameNode's clock, by its answer's Date: to the second, rounded down."""
        what = "ask the time"
        response = self._web.ask(what, lambda client: client._get_file_status("/"), repeatable=True)
        with translated(what):
            date = response.headers["Date"][:29]  # RFC 9110 5.6.7; Hadoop sends it twice
            return round(parsedate_to_datetime(date).timestamp() * 1000)

    def where(self) -> str:
        return f"hdfs {without_user(self._url)} {self._root}"

    def close(self) -> None:
        self._web.close()

    def _full(self, path: str) -> str:
        """A wrong path is our own mistake: header values are made safe before they get here."""
        parts = path.split("/")
        assert all(part not in ("", ".", "..") and "\0" not in part for part in parts), path
        return posixpath.join(self._root, path)

    def _status(self, target: str) -> dict[str, Any] | None:
        what = f"ask for {target}"
        found = self._unless_absent(what, lambda client: json_of(client._get_file_status(target)))
        if found is None:
            return None
        with translated(what):
            status: dict[str, Any] = found["FileStatus"]
            return status

    def _upload(self, target: str, body: Upload) -> None:
        """CREATE only: if the file is there by now, that is another writer's and stays."""
        what = f"write {target}"

        def location(client: InsecureClient) -> str:
            # The NameNode only names a DataNode here; the file is made by the PUT to that.
            answer = client._create(target, overwrite="false", createflag="CREATE,SYNC_BLOCK")
            address: str = answer.headers["Location"]
            return address

        for attempt in range(1, _DATANODES_MAX + 1):
            address = self._web.ask(what, location, repeatable=True)
            try:
                self._web.put(what, address, body)
            except StoreUnavailable as error:
                # The NameNode goes on naming a dead DataNode for a while, and others as well.
                if attempt == _DATANODES_MAX or not never_sent(error.__cause__):
                    raise
            else:
                return

    def _rename(self, old: str, new: str, option: str) -> Moved:
        what = f"move {old} to {new}"

        def rename(client: InsecureClient) -> bytes:
            response = client._rename(old, destination=new, renameoptions=option)
            content: bytes = response.content
            return content

        try:
            content = self._web.ask(what, rename)
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
            # The parent may be there by now, made by another sink; making it again does no harm.
            return Moved.NO_PARENT
        if name in ("IOException", "ParentNotDirectoryException") or (
            name and is_below_file(error)
        ):
            # A file onto a directory, or either of the two below a file.
            if self._status(old) is None:
                return Moved.SOURCE_GONE
            if self._status(new) is not None:
                if option == "NONE":
                    return Moved.TARGET_THERE
                raise StoreRefused(f"move {old} to {new}: {text_of(error)}") from error
        return None

    def _unless_absent(self, what: str, call: Callable[[InsecureClient], T]) -> T | None:
        """None only where the NameNode itself says that there is none."""
        try:
            return self._web.ask(what, call, repeatable=True)
        except (StoreRefused, StoreUnavailable) as error:
            cause = error.__cause__
            if isinstance(cause, HdfsError) and is_absence(cause):
                return None
            raise
