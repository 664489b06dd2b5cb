"""Interceptors by their `type` in the topology file. A third party's come by entry point."""

from typing import Final

BUILTIN: Final = {
    "host": "tiers.interceptors.host:Host",
    "remove": "tiers.interceptors.remove:Remove",
    "static": "tiers.interceptors.static:Static",
}
GROUP: Final = "tiers.interceptors"
