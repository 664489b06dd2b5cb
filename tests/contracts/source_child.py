"""A process to be killed: `python -m tests.contracts.source_child DIR RIG [bug]`.

It feeds a source of that kind, and stores what it puts in a channel in DIR/agent. There is a line
on standard output for each commit. With a bug the last positions of a set are stored ahead of it.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from tests.channel.making import opened
from tests.contracts.sourcing import rigs
from tests.contracts.working import ONE_BY_ONE, a_part
from tiers.channel.channel import Channel
from tiers.channel.writer import Submitted, Writer
from tiers.core.change import Change
from tiers.entry.press import Press

_PAUSE_S = 0.005


async def main(directory: Path, name: str) -> None:
    rig, press = rigs(directory)[name], Press("none", 1)
    agent = directory / "agent"
    agent.mkdir(exist_ok=True)
    async with opened(agent, ONE_BY_ONE) as channel:
        channel.subscribe(lambda: print("committed", flush=True))
        part = a_part(rig, channel, press)
        working = asyncio.create_task(part.run())
        await rig.feed(part.source)
        part.source.drain()
        await working
    press.close()


def slow_down() -> None:
    """Else all is on disk before anybody has read of the first commit."""
    commit = Writer._commit

    def slowly(self: Writer, group: list[Submitted]) -> None:
        commit(self, group)
        time.sleep(_PAUSE_S)

    mock.patch.object(Writer, "_commit", slowly).start()


def plant() -> None:
    """Positions are committed apart from what was put, and before it."""
    submit = Channel.submit

    def apart(self: Channel, change: Change) -> Any:
        submit(self, Change(records=change.records))
        return submit(self, Change(puts=change.puts))

    mock.patch.object(Channel, "submit", apart).start()


if __name__ == "__main__":
    directory, name, *planted = sys.argv[1:]
    if planted:
        plant()
    slow_down()
    asyncio.run(main(Path(directory), name))
