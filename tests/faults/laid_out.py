"""A cluster laid out by a topology of the test's own, with any tiers and several outputs."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from tests.faults.cluster import Cluster, free_port_pair
from tests.faults.settling import LOOK_S, PATIENCE_S
from tests.waiting import wait_for
from tiers.observe.client import tell_drain
from tiers.topology import load


class LaidOut(Cluster):
    """In `text`, `@NAME` is the address of agent NAME in quotes, and `DIR` the test's directory.
    An agent tails `DIR/NAME/*.log` if its topology says so. Stores are at `DIR/out/OUTPUT`."""

    def __init__(self, directory: Path, text: str) -> None:
        ports = {name: free_port_pair() for name in dict.fromkeys(re.findall(r"@([\w-]+)", text))}
        self._addresses = {name: f'"127.0.0.1:{port}"' for name, port in ports.items()}
        self.text = text
        super().__init__(directory, edges=0, aggregators=0, sinks=0)
        self.stores = list(dict.fromkeys(re.findall(r"DIR/out/([\w-]+)", text)))

    @property
    def agents(self) -> list[str]:
        """Downstream first."""
        return [*reversed(load(self.file).agent_names())]

    def write_topology(self) -> None:
        text = self.text.replace("DIR", str(self.directory))
        text = re.sub(r"@([\w-]+)", lambda found: self._addresses[found[1]], text)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def write(self, edge: str, count: int, file: str = "access.log") -> None:
        (self.directory / edge).mkdir(exist_ok=True)
        super().write(edge, count, file)

    def output(self, agent: str, name: str) -> dict[str, Any]:
        """The status of one output."""
        status = self.status(agent)
        assert status is not None, self.log(agent)
        (found,) = (output for output in status["outputs"] if output["name"] == name)
        return dict(found)

    def drain(self) -> dict[str, int]:
        """Every agent told, upstream first; exit statuses."""
        ended: dict[str, int] = {}
        for name in reversed(self.agents):
            answer = asyncio.run(tell_drain(self.data / name))
            assert isinstance(answer, dict), (name, answer)
            ended[name] = self.wait_exit(name, PATIENCE_S)
        return ended

    def audit(self) -> tuple[int, dict[str, Any]]:
        """Exit status, and the report with its outputs by name."""
        ended = self.command("audit", "--json")
        report = json.loads(ended.stdout)
        report["outputs"] = {output["output"]: output for output in report["outputs"]}
        return ended.returncode, report

    def wait_lines(self, output: str, wanted: int) -> None:
        """Until so many lines are published there, from the beginning on."""
        wait_for(
            lambda: self.so_far(output).published >= wanted,
            f"{wanted} lines in {output}",
            PATIENCE_S,
            LOOK_S,
        )
