"""Hosts of their own for agents: a network namespace each, on one bridge. Linux, root, iproute2 and
nftables; faults are rules of nft, and a relay that delays."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.faults.cluster import Cluster

PORT: Final = 7400
DELIVERY: Final = '[delivery]\nfailover_after = "1s"\n'
_NET: Final = "10.88.0"
RELAY: Final = f"{_NET}.254"
_ROOT: Final = Path(__file__).parents[2]


def missing_part() -> str:
    """Why there can be no hosts here; empty when there can. Under CI nothing may be missing."""
    reason = ""
    if os.geteuid() != 0:
        reason = "network namespaces need root"
    elif missing := [tool for tool in ("ip", "nft") if shutil.which(tool) is None]:
        reason = f"no {' and no '.join(missing)} here"
    else:
        tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
        reason = "" if tried.returncode == 0 else "this kernel gives no network namespaces"
    assert not (reason and os.environ.get("CI") == "true"), reason
    return reason


class Hosts:
    """Namespaces by name, and one, the hub, that has the bridge. `close` removes them all."""

    def __init__(self, names: Iterable[str]) -> None:
        self._prefix = f"t{os.getpid()}"
        self.address: dict[str, str] = {}
        self._hub = self.namespace("hub")
        run("ip", "netns", "add", self._hub)
        self._ip("hub", "link", "add", "br0", "type", "bridge")
        self._ip("hub", "addr", "add", f"{RELAY}/24", "dev", "br0")
        self._ip("hub", "link", "set", "br0", "up")
        for number, name in enumerate(names, 1):
            self._add(name, number)

    def namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _add(self, name: str, number: int) -> None:
        self.address[name] = f"{_NET}.{number}"
        namespace = self.namespace(name)
        run("ip", "netns", "add", namespace)
        self._ip("hub", "link", "add", f"p{number}", "type", "veth", "peer", "name", "e0",
                 "netns", namespace)  # fmt: skip
        self._ip("hub", "link", "set", f"p{number}", "master", "br0", "up")
        self._ip(name, "addr", "add", f"{self.address[name]}/24", "dev", "e0")
        self._ip(name, "link", "set", "e0", "up")
        self._ip(name, "link", "set", "lo", "up")
        self.rules(
            name,
            "add table inet f",
            "add chain inet f in { type filter hook input priority 0; }",
            "add chain inet f out { type filter hook output priority 0; }",
            "add chain inet f nat { type nat hook output priority -100; }",
        )

    def _ip(self, name: str, *words: str) -> None:
        run("ip", "-n", self.namespace(name), *words)

    def rules(self, name: str, *rules: str) -> None:
        """Rules of nft on that host."""
        for rule in rules:
            run("ip", "netns", "exec", self.namespace(name), "nft", rule)

    def heal(self) -> None:
        """All hosts hear each other again."""
        for name in self.address:
            self.rules(name, *(f"flush chain inet f {chain}" for chain in ("in", "out", "nat")))

    def command(self, name: str, *words: str) -> list[str]:
        """`words`, run on that host."""
        return ["ip", "netns", "exec", self.namespace(name), *words]

    def close(self) -> None:
        for name in (*self.address, "hub"):
            subprocess.run(["ip", "netns", "del", self.namespace(name)], check=False)


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)


class NetCluster(Cluster):
    """A cluster whose agents have a host each; their files and the store are shared."""

    def __init__(self, directory: Path) -> None:
        names = ("edge-1", "edge-2", "agg-1", "agg-2", "sink-1", "sink-2")
        self.hosts = Hosts(names)
        super().__init__(
            directory, head="insecure = true", more='takeover_after = "2s"', extra=DELIVERY
        )

    def address(self, name: str) -> str:
        return f"{self.hosts.address[name]}:{PORT}"

    def agent_command(self, name: str) -> list[str]:
        return self.hosts.command(name, *super().agent_command(name))

    def relay(self, host: str) -> "subprocess.Popen[bytes]":
        """A relay on the hub, 200 ms each way, for both of that host's ports."""
        words = (sys.executable, "-m", "tests.net.relay", self.hosts.address[host], str(PORT))
        return subprocess.Popen(self.hosts.command("hub", *words), cwd=_ROOT)

    def close(self) -> None:
        super().close()
        self.hosts.close()
