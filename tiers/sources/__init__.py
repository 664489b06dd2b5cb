"""Sources by their `type` in the topology file. A third party's come by entry point."""

from typing import Final

BUILTIN: Final = {
    "generate": "tiers.sources.generate:Generate",
    "syslog": "tiers.sources.syslog:Syslog",
    "tail": "tiers.sources.tail.source:Tail",
}
GROUP: Final = "tiers.sources"
