"""Where an agent listens and is reached: an IP address and a port.

An agent's address is its data port; control is the port after it, so an agent needs both.
"""

import ipaddress
from dataclasses import dataclass

from tiers.host.host_port import PORT_MAX, split_host_port

_BROADCAST = ipaddress.ip_address("255.255.255.255")
WANTED = 'an address such as "10.0.0.11:7400" or "[::1]:7400"'


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """`host` is an IP address in its canonical spelling, without brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: object, ports: int = 1) -> "Address":
        """From `"10.0.0.11:7400"`, `"[::1]:7400"` or `"localhost:7400"`. `ports` is how many
        ports from there on are needed. Raises ValueError, whose text is what was wanted."""
        parts = split_host_port(text)
        if parts is None:
            raise ValueError(WANTED)
        try:
            ip = ipaddress.ip_address("127.0.0.1" if parts.host == "localhost" else parts.host)
        except ValueError:
            raise ValueError(f"{WANTED} (an IP address; names are not looked up yet)") from None
        if (ip.version == 6 and not parts.bracketed) or ip.is_multicast or ip == _BROADCAST:
            raise ValueError(WANTED)
        if not 1 <= parts.port <= PORT_MAX + 1 - ports:
            more = ": control is the port after it" if ports > 1 else ""
            raise ValueError(f"a port from 1 to {PORT_MAX + 1 - ports}{more}")
        return cls(str(ip), parts.port)

    @property
    def data(self) -> str:
        """ZeroMQ's end point for bundles."""
        return f"tcp://{self}"

    @property
    def control(self) -> str:
        """ZeroMQ's end point for acks, credit and heartbeats: one port up."""
        return f"tcp://{Address(self.host, self.port + 1)}"

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def wildcard(self) -> bool:
        """Every address of the machine: to listen on, not to be reached at."""
        return ipaddress.ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
