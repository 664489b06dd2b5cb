"""An agent that notes what it says is on disk.

    python -m tests.power.child TOPOLOGY NAME MARKS drain|run [CARELESS]

MARKS gets a line `+ORIGIN-SEQ` for each batch when the future of its `submit` resolves, which is
what a source's position and a release wait for, and before its ack leaves for the sender. CARELESS
plants a fault, which the cuts must then find.
"""

import asyncio
import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lmdb

from tiers.agent.agent import Agent
from tiers.agent.reloading import begin
from tiers.channel import opening
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId
from tiers.core.change import Change
from tiers.core.hop.arriving import Arrived
from tiers.core.hop.handshake import ReceiverEffects
from tiers.core.hop.messages import Ack
from tiers.host import durable
from tiers.sinks.files.stores import local
from tiers.transport.receiving import ReceiverEnd


def plant(careless: str) -> None:
    """Leaves out what must not be left out."""
    if careless == "commit":  # LMDB commits without a sync
        setattr(lmdb, "Environment", partial(lmdb.Environment, sync=False))  # noqa: B010
    elif careless == "file":  # what is published is not synced
        blind = SimpleNamespace(**{**vars(os), "fsync": lambda descriptor: None})
        setattr(local, "os", blind)  # noqa: B010
    elif careless == "names":  # directories of the agent are not synced
        for module in (durable, opening):
            setattr(module, "sync_directory", lambda directory: None)  # noqa: B010
    elif careless == "ack":  # a receiver acks what is still on its way to disk
        append = ReceiverEnd._append

        def early(end: ReceiverEnd, arrived: list[Arrived]) -> None:
            append(end, arrived)
            end._stored([batch.content for batch in arrived])

        setattr(ReceiverEnd, "_append", early)  # noqa: B010
    else:
        assert not careless, careless


def main(topology: Path, name: str, marks: Path, *, drain: bool) -> None:
    file = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    submit, perform = Channel.submit, ReceiverEnd._perform

    def note(ids: Iterable[BatchId]) -> None:
        os.write(file, b"".join(b"+%s\n" % str(one).encode() for one in ids))

    def stored(change: Change, done: "asyncio.Future[tuple[int, ...]]") -> None:
        if done.exception() is None:
            note(put.id for put in change.puts)

    def noting(channel: Channel, change: Change) -> "asyncio.Future[tuple[int, ...]]":
        done = submit(channel, change)
        if change.puts:
            done.add_done_callback(partial(stored, change))
        return done

    def acking(end: ReceiverEnd, effects: ReceiverEffects) -> None:
        note(one for _, said in effects.say if isinstance(said, Ack) for one in said.stored)
        perform(end, effects)

    setattr(Channel, "submit", noting)  # noqa: B010
    setattr(ReceiverEnd, "_perform", acking)  # noqa: B010

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
