"""The topology file of a running agent: watched, checked, and taken over where it can be.

A new file is read whole and checked before anything changes, once it was the same at two looks. A
wrong one is refused, and so is one that cannot be put in force: the old one stays, and status says
why. Of a right one all is put in force at once but for a few keys, which wait for a restart and are
named by status (topology/changes.py). An agent that the file leaves out drains and ends when the
same file has left it out for `LEAVE_AFTER_S`.

The last accepted file is kept in the data directory:

    DATA/NAME/topology.toml   what a start goes by while the file itself is wrong, or leaves it out
    DATA/NAME/topology.left   the same of an agent that has drained: it is not to begin again by it
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from tiers.errors import TiersError, UsageError
from tiers.host.durable import rename_durably, write_durably
from tiers.topology import Topology, differences, load, reloaded
from tiers.topology.load import data_directory, look, understand
from tiers.topology.steady import Absence, Content, Steady

log = logging.getLogger("tiers")
KEPT: Final = "topology.toml"
LEFT: Final = "topology.left"
LOOK_S: Final = 1.0  # between looks at the file; SIGHUP: now
LEAVE_AFTER_S: Final = 30.0


class Reloading:
    """Follows one topology file for the agent of that name. `seen` is what of the file is known and
    settled: what `topology` was made of, or what was wrong with it, as `error` says."""

    def __init__(
        self,
        file: Path,
        topology: Topology,
        name: str,
        directory: Path,
        *,
        left: bool = False,
        seen: Content | None = None,
        error: str = "",
        leave_after_s: float = LEAVE_AFTER_S,
    ) -> None:
        self.file = file
        self.generation = 1
        self.hash = hash_of(topology)
        self.error = error  # why the file as it is now is not in force
        self.refused_hash = _hash(seen) if error else ""  # of that file
        self.restart_needed: list[str] = []
        self.left = left  # the file no longer names this agent
        self._name = name
        self._directory = directory
        self._leave_after_s = leave_after_s
        self._topology = topology  # as the file in force tells it
        self._applied = topology  # as far as that is in force before a restart
        self._steady = Steady(seen)
        self._absence = Absence(leave_after_s)
        self._wake = asyncio.Event()
        self._kept = True  # the text in force is on disk, or was not yet to be

    async def accept(self) -> None:
        """Keep the text of the topology in force, durably. On a full disk that is tried again with
        every look at the file."""
        if self.left:
            return
        kept = self._directory / KEPT
        try:
            await asyncio.to_thread(write_durably, kept, self._topology.text.encode())
            (self._directory / LEFT).unlink(missing_ok=True)
        except OSError as error:
            if self._kept:
                log.warning("cannot keep the topology in %s: %s", kept, error)
            self._kept = False
        else:
            self._kept = True

    async def drained(self) -> None:
        """The agent has: the text kept is no longer one to begin by."""
        kept, left = self._directory / KEPT, self._directory / LEFT
        try:
            await asyncio.to_thread(rename_durably, kept, left)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cannot mark %s as left: %s", kept, error)

    def wake(self) -> None:
        """SIGHUP: read the file now, changed or not."""
        self._steady.forget()
        self._wake.set()

    async def run(
        self, apply: Callable[[Topology], Awaitable[None]], leave: Callable[[], None]
    ) -> None:
        """Until cancelled. `apply` puts a topology in force, or raises why it cannot; `leave` is
        called when the file no longer names the agent."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            content = await asyncio.to_thread(look, self.file)
            new = self._steady.saw(content)
            if new is not None:
                await self._reload(apply, new)
            elif not self._kept:
                await self.accept()
            if not self.left and self._absence.lasts(content, loop.time()):
                log.info("no longer in %s for %g s: draining", self.file, self._leave_after_s)
                self.left, self.error = True, ""
                leave()

    async def _reload(self, apply: Callable[[Topology], Awaitable[None]], content: Content) -> None:
        self._absence.end()
        self.refused_hash = _hash(content)  # until it is in force
        try:
            # What others made is checked beside the loop: it may be long.
            topology = await asyncio.to_thread(understand, content, self.file)
        except TiersError as error:
            self._refuse(str(error))
            return
        if topology.name != self._topology.name:
            self._refuse(f"{self.file}: name is {topology.name!r}, was {self._topology.name!r}")
            return
        found = differences(self._applied, topology, self._name)
        if found.left:
            self._absence.begin(content)
            self._refuse(
                f"{self.file} does not name {self._name}, which drains and ends if that stays so "
                f"for {self._leave_after_s:g} s"
            )
            return
        applied = reloaded(self._applied, topology, self._name)
        try:
            await apply(applied)
        except Exception as error:  # whatever a third party's part raises
            self._refuse(f"{self.file} cannot be put in force: {error}")
            return
        self._applied = applied
        self.restart_needed = list(found.restart)
        for key in found.restart:
            log.warning("%s changed: it takes effect when this agent is restarted", key)
        self._topology = topology
        await self.accept()
        self.hash, self.error, self.refused_hash = hash_of(topology), "", ""
        self.generation += 1
        log.info("topology generation %d is in force", self.generation)

    def _refuse(self, why: str) -> None:
        self.error = why
        for line in why.splitlines():
            log.error("topology refused, the old one stays in force: %s", line)


def hash_of(topology: Topology) -> str:
    """The first 16 digits of what `sha256sum` says of its file."""
    return _hash(topology.text.encode())


def _hash(content: Content | None) -> str:
    return sha256(content).hexdigest()[:16] if isinstance(content, bytes) else ""


def begin(
    file: Path,
    name: str,
    data: Path | None,
    *,
    strict: bool = False,
    leave_after_s: float = LEAVE_AFTER_S,
) -> tuple[Topology, Path, Reloading]:
    """The topology that agent `name` starts with, its directory, and what follows the file.

    Where the file is wrong or gone, the agent starts by what it last accepted, unless `strict`;
    where the file leaves it out too, and leaves then; one that has drained before only drains.
    Raises ConfigError, UsageError."""
    content = look(file)
    follow = partial(Reloading, file, leave_after_s=leave_after_s)
    try:
        topology = understand(content, file)
    except TiersError as error:
        directory = data_directory(content, name, data)
        if strict or directory is None:
            raise
        return _begin_by_kept(follow, name, directory / name, content, error)
    try:
        topology.tier_of(name)
    except UsageError:
        directory = (data or topology.data or Path()) / name
        for kept in (KEPT, LEFT):
            if (directory / kept).is_file():
                topology = load(directory / kept)
                follows = follow(topology, name, directory, left=kept == LEFT)
                return topology, directory, follows
        raise
    directory = topology.data_of(name, data)
    return topology, directory, follow(topology, name, directory, seen=content)


def _begin_by_kept(
    follow: Callable[..., Reloading],
    name: str,
    directory: Path,
    content: Content,
    wrong: TiersError,
) -> tuple[Topology, Path, Reloading]:
    """Raises `wrong` where there is nothing to begin by."""
    kept = directory / KEPT
    try:
        topology = load(kept)
    except TiersError:
        raise wrong from None
    for line in str(wrong).splitlines():
        log.error("topology refused, begins by %s: %s", kept, line)
    error = f"{wrong}\nin force is what was last accepted, {kept}"
    return topology, directory, follow(topology, name, directory, seen=content, error=error)
