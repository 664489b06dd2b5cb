"""What is said over TCP, where anybody may ask, also a page in a browser of somebody who can reach
the port.

Such a page asks under a name of its own that it has made to mean this address (DNS rebinding), so
only addresses are answered to. And whoever knows the id of a channel may speak in its name on a
hop, so ids are for who reads the agent's directory.
"""

import ipaddress
import re
from typing import Any, Final

from tiers.core.printable import map_texts

_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")
_HOST: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::[0-9]{1,5})?")


def is_address(host: str | None) -> bool:
    """Whether the Host of a request is an address, or localhost: no name that others give."""
    match = _HOST.fullmatch(host) if host is not None else None
    if match is None:
        return False
    if match[2] is not None and match[2].lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(match[1] or match[2]).version == (6 if match[1] else 4)
    except ValueError:
        return False


def hide_ids(text: str) -> str:
    """A text without the ids of channels that it names."""
    return _ID.sub("(an id)", text)


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    """An agent's answer without the ids of channels, its own and those that its texts name. What
    it says for an audit names origins, which are no channels."""
    told: dict[str, Any] = map_texts(answer, hide_ids)
    return told | ({"audit": answer["audit"]} if "audit" in answer else {})
