"""`type = "null"`: delivers nowhere, and counts: for measuring, and for switching an output off."""

from typing import ClassVar, Literal

from tiers.core.change import Entry
from tiers.sinks.plain import PlainSink
from tiers.sinks.sink import SinkOptions


class NullOptions(SinkOptions):
    """No keys of its own."""

    type: Literal["null"] = "null"

    def place(self) -> str:
        return ""

    def unproven(self) -> str:
        return "delivers nowhere, on purpose"


class NullSink(PlainSink):
    """Bodies are not even read."""

    Options: ClassVar[type[NullOptions]] = NullOptions

    async def deliver(self, entry: Entry) -> int:
        return entry.size
