"""`type = "directory"`: files in a directory of this host, published by `renameat2`.

A directory is a store for the agents of one host: NFS has no rename that never replaces.
"""

import os
from typing import ClassVar, Literal

from tiers.contracts import SinkContext, Store
from tiers.host.path_names import Directory
from tiers.sinks.files.options import FileOptions
from tiers.sinks.files.sink import FileSink
from tiers.sinks.files.stores.local import LocalStore


class DirectoryOptions(FileOptions):
    """`root` is where the files go; a relative one is below the process's working directory."""

    type: Literal["directory"] = "directory"
    root: Directory

    def place(self) -> str:
        return f"directory {self.writes()}"

    def writes(self) -> str:
        # Not resolved through symbolic links: the answer must not depend on this host's disk.
        return os.path.abspath(self.root)  # noqa: PTH100


class DirectorySink(FileSink):
    """Publishes into a local directory."""

    Options: ClassVar[type[DirectoryOptions]] = DirectoryOptions

    def __init__(self, options: DirectoryOptions, context: SinkContext) -> None:
        super().__init__(options, context, context.world.store(self.open_store, options))

    @staticmethod
    def open_store(options: DirectoryOptions) -> Store:
        """The store alone, for the audit."""
        return LocalStore(options.root)
