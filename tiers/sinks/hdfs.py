"""`type = "hdfs"`: files in HDFS, over WebHDFS with the `hdfs` library."""

import posixpath
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tiers.contracts import SinkContext, Store
from tiers.core.printable import without_user
from tiers.host.path_names import wrong_path
from tiers.sinks.files.options import FileOptions
from tiers.sinks.files.sink import FileSink
from tiers.sinks.files.stores.hdfs import HdfsStore
from tiers.units import Duration

_NOT_IN_HDFS: Final = frozenset(":\\*?")
_RPC_PORTS: Final = (8020, 9000, 9820)  # of a NameNode, in one version or another


class HdfsOptions(FileOptions):
    """`url` names the NameNodes, separated by ";"; which of them is active is found out."""

    type: Literal["hdfs"] = "hdfs"
    url: str
    user: str = ""  # default: whom the NameNode takes us for
    root: str
    connect_timeout_s: Duration = Field(default=5.0, alias="connect_timeout", ge=0.010)
    read_timeout_s: Duration = Field(default=60.0, alias="read_timeout", ge=0.010)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        urls = [part.strip().rstrip("/") for part in url.split(";") if part.strip()]
        told = [why for part in urls if (why := _wrong(part))]
        if not urls or told:
            more = f" ({'; '.join(told)})" if told else ""
            raise ValueError(f'NameNodes such as "http://nn1:9870;http://nn2:9870"{more}')
        return ";".join(urls)

    @field_validator("root")
    @classmethod
    def _check_root(cls, root: str) -> str:
        odd = wrong_path(root, "/logs")
        if not odd and (marks := sorted(_NOT_IN_HDFS.intersection(root))):
            odd = f"has {', '.join(map(repr, marks))} in it, which HDFS takes in no name"
        if odd or not root.startswith("/"):
            raise ValueError('an absolute path in HDFS such as "/logs"' + (odd and f" ({odd})"))
        return "/" + posixpath.normpath(root).lstrip("/")

    @field_validator("user")
    @classmethod
    def _check_user(cls, user: str) -> str:
        if any(char.isspace() or not char.isprintable() for char in user):
            raise ValueError('the name of a user such as "logs"')
        return user

    def place(self) -> str:
        return f"hdfs {without_user(';'.join(sorted(self.url.split(';'))))} {self.root}"


def _wrong(url: str) -> str:
    """What is wrong with the address of one NameNode; empty when nothing is."""
    if "," in url or any(char.isspace() for char in url):
        return "they are separated by ';'"
    if not url.startswith(("http://", "https://")):
        return "each begins with http:// or https://: WebHDFS is not hdfs://"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return str(error)
    if not host:
        return "each has a host"
    if port in _RPC_PORTS:
        return f"{port} is the port of Hadoop's RPC; WebHDFS has 9870, and 50070 before Hadoop 3"
    if parts.path or parts.query or parts.fragment:
        return "nothing comes behind the port: /webhdfs/v1 is added by itself"
    return ""


class HdfsSink(FileSink):
    """Publishes into HDFS."""

    Options: ClassVar[type[HdfsOptions]] = HdfsOptions

    def __init__(self, options: HdfsOptions, context: SinkContext) -> None:
        super().__init__(options, context, context.world.store(self.open_store, options))

    @staticmethod
    def open_store(options: HdfsOptions) -> Store:
        """The store alone, for the audit."""
        return HdfsStore(
            url=options.url,
            user=options.user,
            root=options.root,
            connect_s=options.connect_timeout_s,
            read_s=options.read_timeout_s,
        )
