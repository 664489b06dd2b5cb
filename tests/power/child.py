"""An agent that notes what its channel says is on disk.

    python -m tests.power.child TOPOLOGY NAME MARKS drain|run [CARELESS]

MARKS gets a line for each batch when the future of its `submit` resolves, which is before any
receipt, ack or release that waits for it: `+ORIGIN-SEQ`. CARELESS plants a fault, which the cuts
must then find.
"""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lmdb

from tiers.agent import Agent
from tiers.channel import opening
from tiers.channel.change import Change
from tiers.channel.channel import Channel
from tiers.reloading import begin
from tiers.sinks.stores import local


def plant(careless: str) -> None:
    """Leaves out what must not be left out."""
    if careless == "commit":  # LMDB commits without a sync
        setattr(lmdb, "Environment", partial(lmdb.Environment, sync=False))  # noqa: B010
    elif careless == "file":  # what is published is not synced
        blind = SimpleNamespace(**{**vars(os), "fsync": lambda descriptor: None})
        setattr(local, "os", blind)  # noqa: B010
    elif careless == "names":  # directories of the agent are not synced
        setattr(opening, "_sync_directory", lambda directory: None)  # noqa: B010
    else:
        assert not careless, careless


def main(topology: Path, name: str, marks: Path, *, drain: bool) -> None:
    file = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    submit = Channel.submit

    def stored(change: Change, done: "asyncio.Future[tuple[int, ...]]") -> None:
        if done.exception() is None:
            os.write(file, b"".join(b"+%s\n" % str(put.id).encode() for put in change.puts))

    def noting(channel: Channel, change: Change) -> "asyncio.Future[tuple[int, ...]]":
        done = submit(channel, change)
        if change.puts:
            done.add_done_callback(partial(stored, change))
        return done

    setattr(Channel, "submit", noting)  # noqa: B010

    async def run() -> int:
        loaded, directory, reloading = begin(topology, name, None)
        agent = Agent(loaded, name, directory, reloading)
        if drain:
            agent.drain()
        return await agent.run()

    sys.exit(asyncio.run(run()))


if __name__ == "__main__":
    plant(sys.argv[5])
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), drain=sys.argv[4] == "drain")
