"""`HOST:PORT` as people write it, `[V6]:PORT` where the host has colons: taken apart here alone.
What a host may be is for who asks."""

import re
from typing import Final, NamedTuple

PORT_MAX: Final = 65535
_HOST_PORT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([^\[\]:]*)")


class HostPort(NamedTuple):
    host: str  # without brackets
    port: int
    bracketed: bool


def split_host_port(text: object) -> HostPort | None:
    """None where it is not of that form; `port` is -1 where that is no number up to PORT_MAX."""
    match = _HOST_PORT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    bracketed = match[1] is not None
    digits = match[3]
    is_port = digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= PORT_MAX
    return HostPort(match[1] if bracketed else match[2], int(digits) if is_port else -1, bracketed)
