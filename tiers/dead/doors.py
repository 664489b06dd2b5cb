"""The way to an agent's dead letters: its status socket while it runs, else its channel."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from tiers.agent.composing import channel_limits
from tiers.agent.reloading import KEPT
from tiers.channel import inspection
from tiers.channel.channel import Channel
from tiers.core.change import LetterHead
from tiers.dead.choosing import Wanted
from tiers.dead.handling import LETTERS_PER_PAGE, Done, Handling, Key, LettersReading, page
from tiers.dead.wire import Asked
from tiers.errors import TiersError, UsageError
from tiers.host.own_directory import make_own, opening
from tiers.topology import Topology, load

CHANNEL: Final = "channel"


class LettersDoor(Protocol):
    """Raises UsageError where the agent does not answer."""

    async def page(self, after: tuple[int, int], limit: int) -> list[LetterHead]:
        """The next letters behind `after`; none when there are no more."""

    async def stored(self, position: int) -> bytes:
        """The record, damaged or not; empty where it is gone."""

    async def retry(self, keys: Sequence[Key]) -> Done: ...

    async def drop(self, keys: Sequence[Key]) -> Done: ...


class _Opened:
    """A channel that this process has."""

    def __init__(self, reader: LettersReading, handling: Handling | None = None) -> None:
        self._reader = reader
        self._handling = handling

    async def page(self, after: tuple[int, int], limit: int) -> list[LetterHead]:
        return page(self._reader, after, limit)

    async def stored(self, position: int) -> bytes:
        return self._reader.stored(position)

    async def retry(self, keys: Sequence[Key]) -> Done:
        assert self._handling is not None, "opened to be read alone"
        return await self._handling.retry(keys)

    async def drop(self, keys: Sequence[Key]) -> Done:
        assert self._handling is not None, "opened to be read alone"
        return await self._handling.drop(keys)


@asynccontextmanager
async def opened(
    directory: Path, topology: Topology | None, *, changing: bool
) -> AsyncIterator[LettersDoor]:
    """Of the agent whose files are in `directory` (or of a channel that was set aside). To change
    what a stopped agent has, its outputs are those of `topology`, or of the one that it last
    accepted."""
    home = directory.parent if directory.name == CHANNEL else directory
    if not home.is_dir():
        raise UsageError(f"{home}: there is no such directory on this machine")
    asked = Asked(home)
    try:
        await asked.page((0, 0), 1)
    except UsageError as error:
        why = str(error)
    else:
        yield asked
        return
    try:
        with inspection.stopped(directory) as path, inspection.reading(path) as (_, _, reader):
            if not changing:
                yield _Opened(reader)
                return
            _may_change(home, path)
    except UsageError as error:
        if "another agent runs" not in str(error):
            raise
        raise UsageError(f"{error}. {why}: wait until it answers, or stop it") from None
    topology = await _topology_of(home, topology)
    channel = await _open(home, topology)
    try:
        yield _Opened(channel, Handling(channel, topology.tier_of(home.name).route))
    finally:
        await channel.close()


def _may_change(home: Path, path: Path) -> None:
    if path.resolve() != (home / CHANNEL).resolve():
        raise UsageError(
            f"{path} was set aside, and is read only: its agent salvages it into its new channel; "
            "name that agent's directory"
        )
    if (path / "damaged").exists():
        raise UsageError(f"{path} is damaged: start its agent first, which salvages it")


async def _topology_of(home: Path, topology: Topology | None) -> Topology:
    """The one that is given, or that its agent has last accepted."""
    if topology is not None:
        return topology
    try:
        kept = await asyncio.to_thread(load, home / KEPT)
        kept.tier_of(home.name)
    except (TiersError, OSError) as error:
        raise UsageError(
            f"which outputs {home} has cannot be told ({error}): give the topology file "
            "and the agent's name instead of its directory"
        ) from error
    return kept


async def _open(home: Path, topology: Topology) -> Channel:
    """For work, as its agent opens it."""
    outputs = topology.outputs(home.name)
    make_own(home)
    with opening(home):
        return await Channel.open(home, channel_limits(topology), outputs)


async def each(door: LettersDoor, wanted: Wanted) -> AsyncIterator[LetterHead]:
    """Those that are wanted, by position, as they are when the page that they are on is read."""
    after = (0, 0)
    while heads := await door.page(after, LETTERS_PER_PAGE):
        for head in heads:
            if wanted.has(head):
                yield head
        after = heads[-1].after
