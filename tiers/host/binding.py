"""Why an address cannot be listened on, and what to do about it."""

import errno
import os
from typing import Final

_TODO: Final = {
    errno.EADDRINUSE: "another program has it, or another agent: see which with ss -ltnup",
    errno.EADDRNOTAVAIL: "this machine has no such address: give one of its own as `listen`",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE, or choose a higher one",
    errno.EPERM: "the system's rules (SELinux, a firewall) do not let this user",
    errno.EAFNOSUPPORT: "this machine has no IPv6, or no IPv4",
}


def why_not(code: int | None, text: str = "") -> str:
    """In words for a person: `Address already in use (another program has it, ...)`."""
    said = os.strerror(code) if code in _TODO else text or os.strerror(code or errno.EIO)
    return f"{said} ({_TODO[code]})" if code in _TODO else said
