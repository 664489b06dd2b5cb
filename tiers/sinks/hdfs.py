"""`type = "hdfs"`: files in HDFS, over WebHDFS with the `hdfs` library."""

import posixpath
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from tiers.sinks.file_options import FileOptions
from tiers.sinks.file_sink import FileSink
from tiers.sinks.sink import SinkContext
from tiers.sinks.stores.hdfs import HdfsStore
from tiers.sinks.stores.store import Store
from tiers.units import Duration


class HdfsOptions(FileOptions):
    """`url` names the NameNodes, separated by ";"; which of them is active is found out."""

    type: Literal["hdfs"] = "hdfs"
    url: str
    user: str = ""  # default: whom the NameNode takes us for
    root: str
    connect_timeout_s: Duration = Field(default=5.0, alias="connect_timeout", gt=0)
    read_timeout_s: Duration = Field(default=60.0, alias="read_timeout", gt=0)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        urls = [part.strip().rstrip("/") for part in url.split(";") if part.strip()]
        if not urls or not all(part.startswith(("http://", "https://")) for part in urls):
            raise ValueError('NameNode addresses such as "http://nn1:9870;http://nn2:9870"')
        return ";".join(urls)

    @field_validator("root")
    @classmethod
    def _check_root(cls, root: str) -> str:
        if not root.startswith("/"):
            raise ValueError('an absolute path in HDFS such as "/logs"')
        return "/" + posixpath.normpath(root).lstrip("/")

    def place(self) -> str:
        return f"hdfs {';'.join(sorted(self.url.split(';')))} {self.root}"


class HdfsSink(FileSink):
    """Publishes into HDFS."""

    Options: ClassVar[type[HdfsOptions]] = HdfsOptions

    def __init__(self, options: HdfsOptions, context: SinkContext) -> None:
        super().__init__(options, context, self.open_store(options))

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
