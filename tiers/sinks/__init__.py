"""Sinks by their `type` in the topology file. A third party's come by entry point."""

from typing import Final

BUILTIN: Final = {
    "directory": "tiers.sinks.directory:DirectorySink",
    "hdfs": "tiers.sinks.hdfs:HdfsSink",
    "null": "tiers.sinks.null:NullSink",
    "stdout": "tiers.sinks.stdout:StdoutSink",
}
GROUP: Final = "tiers.sinks"
