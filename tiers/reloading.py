"""The topology file of a running agent: watched, checked, and taken over where it can be.

A new file is read whole and checked before anything changes. A wrong one is refused, the old one
stays in force, and status says so. Of a right one, changed peers are taken over at once; whatever
else changed waits for a restart, and status names it. The last accepted file is kept in the data
directory: an agent that was taken out of the file drains by it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tiers.errors import ConfigError, TiersError, UsageError
from tiers.topology import Topology, differences, load

if TYPE_CHECKING:
    from tiers.agent import Agent

log = logging.getLogger("tiers")
KEPT: Final = "topology.toml"
LOOK_S: Final = 1.0  # besides SIGHUP: how often the file's time and size are looked at


class Reloading:
    """Follows one topology file for one agent."""

    def __init__(self, file: Path, topology: Topology, directory: Path, *, left: bool) -> None:
        self.file = file
        self.generation = 1
        self.error = ""  # why the file as it is now is not in force
        self.restart_needed: list[str] = []
        self.left = left  # the file no longer names this agent
        self._directory = directory
        self._topology = topology
        self._seen = self._look()
        self._wake = asyncio.Event()
        self._kept = True  # the text in force is on disk, or was not yet to be

    def accept(self) -> None:
        """Keep the text of the topology in force, durably, for a start after this agent was taken
        out of the file. On a full disk that is tried again with every look at the file."""
        if self.left:
            return
        kept = self._directory / KEPT
        fresh = kept.with_suffix(".new")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                file.write(self._topology.text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(kept)
        except OSError as error:
            if self._kept:
                log.warning("cannot keep the topology in %s: %s", kept, error)
            self._kept = False
        else:
            self._kept = True

    def wake(self) -> None:
        """SIGHUP: read the file now, changed or not."""
        self._wake.set()

    async def run(self, agent: Agent) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            told = self._wake.is_set()
            self._wake.clear()
            looked = await asyncio.to_thread(self._look)
            if told or looked != self._seen:
                self._seen = looked
                self._reload(agent)
            elif not self._kept:
                self.accept()

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _reload(self, agent: Agent) -> None:
        try:
            topology = load(self.file)
        except ConfigError as error:
            self._refuse(str(error))
            return
        except (TiersError, OSError) as error:
            self._refuse(f"{self.file}: {error}")
            return
        if topology.name != self._topology.name:
            self._refuse(f"{self.file}: name is {topology.name!r}, was {self._topology.name!r}")
            return
        self.error = ""
        self.generation += 1
        # Compared with what this process was started with: that is what a restart would change.
        found = differences(agent.topology, topology, agent.name)
        if found.left:
            log.info("no longer in %s: draining", self.file)
            self.left = True
            agent.drain()
            return
        for output, group in agent.groups.items():
            if output in topology.tier_of(agent.name).next:
                group.set_peers(topology.peers(output))
        self.restart_needed = list(found.restart)
        for key in found.restart:
            log.warning("%s changed: it takes effect when this agent is restarted", key)
        self._topology = topology
        self.accept()
        log.info("topology generation %d is in force", self.generation)

    def _refuse(self, why: str) -> None:
        self.error = why
        for line in why.splitlines():
            log.error("topology refused, the old one stays in force: %s", line)


def begin(file: Path, name: str, data: Path | None) -> tuple[Topology, Path, Reloading]:
    """The topology that agent `name` starts with, its directory, and what follows the file.

    Where the file no longer names the agent but `data/name` holds the one it last accepted, the
    agent starts by that, to drain. Raises ConfigError, UsageError."""
    topology = load(file)
    try:
        topology.tier_of(name)
    except UsageError:
        directory = (data or topology.data or Path()) / name
        kept = directory / KEPT
        if not kept.is_file():
            raise
        topology = load(kept)
        return topology, directory, Reloading(file, topology, directory, left=True)
    directory = topology.data_of(name, data)
    return topology, directory, Reloading(file, topology, directory, left=False)
